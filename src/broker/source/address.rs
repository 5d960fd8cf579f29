//! Where an external broker is: `mqtt://host[:port]` or `mqtts://host[:port]`.
//!
//! Pure. An address holds no credential: one that does is refused, and no error repeats it.

use std::fmt;
use std::net::Ipv6Addr;

/// A broker's address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Whether the connection is encrypted (`mqtts`).
    pub is_tls: bool,
    /// A name or an IP address (version 6 without its brackets).
    pub host: String,
    /// 1883 or 8883 where none was said.
    pub port: u16,
}

impl Address {
    /// Reads an address; the error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted = || "a URL such as mqtt://host:1883 or mqtts://host:8883 is wanted".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
        let (is_tls, default) = match scheme {
            "mqtt" => (false, 1883),
            "mqtts" => (true, 8883),
            _ => return Err(format!("{scheme:?} is not a scheme of a broker; known: mqtt, mqtts")),
        };
        if rest.contains('@') {
            return Err("the user name and the password have keys of their own".to_owned());
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']').filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok()),
            None => Some(rest.split_at(rest.find(':').unwrap_or(rest.len()))).filter(|(host, _)| is_name(host)),
        }
        .ok_or_else(wanted)?;
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port > 0),
            None => port.is_empty().then_some(default),
        };
        Ok(Self { is_tls, host: host.to_owned(), port: port.ok_or_else(wanted)? })
    }
}

fn is_name(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_perhaps_a_port() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Address::parse(text).ok().map(|a| a.to_string()).as_deref(), expected, "{text}");
        };
        check("mqtt://broker", Some("mqtt://broker:1883"));
        check("mqtts://broker.example", Some("mqtts://broker.example:8883"));
        check("mqtt://127.0.0.1:2883", Some("mqtt://127.0.0.1:2883"));
        check("mqtt://[::1]", Some("mqtt://[::1]:1883"));
        check("mqtts://[fe80::1]:9", Some("mqtts://[fe80::1]:9"));
        for bad in ["broker:1883", "tcp://b", "mqtt://", "mqtt://:1883", "mqtt://b:0", "mqtt://b:99999", "mqtt://b:x"] {
            check(bad, None);
        }
        for bad in ["mqtt://b/", "mqtt://b:1/x", "mqtt://[::1", "mqtt://[b]", "mqtt://::1", "mqtt://b c", "mqtt://é"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let error = Address::parse("mqtt://me:hunter2@broker").expect_err("is refused");
        assert!(error.contains("keys of their own") && !error.contains("hunter2"), "{error}");
    }
}
