//! A session's texts: the cookie, its digest, and the token against requests that other pages make (CSRF).
//!
//! The cookie holds 256 random bits; the store knows their SHA-256. The CSRF token is another digest of the same bits, so it
//! needs no place of its own, and whoever can read it (our own page, by `GET /api/session`) learns nothing of the cookie.
//! Invariant: the cookie is never readable by a script, never sent with a request another site made, and never sent over a
//! plain connection of the network. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::api::key;

/// The cookie's name. Browsers take one with this beginning only over a secure connection and for this host alone.
pub const SECURE_COOKIE: &str = "__Host-iotm";
/// Its name on a plain connection of this machine.
pub const PLAIN_COOKIE: &str = "iotm";

/// The header a write by cookie has to bring.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// What is stored of a cookie's text.
pub fn digest(text: &str) -> [u8; 32] {
    key::digest(text)
}

/// The CSRF token of a cookie's text.
pub fn csrf_token(text: &str) -> String {
    let digest = Sha256::new().chain_update(b"iot-meter csrf 1\n").chain_update(text).finalize();
    URL_SAFE_NO_PAD.encode(digest)
}

/// Whether a write brought the token.
pub fn is_csrf_token(given: Option<&str>, expected: &str) -> bool {
    given.is_some_and(|given| given.as_bytes().ct_eq(expected.as_bytes()).into())
}

/// `Set-Cookie` of a new session.
pub fn set_cookie(text: &str, life_s: u64, is_plain: bool) -> String {
    let (name, secure) = name(is_plain);
    format!("{name}={text}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}")
}

/// `Set-Cookie` that takes it away.
pub fn clear_cookie(is_plain: bool) -> String {
    let (name, secure) = name(is_plain);
    format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict{secure}")
}

const fn name(is_plain: bool) -> (&'static str, &'static str) {
    if is_plain { (PLAIN_COOKIE, "") } else { (SECURE_COOKIE, "; Secure") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_for_our_own_pages_and_for_no_script() {
        let cookie = set_cookie("abc", 60, false);
        for part in ["__Host-iotm=abc;", "Path=/;", "HttpOnly", "SameSite=Strict", "Secure", "Max-Age=60"] {
            assert!(cookie.contains(part), "{part} in {cookie}");
        }
        assert!(!cookie.contains("Domain"));
        assert!(
            set_cookie("abc", 60, true).starts_with("iotm=abc;") && !set_cookie("abc", 60, true).contains("Secure")
        );
        assert!(clear_cookie(false).contains("Max-Age=0"));
    }

    #[test]
    fn a_csrf_token_belongs_to_one_session() {
        let token = csrf_token("abc");
        assert!(is_csrf_token(Some(&token), &token));
        assert!(!is_csrf_token(Some(&csrf_token("abd")), &token));
        assert!(!is_csrf_token(Some(""), &token) && !is_csrf_token(None, &token));
        assert_ne!(token, URL_SAFE_NO_PAD.encode(digest("abc")), "the store's digest is no token");
    }
}
