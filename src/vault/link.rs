//! Links that are good for a while without any credential: signed by a key that is derived from the one that seals.
//!
//! Invariant: a signature is good for what it was made for and until then, whichever of the keys at hand made it; it is
//! compared in constant time. The clock is an argument.
//!
//! ```text
//! key        HMAC-SHA256(sealing key, "iot-meter signed links")
//! signature  hexadecimal HMAC-SHA256(key, what, 0, seconds since 1970 as decimal text)
//! ```

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{Key, Keyring};
use crate::domain::Timestamp;

const PURPOSE: &[u8] = b"iot-meter signed links";

fn mac(key: &Key, what: &str, expires_s: i64) -> Hmac<Sha256> {
    let keyed = |key: &[u8]| <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    let derived = keyed(key.reveal()).chain_update(PURPOSE).finalize().into_bytes();
    keyed(&derived).chain_update(what).chain_update([0]).chain_update(expires_s.to_string())
}

impl Keyring {
    /// Signs a link to `what` that ends at `expires_s`, seconds since 1970.
    pub fn sign_link(&self, what: &str, expires_s: i64) -> String {
        hex::encode(mac(&self.current, what, expires_s).finalize().into_bytes())
    }

    /// Whether the signature was made here for `what`, and its time is not over.
    pub fn is_link_good(&self, what: &str, expires_s: i64, signature: &str, now: Timestamp) -> bool {
        let Ok(signature) = hex::decode(signature) else { return false };
        let keys = std::iter::once(&self.current).chain(&self.old);
        let is_ours = keys.map(|key| mac(key, what, expires_s).verify_slice(&signature).is_ok());
        is_ours.fold(false, |any, one| any | one) && now.0 < expires_s.saturating_mul(1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_link_and_time_alone() {
        let ring = Keyring::of_new_key();
        let signature = ring.sign_link("firmware/7", 1000);
        let check = |ring: &Keyring, what: &str, expires_s: i64, signature: &str, now_us: i64, expected: bool| {
            let is_good = ring.is_link_good(what, expires_s, signature, Timestamp(now_us));
            assert_eq!(is_good, expected, "{what} {expires_s} {signature} {now_us}");
        };
        check(&ring, "firmware/7", 1000, &signature, 999_999_999, true);
        check(&ring, "firmware/7", 1000, &signature, 1_000_000_000, false);
        check(&ring, "firmware/7", 1001, &signature, 0, false);
        check(&ring, "firmware/71", 1000, &signature, 0, false);
        check(&ring, "firmware/7", 1000, &signature[..62], 0, false);
        check(&ring, "firmware/7", 1000, "", 0, false);
        check(&ring, "firmware/7", 1000, "x", 0, false);
        check(&Keyring::of_new_key(), "firmware/7", 1000, &signature, 0, false);
        check(&ring, "firmware/7", i64::MAX, &ring.sign_link("firmware/7", i64::MAX), 0, true);
    }

    #[test]
    fn a_link_of_the_key_before_stays_good() {
        let (old, new) = (Key::random(), Key::random());
        let text = old.to_text();
        let signature = Keyring::new(old, Vec::new()).sign_link("a", 10);
        let rotated = Keyring::new(new, vec![Key::parse(&text).unwrap()]);
        assert!(rotated.is_link_good("a", 10, &signature, Timestamp(0)));
    }
}
