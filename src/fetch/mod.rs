//! Asking others over HTTP: short, bounded, without redirects and proxies. The one HTTP client of the server's own errands
//! (the token issuer, GitHub).
//!
//! Promise: what is asked for goes over TLS, with the certificate authorities of the system, or stays on this machine; an
//! answer is an answer, whatever its status. Calls block: for blocking threads. Must not know: who is asked for what.
//!
//! Start from [`Client`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Request;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// As GitHub, for one, wants to be told.
const USER_AGENT: &str = concat!("iot-meter/", env!("CARGO_PKG_VERSION"));

/// How long and how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest wait for a whole answer.
    pub timeout: Duration,
    /// Longest body of an answer.
    pub max_bytes: u64,
}

/// A client. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    max_bytes: u64,
}

/// An answer, read whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name, given in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is neither `https://` nor of this machine.
    #[error("the address is not https")]
    Unsafe,
    /// A header or the address has letters that cannot be sent.
    #[error("the request cannot be written")]
    Unwritable,
    /// Nobody there, too slow, or too much.
    #[error("there was no answer")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// `https://…`, or `http://` to this machine.
pub fn is_safe_url(url: &str) -> bool {
    if let Some(rest) = url.strip_prefix("https://") {
        return !rest.is_empty() && !rest.starts_with('/') && !url.contains(char::is_whitespace);
    }
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // Before an `@` stands a name and a password (RFC 3986, 3.2.1), not the host.
    if authority.contains('@') {
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((host, port)) if port.is_empty() || port.starts_with(':') => host,
            _ => return false,
        },
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Client {
    /// Reads the system's authorities.
    pub fn new(limits: Limits) -> Self {
        // One that cannot be read is passed over, as `rustls-native-certs` advises.
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> = roots.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(limits.timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .tls_config(tls)
            .user_agent(USER_AGENT)
            .build()
            .into();
        Self { agent, max_bytes: limits.max_bytes }
    }

    /// Sends a request; `body` only with methods that have one.
    pub fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Error> {
        // The description of whoever is asked may name any address.
        if !is_safe_url(url) {
            return Err(Error::Unsafe);
        }
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let unreachable = |source: ureq::Error| Error::Unreachable(Box::new(source));
        let sent = match body {
            Some(body) => self.agent.run(request.body(body).map_err(|_| Error::Unwritable)?),
            None => self.agent.run(request.body(()).map_err(|_| Error::Unwritable)?),
        };
        let mut response = sent.map_err(unreachable)?;
        let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(self.max_bytes).read_to_vec().map_err(unreachable)?;
        Ok(Answer { status, headers, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_asked_over_tls_or_on_this_machine() {
        let check = |url: &str, expected: bool| assert_eq!(is_safe_url(url), expected, "{url}");
        check("https://login.example/realms/x", true);
        check("http://127.0.0.1:8080/x", true);
        check("http://[::1]/x", true);
        check("http://localhost", true);
        check("http://login.example", false);
        check("http://localhost.evil.example", false);
        check("http://127.0.0.1@evil.example/", false);
        check("http://localhost:x@evil.example/", false);
        check("http://[::1]@evil.example/", false);
        check("http://[::1]:x@evil.example/", false);
        check("http://[::1].evil.example/", false);
        check("http://[::1", false);
        check("http://localhost:8080/@x", true);
        check("http://127.0.0.1.evil.example/", false);
        check("ftp://x", false);
        check("https://", false);
        check("", false);
    }

    #[test]
    fn nothing_is_sent_to_an_unsafe_address_nor_with_a_broken_header() {
        let client = Client::new(Limits { timeout: Duration::from_secs(1), max_bytes: 10 });
        let send = |url: &str, value: &str| client.send("GET", url, &[("x", value)], None).unwrap_err();
        assert!(matches!(send("http://example.com/", "a"), Error::Unsafe));
        assert!(matches!(send("http://127.0.0.1:9/", "a\nb"), Error::Unwritable));
    }
}
