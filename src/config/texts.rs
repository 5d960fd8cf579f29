//! Texts with rules of their own: what the sections of a list are made of.
//!
//! Pure. An error never repeats a text that may be a secret.

use super::secret::Secret;
use super::value::{FromValue, Value, filter, word};
use crate::broker::source::{Address, Version};
use crate::oidc::is_safe_url;

/// What a text must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Anything that MQTT can carry; empty = none.
    Any,
    /// The same, and it may not show.
    Secret,
    /// A path; empty = none.
    OptionalPath,
    /// One topic filter, also a shared one.
    Subscription,
    /// A broker's address.
    Broker,
    /// `https://…`, or `http://` to this machine; empty = none.
    SafeUrl,
}

impl Rule {
    pub(super) fn check(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Any => any(text).map(Value::Text),
            Self::Secret => any(text).map(|text| Value::Hidden(Secret::new(text))),
            Self::OptionalPath => Ok(Value::Text(text.to_owned())),
            Self::Subscription => subscription(text).map(Value::Text),
            Self::SafeUrl => safe_url(text).map(Value::Text),
            Self::Broker => Address::parse(text).map(|address| Value::Text(address.to_string())),
        }
    }

    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Any | Self::Secret => "a text",
            Self::OptionalPath => "a path",
            Self::Subscription => "a topic filter",
            Self::SafeUrl => "https://…, or http:// to this machine; \"\" for none",
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

fn safe_url(text: &str) -> Result<String, String> {
    match text.is_empty() || is_safe_url(text) {
        true => Ok(text.to_owned()),
        false => Err("an address is wanted that begins with https:// (http:// only for this machine)".to_owned()),
    }
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

impl FromValue for Option<Secret> {
    fn from_value(value: &Value) -> Self {
        let Value::Hidden(secret) = value else { unreachable!("the table gives hidden texts a secret rule") };
        Some(secret.clone()).filter(|secret| !secret.reveal().is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_text_is_what_mqtt_can_carry_and_is_not_repeated() {
        for rule in [Rule::Any, Rule::Secret] {
            assert!(rule.check("").is_ok() && rule.check("hunter2 é").is_ok());
            assert!(!rule.check("hunter2\0").expect_err("is refused").contains("hunter2"));
            assert!(rule.check(&"x".repeat(65_536)).is_err());
        }
    }
}
