//! Who is at the other end, when there may be proxies between.
//!
//! Invariant: a header is believed only when the socket's own peer is a proxy of ours (`http.trusted_proxies`), only the one
//! kind of header our proxies set (`http.proxy_header`: they pass the other kind on as clients wrote it), and from the end:
//! the client is the last address that is no proxy of ours. What stands before it the client may have made up.
//!
//! Where a proxy of ours says what is no address, the client is not known: it shares the proxy's limits, but what the proxy
//! is it is not. Above all nobody is taken to be on this machine who says by any header of a proxy, believed or not, that
//! somebody passed the request on. Pure.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::HeaderMap;

use crate::domain::Network;

/// The header proxies tell the client's address in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProxyHeader {
    /// `X-Forwarded-For` (and `X-Forwarded-Proto`).
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
}

impl ProxyHeader {
    /// The header's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// Which proxies are ours, and how they speak.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Proxies {
    pub trusted: Vec<Network>,
    pub header: ProxyHeader,
}

/// Whoever sets one of these passes on what somebody else has asked.
const PASSED_ON: [&str; 5] = ["x-forwarded-for", "x-forwarded-proto", "forwarded", "x-real-ip", "via"];

/// The other end of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Peer {
    /// Whom limits and the audit log mean: the client, or the last on the way to it that is known. For what only this
    /// machine may, it proves nothing.
    pub address: Option<IpAddr>,
    /// The client is on this machine and comes through nobody.
    pub is_near: bool,
    /// The same, and it speaks HTTP without TLS.
    pub is_plain_near: bool,
    /// Nobody on a network can read along: every part of the way is in TLS, or within this machine.
    pub is_private: bool,
    /// A proxy of ours says who the client is, and it is no address.
    pub is_unread: bool,
}

impl Peer {
    /// Of a request that came over a socket, in TLS or not.
    pub fn of(headers: &HeaderMap, socket: Option<IpAddr>, is_tls: bool, proxies: &Proxies) -> Self {
        let socket = socket.map(|ip| ip.to_canonical());
        let is_ours = |ip: IpAddr| proxies.trusted.iter().any(|network| network.contains(ip));
        let is_direct = !PASSED_ON.iter().any(|name| headers.contains_key(*name));
        let is_loopback = socket.is_some_and(|ip| ip.is_loopback());
        let is_near = is_loopback && is_direct;
        let is_last_hop_private = is_tls || is_loopback;
        let direct = Self {
            address: socket,
            is_near,
            is_plain_near: is_near && !is_tls,
            is_private: is_last_hop_private && is_direct,
            is_unread: false,
        };
        let Some(proxy) = socket.filter(|ip| is_ours(*ip)) else { return direct };
        let (hops, is_https) = match proxies.header {
            ProxyHeader::XForwardedFor => x_forwarded(headers),
            ProxyHeader::Forwarded => forwarded(headers),
        };
        let (mut address, mut is_unread) = (proxy, false);
        for hop in hops.iter().rev() {
            let Some(ip) = address_of(hop) else {
                is_unread = true;
                break;
            };
            address = ip;
            if !is_ours(ip) {
                break;
            }
        }
        let is_private = is_last_hop_private && (is_direct || is_https);
        Self { address: Some(address), is_private, is_unread, ..direct }
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).map(|value| value.to_str().unwrap_or("?"))
}

fn x_forwarded(headers: &HeaderMap) -> (Vec<String>, bool) {
    let hops = values(headers, "x-forwarded-for").flat_map(|v| v.split(',')).map(|h| h.trim().to_owned()).collect();
    let is_https = values(headers, "x-forwarded-proto").last().is_some_and(|v| v.trim().eq_ignore_ascii_case("https"));
    (hops, is_https)
}

fn forwarded(headers: &HeaderMap) -> (Vec<String>, bool) {
    let elements = values(headers, "forwarded").flat_map(|v| v.split(','));
    let (mut hops, mut is_https) = (Vec::new(), false);
    for element in elements {
        let member = |wanted: &str| {
            let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
            pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim_matches('"'))
        };
        hops.push(member("for").unwrap_or("unknown").to_owned());
        is_https = member("proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
    }
    (hops, is_https)
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`; anything else tells nothing.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let found = bare.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|a| a.ip()));
    found.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn peer(socket: &str, header: ProxyHeader, lines: &[(&'static str, &str)]) -> Peer {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let trusted = ["10.0.0.0/8", "127.0.0.1"].map(|n| Network::parse(n).unwrap()).to_vec();
        Peer::of(&headers, socket.parse().ok(), false, &Proxies { trusted, header })
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy_of_ours() {
        let check = |socket: &str, chain: &str, expected: &str| {
            let found = peer(socket, ProxyHeader::XForwardedFor, &[("x-forwarded-for", chain)]);
            assert_eq!(found.address.unwrap().to_string(), expected, "{socket} {chain}");
        };
        check("192.0.2.9", "198.51.100.7", "192.0.2.9");
        check("10.0.0.1", "198.51.100.7", "198.51.100.7");
        check("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7");
        check("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.0.0.2", "198.51.100.7");
        check("10.0.0.1", "198.51.100.7:4711", "198.51.100.7");
        check("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1");
        check("10.0.0.1", "2001:db8::1", "2001:db8::1");
        check("10.0.0.1", "1.1.1.1, nonsense, 10.0.0.3", "10.0.0.3");
        check("10.0.0.1", "", "10.0.0.1");
        check("10.0.0.1", "10.0.0.5, 10.0.0.6", "10.0.0.5");
    }

    #[test]
    fn only_the_header_our_proxies_set_is_believed() {
        let both =
            [("x-forwarded-for", "198.51.100.7"), ("forwarded", "for=1.1.1.1;proto=https, for=\"[2001:db8::2]:5\"")];
        let found = |header| peer("10.0.0.1", header, &both).address.unwrap().to_string();
        assert_eq!(found(ProxyHeader::XForwardedFor), "198.51.100.7");
        assert_eq!(found(ProxyHeader::Forwarded), "2001:db8::2");
        let hidden = peer("10.0.0.1", ProxyHeader::Forwarded, &[("forwarded", "for=_hidden")]);
        assert_eq!((hidden.address.unwrap().to_string().as_str(), hidden.is_unread), ("10.0.0.1", true));
    }

    #[test]
    fn near_and_plain_is_who_comes_from_this_machine_through_nobody() {
        let near =
            |socket, lines: &[(&'static str, &str)]| peer(socket, ProxyHeader::XForwardedFor, lines).is_plain_near;
        assert!(near("127.0.0.1", &[]) && near("::1", &[]) && near("127.0.0.2", &[]));
        assert!(!near("127.0.0.1", &[("x-forwarded-for", "127.0.0.1")]));
        assert!(!near("127.0.0.1", &[("x-forwarded-proto", "https")]));
        assert!(!near("192.0.2.1", &[]));
        let in_tls = Peer::of(&HeaderMap::new(), "127.0.0.1".parse().ok(), true, &Proxies::default());
        assert!(in_tls.is_near && !in_tls.is_plain_near);
    }

    #[test]
    fn whom_a_proxy_does_not_name_shares_its_limits_and_is_not_on_this_machine() {
        for said in ["", "nonsense", "unknown", "127.0.0.1.5", "127.0.0.1, unknown", "\u{e9}"] {
            let found = peer("127.0.0.1", ProxyHeader::XForwardedFor, &[("x-forwarded-for", said)]);
            assert_eq!(found.address.unwrap().to_string(), "127.0.0.1", "{said:?}");
            assert!(found.is_unread && !found.is_near && !found.is_plain_near && !found.is_private, "{said:?}");
        }
        let named = peer("127.0.0.1", ProxyHeader::XForwardedFor, &[("x-forwarded-for", "127.0.0.1")]);
        assert!(!named.is_unread && !named.is_near, "nor is it by what the proxy says");
    }

    #[test]
    fn a_proxy_that_nobody_has_told_us_of_does_not_make_its_clients_ours() {
        for name in PASSED_ON {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
            let found = Peer::of(&headers, "127.0.0.1".parse().ok(), false, &Proxies::default());
            assert!(found.address.is_some() && !found.is_near && !found.is_private, "{name}");
        }
    }

    #[test]
    fn private_is_a_way_that_is_in_tls_wherever_it_leaves_a_machine() {
        let check = |socket: &str, is_tls: bool, proto: Option<&'static str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(proto) = proto {
                headers.insert(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static("198.51.100.7"));
                headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static(proto));
            }
            let trusted = ["10.0.0.0/8", "127.0.0.1"].map(|n| Network::parse(n).unwrap()).to_vec();
            let proxies = Proxies { trusted, header: ProxyHeader::XForwardedFor };
            let found = Peer::of(&headers, socket.parse().ok(), is_tls, &proxies).is_private;
            assert_eq!(found, expected, "{socket} {is_tls} {proto:?}");
        };
        check("127.0.0.1", false, None, true);
        check("192.0.2.1", true, None, true);
        check("10.0.0.1", true, None, true);
        check("192.0.2.1", false, None, false);
        check("127.0.0.1", false, Some("https"), true);
        check("127.0.0.1", false, Some("http"), false);
        check("10.0.0.1", true, Some("https"), true);
        check("10.0.0.1", true, Some("http"), false);
        // From the proxy on it goes in clear.
        check("10.0.0.1", false, Some("https"), false);
        // Whoever is no proxy of ours may say so too.
        check("192.0.2.1", false, Some("https"), false);
    }
}
