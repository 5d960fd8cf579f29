//! Settings from the environment: variables, and files that variables name.
//!
//! Invariant: what comes out depends on which variables are set, never on the order they stand in; nothing that is meant for
//! this program is passed over. Does not know what a key may hold.

use std::ffi::OsString;
use std::path::PathBuf;

use super::keys::KEYS;
use super::load::{Fault, Source, Sources};
use super::value::Raw;

/// What variables of keys begin with.
const PREFIX: &str = "IOT_METER__";
/// The short name of `log.level`.
const LOG: &str = "IOT_METER_LOG";

/// A secret in a file that a variable names.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// The variable: `…_FILE`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What it holds, without the line's end.
    pub text: String,
}

impl Sources {
    /// Takes the variables that are meant for this program, and reads the files they name.
    pub(super) fn take_env(&mut self, variables: impl Iterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            let name = name.to_string_lossy().into_owned();
            if !name.starts_with(PREFIX) && name != LOG {
                continue;
            }
            match value.into_string() {
                Ok(value) => self.add_env(name, value),
                Err(_) => self.unread.push(Fault {
                    key: key_of(secret_of(&name).unwrap_or(&name)),
                    message: "is not UTF-8".to_owned(),
                    source: Source::Env(name),
                }),
            }
        }
    }

    /// Takes a variable; of one that names the file of a secret, what the file holds.
    fn add_env(&mut self, name: String, value: String) {
        let Some(base) = secret_of(&name) else {
            self.env.push((name, value));
            return;
        };
        let (key, path) = (key_of(base), PathBuf::from(value));
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                self.env_files.push(EnvFile { name, path, text });
            }
            Err(error) => self.unread.push(Fault {
                key,
                message: format!("the file it names cannot be read: {error}"),
                source: Source::EnvFile { name, path },
            }),
        }
    }

    /// The values of variables, and of files they name. `IOT_METER_LOG` is the short name of `log.level` and yields to the
    /// long one; of a secret and its file neither yields.
    pub(super) fn given_by_env(&self, given: &mut Vec<(String, Raw, Source)>, faults: &mut Vec<Fault>) {
        let is_named = |name: &str| name == LOG || name.starts_with(PREFIX);
        let mut found: Vec<_> = self.env.iter().filter(|(name, _)| is_named(name)).collect();
        // The short name first, so that it is overridden; the rest in an order that does not change from run to run.
        found.sort_by_key(|(name, _)| (name != LOG, key_of(name), name.clone()));
        given.extend(found.into_iter().map(|(name, value)| {
            let (key, source) = (key_of(name), Source::Env(name.clone()));
            (key, Raw::Word(value.clone()), source)
        }));
        let mut files: Vec<&EnvFile> = self.env_files.iter().collect();
        files.sort_by_key(|file| file.name.clone());
        for EnvFile { name, path, text } in files {
            let Some(base) = secret_of(name) else { continue };
            let source = Source::EnvFile { name: name.clone(), path: path.clone() };
            if self.env.iter().any(|(other, _)| other == base) {
                let message = format!("is given twice, by {base} and by {name}: one of them has to go");
                faults.push(Fault { key: key_of(base), message, source });
                continue;
            }
            given.push((key_of(base), Raw::Word(text.clone()), source));
        }
    }
}

/// The variable of the secret whose file this one names.
fn secret_of(name: &str) -> Option<&str> {
    name.strip_suffix("_FILE").filter(|base| KEYS.iter().any(|key| key.is_secret() && key.env() == *base))
}

fn key_of(name: &str) -> String {
    match name {
        LOG => "log.level".to_owned(),
        _ => name.trim_start_matches(PREFIX).replace("__", ".").to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::config::load;

    fn sources(variables: &[(&str, &str)]) -> Sources {
        let mut sources = Sources { working_dir: "/srv".into(), ..Sources::default() };
        sources.take_env(variables.iter().map(|(name, value)| (name.into(), value.into())));
        sources
    }

    fn faults(sources: &Sources) -> Vec<String> {
        let error = load(sources).expect_err("has faults").to_string();
        error.lines().skip(1).map(|line| line.trim().to_owned()).collect()
    }

    const URL: &str = "IOT_METER__DATABASE__URL";
    const URL_FILE: &str = "IOT_METER__DATABASE__URL_FILE";

    #[test]
    fn the_long_name_of_the_log_level_beats_the_short_one() {
        let env = [("IOT_METER__LOG__LEVEL", "debug"), ("IOT_METER_LOG", "warn")];
        assert_eq!(load(&sources(&env)).expect("is good").settings.log.level, "debug");
        assert_eq!(load(&sources(&env[1..])).expect("is good").settings.log.level, "warn");
    }

    #[test]
    fn a_secret_may_come_from_a_file_and_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("url");
        std::fs::write(&path, "sqlite:///srv/other.db\n").expect("is written");
        let named = path.display().to_string();
        let shown = format!("environment {URL_FILE}: {named}");
        let loaded = load(&sources(&[(URL_FILE, named.as_str())])).expect("is good");
        assert_eq!(loaded.settings.database.url.reveal(), "sqlite:///srv/other.db");
        assert_eq!(loaded.source_of("database.url").to_string(), shown);
        std::fs::write(&path, "mysql://db\n").expect("is written");
        let found = faults(&sources(&[(URL_FILE, named.as_str())]));
        assert!(found[0].starts_with("database.url: ") && found[0].ends_with(&format!("({shown})")), "{found:?}");
        let found = faults(&sources(&[(URL_FILE, "/does/not/exist")]));
        assert!(found[0].starts_with("database.url: the file it names cannot be read"), "{found:?}");
        assert!(found[0].ends_with(&format!("(environment {URL_FILE}: /does/not/exist)")), "{found:?}");
    }

    #[test]
    fn a_secret_that_is_given_twice_is_a_fault_in_any_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("url");
        std::fs::write(&path, "sqlite:///srv/other.db\n").expect("is written");
        let path = path.display().to_string();
        let mut env = [(URL, "sqlite:///srv/a.db"), (URL_FILE, path.as_str())];
        let expected = format!(
            "database.url: is given twice, by {URL} and by {URL_FILE}: one of them has to go (environment {URL_FILE}: {path})"
        );
        assert_eq!(faults(&sources(&env)), [expected.as_str()]);
        env.reverse();
        assert_eq!(faults(&sources(&env)), [expected.as_str()]);
    }

    #[test]
    fn what_is_not_utf_8_is_a_fault_and_what_is_for_others_is_not() {
        let check = |name: &[u8], value: &[u8], expected: &[&str]| {
            let mut sources = sources(&[]);
            let variable = (OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
            sources.take_env(std::iter::once(variable));
            let found = load(&sources).err().map_or_else(Vec::new, |_| faults(&sources));
            assert_eq!(found, expected);
        };
        let workers = "http.workers: is not UTF-8 (environment IOT_METER__HTTP__WORKERS)";
        check(b"IOT_METER__HTTP__WORKERS", b"\xff", &[workers]);
        check(b"IOT_METER_LOG", b"\xff", &["log.level: is not UTF-8 (environment IOT_METER_LOG)"]);
        let url = "database.url: is not UTF-8 (environment IOT_METER__DATABASE__URL_FILE)";
        check(b"IOT_METER__DATABASE__URL_FILE", b"\xff", &[url]);
        check(b"HOME", b"\xff", &[]);
        check(b"\xff", b"1", &[]);
    }
}
