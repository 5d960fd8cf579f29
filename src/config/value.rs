//! Kinds of values: how a text or a TOML value becomes a checked one, and how that shows again.
//!
//! Pure. Does not know which key has which kind, nor where a value came from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::from_value::{FromValue, word};
use super::lists::Entry;
use super::secret::Secret;
use super::texts::{self, Rule};
use crate::observe::log;

/// Type and range of a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number, both ends allowed.
    Int {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A number of bytes, or a text such as `64 MiB`; both ends allowed.
    Size {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// `address:port`.
    Listen {
        /// Whether `off` is allowed.
        may_be_off: bool,
    },
    /// `address:port`, or what follows from other keys.
    ListenAuto,
    /// A path.
    Path,
    /// The path of a file, if there is one.
    File,
    /// A URL of one of these schemes.
    Url {
        /// Allowed schemes.
        schemes: &'static [&'static str],
    },
    /// A URL that may hold a password.
    SecretUrl {
        /// Allowed schemes.
        schemes: &'static [&'static str],
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A part of a whole, 0 to 1.
    Ratio,
    /// Yes or no.
    Bool,
    /// Yes, no, or what follows from other keys.
    BoolAuto,
    /// A list of MQTT topic filters.
    Filters,
    /// A list of names or addresses of this machine.
    Names,
    /// A list of texts with a rule of their own.
    List(Entry),
    /// A filter of log lines.
    LogFilter,
    /// A text with a rule of its own.
    Text(Rule),
}

/// A value as given, before any check.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Raw {
    /// From the environment or a flag: its type is what the key wants.
    Word(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer; `None` = beyond 64 bits or negative.
    Int(Option<u64>),
    /// A TOML float.
    Float(f64),
    /// A TOML boolean.
    Bool(bool),
    /// A TOML array of strings.
    List(Vec<String>),
    /// Any other TOML value, by the name of its type.
    Other(&'static str),
}

/// A checked value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Int(u64),
    Ratio(f64),
    Bool(bool),
    Addr(Option<SocketAddr>),
    /// What is still to be made of other keys.
    Auto,
    Text(String),
    Secret(Secret),
    /// A secret of which nothing shows.
    Hidden(Secret),
    List(Vec<String>),
}

/// An enum whose variants are words of the settings.
macro_rules! words {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $variant_doc:literal])* $variant:ident = $word:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[doc = $variant_doc])* $variant,)*
        }

        impl $name {
            /// As written in the settings.
            pub const NAMES: [&'static str; [$($word),*].len()] = [$($word),*];

            fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl FromValue for $name {
            fn from_value(value: &Value) -> Self {
                Self::from_name(word(value)).expect("the choice was checked against its names")
            }
        }
    };
}

words! {
    /// What happens with meters nobody registered.
    UnknownDevices {
        /// `Register` in open mode, `Quarantine` otherwise.
        Auto = "auto",
        /// They are registered, active.
        Register = "register",
        /// They are registered inactive: data stored, no alerts.
        Quarantine = "quarantine",
        /// Their messages are refused.
        Refuse = "refuse",
    }
}

words! {
    /// Who may read the metrics page without a key.
    MetricsAccess {
        /// Peers on this machine.
        Loopback = "loopback",
        /// Nobody.
        Key = "key",
        /// Anybody.
        Anyone = "anyone",
    }
}

words! {
    /// The oldest version of TLS accepted.
    TlsVersion {
        /// RFC 5246.
        V12 = "1.2",
        /// RFC 8446.
        V13 = "1.3",
    }
}

/// A listener that is on by itself where it can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AutoListen {
    /// There is none.
    Off,
    /// On its usual address, where what it needs is there and nobody else has that address.
    Auto,
    /// There, or the start fails.
    At(SocketAddr),
}

impl Kind {
    /// Checks a value; the error says what would be right.
    pub(super) fn check(&self, raw: &Raw) -> Result<Value, String> {
        match self {
            Self::Int { min, max, unit } => within(integer(raw)?, *min, *max, unit).map(Value::Int),
            Self::Size { min, max } => within(bytes(raw)?, *min, *max, "bytes").map(Value::Int),
            Self::Listen { may_be_off } => listen(text(raw)?, *may_be_off).map(Value::Addr),
            Self::ListenAuto => match text(raw)? {
                "auto" => Ok(Value::Auto),
                address => listen(address, true).map(Value::Addr),
            },
            Self::File => Ok(Value::Text(text(raw)?.to_owned())),
            Self::Path => match text(raw)? {
                "" => Err("a path is wanted".to_owned()),
                path => Ok(Value::Text(path.to_owned())),
            },
            Self::Url { schemes } => url(text(raw)?, schemes).map(Value::Text),
            Self::SecretUrl { schemes } => url(text(raw)?, schemes).map(|u| Value::Secret(Secret::new(u))),
            Self::Ratio => ratio(raw).map(Value::Ratio),
            Self::Bool => boolean(raw).map(Value::Bool),
            Self::BoolAuto => match raw {
                Raw::Word(word) | Raw::Text(word) if word == "auto" => Ok(Value::Auto),
                other => boolean(other).map(Value::Bool).map_err(|_| "true, false or \"auto\" is wanted".to_owned()),
            },
            Self::Names => list(raw)?.into_iter().map(host).collect::<Result<_, _>>().map(Value::List),
            Self::Choice(words) => choice(text(raw)?, words).map(Value::Text),
            Self::Filters => list(raw)?.into_iter().map(filter).collect::<Result<_, _>>().map(Value::List),
            Self::List(entry) => {
                list(raw)?.into_iter().map(|item| entry.check(item)).collect::<Result<_, _>>().map(Value::List)
            }
            Self::Text(rule) => rule.check(text(raw)?),
            Self::LogFilter => {
                let filter = text(raw)?;
                log::check_filter(filter).map_err(|e| e.to_string())?;
                Ok(Value::Text(filter.to_owned()))
            }
        }
    }

    /// Type and range in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Int { min, max, unit } => format!("{min} … {max} {unit}"),
            Self::Size { min, max } => {
                format!("{} … {} (bytes, or a text with KiB, MiB, GiB)", show_size(*min), show_size(*max))
            }
            Self::Listen { may_be_off: true } => "address:port, or \"off\"".to_owned(),
            Self::Listen { may_be_off: false } => "address:port".to_owned(),
            Self::ListenAuto => "address:port, \"off\", or \"auto\"".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::File => "a path, or \"\" for none".to_owned(),
            Self::Url { schemes } | Self::SecretUrl { schemes } => {
                schemes.iter().map(|s| format!("{s}://…")).collect::<Vec<_>>().join(" or ")
            }
            Self::Ratio => "0 … 1, such as 0.05".to_owned(),
            Self::Bool => "true | false".to_owned(),
            Self::BoolAuto => "true | false | \"auto\"".to_owned(),
            Self::Names => "a list of names or addresses (in the environment separated by commas)".to_owned(),
            Self::Choice(words) => words.join(" | "),
            Self::Filters => "a list of topic filters (in the environment separated by commas)".to_owned(),
            Self::List(entry) => format!("a list of {}", entry.describe()),
            Self::LogFilter => "a level or a list of target=level".to_owned(),
            Self::Text(rule) => rule.describe().to_owned(),
        }
    }
}

impl Value {
    /// As it would be written in TOML, with what is secret hidden.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Int(n) => n.to_string(),
            Self::Ratio(part) => part.to_string(),
            Self::Bool(yes) => yes.to_string(),
            Self::Addr(None) => "\"off\"".to_owned(),
            Self::Auto => "\"auto\"".to_owned(),
            Self::Addr(Some(a)) => format!("\"{a}\""),
            Self::Text(t) => format!("{t:?}"),
            Self::Secret(s) => format!("{:?}", s.redacted()),
            Self::Hidden(s) => format!("{:?}", if s.reveal().is_empty() { "" } else { "***" }),
            Self::List(items) => format!("{items:?}"),
        }
    }
}

fn text(raw: &Raw) -> Result<&str, String> {
    match raw {
        Raw::Word(t) | Raw::Text(t) => Ok(t),
        Raw::Int(_) => Err("a text in quotes is wanted, not an integer".to_owned()),
        Raw::Float(_) => Err("a text in quotes is wanted, not a number with a point".to_owned()),
        Raw::Bool(_) => Err("a text in quotes is wanted, not true or false".to_owned()),
        Raw::List(_) => Err("a text in quotes is wanted, not a list".to_owned()),
        Raw::Other(name) => Err(format!("a text in quotes is wanted, not {name}")),
    }
}

fn integer(raw: &Raw) -> Result<u64, String> {
    match raw {
        Raw::Int(Some(n)) => Ok(*n),
        Raw::Int(None) => Err("is not in range".to_owned()),
        Raw::Word(word) => word.trim().parse().map_err(|_| format!("{word:?} is not a whole number")),
        Raw::Text(_) => Err("a whole number without quotes is wanted".to_owned()),
        Raw::Bool(_) => Err("a whole number is wanted, not true or false".to_owned()),
        Raw::Float(_) => Err("a whole number is wanted, not a number with a point".to_owned()),
        Raw::List(_) => Err("a whole number is wanted, not a list".to_owned()),
        Raw::Other(name) => Err(format!("a whole number is wanted, not {name}")),
    }
}

fn ratio(raw: &Raw) -> Result<f64, String> {
    let number = match raw {
        Raw::Float(n) => Some(*n),
        Raw::Int(n) => n.map(|n| n as f64),
        Raw::Word(word) => word.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|n| (0.0..=1.0).contains(n))
        .ok_or_else(|| "a number from 0 to 1 is wanted, without quotes".to_owned())
}

fn boolean(raw: &Raw) -> Result<bool, String> {
    match raw {
        Raw::Bool(yes) => Ok(*yes),
        Raw::Word(word) if word == "true" => Ok(true),
        Raw::Word(word) if word == "false" => Ok(false),
        _ => Err("true or false is wanted, without quotes".to_owned()),
    }
}

fn bytes(raw: &Raw) -> Result<u64, String> {
    match raw {
        Raw::Word(t) | Raw::Text(t) => {
            parse_size(t).ok_or_else(|| format!("{t:?} is not a size; write bytes, or a text such as \"64 MiB\""))
        }
        other => integer(other),
    }
}

/// `123`, `64 KiB`, `64MiB`, `1 GiB`; also `B`, and `kB`, `MB`, `GB` in thousands.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn show_size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = units.into_iter().find(|(bits, _)| bytes >= 1 << bits && bytes.is_multiple_of(1 << bits));
    fits.map_or_else(|| bytes.to_string(), |(bits, unit)| format!("{} {unit}", bytes >> bits))
}

fn within(n: u64, min: u64, max: u64, unit: &str) -> Result<u64, String> {
    match (min..=max).contains(&n) {
        true => Ok(n),
        false if unit == "bytes" => Err(format!("{n} is not within {} … {}", show_size(min), show_size(max))),
        false => Err(format!("{n} is not within {min} … {max} {unit}")),
    }
}

fn listen(text: &str, may_be_off: bool) -> Result<Option<SocketAddr>, String> {
    if may_be_off && text == "off" {
        return Ok(None);
    }
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let local = local.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let off = if may_be_off { ", or off" } else { "" };
    local
        .or_else(|| text.parse().ok())
        .map(Some)
        .ok_or_else(|| format!("{text:?} is not an address with a port, such as 127.0.0.1:8080 or [::1]:8080{off}"))
}

fn url(text: &str, schemes: &[&str]) -> Result<String, String> {
    // The text itself may hold a password and is not repeated.
    match text.split_once("://") {
        Some((scheme, rest)) if schemes.contains(&scheme) && !rest.is_empty() => Ok(text.to_owned()),
        Some((scheme, _)) if !schemes.contains(&scheme) => {
            Err(format!("{scheme:?} is not a scheme this build knows; known: {}", schemes.join(", ")))
        }
        _ => Err(format!("a URL is wanted, beginning with {}", prefixes(schemes))),
    }
}

fn prefixes(schemes: &[&str]) -> String {
    schemes.iter().map(|s| format!("{s}://")).collect::<Vec<_>>().join(" or ")
}

fn choice(text: &str, words: &[&str]) -> Result<String, String> {
    match words.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is none of {}", words.join(", "))),
    }
}

fn list(raw: &Raw) -> Result<Vec<String>, String> {
    match raw {
        Raw::List(items) => Ok(items.clone()),
        Raw::Word(word) => texts::list(word),
        _ => Err(texts::LIST.to_owned()),
    }
}

/// What may stand in a certificate: checked closely there.
fn host(text: String) -> Result<String, String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '*');
    match !text.is_empty() && text.chars().all(is_good) {
        true => Ok(text),
        false => Err(format!("{text:?} is no name of a machine and no address")),
    }
}

/// MQTT 3.1.1 section 4.7: `#` stands alone in the last level, `+` alone in its level.
pub(super) fn filter(text: String) -> Result<String, String> {
    let levels: Vec<&str> = text.split('/').collect();
    let last = levels.len() - 1;
    let is_good = |(place, level): (usize, &&str)| {
        let wild = level.contains(['#', '+']);
        !wild || *level == "+" || (*level == "#" && place == last)
    };
    match !text.is_empty() && !text.contains('\0') && levels.iter().enumerate().all(is_good) {
        true => Ok(text),
        false => Err(format!("{text:?} is not a topic filter")),
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
