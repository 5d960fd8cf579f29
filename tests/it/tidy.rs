//! The tree keeps its own rules: file heads and lengths, no leftovers, and rooms that only use rooms above them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MAX_LINES: usize = 500;

struct Source {
    /// Relative to the repository.
    name: String,
    text: String,
}

impl Source {
    /// The first folder or file below `src`: the room. `None` for the roots.
    fn room(&self) -> Option<&str> {
        let below = self.name.strip_prefix("src/")?;
        let first = below.split('/').next()?;
        let room = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(room, "lib" | "main")).then_some(room)
    }

    /// The lines that ship: numbered, without comments, up to the tests at the end of the file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let of_tests = |name: &str| name.ends_with("tests.rs") || name.ends_with("testing.rs");
        let in_tests_folder = self.name.contains("/tests/") || self.name.contains("/testing/");
        let is_test = in_tests_folder || of_tests(&self.name) || self.name.starts_with("tests/");
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        let mut before = "";
        lines
            .take_while(move |(_, line)| {
                let in_tests = before.trim() == "#[cfg(test)]" && line.trim_start().contains("mod tests {");
                before = line;
                !is_test && !in_tests
            })
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn rust_files(dir: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut dirs = vec![root.join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path: PathBuf = entry.expect("the directory is readable").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).expect("is below the root").to_string_lossy().into_owned();
                found.push(Source { name, text: fs::read_to_string(&path).expect("is text") });
            }
        }
    }
    found
}

/// Every Rust file of the repository.
fn all_files() -> Vec<Source> {
    let has_benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").is_dir();
    let benches = if has_benches { rust_files("benches") } else { Vec::new() };
    let all: Vec<Source> = rust_files("src").into_iter().chain(rust_files("tests")).chain(benches).collect();
    assert!(all.len() > 20, "only {} files found: the walk is broken", all.len());
    all
}

/// Fails with all findings at once.
fn refuse(what: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

/// What is kept in the repository; of an unpacked source archive, what lies at its root.
fn kept() -> Vec<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let git = Command::new("git").args(["-C", root, "ls-files"]).output();
    if let Some(listed) = git.ok().filter(|git| git.status.success()) {
        return String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect();
    }
    let entries = fs::read_dir(root).expect("the root is readable");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn nothing_is_kept_that_a_server_or_a_bench_has_left() {
    let hidden = [".ci", ".dockerignore", ".git", ".github", ".gitignore"];
    let is_left = |name: &&String| {
        let first = name.split('/').next().unwrap_or_default();
        let of_a_server = ["key", "pem", "der", "p12", "db", "journal", "pid"];
        let ending = Path::new(name.as_str()).extension().and_then(|e| e.to_str());
        first.starts_with('.') && !hidden.contains(&first) || ending.is_some_and(|e| of_a_server.contains(&e))
    };
    let kept = kept();
    assert!(kept.iter().any(|name| name == "Cargo.toml"), "the root was not understood: {kept:?}");
    refuse("left behind", kept.iter().filter(is_left).cloned().collect());
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let bare = all_files().into_iter().filter(|f| !f.text.starts_with("//! ")).map(|f| f.name).collect();
    refuse("files without a //! head", bare);
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let long =
        |f: &Source| (f.text.lines().count() > MAX_LINES).then(|| format!("{}: {}", f.name, f.text.lines().count()));
    refuse("files to split", all_files().iter().filter_map(long).collect());
}

#[test]
fn nothing_is_left_for_later() {
    // Written in two parts, so that this file does not find itself.
    let leftovers =
        [["TO", "DO"], ["FIX", "ME"], ["unimple", "mented!"], ["to", "do!("], ["#[ign", "ore"], ["(to be", " written"]];
    let words = leftovers.map(|parts| parts.concat());
    let mut found = Vec::new();
    for file in all_files() {
        let lines = file.text.lines().enumerate().filter(|(_, line)| words.iter().any(|w| line.contains(w.as_str())));
        found.extend(lines.map(|(at, line)| format!("{}:{}: {}", file.name, at + 1, line.trim())));
    }
    refuse("leftovers", found);
}

#[test]
fn nothing_that_ships_unwraps() {
    let mut found = Vec::new();
    for file in rust_files("src") {
        let lines = file.code().filter(|(_, line)| line.contains(".unwrap()"));
        found.extend(lines.map(|(at, line)| format!("{}:{at}: {}", file.name, line.trim())));
    }
    refuse("unwraps outside tests", found);
}

#[test]
fn metrics_are_counted_through_the_catalogue_only() {
    let is_macro =
        |line: &str| ["counter!", "gauge!", "histogram!"].iter().any(|m| line.contains(&format!("metrics::{m}")));
    let mut found = Vec::new();
    for file in rust_files("src") {
        found.extend(file.code().filter(|(_, l)| is_macro(l)).map(|(at, _)| format!("{}:{at}", file.name)));
    }
    refuse("metrics outside the catalogue", found);
}

/// The rooms in their order: `pub mod` lines of lib.rs.
fn rooms() -> Vec<String> {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("is there");
    let name = |line: &str| line.trim().strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned);
    lib.lines().filter_map(name).collect()
}

/// Rooms a text names by `crate::room` or `crate::{room, …}`, with the line.
fn rooms_used(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => used.extend(group_heads(group)),
            None => used.push(ident(rest)),
        }
    }
    used
}

fn ident(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// First names of a `use` group's items: `a::b, c::{d, e}, f}` gives a, c, f.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(ident(group[start..at].trim()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(ident(group[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads.retain(|h| !h.is_empty());
    heads
}

#[test]
fn the_parser_of_uses_sees_groups_and_paths() {
    let check = |code: &str, expected: &[&str]| assert_eq!(rooms_used(code), expected, "{code}");
    check("use crate::domain::Clock;", &["domain"]);
    check("use crate::{store::{Error, Page}, domain::X, observe};", &["store", "domain", "observe"]);
    check("use crate::{\n    store,\n    domain::X,\n};", &["store", "domain"]);
    check("let x = crate::api::y(); $crate::z!();", &["api"]);
    check("use super::x; mycrate::y;", &[]);
}

#[test]
fn rooms_use_only_rooms_above_them() {
    let rooms = rooms();
    assert!(rooms.len() > 10, "lib.rs was not understood: {rooms:?}");
    let place = |room: &str| rooms.iter().position(|r| r == room);
    let mut found = Vec::new();
    for file in rust_files("src") {
        let Some(own) = file.room() else { continue };
        let Some(own_place) = place(own) else {
            found.push(format!("{} is in no room of lib.rs", file.name));
            continue;
        };
        let code: String = file.code().map(|(_, line)| format!("{line}\n")).collect();
        for used in rooms_used(&code) {
            if place(&used).is_some_and(|p| p > own_place) {
                found.push(format!("{} uses {used}, which stands below {own}", file.name));
            }
        }
    }
    found.dedup();
    refuse("uses against the order of the rooms", found);
}

#[test]
fn every_metric_of_the_catalogue_is_counted_somewhere() {
    let files = rust_files("src");
    let catalogue = files.iter().find(|f| f.name == "src/observe/catalogue.rs").expect("the catalogue is there");
    let id = |line: &str| {
        let mut words = line.split_whitespace();
        let is_metric = matches!(words.next()?, "counter" | "gauge" | "histogram") && line.starts_with("    ");
        let id = words.next()?;
        (is_metric && id.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')).then(|| id.to_owned())
    };
    let ids: Vec<String> = catalogue.text.lines().filter_map(id).collect();
    assert!(ids.len() > 20, "the catalogue was not understood: {ids:?}");
    let others: Vec<String> = files
        .iter()
        .filter(|f| f.name != catalogue.name)
        .map(|f| f.code().map(|(_, line)| format!("{line}\n")).collect())
        .collect();
    let is_word = |text: &str, id: &str| {
        text.match_indices(id).any(|(at, _)| {
            let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !inside(text[..at].chars().next_back()) && !inside(text[at + id.len()..].chars().next())
        })
    };
    // The requests have a helper of their own beside the catalogue: that one must be called.
    let helper = "http_request";
    let has_helper = |id: &String| matches!(id.as_str(), "HTTP_REQUESTS" | "HTTP_REQUEST_SECONDS");
    let ids = ids.into_iter().filter(|id| !has_helper(id)).chain([helper.to_owned()]);
    let others: Vec<String> = others.iter().map(|text| text.replace(&format!("fn {helper}("), "")).collect();
    let idle = ids.filter(|id| !others.iter().any(|text| is_word(text, id))).collect();
    refuse("metrics nobody counts", idle);
}

/// The code of a file, each line where it is in the file.
fn code_of(file: &Source) -> String {
    file.code().fold(String::new(), |mut text, (at, line)| {
        let gap = at.saturating_sub(text.lines().count() + 1);
        text.extend(std::iter::repeat_n('\n', gap));
        text + line + "\n"
    })
}

/// The arguments of the calls of these macros, with the line they begin in.
fn calls<'a>(code: &'a str, macros: &[&str]) -> Vec<(usize, Vec<&'a str>)> {
    let mut found = Vec::new();
    for name in macros {
        for (at, _) in code.match_indices(&format!("{name}!(")) {
            let line = code[..at].matches('\n').count() + 1;
            found.push((line, arguments(&code[at + name.len() + 2..])));
        }
    }
    found
}

/// What stands between commas, up to the bracket that was open before the text.
fn arguments(text: &str) -> Vec<&str> {
    let (mut all, mut start, mut depth, mut in_text, mut is_escaped) = (Vec::new(), 0, 0_usize, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_text => is_escaped = true,
            '"' => in_text = !in_text,
            _ if in_text => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                all.push(text[start..at].trim());
                start = at + 1;
            }
            ')' => {
                all.push(text[start..at].trim());
                break;
            }
            _ => {}
        }
    }
    all.retain(|argument| !argument.is_empty());
    all
}

/// The names of an event's fields: what stands before its message.
fn field_names<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let fields = arguments.iter().take_while(|a| !a.starts_with('"') && !a.starts_with("format!"));
    let name = |field: &&'a str| field.split('=').next().unwrap_or_default().trim().trim_start_matches(['%', '?']);
    fields.filter(|a| !a.starts_with("target:")).map(name).collect()
}

#[test]
fn the_parser_of_events_sees_their_fields() {
    let check = |code: &str, expected: &[&str]| {
        let found = calls(code, &["warn"]);
        assert_eq!(field_names(&found[0].1), expected, "{code}");
    };
    check(r#"warn!("text, a = {b}")"#, &[]);
    check(r#"warn!(a, %b, ?c, d = f(x, "y, \"z"), "text")"#, &["a", "b", "c", "d"]);
    check("warn!(\n  error = &e as &dyn E,\n  n = 1 == 2,\n  \"text\",\n)", &["error", "n"]);
}

const EVENTS: [&str; 5] = ["tracing::error", "tracing::warn", "tracing::info", "tracing::debug", "tracing::trace"];

#[test]
fn log_lines_have_documented_fields_only() {
    use iot_meter::observe::log::fields::{ALWAYS, FIELDS, WITHIN};
    let known: Vec<&str> = [ALWAYS, WITHIN, FIELDS].concat().iter().map(|(name, _)| *name).collect();
    let (mut strange, mut used) = (Vec::new(), std::collections::BTreeSet::new());
    for file in rust_files("src") {
        let code = code_of(&file);
        let events = calls(&code, &EVENTS).into_iter().map(|(line, all)| (line, field_names(&all)));
        // Level, counter, labels and number go before the event.
        let counted =
            calls(&code, &["counted"]).into_iter().map(|(line, all)| (line, field_names(all.get(4..).unwrap_or(&[]))));
        for (line, names) in events.chain(counted) {
            strange.extend(names.iter().filter(|n| !known.contains(n)).map(|n| format!("{}:{line}: {n}", file.name)));
            used.extend(names.into_iter().map(str::to_owned));
        }
    }
    strange.retain(|found| !found.starts_with("src/observe/mod.rs"));
    refuse("fields that observe::log::fields does not explain", strange);
    let idle = FIELDS.iter().filter(|(name, _)| !used.contains(*name)).map(|(name, _)| (*name).to_owned()).collect();
    refuse("fields that no event has", idle);
}

#[test]
fn what_is_logged_and_counted_is_so_in_one_place() {
    // A counter beside a warning is one that can be forgotten in the next place: `counted!` does both.
    const NEAR: usize = 4;
    let mut found = Vec::new();
    for file in rust_files("src").into_iter().filter(|f| !f.name.starts_with("src/observe/")) {
        let lines: Vec<(usize, &str)> = file.code().collect();
        let has = |words: &'static [&'static str]| {
            let is_it = move |(_, line): &&(usize, &str)| words.iter().any(|w| line.contains(w));
            lines.iter().filter(is_it).map(|(at, _)| *at).collect::<Vec<_>>()
        };
        let counts = has(&[".increment("]);
        let near = |at: &usize| counts.iter().any(|count| count.abs_diff(*at) <= NEAR);
        let warnings = has(&["tracing::warn!", "tracing::error!"]);
        found.extend(warnings.iter().filter(|at| near(at)).map(|at| format!("{}:{at}", file.name)));
    }
    refuse("warnings beside their counters", found);
}

#[test]
fn log_lines_are_counted_by_every_room() {
    use iot_meter::observe::catalogue::ROOMS;
    let expected: Vec<String> = rooms().into_iter().chain(["other".to_owned()]).collect();
    assert_eq!(ROOMS.map(str::to_owned).to_vec(), expected, "observe::catalogue::ROOMS is not what lib.rs has");
}
