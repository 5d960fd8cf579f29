//! What is believed and what is not; the vectors of the RFCs.

use std::path::Path;

use serde_json::{Value, json};

use super::jwks::KeySet;
use super::jwt::{Rules, verify};
use super::testing::{AUDIENCE, ISSUER, Signer, claims, encode, jwks};
use super::*;
use crate::domain::{Clock, Timestamp};

const NOW_S: i64 = 1_770_890_400;
const NOW: Timestamp = Timestamp(NOW_S * 1_000_000);

const RULES: Rules<'static> = Rules {
    issuer: ISSUER,
    audience: AUDIENCE,
    algorithms: &[Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256],
    nonce: None,
};

fn options(keys: KeySource) -> Options {
    Options {
        issuer: ISSUER.into(),
        audience: AUDIENCE.into(),
        algorithms: vec![Algorithm::Es256, Algorithm::EdDsa],
        keys,
        role_claim: vec!["roles".into()],
        roles: vec![("meters-read".into(), Role::Viewer), ("meters-admin".into(), Role::Admin)],
        devices_claim: Vec::new(),
        client: None,
    }
}

fn key_set(signers: &[&Signer]) -> KeySet {
    KeySet::parse(jwks(signers).as_bytes()).unwrap()
}

fn with(mut base: Value, change: &Value) -> Value {
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => drop(base.as_object_mut().unwrap().remove(name)),
            value => base[name] = value.clone(),
        }
    }
    base
}

#[test]
fn the_vectors_of_the_rfcs_are_good_signatures_and_changed_ones_are_not() {
    // RFC 7515 A.2 and A.3, RFC 8037 A.4.
    let rsa = json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
    let rs256 = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let ec = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let es256 = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let eddsa = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let check = |key: &Value, token: &str| {
        let keys = KeySet::parse(json!({"keys": [key]}).to_string().as_bytes()).unwrap();
        // Good signatures of tokens that say nothing to us: beyond the signature, at the claims, they end.
        let judged = verify(token, &keys, &RULES, NOW).unwrap_err();
        assert!(matches!(judged, Refusal::Issuer | Refusal::Malformed), "{judged:?}");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let other = signature.replacen(&signature[..1], if signature.starts_with('A') { "B" } else { "A" }, 1);
        assert_eq!(verify(&format!("{signed}.{other}"), &keys, &RULES, NOW), Err(Refusal::Signature));
        let (head, _) = signed.split_once('.').unwrap();
        let forged = format!("{head}.{}.{signature}", encode(claims(NOW_S, &["admin"]).to_string()));
        assert_eq!(verify(&forged, &keys, &RULES, NOW), Err(Refusal::Signature));
    };
    check(&rsa, rs256);
    check(&ec, es256);
    check(&ed, eddsa);
}

#[test]
fn a_token_for_us_is_believed_while_it_is_valid_and_no_other_is() {
    let signer = Signer::es256("k1");
    let keys = key_set(&[&signer]);
    let check = |change: Value, expected: Result<(), Refusal>| {
        let token = signer.token(&with(claims(NOW_S, &["x"]), &change));
        assert_eq!(verify(&token, &keys, &RULES, NOW).map(drop), expected, "{change}");
    };
    check(json!({}), Ok(()));
    check(json!({"aud": ["other", AUDIENCE]}), Ok(()));
    check(json!({"exp": NOW_S - 59}), Ok(()));
    check(json!({"exp": NOW_S - 61}), Err(Refusal::Expired));
    check(json!({"exp": null}), Err(Refusal::Expired));
    check(json!({"exp": "9999999999"}), Err(Refusal::Malformed));
    check(json!({"nbf": NOW_S + 59}), Ok(()));
    check(json!({"nbf": NOW_S + 61}), Err(Refusal::NotYet));
    check(json!({"nbf": "0"}), Err(Refusal::Malformed));
    check(json!({"iat": NOW_S + 61}), Err(Refusal::NotYet));
    check(json!({"iss": format!("{ISSUER}/")}), Err(Refusal::Issuer));
    check(json!({"iss": null}), Err(Refusal::Issuer));
    check(json!({"aud": "other"}), Err(Refusal::Audience));
    check(json!({"aud": []}), Err(Refusal::Audience));
    check(json!({"aud": {"x": AUDIENCE}}), Err(Refusal::Audience));
    check(json!({"sub": ""}), Err(Refusal::Subject));
    check(json!({"sub": 5}), Err(Refusal::Subject));
    check(json!({"sub": "x".repeat(256)}), Err(Refusal::Subject));
}

#[test]
fn a_token_that_says_a_thing_twice_is_refused_though_it_is_signed() {
    let signer = Signer::ed25519("k1");
    let keys = key_set(&[&signer]);
    let (header, good) = (signer.header().to_string(), claims(NOW_S, &["viewer"]).to_string());
    let check = |header: &str, claims: &str, expected: Result<(), Refusal>| {
        let found = verify(&signer.sign_text(header, claims), &keys, &RULES, NOW).map(drop);
        assert_eq!(found, expected, "{header} {claims}");
    };
    let and = |object: &str, member: &str| format!("{},{member}}}", object.strip_suffix('}').unwrap());
    check(&header, &good, Ok(()));
    for member in [r#""roles":["admin"]"#, r#""sub":"eve""#, r#""x":{"roles":[],"roles":["admin"]}"#] {
        check(&header, &and(&good, member), Err(Refusal::Malformed));
    }
    check(&and(&header, r#""alg":"EdDSA""#), &good, Err(Refusal::Malformed));
}

#[test]
fn neither_none_nor_a_symmetric_algorithm_nor_a_foreign_key_gets_in() {
    let (signer, other, ed) = (Signer::es256("k1"), Signer::es256("k1"), Signer::ed25519("e1"));
    let keys = key_set(&[&signer, &ed]);
    let good = claims(NOW_S, &["x"]);
    let judge = |token: &str| verify(token, &keys, &RULES, NOW).map(drop);
    let check = |header: Value, expected: Result<(), Refusal>| {
        assert_eq!(judge(&signer.sign(&header, &good)), expected, "{header}");
    };
    assert_eq!(judge(&ed.token(&good)), Ok(()));
    check(json!({"alg": "ES256"}), Ok(()));
    for alg in ["none", "None", "HS256", "es256", "ES384", "RS512", ""] {
        check(json!({"alg": alg, "kid": "k1"}), Err(Refusal::Algorithm));
    }
    check(json!({"kid": "k1"}), Err(Refusal::Algorithm));
    check(json!({"alg": ["ES256"], "kid": "k1"}), Err(Refusal::Malformed));
    check(json!({"alg": "RS256", "kid": "k1"}), Err(Refusal::UnknownKey));
    check(json!({"alg": "EdDSA", "kid": "k1"}), Err(Refusal::UnknownKey));
    check(json!({"alg": "EdDSA", "kid": "e1"}), Err(Refusal::Signature));
    check(json!({"alg": "ES256", "kid": "k2"}), Err(Refusal::UnknownKey));
    check(json!({"alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": false}), Err(Refusal::Malformed));
    check(json!({"alg": "ES256", "kid": "k1", "typ": "logout+jwt"}), Err(Refusal::Malformed));
    // A key a token brings along is not looked at.
    check(json!({"alg": "ES256", "kid": "k3", "jwk": other.jwk()}), Err(Refusal::UnknownKey));
    assert_eq!(judge(&other.token(&good)), Err(Refusal::Signature));
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(good.to_string()));
    assert_eq!(judge(&unsigned), Err(Refusal::Algorithm));
    let stripped = signer.token(&good);
    let stripped = &stripped[..=stripped.rfind('.').unwrap()];
    assert_eq!(judge(stripped), Err(Refusal::Signature));
    for text in ["", ".", "..", "a.b.c", "....", &format!("{}x.y", "é"), &"a.".repeat(20_000)] {
        assert!(judge(text).is_err(), "{text:.20}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_judgement_panic_or_agree(text in ".{0,200}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        let keys = key_set(&[&Signer::es256("k1")]);
        proptest::prop_assert!(verify(&text, &keys, &RULES, NOW).is_err());
        proptest::prop_assert!(verify(&parts.join("."), &keys, &RULES, NOW).is_err());
    }
}

#[test]
fn a_set_of_keys_holds_public_keys_for_signatures_only() {
    let count = |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).is_ok();
    let ec = Signer::es256("a").jwk();
    assert!(count(json!([ec])));
    assert!(!count(json!([])));
    assert!(!count(json!([{"kty": "oct", "k": "AAAA", "alg": "HS256"}])));
    assert!(!count(json!([with(ec.clone(), &json!({"use": "enc"}))])));
    assert!(!count(json!([with(ec.clone(), &json!({"alg": "HS256"}))])));
    assert!(!count(json!([with(ec.clone(), &json!({"x": "AAAA"}))])));
    assert!(!count(json!([with(ec, &json!({"crv": "secp256k1"}))])));
    assert!(KeySet::parse(b"[]").is_err() && KeySet::parse(b"").is_err());
}

#[test]
fn the_role_is_the_greatest_that_was_configured_and_devices_are_as_the_token_says() {
    let person = |claims: Value, options: &Options| super::claims::person(claims.as_object().unwrap(), options);
    let plain = options(KeySource::Discovery);
    let role = |roles: Value| person(json!({"sub": "a b\n", "roles": roles}), &plain).map(|p| p.role);
    assert_eq!(role(json!(["x", "meters-read"])), Ok(Role::Viewer));
    assert_eq!(role(json!("meters-read meters-admin")), Ok(Role::Admin));
    for bad in
        [json!([]), json!("admin"), json!(5), json!({"meters-admin": true}), json!(null), json!([["meters-admin"]])]
    {
        assert_eq!(role(bad.clone()), Err(Refusal::NoRole), "{bad}");
    }
    let nested = Options {
        role_claim: vec!["realm_access".into(), "roles".into()],
        devices_claim: vec!["meters".into()],
        ..plain
    };
    let found = |meters: Value| {
        let claims = json!({"sub": "a b\n", "realm_access": {"roles": ["meters-read"]}, "meters": meters});
        person(claims, &nested).map(|p| (p.subject, p.device_prefix))
    };
    assert_eq!(found(json!("dc-")), Ok(("a?b?".into(), Some("dc-".into()))));
    assert_eq!(found(json!("*")), Ok(("a?b?".into(), None)));
    for bad in [json!(null), json!(""), json!(["dc-"]), json!("x".repeat(129))] {
        assert_eq!(found(bad), Err(Refusal::NoDevices));
    }
}

fn write(path: &Path, signers: &[&Signer]) {
    std::fs::write(path, jwks(signers)).unwrap();
}

#[tokio::test]
async fn a_new_key_is_asked_for_at_a_bounded_rate_and_the_last_good_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let clock = Clock::manual(NOW);
    let issuer = Issuer::new(options(KeySource::File(path.clone())), clock.clone());
    let ask =
        async |signer: &Signer| issuer.identify(&signer.token(&claims(NOW_S, &["meters-read"])), clock.now()).await;
    assert_eq!(ask(&old).await, Err(Refusal::UnknownKey), "there are no keys");
    write(&path, &[&old]);
    assert_eq!(ask(&old).await, Err(Refusal::UnknownKey), "the file was looked at just now");
    clock.set(NOW.plus_us(30_000_000));
    assert_eq!(ask(&old).await.map(|p| p.role), Ok(Role::Viewer));
    write(&path, &[&new]);
    assert_eq!(ask(&new).await, Err(Refusal::UnknownKey));
    clock.set(NOW.plus_us(60_000_000));
    assert!(ask(&new).await.is_ok());
    assert_eq!(ask(&old).await, Err(Refusal::UnknownKey), "it was withdrawn");
    std::fs::write(&path, "nonsense").unwrap();
    assert!(issuer.refresh().await.is_err());
    assert!(ask(&new).await.is_ok(), "the last good keys stay");
}
