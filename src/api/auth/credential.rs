//! What a request brings as proof: a header, or else the console's cookie. Pure: nothing is judged here.

use actix_web::http::header::{AUTHORIZATION, COOKIE, HeaderMap};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::session;

/// What a request brings as proof.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    None,
    /// Something that is in no form known.
    Unreadable,
    /// The text of a key, or what is taken for one.
    Key(String),
    /// A signed token.
    Token(String),
    /// The text of a session's cookie.
    Session(String),
}

impl Credential {
    /// Reads it. A header counts before a cookie, which the browser adds by itself; of cookies the one that only a secure
    /// connection can set counts first, and the other one only where `is_near` (a plain connection of this machine).
    pub fn of(headers: &HeaderMap, is_near: bool) -> Self {
        let text = |name: &str| headers.get(name).map(|v| v.to_str().map(str::trim));
        match text("x-api-key") {
            Some(Ok(key)) => return Self::Key(key.to_owned()),
            Some(Err(_)) => return Self::Unreadable,
            None => {}
        }
        match text(AUTHORIZATION.as_str()) {
            Some(header) => header.map_or(Self::Unreadable, authorization),
            None => session_cookie(headers, is_near),
        }
    }
}

fn authorization(header: &str) -> Credential {
    let Some((scheme, rest)) = header.split_once(' ') else { return Credential::Unreadable };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        // Three parts are a token's; no letter of a key is a point.
        let is_token = rest.bytes().filter(|b| *b == b'.').count() == 2;
        return if is_token { Credential::Token(rest.to_owned()) } else { Credential::Key(rest.to_owned()) };
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Credential::Unreadable;
    }
    let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((_, password)) => Credential::Key(password.to_owned()),
        None => Credential::Unreadable,
    }
}

fn session_cookie(headers: &HeaderMap, is_near: bool) -> Credential {
    let find = |name| cookie(headers, name);
    let found = find(session::SECURE_COOKIE).or_else(|| is_near.then(|| find(session::PLAIN_COOKIE)).flatten());
    found.map_or(Credential::None, Credential::Session)
}

/// A cookie's value; the first of that name.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut pairs = headers.get_all(COOKIE).filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn read(pairs: &[(&'static str, &str)], is_near: bool) -> Credential {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        Credential::of(&headers, is_near)
    }

    #[test]
    fn a_key_comes_as_bearer_as_header_or_as_basic_password() {
        let check = |name: &'static str, value: &str, expected: Credential| {
            assert!(read(&[(name, value)], true) == expected, "{name}: {value}");
        };
        check("authorization", "Bearer abc", Credential::Key("abc".into()));
        check("authorization", "bearer  abc ", Credential::Key("abc".into()));
        check("authorization", "Bearer a.b.c", Credential::Token("a.b.c".into()));
        check("x-api-key", "abc", Credential::Key("abc".into()));
        check("authorization", "Basic dXNlcjphYmM=", Credential::Key("abc".into()));
        check("authorization", "Basic !!!", Credential::Unreadable);
        check("authorization", "Digest x", Credential::Unreadable);
        check("authorization", "abc", Credential::Unreadable);
        check("accept", "*/*", Credential::None);
    }

    #[test]
    fn a_cookie_counts_behind_headers_and_the_plain_one_on_this_machine_only() {
        let session = |text: &str| Credential::Session(text.into());
        let (plain, secure) = ("a=1; iotm=x", "__Host-iotm=y; iotm=x");
        assert!(read(&[("cookie", plain)], true) == session("x"));
        assert!(read(&[("cookie", plain)], false) == Credential::None);
        assert!(read(&[("cookie", secure)], true) == session("y"));
        assert!(read(&[("cookie", secure)], false) == session("y"));
        assert!(read(&[("cookie", "iotmx=z"), ("cookie", "b; iotm=x")], true) == session("x"));
        assert!(read(&[("cookie", plain), ("x-api-key", "k")], true) == Credential::Key("k".into()));
        assert!(read(&[("cookie", plain), ("authorization", "nonsense")], true) == Credential::Unreadable);
    }
}
