//! Conditional requests (RFC 9110 §13): tags made from the answer, and what `If-Match` and `If-None-Match` say of them.
//!
//! A tag is `"<version>-<digest>"`. Reading compares the whole tag; changing compares the version only, so that a
//! meter that says something meanwhile does not make an operator's edit stale. Pure.

use actix_web::http::header::{ETAG, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::ApiError;

/// The tag of a resource of that version that looks like `body`.
pub fn tag(version: i64, body: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    format!("\"{version}-{}\"", hex::encode(&Sha256::digest(&bytes)[..8]))
}

/// The version of what keeps no count of its own: a digest of what of it can be changed, 0 to 2^48 - 1.
pub fn version_of(looks: &impl Serialize) -> i64 {
    let bytes = serde_json::to_vec(looks).unwrap_or_default();
    Sha256::digest(&bytes)[..6].iter().fold(0_i64, |version, byte| (version << 8) | i64::from(*byte))
}

fn listed(headers: &HeaderMap, name: actix_web::http::header::HeaderName) -> Option<Vec<String>> {
    // A tag of letters that are none of ours is a tag, too.
    let values: Vec<_> = headers.get_all(name).map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(",").split(',').map(|t| t.trim().to_owned()).collect())
}

/// Whether the client has what has that tag (RFC 9110 §13.1.2).
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let is_it = |one: &String| one == "*" || one.trim_start_matches("W/") == tag;
    listed(headers, IF_NONE_MATCH).is_some_and(|tags| tags.iter().any(is_it))
}

/// 200 with the body and its tag, or 304 when the client has it.
pub fn respond(request: &HttpRequest, version: i64, body: &impl Serialize) -> HttpResponse {
    let tag = tag(version, body);
    let known = is_known(request.headers(), &tag);
    tagged(if known { HttpResponse::NotModified().finish() } else { HttpResponse::Ok().json(body) }, &tag)
}

/// The answer with its tag.
pub fn tagged(mut response: HttpResponse, tag: &str) -> HttpResponse {
    if let Ok(value) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

/// The version `If-Match` allows to be changed, of those that are: `None` = any. Fails when `current` is none of them.
pub fn precondition(headers: &HeaderMap, current: i64) -> Result<Option<i64>, ApiError> {
    let Some(tags) = listed(headers, IF_MATCH) else { return Ok(None) };
    if tags.iter().any(|t| t == "*") {
        return Ok(None);
    }
    let version = |t: &String| t.strip_prefix('"')?.split(['-', '"']).next()?.parse::<i64>().ok();
    match tags.iter().filter_map(version).any(|v| v == current) {
        true => Ok(Some(current)),
        false => Err(ApiError::Stale),
    }
}

/// Of what has no tag `If-Match` can be met by `*` only (RFC 9110 §13.1.1).
pub fn untagged(headers: &HeaderMap) -> Result<(), ApiError> {
    match listed(headers, IF_MATCH) {
        Some(tags) if !tags.iter().any(|tag| tag == "*") => Err(ApiError::Untagged),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_allows_the_current_version_only() {
        let check = |value: Option<&str>, expected: Option<Option<i64>>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(IF_MATCH, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(precondition(&headers, 7).ok(), expected, "{value:?}");
        };
        check(None, Some(None));
        check(Some("*"), Some(None));
        check(Some("\"7-0011\""), Some(Some(7)));
        check(Some("\"6-aa\", \"7-bb\""), Some(Some(7)));
        check(Some("\"6-aa\""), None);
        check(Some("garbage"), None);
        check(Some("W/\"7-aa\""), None);
    }

    #[test]
    fn no_tag_is_that_of_what_has_none() {
        let check = |value: &[u8], is_met: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, HeaderValue::from_bytes(value).unwrap());
            assert_eq!(untagged(&headers).is_ok(), is_met, "{value:?}");
            assert_eq!(precondition(&headers, 7).is_ok(), is_met, "{value:?}");
        };
        assert!(untagged(&HeaderMap::new()).is_ok());
        check(b"*", true);
        check(b"\"6-aa\", *", true);
        check(b"\"6-aa\"", false);
        check(b"\"\xff\"", false);
        check(b"", false);
    }

    #[test]
    fn a_version_made_of_looks_is_one_that_if_match_can_name() {
        let (one, other) = (version_of(&("online", Some("1"))), version_of(&("online", None::<&str>)));
        assert!(one >= 0 && other >= 0 && one != other);
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, HeaderValue::from_str(&tag(one, &"a")).unwrap());
        assert_eq!((precondition(&headers, one).ok(), precondition(&headers, other).ok()), (Some(Some(one)), None));
    }

    #[test]
    fn tags_differ_with_version_and_with_looks() {
        assert_ne!(tag(1, &"a"), tag(2, &"a"));
        assert_ne!(tag(1, &"a"), tag(1, &"b"));
        assert_eq!(tag(1, &"a"), tag(1, &"a"));
    }
}
