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
mod tests;
