//! The judgement of a token: RFC 7519 in its compact form.
//!
//! Order: form, algorithm, key, signature, then the claims; nothing of a token is believed before its signature is. Each
//! claim that matters must be there, once, and of its type: a wrong type is a refusal, never "absent". Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::jwks::{Algorithm, KeySet};
use super::{Refusal, json};
use crate::domain::Timestamp;

/// Longest token read.
const MAX_BYTES: usize = 16 * 1024;
/// How far clocks may differ, in seconds.
const LEEWAY_S: f64 = 60.0;
/// Longest subject (OpenID Connect Core, 2).
const MAX_SUBJECT: usize = 255;

/// What is asked of a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    pub algorithms: &'a [Algorithm],
    /// The log-in it must belong to; `None` = none.
    pub nonce: Option<&'a str>,
}

/// The members of a JSON object.
pub(super) type Claims = Map<String, Value>;

/// The claims of a token that keeps all rules at `now`.
pub(super) fn verify(token: &str, keys: &KeySet, rules: &Rules<'_>, now: Timestamp) -> Result<Claims, Refusal> {
    if token.len() > MAX_BYTES {
        return Err(Refusal::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
    let header = object(header)?;
    let text = |name: &str| match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Refusal::Malformed),
    };
    let algorithm = text("alg")?.and_then(Algorithm::from_name).filter(|a| rules.algorithms.contains(a));
    let algorithm = algorithm.ok_or(Refusal::Algorithm)?;
    // Extensions that must be understood: we understand none. Other kinds of tokens (log-outs, …) are no proof.
    let is_kind =
        text("typ")?.is_none_or(|t| ["JWT", "at+jwt", "application/at+jwt"].iter().any(|k| t.eq_ignore_ascii_case(k)));
    if header.contains_key("crit") || !is_kind {
        return Err(Refusal::Malformed);
    }
    let key = keys.find(text("kid")?, algorithm).ok_or(Refusal::UnknownKey)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refusal::Malformed)?;
    if !key.verifies(algorithm, signed.as_bytes(), &signature) {
        return Err(Refusal::Signature);
    }
    let claims = object(payload)?;
    check(&claims, rules, now)?;
    Ok(claims)
}

fn object(part: &str) -> Result<Claims, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)?;
    json::object(&bytes).ok_or(Refusal::Malformed)
}

fn check(claims: &Claims, rules: &Rules<'_>, now: Timestamp) -> Result<(), Refusal> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(rules.issuer) {
        return Err(Refusal::Issuer);
    }
    let is_for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == rules.audience,
        Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(rules.audience)),
        _ => false,
    };
    // A token of a log-in that is for several names the one it was made for (OpenID Connect Core, 3.1.3.7).
    let is_party = rules.nonce.is_none() || text("azp").is_none_or(|azp| azp == rules.audience);
    if !is_for_us || !is_party {
        return Err(Refusal::Audience);
    }
    let now_s = now.0 as f64 / 1e6;
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(Refusal::Malformed),
    };
    if time("exp")?.is_none_or(|exp| now_s >= exp + LEEWAY_S) {
        return Err(Refusal::Expired);
    }
    let is_early = |t: Option<f64>| t.is_some_and(|t| now_s < t - LEEWAY_S);
    if is_early(time("nbf")?) || is_early(time("iat")?) {
        return Err(Refusal::NotYet);
    }
    if text("sub").is_none_or(|sub| sub.is_empty() || sub.len() > MAX_SUBJECT) {
        return Err(Refusal::Subject);
    }
    if rules.nonce.is_some_and(|nonce| text("nonce") != Some(nonce)) {
        return Err(Refusal::Nonce);
    }
    Ok(())
}
