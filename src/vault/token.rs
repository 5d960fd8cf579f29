//! Tokens: `<kind>_<8 hex>_<43 base64url>`, a public prefix to find the token by and 256 random bits to prove it.
//!
//! Invariant: a token's text exists only in the answer of [`generate`]; what is kept is its SHA-256 (256 random bits need
//! no slow hash), and digests are compared in constant time.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Letters of the public prefix.
const PREFIX_LEN: usize = 8;
/// Letters of the secret: 32 bytes in base64url.
const SECRET_LEN: usize = 43;

/// What a token is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// New meters enrol with it.
    Claim,
    /// A service logs in to MQTT with it.
    Service,
}

impl Kind {
    /// What its tokens begin with.
    const fn mark(self) -> &'static str {
        match self {
            Self::Claim => "iotc_",
            Self::Service => "iots_",
        }
    }
}

/// A new token.
pub struct NewToken {
    /// To be shown once.
    pub text: Zeroizing<String>,
    /// The public part.
    pub prefix: String,
    /// To be kept.
    pub sha256: [u8; 32],
}

/// Makes a token.
pub fn generate(kind: Kind) -> NewToken {
    let mut id = [0_u8; PREFIX_LEN / 2];
    rand::fill(&mut id);
    let prefix = hex::encode(id);
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*super::random_32()));
    let text = Zeroizing::new(format!("{}{prefix}_{}", kind.mark(), *secret));
    NewToken { sha256: digest(text.as_bytes()), text, prefix }
}

/// SHA-256 of a token, as it is kept.
pub fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The public prefix of a token; `None` when the bytes have not its form.
pub fn prefix_of(kind: Kind, text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let (prefix, secret) = text.strip_prefix(kind.mark())?.split_at_checked(PREFIX_LEN)?;
    let secret = secret.strip_prefix('_')?;
    let is_good = prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && secret.len() == SECRET_LEN
        && secret.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    is_good.then_some(prefix)
}

/// Whether `text` is the token with that digest. Takes the same time where there is none.
pub fn is_same(text: &[u8], stored: Option<&[u8; 32]>) -> bool {
    let is_equal: bool = digest(text).ct_eq(stored.unwrap_or(&[0; 32])).into();
    is_equal && stored.is_some()
}
