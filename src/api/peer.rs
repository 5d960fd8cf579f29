//! Who is at the other end, when there may be proxies between.
//!
//! Invariant: a header is believed only when the socket's own peer is a proxy of ours (`http.trusted_proxies`), only the one
//! kind of header our proxies set (`http.proxy_header`: they pass the other kind on as clients wrote it), and from the end:
//! the client is the last address that is no proxy of ours. What stands before it the client may have made up. Pure.

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

/// Which proxies are ours, and how they speak.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Proxies {
    pub trusted: Vec<Network>,
    pub header: ProxyHeader,
}

/// The other end of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The client's address; `None` = not known.
    pub address: Option<IpAddr>,
    /// The client speaks HTTP without TLS, from this machine and through nobody.
    pub is_plain_near: bool,
}

impl Peer {
    /// Of a request that came over a socket, in TLS or not.
    pub fn of(headers: &HeaderMap, socket: Option<IpAddr>, is_tls: bool, proxies: &Proxies) -> Self {
        let socket = socket.map(|ip| ip.to_canonical());
        let is_ours = |ip: IpAddr| proxies.trusted.iter().any(|network| network.contains(ip));
        let Some(proxy) = socket.filter(|ip| is_ours(*ip)) else {
            let is_near = socket.is_some_and(|ip| ip.is_loopback());
            return Self { address: socket, is_plain_near: is_near && !is_tls };
        };
        let (hops, is_https) = match proxies.header {
            ProxyHeader::XForwardedFor => x_forwarded(headers),
            ProxyHeader::Forwarded => forwarded(headers),
        };
        let mut address = proxy;
        for hop in hops.iter().rev() {
            let Some(ip) = address_of(hop) else { break };
            address = ip;
            if !is_ours(ip) {
                break;
            }
        }
        let is_plain_near = hops.is_empty() && address.is_loopback() && !is_tls && !is_https;
        Self { address: Some(address), is_plain_near }
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
        assert_eq!(hidden.address.unwrap().to_string(), "10.0.0.1");
    }

    #[test]
    fn near_and_plain_is_who_comes_from_this_machine_through_nobody() {
        let near =
            |socket, lines: &[(&'static str, &str)]| peer(socket, ProxyHeader::XForwardedFor, lines).is_plain_near;
        assert!(near("127.0.0.1", &[]) && near("::1", &[]) && near("127.0.0.2", &[]));
        assert!(!near("127.0.0.1", &[("x-forwarded-for", "127.0.0.1")]));
        assert!(!near("127.0.0.1", &[("x-forwarded-proto", "https")]));
        assert!(!near("192.0.2.1", &[]));
        let proxies = Proxies::default();
        assert!(!Peer::of(&HeaderMap::new(), "127.0.0.1".parse().ok(), true, &proxies).is_plain_near);
    }
}
