//! Texts with rules of their own: what the sections of a list are made of, and lists in one line.
//!
//! Pure. An error never repeats a text that may be a secret.

use serde::Deserialize;

use super::from_value::{FromValue, word};
use super::secret::Secret;
use super::value::{Value, filter};
use crate::broker::source::{Address, Version};
use crate::fetch::is_safe_url;
use crate::notify::is_repository;
use crate::vault::Key;

/// What a text must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Anything that MQTT can carry; empty = none.
    Any,
    /// The same, and it may not show.
    Secret,
    /// A key that seals stored secrets; empty = none.
    SealingKey,
    /// Several of them, separated by commas.
    SealingKeys,
    /// Addresses `host:port`, separated by commas; empty = none.
    Hosts,
    /// A path; empty = none.
    OptionalPath,
    /// One topic filter, also a shared one.
    Subscription,
    /// A broker's address.
    Broker,
    /// `https://…`, or `http://` to this machine; empty = none.
    SafeUrl,
    /// `owner/name` at GitHub; empty = none.
    Repository,
    /// `http://…` or `https://…`; empty = none.
    HttpUrl,
    /// Headers `Name: value`, separated by commas, that may not show; empty = none.
    SecretHeaders,
}

impl Rule {
    pub(super) fn check(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Any => any(text).map(Value::Text),
            Self::Secret => any(text).map(|text| Value::Hidden(Secret::new(text))),
            Self::SealingKey => keys(text, 1),
            Self::SealingKeys => keys(text, usize::MAX),
            Self::Hosts => hosts(text).map(Value::Text),
            Self::OptionalPath => Ok(Value::Text(text.to_owned())),
            Self::Subscription => subscription(text).map(Value::Text),
            Self::SafeUrl => safe_url(text).map(Value::Text),
            Self::Repository if text.is_empty() || is_repository(text) => Ok(Value::Text(text.to_owned())),
            Self::Repository => Err(format!("{text:?} is not a repository: owner/name is wanted")),
            Self::HttpUrl => http_url(text).map(Value::Text),
            Self::SecretHeaders => headers(text).map(|()| Value::Hidden(Secret::new(text))),
            Self::Broker => Address::parse(text).map(|address| Value::Text(address.to_string())),
        }
    }

    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Any | Self::Secret => "a text",
            Self::SealingKey | Self::SealingKeys => "32 bytes in hexadecimal or base64",
            Self::Hosts => "host:port, separated by commas",
            Self::OptionalPath => "a path",
            Self::Subscription => "a topic filter",
            Self::SafeUrl => "https://…, or http:// to this machine; \"\" for none",
            Self::Repository => "owner/name, or \"\" for none",
            Self::HttpUrl => "http://… or https://…; \"\" for none",
            Self::SecretHeaders => "Name: value, separated by commas; \"\" for none",
            Self::Broker => "mqtt://host:port or mqtts://host:port",
        }
    }
}

fn any(text: &str) -> Result<String, String> {
    match text.len() <= usize::from(u16::MAX) && !text.contains('\0') {
        true => Ok(text.to_owned()),
        false => Err("is longer than 65535 bytes, or has a character 0 in it".to_owned()),
    }
}

/// At most `most` keys.
fn keys(text: &str, most: usize) -> Result<Value, String> {
    let parts = || text.split(',').filter(|part| !part.trim().is_empty());
    if parts().count() > most {
        return Err("is more than one key; earlier ones belong to secrets.old_keys".to_owned());
    }
    let checked: Result<(), _> = parts().try_for_each(|part| Key::parse(part).map(drop));
    checked.map(|()| Value::Hidden(Secret::new(text.trim()))).map_err(|error| error.to_string())
}

/// Host and port of each.
pub(super) fn split_hosts(text: &str) -> Option<Vec<(String, u16)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (host, port) = part.rsplit_once(':')?;
            let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
            let is_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'_');
            let is_good = (1..=253).contains(&host.len()) && host.bytes().all(is_host);
            Some((host.to_owned(), port.parse().ok().filter(|port| *port != 0 && is_good)?))
        })
        .collect()
}

fn hosts(text: &str) -> Result<String, String> {
    match split_hosts(text).is_some_and(|all| all.len() <= 5) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not a list of at most five host:port, separated by commas")),
    }
}

fn safe_url(text: &str) -> Result<String, String> {
    match text.is_empty() || is_safe_url(text) {
        true => Ok(text.to_owned()),
        false => Err("an address is wanted that begins with https:// (http:// only for this machine)".to_owned()),
    }
}

fn http_url(text: &str) -> Result<String, String> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_good = rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && !rest.contains(['?', '#', '@'])
            && !text.contains(char::is_whitespace)
    });
    match text.is_empty() || is_good {
        true => Ok(text.to_owned()),
        false => Err("an address is wanted that begins with http:// or https://, without user and query".to_owned()),
    }
}

/// Name and value of each.
pub(super) fn split_headers(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once(':')?;
            let (name, value) = (name.trim(), value.trim());
            let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            let is_good =
                !name.is_empty() && name.bytes().all(is_name) && value.bytes().all(|b| (b' '..=b'~').contains(&b));
            is_good.then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn headers(text: &str) -> Result<(), String> {
    split_headers(text).map(drop).ok_or_else(|| "is not a list of Name: value, separated by commas".to_owned())
}

/// `$share/name/filter`, or a filter `[MQTT 5, 4.8.2]`.
fn subscription(text: &str) -> Result<String, String> {
    let shared = text.strip_prefix("$share/").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
    let (name, rest) = shared.unwrap_or(("-", text));
    let is_name = !name.is_empty() && !name.contains(['+', '#', '\0']);
    match is_name && filter(rest.to_owned()).is_ok() {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not a topic filter")),
    }
}

impl FromValue for Option<bool> {
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Auto => None,
            Value::Bool(yes) => Some(*yes),
            _ => unreachable!("the table gives yes, no and auto a kind of their own"),
        }
    }
}

impl FromValue for Option<Secret> {
    fn from_value(value: &Value) -> Self {
        let Value::Hidden(secret) = value else { unreachable!("the table gives hidden texts a secret rule") };
        Some(secret.clone()).filter(|secret| !secret.reveal().is_empty())
    }
}

impl FromValue for Vec<(String, Secret)> {
    fn from_value(value: &Value) -> Self {
        let Value::Hidden(secret) = value else { unreachable!("the table gives headers a secret rule") };
        let headers = split_headers(secret.reveal()).expect("the headers were checked");
        headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()
    }
}

impl FromValue for Vec<(String, u16)> {
    fn from_value(value: &Value) -> Self {
        split_hosts(word(value)).expect("the addresses were checked")
    }
}

impl FromValue for Address {
    fn from_value(value: &Value) -> Self {
        Self::parse(word(value)).expect("the address was checked")
    }
}

impl FromValue for Version {
    fn from_value(value: &Value) -> Self {
        Self::from_name(word(value)).expect("the choice was checked against its names")
    }
}

/// What a list of texts looks like.
pub(super) const LIST: &str = "a list of texts is wanted, such as [\"#\", \"$SYS/#\"]";

/// A list from the environment or a flag: as it is written in a file, or with commas between.
pub(super) fn list(text: &str) -> Result<Vec<String>, String> {
    if text.starts_with('[') {
        let items = toml::de::ValueDeserializer::parse(text).and_then(Vec::<String>::deserialize);
        return items.map_err(|_| LIST.to_owned());
    }
    Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_be_written_as_words_or_as_in_a_file() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let expected = expected.map(|items| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>());
            assert_eq!(list(text).ok(), expected, "{text:?}");
        };
        check("", Some(&[]));
        check("a/b, c", Some(&["a/b", "c"]));
        check("[]", Some(&[]));
        check("[\"a/b\", 'c,d']", Some(&["a/b", "c,d"]));
        check("[a/b]", None);
        check("[\"a/b\"", None);
        check("[1]", None);
    }

    #[test]
    fn a_collectors_address_and_headers_are_checked() {
        let check =
            |rule: Rule, text: &str, good: bool| assert_eq!(rule.check(text).is_ok(), good, "{rule:?} {text:?}");
        for (text, good) in [
            ("", true),
            ("http://otel-collector:4318", true),
            ("https://otlp.example/tenant/v1/traces", true),
            ("otel-collector:4318", false),
            ("http://", false),
            ("http:///v1/traces", false),
            ("http://user:secret@host", false),
            ("http://host/a b", false),
            ("grpc://host:4317", false),
        ] {
            check(Rule::HttpUrl, text, good);
        }
        for (text, good) in [
            ("", true),
            ("Authorization: Bearer a:b=", true),
            ("X-Scope-OrgID: 1, Authorization: Basic eA==", true),
            ("Authorization", false),
            (": x", false),
            ("A b: x", false),
            ("A: x\ny", false),
        ] {
            check(Rule::SecretHeaders, text, good);
        }
    }

    #[test]
    fn a_subscription_is_a_filter_perhaps_a_shared_one() {
        let check = |text: &str, good: bool| assert_eq!(subscription(text).is_ok(), good, "{text:?}");
        check("iot/+/#", true);
        check("$share/g/iot/+/#", true);
        check("iot/#/x", false);
        check("$share/g/", false);
        check("$share/g", false);
        check("$share//x", false);
        check("$share/g+/x", false);
        check("", false);
    }

    #[test]
    fn keys_are_checked_and_not_repeated() {
        let key = "00".repeat(32);
        let check = |rule: Rule, text: &str, good: bool| {
            let checked = rule.check(text);
            assert_eq!(checked.is_ok(), good, "{rule:?}");
            assert!(checked.err().is_none_or(|error| !error.contains("hunter2")));
        };
        check(Rule::SealingKey, "", true);
        check(Rule::SealingKey, &key, true);
        check(Rule::SealingKey, &format!("{key},{key}"), false);
        check(Rule::SealingKeys, &format!("{key}, {key}"), true);
        check(Rule::SealingKeys, &format!("{key},hunter2"), false);
    }

    #[test]
    fn hosts_have_a_port_each() {
        let check = |text: &str, good: bool| assert_eq!(hosts(text).is_ok(), good, "{text:?}");
        check("", true);
        check("a.example:8883, [::1]:1883", true);
        check("a.example", false);
        check("a.example:0", false);
        check("a b:1", false);
        check("a:1,b:1,c:1,d:1,e:1,f:1", false);
        assert_eq!(split_hosts("[::1]:8883").unwrap(), [("::1".to_owned(), 8883)]);
    }

    #[test]
    fn a_text_is_what_mqtt_can_carry_and_is_not_repeated() {
        for rule in [Rule::Any, Rule::Secret] {
            assert!(rule.check("").is_ok() && rule.check("hunter2 é").is_ok());
            assert!(!rule.check("hunter2\0").expect_err("is refused").contains("hunter2"));
            assert!(rule.check(&"x".repeat(65_536)).is_err());
        }
    }
}
