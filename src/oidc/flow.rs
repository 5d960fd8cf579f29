//! The log-in of a browser: authorization code with PKCE (RFC 7636), `state` against forged answers, `nonce` against
//! replayed tokens.
//!
//! All three are digests of one random text that stays in the browser's cookie: nothing is kept here of a log-in that was
//! begun, so nobody can fill anything by beginning many. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Client;

/// A log-in that was begun.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt(String);

impl Attempt {
    /// A new one.
    pub fn begin() -> Self {
        let mut bytes = [0_u8; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The one of a cookie's text; `None` = that is none.
    pub fn of(text: &str) -> Option<Self> {
        let is_one = URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32);
        is_one.then(|| Self(text.to_owned()))
    }

    /// For the cookie.
    pub fn text(&self) -> &str {
        &self.0
    }

    fn derived(&self, purpose: &str) -> String {
        let digest = Sha256::new().chain_update(purpose).chain_update("\n").chain_update(&self.0).finalize();
        URL_SAFE_NO_PAD.encode(digest)
    }

    /// Whether an answer belongs to it.
    pub fn is_state(&self, state: &str) -> bool {
        state.as_bytes().ct_eq(self.derived("state").as_bytes()).into()
    }

    pub(super) fn nonce(&self) -> String {
        self.derived("nonce")
    }

    pub(super) fn verifier(&self) -> String {
        self.derived("pkce")
    }

    /// Where the browser is sent.
    pub(super) fn url(&self, endpoint: &str, client: &Client) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier()));
        let (state, nonce) = (self.derived("state"), self.nonce());
        let pairs = [
            ("response_type", "code"),
            ("client_id", &client.id),
            ("redirect_uri", &client.redirect_url),
            ("scope", &client.scopes),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let separator = if endpoint.contains('?') { '&' } else { '?' };
        format!("{endpoint}{separator}{}", query.join("&"))
    }
}

/// Percent-encoding of all but the unreserved letters (RFC 3986, 2.3).
pub(super) fn encoded(text: &str) -> String {
    let letter = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_is_told_by_its_state_and_shows_nothing_of_its_secret() {
        let (a, b) = (Attempt::begin(), Attempt::begin());
        let client = Client {
            id: "me & you".into(),
            secret: None,
            redirect_url: "https://m.example/cb".into(),
            scopes: "openid profile".into(),
        };
        let url = a.url("https://login.example/auth?x=1", &client);
        let state = url.split("&state=").nth(1).unwrap().split('&').next().unwrap();
        assert!(a.is_state(state) && !b.is_state(state) && !a.is_state(""));
        assert!(url.contains("?x=1&response_type=code&client_id=me%20%26%20you&"), "{url}");
        assert!(url.contains("code_challenge_method=S256") && !url.contains(a.text()) && !url.contains(&a.verifier()));
        assert!(Attempt::of(a.text()) == Some(a) && Attempt::of("x").is_none());
    }
}
