//! Lists whose entries have rules of their own.
//!
//! Pure. What is checked here is read again by [`FromValue`] and cannot fail there.

use super::from_value::{FromValue, word};
use super::value::Value;
use crate::api::ProxyHeader;
use crate::domain::Network;
use crate::oidc::Algorithm;
use crate::store::Role;

/// What the entries of a list must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Networks: `10.0.0.0/8`, or one address.
    Network,
    /// Origins of pages, as browsers write them.
    Origin,
    /// Algorithms tokens may be signed with.
    Algorithm,
    /// `value=role`.
    Role,
}

impl Entry {
    /// Checks an entry; the error says what would be right.
    pub(super) fn check(self, text: String) -> Result<String, String> {
        let is_good = match self {
            Self::Network => Network::parse(&text).is_some(),
            Self::Origin => is_origin(&text),
            Self::Algorithm => Algorithm::from_name(&text).is_some(),
            Self::Role => role(&text).is_some(),
        };
        if is_good { Ok(text) } else { Err(format!("{text:?} is none of these: {}", self.describe())) }
    }

    /// In words.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Network => "addresses or networks such as 10.0.0.0/8".to_owned(),
            Self::Origin => "origins such as https://grafana.example:3000".to_owned(),
            Self::Algorithm => format!("algorithms: {}", Algorithm::ALL.map(Algorithm::name).join(" ")),
            Self::Role => "value=role, the role one of viewer operator admin".to_owned(),
        }
    }
}

/// Scheme, host in lower case, port if it is not the usual one; nothing else.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b);
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_letter))
}

fn role(text: &str) -> Option<(String, Role)> {
    let (value, role) = text.rsplit_once('=')?;
    Some((value.to_owned(), Role::from_name(role)?)).filter(|_| !value.is_empty())
}

fn entries(value: &Value) -> &[String] {
    let Value::List(items) = value else { unreachable!("the table gives lists a list's kind") };
    items
}

impl FromValue for Vec<Network> {
    fn from_value(value: &Value) -> Self {
        entries(value).iter().filter_map(|text| Network::parse(text)).collect()
    }
}

impl FromValue for Vec<Algorithm> {
    fn from_value(value: &Value) -> Self {
        entries(value).iter().filter_map(|text| Algorithm::from_name(text)).collect()
    }
}

impl FromValue for Vec<(String, Role)> {
    fn from_value(value: &Value) -> Self {
        entries(value).iter().filter_map(|text| role(text)).collect()
    }
}

/// The headers in which proxies tell the client's address.
pub(super) const PROXY_HEADERS: [&str; 2] = ["x-forwarded-for", "forwarded"];

impl FromValue for ProxyHeader {
    fn from_value(value: &Value) -> Self {
        if word(value) == PROXY_HEADERS[1] { Self::Forwarded } else { Self::XForwardedFor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_what_their_list_is_of() {
        let check = |entry: Entry, text: &str, good: bool| {
            assert_eq!(entry.check(text.to_owned()).is_ok(), good, "{entry:?} {text:?}");
        };
        check(Entry::Network, "10.0.0.0/8", true);
        check(Entry::Network, "10.0.0.0/99", false);
        check(Entry::Origin, "https://a.example", true);
        check(Entry::Origin, "http://[::1]:3000", true);
        for bad in ["*", "null", "https://", "https://a.example/", "https://A.example", "a.example", "https://a,b"] {
            check(Entry::Origin, bad, false);
        }
        check(Entry::Algorithm, "ES256", true);
        for bad in ["none", "HS256", "es256", ""] {
            check(Entry::Algorithm, bad, false);
        }
        check(Entry::Role, "meter-admins=admin", true);
        check(Entry::Role, "a=b=viewer", true);
        for bad in ["admin", "=admin", "x=root"] {
            check(Entry::Role, bad, false);
        }
    }
}
