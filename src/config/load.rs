//! From defaults, a file, the environment and flags to checked settings, every fault listed.
//!
//! [`load`] is pure: files and variables come in as text through [`Sources`]. A value that a stronger source overrides is
//! checked all the same, so that a fault does not wait until the override goes away.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::entries::{self, Entries};
use super::env::EnvFile;
use super::keys::{KEYS, Settings};
use super::rules;
use super::suggest::unknown;
use super::table::Key;
use super::value::{Raw, Value};

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The table.
    Default,
    /// A line of the file.
    File {
        /// The file as named.
        path: PathBuf,
        /// Counted from 1; 0 = the file as a whole.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// A file that an environment variable names.
    EnvFile {
        /// The variable.
        name: String,
        /// The file as named.
        path: PathBuf,
    },
    /// A flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::EnvFile { name, path } => write!(f, "environment {name}: {}", path.display()),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Something wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The key, as written where it is unknown.
    pub key: String,
    /// Where.
    pub source: Source,
    /// What, and what would be right.
    pub message: String,
}

/// The configuration has faults: all of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.faults.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} fault{s}:", self.faults.len())?;
        for fault in &self.faults {
            write!(f, "\n  {}: {} ({})", fault.key, fault.message, fault.source)?;
        }
        Ok(())
    }
}

/// The file's name and text.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct FileText {
    pub path: PathBuf,
    pub text: String,
}

/// A value given on the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Flag {
    /// As the user wrote it: `--http-listen`, `--set http.workers`.
    pub flag: String,
    pub key: String,
    pub value: String,
}

/// All that settings are made of, secrets included: it does not show in Debug.
#[derive(Clone, PartialEq, Default)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<FileText>,
    /// Environment variables; others than `IOT_METER_…` are passed over.
    pub env: Vec<(String, String)>,
    /// Secrets in files that variables name.
    pub env_files: Vec<EnvFile>,
    /// Flags, the last of a key counts.
    pub flags: Vec<Flag>,
    /// What could not be read on the way here.
    pub unread: Vec<Fault>,
    /// Directory that a relative `data_dir` is meant from.
    pub working_dir: PathBuf,
}

/// The files looked for, in this order, when none is named.
const FILES: [&str; 2] = ["iot-meter.toml", "/etc/iot-meter/iot-meter.toml"];

impl Sources {
    /// Reads the file (the named one, else the first of the usual places that exists), the environment and the files that
    /// `…_FILE` variables name.
    pub fn of_process(config: Option<&Path>, flags: Vec<Flag>) -> Self {
        let mut sources = Self { flags, working_dir: std::env::current_dir().unwrap_or_default(), ..Self::default() };
        let found = config.or_else(|| FILES.iter().map(Path::new).find(|path| path.exists()));
        if let Some(path) = found {
            match std::fs::read_to_string(path) {
                Ok(text) => sources.file = Some(FileText { path: path.to_owned(), text }),
                Err(error) => sources.unread.push(Fault {
                    key: "--config".to_owned(),
                    source: Source::File { path: path.to_owned(), line: 0 },
                    message: format!("cannot be read: {error}"),
                }),
            }
        }
        sources.take_env(std::env::vars_os());
        sources
    }
}

/// Checked settings, and where each came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Ready for use.
    pub settings: Settings,
    /// In the table's order: key, value as shown (secrets hidden), source.
    pub effective: Vec<(String, String, Source)>,
}

impl Loaded {
    /// Where the key's value came from.
    pub fn source_of(&self, path: &str) -> Source {
        let found = self.effective.iter().find(|(key, _, _)| key == path);
        found.map_or(Source::Default, |(_, _, source)| source.clone())
    }
}

/// Makes settings of all sources.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut faults = sources.unread.clone();
    let mut given = Vec::new();
    if let Some(file) = &sources.file {
        read_file(file, &mut given, &mut faults);
    }
    sources.given_by_env(&mut given, &mut faults);
    given.extend(
        sources.flags.iter().map(|f| (f.key.clone(), Raw::Word(f.value.clone()), Source::Flag(f.flag.clone()))),
    );

    let mut values: BTreeMap<&str, (Value, Source)> = KEYS.iter().map(|key| (key.path, default_of(key))).collect();
    let mut entries = Entries::default();
    for (path, raw, source) in given {
        if let Some(place) = entries::split(&path) {
            faults.extend(entries.take(&path, place, &raw, &source));
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.path == path) else {
            faults.push(Fault { message: unknown(&path), key: path, source });
            continue;
        };
        match key.kind.check(&raw) {
            Ok(value) => drop(values.insert(key.path, (value, source))),
            Err(message) => faults.push(Fault { key: path, source, message }),
        }
    }
    resolve_paths(&mut values, &sources.working_dir);
    let (brokers, listed) = entries.finish(&mut faults);
    let settings = Settings::from_values(|path| &values[path].0, brokers);
    for (key, message) in rules::broken(&settings) {
        faults.push(Fault { key: key.to_owned(), source: values[key].1.clone(), message });
    }
    if !faults.is_empty() {
        return Err(ConfigError { faults });
    }
    let plain = KEYS.iter().filter_map(|key| values.remove(key.path).map(|(value, source)| (key.path, value, source)));
    let all = plain.map(|(path, value, source)| (path.to_owned(), value, source)).chain(listed);
    Ok(Loaded { effective: all.map(|(path, value, source)| (path, value.show(), source)).collect(), settings })
}

impl Settings {
    /// The defaults, for a data directory.
    pub fn in_dir(data_dir: &Path) -> Self {
        let flag =
            Flag { flag: String::new(), key: "data_dir".to_owned(), value: data_dir.to_string_lossy().into_owned() };
        let working_dir = std::env::current_dir().unwrap_or_default();
        let sources = Sources { flags: vec![flag], working_dir, ..Sources::default() };
        load(&sources).expect("a test checks every default of the table").settings
    }
}

impl Default for Settings {
    /// The defaults, for `./data`.
    fn default() -> Self {
        Self::in_dir(Path::new("data"))
    }
}

fn default_of(key: &Key) -> (Value, Source) {
    let value = key.kind.check(&Raw::Word(key.default.to_owned()));
    (value.expect("a test checks every default of the table"), Source::Default)
}

/// Makes the data directory absolute and puts it where other defaults name it.
fn resolve_paths(values: &mut BTreeMap<&str, (Value, Source)>, working_dir: &Path) {
    let Some((Value::Text(data_dir), _)) = values.get_mut("data_dir") else { return };
    let absolute = working_dir.join(&*data_dir);
    let absolute = absolute.components().collect::<PathBuf>().to_string_lossy().into_owned();
    data_dir.clone_from(&absolute);
    for (value, _) in values.values_mut() {
        match value {
            Value::Text(text) => *text = text.replace("/<data_dir>", &absolute),
            Value::Secret(url) if url.reveal().contains("/<data_dir>") => {
                *url = super::Secret::new(url.reveal().replace("/<data_dir>", &absolute));
            }
            _ => {}
        }
    }
}

fn read_file(file: &FileText, given: &mut Vec<(String, Raw, Source)>, faults: &mut Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    let source = |at: usize| {
        let line = file.text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
        Source::File { path: file.path.clone(), line }
    };
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().replace('\n', ", ");
        faults.push(Fault { key: "TOML".to_owned(), source: source(at), message });
    }
    for (name, value) in table.get_ref() {
        let at = name.span().start;
        if name.get_ref() == entries::NAME {
            read_entries(value.get_ref(), given, faults, &source(at), &source);
            continue;
        }
        match value.get_ref() {
            DeValue::Table(section) if !KEYS.iter().any(|key| key.path == name.get_ref().as_ref()) => {
                if section.is_empty() && !super::keys::SECTIONS.iter().any(|(s, _)| s == name.get_ref()) {
                    let message = unknown(name.get_ref());
                    faults.push(Fault { key: name.get_ref().to_string(), source: source(at), message });
                }
                given.extend(section.iter().map(|(key, value)| {
                    let path = format!("{}.{}", name.get_ref(), key.get_ref());
                    (path, raw_of(value.get_ref()), source(key.span().start))
                }));
            }
            value => given.push((name.get_ref().to_string(), raw_of(value), source(at))),
        }
    }
}

/// The sections of a list.
fn read_entries(
    value: &DeValue<'_>,
    given: &mut Vec<(String, Raw, Source)>,
    faults: &mut Vec<Fault>,
    place: &Source,
    source: &impl Fn(usize) -> Source,
) {
    let items = value.as_array().filter(|items| items.iter().all(|item| item.get_ref().is_table()));
    let Some(items) = items else {
        let message = format!("is a list of sections: write [[{}]]", entries::NAME);
        faults.push(Fault { key: entries::NAME.to_owned(), source: place.clone(), message });
        return;
    };
    for (number, item) in items.iter().enumerate() {
        let (itself, raw) = entries::itself(number);
        given.push((itself, raw, source(item.span().start)));
        for (key, value) in item.get_ref().as_table().into_iter().flatten() {
            let path = format!("{}.{number}.{}", entries::NAME, key.get_ref());
            given.push((path, raw_of(value.get_ref()), source(key.span().start)));
        }
    }
}

fn raw_of(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(n) => Raw::Int(u64::from_str_radix(n.as_str(), n.radix()).ok()),
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Option<_>>();
            texts.map_or(Raw::Other("a list of something else than texts"), Raw::List)
        }
        DeValue::Float(n) => n.as_str().parse().map_or(Raw::Other("a number with a point"), Raw::Float),
        DeValue::Boolean(yes) => Raw::Bool(*yes),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
        Sources {
            file: (!file.is_empty()).then(|| FileText { path: "x.toml".into(), text: file.to_owned() }),
            env: env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            flags: flags
                .iter()
                .map(|(k, v)| Flag { flag: format!("--set {k}"), key: (*k).to_owned(), value: (*v).to_owned() })
                .collect(),
            working_dir: "/srv".into(),
            ..Sources::default()
        }
    }

    fn faults(sources: &Sources) -> Vec<String> {
        let error = load(sources).expect_err("has faults").to_string();
        error.lines().skip(1).map(|l| l.trim().to_owned()).collect()
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for key in KEYS {
            let checked = key.kind.check(&Raw::Word(key.default.to_owned()));
            assert!(checked.is_ok(), "{}: {checked:?}", key.path);
            assert!(key.doc.starts_with(' ') && key.doc.trim_end().ends_with('.'), "{}: {:?}", key.path, key.doc);
        }
        let loaded = load(&sources("", &[], &[])).expect("defaults are good");
        assert_eq!(loaded.settings.database.url.reveal(), "sqlite:///srv/data/iot-meter.db");
        assert_eq!(loaded.settings.archive.url, "file:///srv/data/archive");
        assert_eq!(loaded.settings.data_dir, Path::new("/srv/data"));
        assert_eq!(loaded.settings.http.body_limit_bytes, 1 << 20);
    }

    #[test]
    fn the_defaults_follow_the_data_directory() {
        let settings = Settings::in_dir(Path::new("/srv/x"));
        assert_eq!(settings.database.url.reveal(), "sqlite:///srv/x/iot-meter.db");
        assert_eq!(settings.archive.url, "file:///srv/x/archive");
        assert!(Settings::default().data_dir.is_absolute());
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let file = "[http]\nworkers = 2\nread_burst = 3\nwrite_burst = 4\n";
        let env = [("IOT_METER__HTTP__WORKERS", "5"), ("IOT_METER__HTTP__READ_BURST", "6"), ("HOME", "/")];
        let http = load(&sources(file, &env, &[("http.workers", "7")])).expect("is good").settings.http;
        assert_eq!((http.workers, http.read_burst, http.write_burst, http.command_burst), (7, 6, 4, 1000));
    }

    #[test]
    fn all_faults_are_listed_at_once_with_key_and_source() {
        let file = "data_dir = 5\n[http]\nbody_limit_byte = 1\nworkers = 9999\n[nonsense]\n[journal]\nsegment_bytes = \"1 PB\"\n";
        let env = [("IOT_METER__MQTT__LISTEN", "1883"), ("IOT_METER__MQTT__MAX_KEEP_ALIVE", "5")];
        let found = faults(&sources(file, &env, &[("log.level", "loud")]));
        let expected = [
            "nonsense: is not a key;",
            "data_dir: a text in quotes is wanted, not an integer (x.toml:1)",
            "http.body_limit_byte: is not a key; did you mean `http.body_limit_bytes`? (x.toml:3)",
            "http.workers: 9999 is not within 0 … 256 threads (x.toml:4)",
            "journal.segment_bytes: \"1 PB\" is not a size;",
            "mqtt.listen: \"1883\" is not an address with a port",
            "mqtt.max_keep_alive: is not a key; did you mean `mqtt.max_keepalive`? (environment IOT_METER__MQTT__MAX_KEEP_ALIVE)",
            "log.level: `loud` is neither a level",
        ];
        for wanted in expected {
            assert!(found.iter().any(|f| f.starts_with(wanted)), "{wanted:?} is not in {found:#?}");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn broken_toml_names_its_line() {
        let found = faults(&sources("[http]\nworkers = \n[mqtt]\nmax_sessionz = 1\n", &[], &[]));
        assert!(found.iter().any(|f| f.starts_with("TOML:") && f.ends_with("(x.toml:2)")), "{found:#?}");
        assert!(found.iter().any(|f| f.contains("did you mean `mqtt.max_sessions`")), "{found:#?}");
    }

    #[test]
    fn nothing_in_a_file_makes_loading_panic() {
        use proptest::prelude::*;
        proptest!(|(text in "[a-z\\[\\]=\"#.0-9\n{}, ]{0,200}")| {
            let _ = load(&sources(&text, &[], &[]));
        });
    }
}
