//! The settings as text: the documented default file, and what is in force now.
//!
//! Everything is written from the table of keys, so it cannot say anything else than the code does.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::entries;
use super::keys::{KEYS, SECTIONS};
use super::load::Loaded;
use super::table::Key;
use super::value::Kind;

const HEAD: &str = "\
# Every setting of iot-meter with its default. Written by `iot-meter check-config --print-default`.
#
# Precedence: flag, environment, file, default. The file is the one of --config, else ./iot-meter.toml, else
# /etc/iot-meter/iot-meter.toml. The environment variable of `section.key` is IOT_METER__SECTION__KEY; that of a secret
# may also end in _FILE and name a file to read. Any key is also a flag of `serve`: --set section.key=value.
# Unknown keys are errors.
";

/// The text of `config/default.toml`.
pub fn default_toml() -> String {
    let mut text = HEAD.to_owned();
    for key in KEYS.iter().filter(|key| !key.path.contains('.')) {
        write_key(&mut text, key);
    }
    for (section, doc) in SECTIONS {
        text.push('\n');
        write_comment(&mut text, doc);
        let _ = writeln!(text, "[{section}]");
        let in_section = |key: &&Key| key.path.split_once('.').is_some_and(|(s, _)| s == *section);
        for key in KEYS.iter().filter(in_section) {
            write_key(&mut text, key);
        }
    }
    write_entries(&mut text);
    text
}

/// The section of which there may be several, as comments: by default there is none.
fn write_entries(text: &mut String) {
    text.push('\n');
    write_comment(text, entries::DOC);
    let _ = writeln!(text, "#[[{}]]", entries::NAME);
    for key in entries::KEYS {
        let mut lines = String::new();
        write_key(&mut lines, key);
        let (comment, setting) = lines.trim_end().rsplit_once('\n').unwrap_or_default();
        let _ = writeln!(text, "{comment}\n#{setting}");
    }
}

fn write_comment(text: &mut String, doc: &str) {
    for line in doc.lines() {
        let _ = writeln!(text, "#{line}");
    }
}

fn write_key(text: &mut String, key: &Key) {
    text.push('\n');
    write_comment(text, key.doc);
    let _ = writeln!(text, "# {}", key.kind.describe());
    let flag = key.flag.map(|flag| format!(" · {flag}")).unwrap_or_default();
    let secret = if key.is_secret() { " (or …_FILE)" } else { "" };
    let _ = writeln!(text, "# {}{secret}{flag}", key.env());
    let name = key.path.rsplit('.').next().unwrap_or(key.path);
    let _ = writeln!(text, "{name} = {}", written(key));
}

fn written(key: &Key) -> String {
    match key.kind {
        Kind::Int { .. } => key.default.to_owned(),
        Kind::Filters | Kind::Names => "[]".to_owned(),
        Kind::Bool | Kind::Ratio => key.default.to_owned(),
        Kind::List(_) => format!("{:?}", key.default.split(',').filter(|item| !item.is_empty()).collect::<Vec<_>>()),
        Kind::Size { .. } if key.default.bytes().all(|b| b.is_ascii_digit()) => key.default.to_owned(),
        _ => format!("{:?}", key.default),
    }
}

/// What is in force, for people: `key = value  # source`.
pub fn effective_text(loaded: &Loaded) -> String {
    let lines: Vec<String> = loaded.effective.iter().map(|(key, value, _)| format!("{key} = {value}")).collect();
    let width = lines.iter().map(|l| l.chars().count()).max().unwrap_or(0).min(70);
    let mut text = String::new();
    for (line, (_, _, source)) in lines.iter().zip(&loaded.effective) {
        let _ = writeln!(text, "{line:width$}  # {source}");
    }
    text
}

/// What is in force, for scripts: `{"key": {"value": …, "source": "…"}}`.
pub fn effective_json(loaded: &Loaded) -> Json {
    let entry = |(key, value, source): &(String, String, super::Source)| {
        // A value shows as JSON already, except that its text may hold escapes that JSON does not know.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Json::String(value.clone()));
        (key.clone(), json!({"value": value, "source": source.to_string()}))
    };
    Json::Object(loaded.effective.iter().map(entry).collect())
}

/// What in force differs from the defaults, as a file of settings. What is secret, or is told apart by its place in a list
/// (external brokers), is named in a comment only.
pub fn effective_toml(loaded: &Loaded) -> String {
    let mut text = String::new();
    for (key, value, source) in loaded.effective.iter().filter(|(_, _, source)| *source != super::Source::Default) {
        match KEYS.iter().find(|known| known.path == key) {
            Some(known) if !known.is_secret() => {
                let _ = writeln!(text, "{key} = {value}  # {source}");
            }
            _ => {
                let _ = writeln!(text, "# {key} was set, and is not kept here  # {source}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FileText, Flag, Sources, load};

    #[test]
    fn the_default_file_gives_the_defaults() {
        let plain = Sources { working_dir: "/srv".into(), ..Sources::default() };
        let file = FileText { path: "default.toml".into(), text: default_toml() };
        let with_file = Sources { file: Some(file), ..plain.clone() };
        let loaded = load(&with_file).expect("the default file is good");
        assert_eq!(loaded.settings, load(&plain).expect("the defaults are good").settings);
        assert!(loaded.effective.iter().all(|(_, _, source)| source.to_string().starts_with("default.toml:")));
    }

    #[test]
    fn the_section_shown_as_a_comment_is_good_and_has_the_defaults() {
        let text = default_toml();
        let (_, section) = text.split_once("#[[source]]\n").expect("is there");
        let settings: String = section.lines().filter_map(|l| l.strip_prefix('#')).fold(String::new(), |all, line| {
            let is_setting = line.split_once(" = ").is_some_and(|(key, _)| !key.starts_with(' '));
            if is_setting { all + line + "\n" } else { all }
        });
        let load_text = |text: String| {
            let file = FileText { path: "default.toml".into(), text };
            load(&Sources { file: Some(file), working_dir: "/srv".into(), ..Sources::default() }).expect("is good")
        };
        let shown = load_text(format!("[[source]]\n{settings}"));
        let bare = load_text("[[source]]\nurl = \"mqtt://broker.example\"\n".to_owned());
        assert_eq!(shown.settings.sources, bare.settings.sources);
        let given = shown
            .effective
            .iter()
            .filter(|(key, _, source)| key.starts_with("source.") && source.to_string().starts_with("default.toml:"));
        assert_eq!(given.count(), entries::KEYS.len());
    }

    #[test]
    fn what_is_in_force_shows_with_its_source_and_without_secrets() {
        let env = vec![("IOT_METER__DATABASE__URL".to_owned(), "sqlite://u:hunter2@h/x".to_owned())];
        let loaded = load(&Sources { env, working_dir: "/srv".into(), ..Sources::default() }).expect("is good");
        let text = effective_text(&loaded);
        assert!(!text.contains("hunter2") && text.contains("u:***@h"), "{text}");
        assert!(text.contains("# environment IOT_METER__DATABASE__URL"), "{text}");
        let json = effective_json(&loaded);
        assert_eq!(json["http.workers"], json!({"value": 0, "source": "default"}));
        assert_eq!(json["metrics.listen"]["value"], "off");
    }

    #[test]
    fn what_differs_from_the_defaults_is_a_file_of_settings_without_secrets() {
        let flag = |key: &str, value: &str| Flag { flag: key.into(), key: key.into(), value: value.into() };
        let url = "sqlite://iot:hunter2@db/iot";
        let flags = vec![flag("http.workers", "3"), flag("mqtt.listen", "0.0.0.0:1"), flag("database.url", url)];
        let text = effective_toml(&load(&Sources { flags, ..Sources::default() }).unwrap());
        assert!(!text.contains("hunter2") && text.contains("# database.url was set"), "{text}");
        let file = FileText { path: "x.toml".into(), text };
        let again = load(&Sources { file: Some(file), ..Sources::default() }).unwrap().settings;
        assert_eq!((again.http.workers, again.mqtt.listen.port()), (3, 1));
    }
}
