//! What opens and what does not.

use proptest::prelude::*;

use super::*;

const P: Purpose = Purpose::CommandKey;

#[test]
fn what_is_sealed_opens_for_its_owner_only() {
    let ring = Keyring::of_new_key();
    let sealed = ring.seal(P, "m1", &[7; 32]);
    assert_eq!(*ring.open_32(P, "m1", &sealed).unwrap(), [7; 32]);
    assert_eq!(ring.open(P, "m2", &sealed).unwrap_err(), Error::Forged, "a row moved to another device");
    assert_ne!(sealed, ring.seal(P, "m1", &[7; 32]), "no nonce is used twice");
    assert!(!sealed.windows(8).any(|part| part == [7; 8]));
}

#[test]
fn a_value_of_another_length_is_no_32_byte_secret() {
    let ring = Keyring::of_new_key();
    assert_eq!(ring.open_32(P, "m1", &ring.seal(P, "m1", b"short")).unwrap_err(), Error::Malformed);
}

#[test]
fn an_unknown_key_is_named_and_an_old_one_still_opens() {
    let old = Key::random();
    let text = old.to_text();
    let sealed = Keyring::new(old, Vec::new()).seal(P, "m1", b"secret");
    let id = key_id(&sealed).unwrap();
    assert_eq!(Keyring::of_new_key().open(P, "m1", &sealed).unwrap_err(), Error::UnknownKey(id));
    let ring = Keyring::new(Key::random(), vec![Key::parse(&text).unwrap()]);
    assert!(ring.has(id) && ring.current() != id);
    let again = ring.reseal(P, "m1", &sealed).unwrap();
    assert_eq!(key_id(&again), Some(ring.current()));
    assert_eq!(ring.open(P, "m1", &again).unwrap().as_slice(), b"secret");
}

#[test]
fn a_key_is_read_in_every_form_it_may_be_written_in() {
    let check = |text: &str, good: bool| assert_eq!(Key::parse(text).is_ok(), good, "{text}");
    let hex_text = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    check(hex_text, true);
    check(&format!("  {hex_text}\n"), true);
    check("ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=", true);
    check("ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8", true);
    let same = Key::parse("ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=").unwrap().id();
    assert_eq!(Key::parse(hex_text).unwrap().id(), same);
    for text in ["", "hunter2", &hex_text[1..], &hex_text.replace('0', "x"), "ABEiM0RVZneImaq7zN3u"] {
        check(text, false);
    }
}

#[test]
fn a_passphrase_gives_the_same_key_with_the_same_salt_and_count_only() {
    let id = |words: &str, salt: &[u8], rounds: u32| {
        Key::of_passphrase(words.as_bytes(), salt, rounds.try_into().unwrap()).id()
    };
    let one = id("words", b"0123456789abcdef", 10);
    assert_eq!(one, id("words", b"0123456789abcdef", 10));
    assert_ne!(one, id("word", b"0123456789abcdef", 10));
    assert_ne!(one, id("words", b"0123456789abcdeg", 10));
    assert_ne!(one, id("words", b"0123456789abcdef", 11));
}

#[test]
fn debug_shows_no_key() {
    let key = Key::random();
    let (text, id) = (key.to_text(), key.id());
    let shown = format!("{:?}", Keyring::new(key, vec![Key::random()]));
    assert!(shown.contains(&id.to_string()) && !shown.contains(&text[..16]), "{shown}");
}

#[test]
fn a_token_has_its_form_and_is_proved_by_itself_only() {
    let (a, b) = (token::generate(token::Kind::Claim), token::generate(token::Kind::Claim));
    assert_eq!(token::prefix_of(token::Kind::Claim, a.text.as_bytes()), Some(a.prefix.as_str()));
    assert_eq!(token::prefix_of(token::Kind::Service, a.text.as_bytes()), None);
    assert!(token::is_same(a.text.as_bytes(), Some(&a.sha256)) && !token::is_same(b.text.as_bytes(), Some(&a.sha256)));
    assert!(!token::is_same(a.text.as_bytes(), None));
    for text in ["", "iotc_", "iotc_0123456é_x", "iotc_01234567_short", "iotc_0123456G_"] {
        assert_eq!(token::prefix_of(token::Kind::Claim, text.as_bytes()), None, "{text:?}");
    }
}

proptest! {
    #[test]
    fn one_changed_bit_never_opens(clear in proptest::collection::vec(any::<u8>(), 0..80), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let ring = Keyring::of_new_key();
        let mut sealed = ring.seal(P, "m1", &clear);
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(ring.open(P, "m1", &sealed).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_open_nor_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(Keyring::of_new_key().open(P, "m1", &bytes).is_err());
    }
}
