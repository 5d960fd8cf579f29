//! Asking the issuer over HTTP: short, bounded, without redirects. Blocks: for blocking threads.
//!
//! The trace of the request it is done for goes along (`traceparent`, `tracestate`).
//!
//! Invariant: what is asked for goes over TLS, with the certificate authorities of the system, or stays on this machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::Error;
use crate::observe::trace;

/// Longest answer.
const MAX_BYTES: u64 = 256 * 1024;
/// Longest wait for a whole answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `https://…`, or `http://` to this machine.
pub fn is_safe_url(url: &str) -> bool {
    if let Some(rest) = url.strip_prefix("https://") {
        return !rest.is_empty() && !rest.starts_with('/') && !url.contains(char::is_whitespace);
    }
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn agent() -> ureq::Agent {
    // One that cannot be read is passed over, as `rustls-native-certs` advises.
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = roots.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls)
        .user_agent(concat!("iot-meter/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// GET.
pub(super) fn get(url: &str, what: &'static str) -> Result<Vec<u8>, Error> {
    guard(url, what)?;
    let request = agent().get(url).header("Accept", "application/json");
    read(trace::outgoing().into_iter().fold(request, |r, (name, value)| r.header(name, value)).call(), what)
}

/// POST of a form, signed with `Authorization` where there is any.
pub(super) fn post(
    url: &str,
    form: &[(&str, &str)],
    authorization: Option<&str>,
    what: &'static str,
) -> Result<Vec<u8>, Error> {
    guard(url, what)?;
    let request = agent().post(url).header("Accept", "application/json");
    let request = match authorization {
        Some(value) => request.header("Authorization", value),
        None => request,
    };
    let request = trace::outgoing().into_iter().fold(request, |r, (name, value)| r.header(name, value));
    read(request.send_form(form.iter().copied()), what)
}

/// The issuer's own description may name any address.
fn guard(url: &str, what: &'static str) -> Result<(), Error> {
    if is_safe_url(url) { Ok(()) } else { Err(Error::Unreadable { what, why: "its address is not https" }) }
}

fn read(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>, what: &'static str) -> Result<Vec<u8>, Error> {
    let unreachable = |source: ureq::Error| Error::Unreachable { what, source: Box::new(source) };
    let mut response = result.map_err(unreachable)?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(Error::Status { what, status });
    }
    response.body_mut().with_config().limit(MAX_BYTES).read_to_vec().map_err(unreachable)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

    use super::*;
    use crate::observe::trace::{Context, Current, Tracer};

    /// The head of the one request that a server was sent.
    fn asked(ask: impl FnOnce(&str)) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let lines = BufReader::new(socket.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
            head.join("\n").to_ascii_lowercase()
        });
        ask(&url);
        server.join().unwrap()
    }

    #[tokio::test]
    async fn the_issuer_is_told_the_trace_it_is_asked_for() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = Context::parse(parent, Some("a=b")).unwrap();
        let current = Current { context, request_id: None, tracer: Tracer::default() };
        let carried =
            trace::within(current, async { trace::carry(|| asked(|url| drop(get(url, "x").unwrap()))) }).await;
        let head = carried();
        assert!(head.contains(&format!("\ntraceparent: {parent}")) && head.contains("\ntracestate: a=b"), "{head}");
        let head = asked(|url| drop(post(url, &[("a", "b")], None, "x").unwrap()));
        assert!(!head.contains("traceparent"), "{head}");
    }

    #[test]
    fn the_issuer_is_asked_over_tls_or_on_this_machine() {
        let check = |url: &str, expected: bool| assert_eq!(is_safe_url(url), expected, "{url}");
        check("https://login.example/realms/x", true);
        check("http://127.0.0.1:8080/x", true);
        check("http://[::1]/x", true);
        check("http://localhost", true);
        check("http://login.example", false);
        check("http://localhost.evil.example", false);
        check("http://127.0.0.1@evil.example/", false);
        check("http://127.0.0.1.evil.example/", false);
        check("ftp://x", false);
        check("https://", false);
        check("", false);
    }
}
