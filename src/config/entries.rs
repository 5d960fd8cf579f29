//! The keys of `[[source]]`, the one section of which there may be several, and how its entries become settings.
//!
//! Invariant: as with the table of keys, structure, defaults, ranges and texts come from here alone. The keys of the entry
//! with the number n are `source.n.key`, wherever they are written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::from_value::FromValue;
use super::load::{Fault, Source};
use super::secret::Secret;
use super::suggest::unknown;
use super::table::Key;
use super::texts::Rule;
use super::value::{Kind, Raw, Value};
use crate::broker::source::{Address, MAX_SOURCES, Version};

/// The name of the section.
pub(super) const NAME: &str = "source";

/// What the section is about.
pub(super) const DOC: &str = concat!(
    " An external broker whose meters are heard and reached through it. None by default; up to 16 such sections, counted\n",
    " from 0. A message is acknowledged there only after it is on disk here.\n",
);

macro_rules! entry {
    ($($(#[doc = $doc:literal])* $key:ident: $ty:ty = $default:literal, $kind:expr;)*) => {
        /// An external broker, read as a source.
        #[derive(Clone, Debug, PartialEq)]
        pub struct ExternalBroker {
            /// Its place among the sections, from 0.
            pub number: usize,
            $($(#[doc = $doc])* pub $key: $ty,)*
        }

        /// The table, for the entry 0.
        pub(super) const KEYS: &[Key] = &[$(Key {
            path: concat!("source.0.", stringify!($key)),
            default: $default,
            kind: $kind,
            doc: concat!($($doc, "\n"),*),
            flag: None,
        },)*];

        impl ExternalBroker {
            fn from_values<'a>(number: usize, value: impl Fn(&str) -> &'a Value) -> Self {
                Self {
                    number,
                    $($key: <$ty>::from_value(value(concat!("source.0.", stringify!($key)))),)*
                }
            }
        }
    };
}

entry! {
    /// Where the broker is. This key must be given.
    url: Address = "mqtt://broker.example:1883", Kind::Text(Rule::Broker);
    /// What to subscribe to. `$share/NAME/…` shares the messages among all nodes with that name; a broker without shared
    /// subscriptions wants `iot/+/#`. With another filter take another client_id: the session keeps the old one too.
    filter: String = "$share/iot-meter/iot/+/#", Kind::Text(Rule::Subscription);
    /// The name of the session at the broker, where nobody else may have it; empty = iot-meter-NODE-ID.
    client_id: String = "", Kind::Text(Rule::Any);
    /// User name; empty = none.
    username: String = "", Kind::Text(Rule::Any);
    /// Password; empty = none.
    password: Option<Secret> = "", Kind::Text(Rule::Secret);
    /// File that holds the password, read at each connection; empty = none.
    password_file: Option<PathBuf> = "", Kind::Text(Rule::OptionalPath);
    /// Version of MQTT to speak.
    version: Version = "5", Kind::Choice(&Version::NAMES);
    /// How long the broker is to keep what comes in while this server is away (version 5; with 3.1.1 the broker decides).
    session_expiry_s: u32 = "86400", Kind::Int { min: 60, max: 31_536_000, unit: "s" };
    /// For mqtts: PEM file of the certificate authorities to trust instead of the system's; empty = the system's.
    ca_file: Option<PathBuf> = "", Kind::Text(Rule::OptionalPath);
    /// Meters remembered as reachable through the broker; those silent for longest are forgotten first.
    max_devices: usize = "100000", Kind::Int { min: 1, max: 10_000_000, unit: "devices" };
}

/// The one key without a default.
const URL: &str = "source.0.url";

/// Number and key of `source.n.key`; the key is empty for the entry itself.
pub(super) fn split(path: &str) -> Option<(usize, &str)> {
    let rest = path.strip_prefix(NAME)?.strip_prefix('.')?;
    let (number, key) = rest.split_once('.').unwrap_or((rest, ""));
    Some((number.parse().ok()?, key))
}

/// The path in an entry of a key of the table.
pub(super) fn numbered(path: &str, number: usize) -> String {
    path.replacen(".0.", &format!(".{number}."), 1)
}

/// The path of the entry itself: that it is there, whatever it holds.
pub(super) fn itself(number: usize) -> (String, Raw) {
    (format!("{NAME}.{number}"), Raw::Other("a section"))
}

/// Values of all entries, as far as they are given.
#[derive(Default)]
pub(super) struct Entries(BTreeMap<usize, Entry>);

struct Entry {
    /// Where it was first spoken of.
    place: Source,
    values: Values,
}

type Values = BTreeMap<&'static str, (Value, Source)>;

impl Entries {
    /// Takes what is given for an entry; the fault, if it is one.
    pub(super) fn take(
        &mut self,
        path: &str,
        (number, name): (usize, &str),
        raw: &Raw,
        source: &Source,
    ) -> Option<Fault> {
        let fault = |message| Some(Fault { key: path.to_owned(), source: source.clone(), message });
        if number >= MAX_SOURCES {
            return fault(format!("is one too many: at most {MAX_SOURCES} sources are possible"));
        }
        let entry = || Entry { place: source.clone(), values: Values::new() };
        if (name, raw) == ("", &itself(number).1) {
            self.0.entry(number).or_insert_with(entry);
            return None;
        }
        let Some(key) = KEYS.iter().find(|key| key.path.strip_prefix("source.0.") == Some(name)) else {
            return fault(unknown(path));
        };
        // Also where the value is a fault: what else is missing is said at once.
        let values = &mut self.0.entry(number).or_insert_with(entry).values;
        match key.kind.check(raw) {
            Ok(value) => {
                values.insert(key.path, (value, source.clone()));
                None
            }
            Err(message) => {
                values.entry(key.path).or_insert_with(|| default_of(key));
                fault(message)
            }
        }
    }

    /// The settings, with what is shown of them, in order; what does not fit together goes to `faults`.
    pub(super) fn finish(self, faults: &mut Vec<Fault>) -> (Vec<ExternalBroker>, Vec<(String, Value, Source)>) {
        let (mut brokers, mut shown) = (Vec::new(), Vec::new());
        let mut urls = Vec::new();
        for (number, Entry { place, mut values }) in self.0 {
            if !values.contains_key(URL) {
                let key = numbered(URL, number);
                faults.push(Fault { key, source: place, message: "is missing".to_owned() });
            }
            for key in KEYS {
                values.entry(key.path).or_insert_with(|| default_of(key));
            }
            let broker = ExternalBroker::from_values(number, |path| &values[path].0);
            check_together(&broker, &urls, &values, faults);
            if values[URL].1 != Source::Default {
                urls.push((number, broker.url.clone(), broker.client_id.clone()));
            }
            brokers.push(broker);
            let in_order = KEYS.iter().filter_map(|key| Some((key.path, values.remove(key.path)?)));
            shown.extend(in_order.map(|(path, (value, source))| (numbered(path, number), value, source)));
        }
        (brokers, shown)
    }
}

fn default_of(key: &Key) -> (Value, Source) {
    let value = key.kind.check(&Raw::Word(key.default.to_owned()));
    (value.expect("a test checks every default of the table"), Source::Default)
}

/// Rules between the keys of an entry, and between entries.
fn check_together(
    broker: &ExternalBroker,
    before: &[(usize, Address, String)],
    values: &Values,
    faults: &mut Vec<Fault>,
) {
    let mut rule = |holds: bool, name: &str, message: String| {
        if !holds {
            let path = format!("source.0.{name}");
            let source = values[path.as_str()].1.clone();
            faults.push(Fault { key: numbered(&path, broker.number), source, message });
        }
    };
    let has_password = broker.password.is_some() || broker.password_file.is_some();
    let both = broker.password.is_some() && broker.password_file.is_some();
    rule(!both, "password_file", "is given as well as password; one of them is enough".to_owned());
    rule(!has_password || !broker.username.is_empty(), "username", "is wanted with a password".to_owned());
    rule(broker.ca_file.is_none() || broker.url.is_tls, "ca_file", "is of no use without mqtts://".to_owned());
    let same = before.iter().find(|(_, url, client_id)| *url == broker.url && *client_id == broker.client_id);
    if let Some((other, ..)) = same {
        let message = format!("is that of source {other} at the same broker: there each needs its own");
        rule(false, "client_id", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FileText, Flag, Settings, Sources, load};

    fn sources(file: &str, env: &[(&str, &str)]) -> Sources {
        let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let file = Some(FileText { path: "x.toml".into(), text: file.to_owned() });
        Sources { file, env, working_dir: "/srv".into(), ..Sources::default() }
    }

    fn faults(file: &str, env: &[(&str, &str)]) -> Vec<String> {
        let error = load(&sources(file, env)).expect_err("has faults").to_string();
        error.lines().skip(1).map(|l| l.trim().to_owned()).collect()
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for key in KEYS {
            let checked = key.kind.check(&Raw::Word(key.default.to_owned()));
            assert!(checked.is_ok(), "{}: {checked:?}", key.path);
            assert!(key.doc.starts_with(' ') && key.doc.trim_end().ends_with('.'), "{}: {:?}", key.path, key.doc);
        }
        assert!(KEYS.iter().any(|key| key.path == URL));
        assert_eq!(Settings::default().sources, []);
    }

    #[test]
    fn entries_come_from_the_file_the_environment_and_flags() {
        let file = "[[source]]\nurl = \"mqtt://a\"\nversion = \"3.1.1\"\n[[source]]\nurl = \"mqtts://b\"\n";
        let env = [("IOT_METER__SOURCE__1__PASSWORD", "hunter2"), ("IOT_METER__SOURCE__2__URL", "mqtt://c:5")];
        let flags = [("source.1.username", "me"), ("source.0.filter", "iot/+/#")].map(|(key, value)| Flag {
            flag: format!("--set {key}"),
            key: key.to_owned(),
            value: value.to_owned(),
        });
        let loaded = load(&Sources { flags: flags.to_vec(), ..sources(file, &env) }).expect("is good");
        let all = &loaded.settings.sources;
        let urls: Vec<_> = all.iter().map(|s| (s.number, s.url.to_string())).collect();
        assert_eq!(urls, [(0, "mqtt://a:1883".into()), (1, "mqtts://b:8883".into()), (2, "mqtt://c:5".into())]);
        assert_eq!((all[0].version, all[1].version), (Version::V311, Version::V5));
        assert_eq!((all[0].filter.as_str(), all[1].filter.as_str()), ("iot/+/#", "$share/iot-meter/iot/+/#"));
        assert_eq!(all[1].password.as_ref().map(Secret::reveal), Some("hunter2"));
        assert!(!format!("{:?}", loaded.settings).contains("hunter2"));
    }

    #[test]
    fn what_is_in_force_shows_without_passwords_whatever_they_look_like() {
        let file = "[[source]]\nurl = \"mqtt://a\"\nusername = \"me\"\npassword = \"hunter2://x\"\n";
        let loaded = load(&sources(file, &[])).expect("is good");
        let text = crate::config::effective_text(&loaded);
        assert!(!text.contains("hunter2") && text.contains("source.0.password = \"***\""), "{text}");
        assert!(text.contains("# x.toml:4") && text.contains("source.0.url = \"mqtt://a:1883\""), "{text}");
        assert_eq!(crate::config::effective_json(&loaded)["source.0.version"]["source"], "default");
    }

    #[test]
    fn all_faults_of_entries_are_listed_at_once() {
        let file = "[[source]]\nurl = \"mqtt://u:hunter2@a\"\nfiltr = \"x\"\nversion = \"4\"\n[[source]]\n[[source]]\n\
                    url = \"mqtt://c\"\nusername = 5\nfilter = \"$share/iot/#/x\"\npassword = \"p\"\npassword_file = \"/x\"\n";
        let env = [("IOT_METER__SOURCE__16__URL", "mqtt://x"), ("IOT_METER__SOURCE__X__URL", "mqtt://x")];
        let found = faults(file, &env);
        let expected = [
            "source.0.url: the user name and the password have keys of their own (x.toml:2)",
            "source.0.filtr: is not a key; did you mean `source.0.filter`? (x.toml:3)",
            "source.0.version: \"4\" is none of 5, 3.1.1 (x.toml:4)",
            "source.1.url: is missing (x.toml:5)",
            "source.2.username: a text in quotes is wanted, not an integer",
            "source.2.filter: \"$share/iot/#/x\" is not a topic filter",
            "source.2.password_file: is given as well as password",
            "source.2.username: is wanted with a password",
            "source.16.url: is one too many",
            "source.x.url: is not a key",
        ];
        for wanted in expected {
            assert!(found.iter().any(|f| f.starts_with(wanted)), "{wanted:?} is not in {found:#?}");
        }
        assert!(!found.concat().contains("hunter2"));
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn the_section_must_be_written_as_a_list_and_under_its_name() {
        let check = |file: &str, wanted: &str| {
            let found = faults(file, &[]);
            assert!(found.len() == 1 && found[0].starts_with(wanted), "{found:#?}");
        };
        check("[source]\nurl = \"mqtt://a\"\n", "source: is a list of sections: write [[source]] (x.toml:1)");
        check("source = [\"mqtt://a\"]\n", "source: is a list of sections: write [[source]] (x.toml:1)");
        check("[[sources]]\nurl = \"mqtt://a\"\n", "sources: is not a key; did you mean `[[source]]`? (x.toml:1)");
    }

    #[test]
    fn two_sessions_of_one_name_at_one_broker_are_a_fault() {
        let two = "[[source]]\nurl = \"mqtt://a\"\n[[source]]\nurl = \"mqtt://a:1883\"\n";
        let found = faults(two, &[]);
        assert!(found.len() == 1 && found[0].starts_with("source.1.client_id: is that of source 0"), "{found:#?}");
        assert!(load(&sources(&format!("{two}client_id = \"other\"\n"), &[])).is_ok());
    }
}
