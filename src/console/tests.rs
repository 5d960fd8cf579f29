//! What the files may hold and name, and the scripts themselves, run by `node` on the page of `tests/page.js`.

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

/// Runs a script beside the console's files, and `tests/page.js` with it. The heap is small: what never ends, ends soon.
#[cfg(feature = "ops-tests")]
fn run(script: &str) {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    for page in PAGES {
        write(page.path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("index.html"), page.body);
    }
    write("package.json", r#"{"type": "module"}"#);
    write("page.js", include_str!("tests/page.js"));
    write("main.js", script);
    let mut node = std::process::Command::new("node");
    node.args(["--max-old-space-size=64", "main.js"]).current_dir(dir.path());
    let done = node.output().expect("node is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[cfg(feature = "ops-tests")]
#[test]
fn a_list_of_many_pages_is_read_to_its_end_and_one_of_none_too() {
    run(include_str!("tests/lists.js"));
    assert!(!PAGES.iter().any(|page| page.body.contains("/api/rules?")), "rules are read whole");
}

#[cfg(feature = "ops-tests")]
#[test]
fn an_axis_has_few_ticks_whatever_was_measured() {
    run(include_str!("tests/axis.js"));
}

#[cfg(feature = "ops-tests")]
#[test]
fn a_new_row_on_top_gets_neither_the_focus_of_another_nor_scrolls_the_table_back() {
    run(include_str!("tests/focus.js"));
}

#[cfg(feature = "ops-tests")]
#[test]
fn the_sign_in_cannot_be_closed_by_one_who_is_not_signed_in() {
    run(include_str!("tests/sign_in.js"));
}

#[cfg(feature = "ops-tests")]
#[test]
fn what_was_read_before_the_server_hung_looks_old_and_grows_older() {
    run(include_str!("tests/old.js"));
}

#[cfg(feature = "ops-tests")]
#[test]
fn who_signs_in_in_another_tab_can_write_and_sign_out_in_this_one() {
    run(include_str!("tests/tabs.js"));
}

#[cfg(feature = "ops-tests")]
#[test]
fn figures_are_not_read_aloud_and_trouble_is_once() {
    run(include_str!("tests/aloud.js"));
}
