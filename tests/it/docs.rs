//! Documents made from code are what the code says. `UPDATE_DOCS=1` writes them anew.

use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name} cannot be read: {e}"))
}

/// Compares a file with what it should be; with `UPDATE_DOCS` set, writes it first.
fn check(name: &str, expected: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(name), expected).unwrap_or_else(|e| panic!("{name} cannot be written: {e}"));
    }
    assert!(read(name) == expected, "{name} is not what the code says; `make docs-update` writes it anew");
}

/// The text with what stands between the markers of `part` replaced.
fn with_part(text: &str, part: &str, body: &str) -> String {
    let (begin, end) = (format!("<!-- {part}:begin -->\n"), format!("<!-- {part}:end -->"));
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("the text has no {begin:?}"));
    let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("the text has no {end:?}"));
    format!("{head}{begin}{body}{end}{tail}")
}

#[test]
fn the_default_settings_file_is_what_the_code_says() {
    check("config/default.toml", &iot_meter::config::default_toml());
}

#[test]
fn the_readme_shows_every_call_of_the_api() {
    check("README.md", &with_part(&read("README.md"), "api-overview", &iot_meter::api::reference::overview()));
}

/// One test: several would write the file at the same time.
#[test]
fn the_reference_lists_every_call_command_metric_and_field_of_a_log_line() {
    let parts = [
        ("api", iot_meter::api::reference::markdown()),
        ("cli", iot_meter::cli::reference()),
        ("metrics", iot_meter::observe::catalogue::markdown()),
        ("log-fields", iot_meter::observe::log::fields::markdown()),
    ];
    let text = parts.iter().fold(read("docs/reference.md"), |text, (part, body)| with_part(&text, part, body));
    check("docs/reference.md", &text);
}

#[test]
fn the_readme_begins_with_the_two_commands() {
    let readme = read("README.md");
    let commands: Vec<&str> = readme.lines().filter(|l| l.starts_with("cargo ")).take(2).collect();
    assert_eq!(commands, ["cargo run --release -- serve --demo 20 --open", "cargo test"]);
}
