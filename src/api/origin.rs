//! What a browser may be talked into by a page of somebody else: writing with the user's key, or with none.
//!
//! Two rules. Programs that are no browser send none of the headers they judge, and never notice.
//!
//! - **Writes come from our own pages.** A browser says where a request comes from: `Sec-Fetch-Site` where it talks to
//!   us by HTTPS or on this machine, else `Origin`, which must then name the host and port of `Host`. This also holds
//!   with keys, since browsers keep and send the Basic password by themselves. `Sec-Fetch-Site` is believed first: behind
//!   a proxy that sets `Host` anew, `Origin` and `Host` differ also for our own pages.
//! - **Open to everybody on this machine is not open to every page on the web.** A page can make its own domain name
//!   point at 127.0.0.1, and is then of one origin with us. So without credentials a peer on a loopback address must
//!   have called us by an IP address or as `localhost`: neither can be made to point elsewhere. Peers on the
//!   network (`--open=i-understand`) may use any name, as names of servers are not known here.
//!
//! Health and pages are readable under any name: they tell and change nothing. Pure.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::dev::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderValue, ORIGIN};

use super::error::ApiError;

/// Refuses a state-changing request that a browser sends for a page of another site.
pub(super) fn check_write(head: &RequestHead) -> Result<(), ApiError> {
    if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) || !is_foreign(head) {
        return Ok(());
    }
    Err(ApiError::Forbidden("a page of another site may not change anything here".to_owned()))
}

/// Without credentials: refuses a peer on this machine that calls us by a name anybody could have made.
pub(super) fn check_host(head: &RequestHead, peer: Option<IpAddr>) -> Result<(), ApiError> {
    let is_near = peer.is_none_or(|ip| ip.to_canonical().is_loopback());
    match authority(head) {
        Some(host) if is_near && !is_own_name(host) => Err(ApiError::Forbidden(
            "without credentials this server answers on this machine only when called by an IP address or as localhost"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

fn is_foreign(head: &RequestHead) -> bool {
    let headers = &head.headers;
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let (Some((scheme, from)), Some(to)) = (origin, authority(head)) else { return true };
    !without_port(scheme, from).eq_ignore_ascii_case(without_port(scheme, to))
}

/// The host and port that were called.
fn authority(head: &RequestHead) -> Option<&str> {
    let named = head.uri.authority().map(|a| a.as_str());
    // What is no text is no name of ours.
    named.or_else(|| head.headers.get(HOST).map(|host: &HeaderValue| host.to_str().unwrap_or("?")))
}

/// Without the port that the scheme implies.
fn without_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let usual = if scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(usual).unwrap_or(authority)
}

/// An IP address or `localhost`, with or without a port.
fn is_own_name(authority: &str) -> bool {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(ip, _)| ip.parse::<Ipv6Addr>().is_ok());
    }
    let host = authority.split_once(':').map_or(authority, |(host, _)| host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn request(method: Method, headers: &[(&str, &str)]) -> actix_web::dev::ServiceRequest {
        let request = TestRequest::default().method(method).uri("/api/devices");
        headers.iter().fold(request, |r, (name, value)| r.insert_header((*name, *value))).to_srv_request()
    }

    #[test]
    fn only_our_own_pages_and_programs_may_write() {
        let check = |headers: &[(&str, &str)], passes: bool| {
            let headers = [&[("host", "meter.example:8080")], headers].concat();
            for method in [Method::POST, Method::PUT, Method::DELETE] {
                assert_eq!(check_write(request(method, &headers).head()).is_ok(), passes, "{headers:?}");
            }
            assert!(check_write(request(Method::GET, &headers).head()).is_ok());
        };
        check(&[], true);
        check(&[("sec-fetch-site", "same-origin"), ("origin", "https://outside.example")], true);
        check(&[("sec-fetch-site", "none")], true);
        check(&[("sec-fetch-site", "cross-site")], false);
        check(&[("sec-fetch-site", "same-site")], false);
        check(&[("sec-fetch-site", "cross-site"), ("origin", "http://meter.example:8080")], false);
        check(&[("origin", "http://meter.example:8080")], true);
        check(&[("origin", "http://METER.example:8080")], true);
        check(&[("origin", "http://meter.example")], false);
        check(&[("origin", "http://meter.example:9090")], false);
        check(&[("origin", "http://evil.example")], false);
        check(&[("origin", "http://meter.example:8080.evil.example")], false);
        check(&[("origin", "null")], false);
    }

    #[test]
    fn the_port_a_scheme_implies_may_be_named_or_not() {
        let check = |origin: &str, host: &str, passes: bool| {
            let request = request(Method::POST, &[("origin", origin), ("host", host)]);
            assert_eq!(check_write(request.head()).is_ok(), passes, "{origin} {host}");
        };
        check("http://a.example", "a.example:80", true);
        check("https://a.example:443", "a.example", true);
        check("https://a.example", "a.example:80", false);
        check("http://[::1]:8080", "[::1]:8080", true);
    }

    #[test]
    fn without_credentials_this_machine_is_called_by_address_or_as_localhost() {
        let check = |host: &str, peer: &str, passes: bool| {
            let request = request(Method::GET, &[("host", host)]);
            let peer = peer.parse().ok();
            assert_eq!(check_host(request.head(), peer).is_ok(), passes, "{host} {peer:?}");
        };
        check("127.0.0.1:8080", "127.0.0.1", true);
        check("localhost:8080", "127.0.0.1", true);
        check("LocalHost", "::1", true);
        check("[::1]:8080", "::1", true);
        check("10.0.0.5:8080", "127.0.0.1", true);
        check("evil.example", "127.0.0.1", false);
        check("127.0.0.1.evil.example:8080", "127.0.0.1", false);
        check("localhost.evil.example", "::ffff:127.0.0.1", false);
        check("[evil]", "127.0.0.1", false);
        check("", "127.0.0.1", false);
        check("evil.example", "unknown", false);
        check("meter.example:8080", "10.0.0.9", true);
        assert!(check_host(request(Method::GET, &[]).head(), None).is_ok());
    }
}
