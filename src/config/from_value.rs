//! From a checked value to the type of a setting's field.
//!
//! Invariant: a kind always gives the same variant of [`Value`]. Does not know any key.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::secret::Secret;
use super::value::{AutoListen, Value};
use crate::observe::log::Format;

/// How a field of the settings is made from its checked value. A kind always gives the same variant of [`Value`], so a
/// mismatch between a field's type and its kind fails for every value, the default's included: the tests would stop.
pub(super) trait FromValue {
    fn from_value(value: &Value) -> Self;
}

macro_rules! from_int {
    ($($ty:ty),*) => {$(
        impl FromValue for $ty {
            fn from_value(value: &Value) -> Self {
                let Value::Int(n) = value else { unreachable!("the table gives whole numbers a numeric kind") };
                <$ty>::try_from(*n).unwrap_or(<$ty>::MAX)
            }
        }
    )*};
}

from_int!(u16, u32, u64, usize);

pub(super) fn word(value: &Value) -> &str {
    let Value::Text(text) = value else { unreachable!("the table gives texts a textual kind") };
    text
}

impl FromValue for String {
    fn from_value(value: &Value) -> Self {
        word(value).to_owned()
    }
}

impl FromValue for PathBuf {
    fn from_value(value: &Value) -> Self {
        word(value).into()
    }
}

impl FromValue for Option<PathBuf> {
    fn from_value(value: &Value) -> Self {
        Some(word(value)).filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

impl FromValue for Format {
    fn from_value(value: &Value) -> Self {
        Self::from_name(word(value)).expect("the choice was checked against its names")
    }
}

impl FromValue for Secret {
    fn from_value(value: &Value) -> Self {
        let (Value::Secret(secret) | Value::Hidden(secret)) = value else {
            unreachable!("the table gives secrets a secret kind")
        };
        secret.clone()
    }
}

impl FromValue for Vec<String> {
    fn from_value(value: &Value) -> Self {
        let Value::List(items) = value else { unreachable!("the table gives lists a list's kind") };
        items.clone()
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Self {
        let Value::Ratio(part) = value else { unreachable!("the table gives parts of a whole a kind of their own") };
        *part
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Self {
        let Value::Bool(yes) = value else { unreachable!("the table gives yes and no a kind of their own") };
        *yes
    }
}

impl FromValue for AutoListen {
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Auto => Self::Auto,
            Value::Addr(Some(address)) => Self::At(*address),
            Value::Addr(None) => Self::Off,
            _ => unreachable!("the table gives listeners a listener's kind"),
        }
    }
}

impl FromValue for Option<SocketAddr> {
    fn from_value(value: &Value) -> Self {
        let Value::Addr(addr) = value else { unreachable!("the table gives listeners a listener's kind") };
        *addr
    }
}

impl FromValue for SocketAddr {
    fn from_value(value: &Value) -> Self {
        Option::from_value(value).expect("only a listener that may be off is an option")
    }
}
