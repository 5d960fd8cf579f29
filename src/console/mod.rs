//! The web console: a fleet table, a page a device with a live chart, energy, alerts, alert rules, commands, rollouts, and the
//! state of the system.
//!
//! Static files inside the executable; they use the public API and nothing else, load nothing from another host, and
//! hold no inline script. A key is exchanged for a session (a cookie no script reads) and never kept. Must not know:
//! anything of the server but the API's paths.
//!
//! Start from [`PAGES`], which the API serves to anybody: they hold no data, and ask for a key when the API does.

use crate::api::Page;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All files of the console.
pub const PAGES: &[Page] = &[
    Page { path: "/", content_type: HTML, body: include_str!("assets/index.html") },
    Page { path: "/console/style.css", content_type: CSS, body: include_str!("assets/style.css") },
    Page { path: "/console/app.js", content_type: SCRIPT, body: include_str!("assets/app.js") },
    Page { path: "/console/api.js", content_type: SCRIPT, body: include_str!("assets/api.js") },
    Page { path: "/console/dom.js", content_type: SCRIPT, body: include_str!("assets/dom.js") },
    Page { path: "/console/chart.js", content_type: SCRIPT, body: include_str!("assets/chart.js") },
    Page { path: "/console/bars.js", content_type: SCRIPT, body: include_str!("assets/bars.js") },
    Page { path: "/console/energy.js", content_type: SCRIPT, body: include_str!("assets/energy.js") },
    Page { path: "/console/fleet.js", content_type: SCRIPT, body: include_str!("assets/fleet.js") },
    Page { path: "/console/device.js", content_type: SCRIPT, body: include_str!("assets/device.js") },
    Page { path: "/console/alerts.js", content_type: SCRIPT, body: include_str!("assets/alerts.js") },
    Page { path: "/console/rollouts.js", content_type: SCRIPT, body: include_str!("assets/rollouts.js") },
    Page { path: "/console/rules.js", content_type: SCRIPT, body: include_str!("assets/rules.js") },
    Page { path: "/favicon.svg", content_type: "image/svg+xml", body: include_str!("assets/favicon.svg") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_loads_nothing_from_elsewhere_and_has_no_inline_script_or_style() {
        for page in PAGES {
            let foreign = page.body.replace("http://www.w3.org/", "");
            assert!(!foreign.contains("http://") && !foreign.contains("https://"), "{}", page.path);
            assert!(!page.body.contains("innerHTML"), "{}: text must stay text", page.path);
            if page.content_type == HTML {
                assert!(!page.body.contains("<style") && !page.body.contains(" style="), "{}", page.path);
                assert!(!page.body.contains(" onclick="), "{}", page.path);
                let scripts = page.body.matches("<script").count();
                assert_eq!(scripts, page.body.matches("<script type=\"module\" src=").count(), "{}", page.path);
            }
        }
    }

    #[test]
    fn every_file_a_page_names_is_there() {
        for page in PAGES {
            for quoted in page.body.split(['"', '\'']) {
                let is_file = quoted.starts_with("/console/") || quoted.starts_with("/favicon");
                assert!(!is_file || PAGES.iter().any(|p| p.path == quoted), "{} names {quoted}", page.path);
                if let Some(module) = quoted.strip_prefix("./").filter(|_| page.content_type == SCRIPT) {
                    let path = format!("/console/{module}");
                    assert!(PAGES.iter().any(|p| p.path == path), "{} imports {quoted}", page.path);
                }
            }
        }
    }

    /// The script itself; needs `node`.
    #[cfg(feature = "ops-tests")]
    #[test]
    fn a_list_of_many_pages_is_read_to_its_end_and_one_of_none_too() {
        let dir = tempfile::tempdir().unwrap();
        let api = PAGES.iter().find(|page| page.path == "/console/api.js").unwrap();
        std::fs::write(dir.path().join("api.mjs"), api.body).unwrap();
        let main = dir.path().join("main.mjs");
        let script = "import * as api from './api.mjs';
            globalThis.fetch = async (path) => {
              const { pathname, searchParams: query } = new URL(path, 'http://localhost');
              const all = Array.from({ length: Number(pathname.slice(1)) }, (_, n) => n);
              const [page, size] = [query.get('page'), query.get('per_page')].map(Number);
              const headers = { 'Content-Type': 'application/json', 'X-Total-Count': all.length };
              return new Response(JSON.stringify(all.slice((page - 1) * size, page * size)), { headers });
            };
            for (const many of [0, 500, 1201]) {
              const read = await api.all(`/${many}`);
              if (read.length !== many || new Set(read).size !== many) throw new Error(`${read.length} of ${many}`);
            }";
        std::fs::write(&main, script).unwrap();
        let run = std::process::Command::new("node").arg(&main).output().expect("node is installed");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        assert!(!PAGES.iter().any(|page| page.body.contains("/api/rules?")), "rules are read whole");
    }
}
