//! The log-in by the issuer, as far as it is HTTP: the cookie of a log-in that was begun, and the answer that belongs to it.
//!
//! That cookie is `SameSite=Lax`: the browser comes back from another site. It proves nothing but that this browser began.

use actix_web::http::header::HeaderMap;

use super::State;
use super::auth::{Principal, cookie, of_person};
use super::error::ApiError;
use super::query::Params;
use crate::oidc::{Attempt, Error};

const PATH: &str = "/api/session/oidc";
const LIFE_S: u32 = 600;

/// Why a log-in failed: for the audit, and for the browser.
pub(super) struct Failed {
    pub detail: String,
    pub error: ApiError,
}

/// The cookie's name. `__Secure-`, as `__Host-` would want the path `/`.
const SECURE_COOKIE: &str = "__Secure-iotm-oidc";
/// Its name on a plain connection of this machine.
const PLAIN_COOKIE: &str = "iotm-oidc";

fn name(is_plain: bool) -> (&'static str, &'static str) {
    if is_plain { (PLAIN_COOKIE, "") } else { (SECURE_COOKIE, "; Secure") }
}

/// The log-in this browser has begun. The cookie that anybody on the way can set counts on this machine only, as with a
/// session's.
fn begun(headers: &HeaderMap, is_near: bool) -> Option<Attempt> {
    let find = |name| cookie(headers, name);
    let found = find(SECURE_COOKIE).or_else(|| is_near.then(|| find(PLAIN_COOKIE)).flatten());
    found.as_deref().and_then(Attempt::of)
}

fn set_cookie(text: &str, life_s: u32, is_plain: bool) -> String {
    let (name, secure) = name(is_plain);
    format!("{name}={text}; Path={PATH}; Max-Age={life_s}; HttpOnly; SameSite=Lax{secure}")
}

/// `Set-Cookie` that takes it away.
pub(super) fn clear_cookie(is_plain: bool) -> String {
    set_cookie("", 0, is_plain)
}

fn not_configured() -> ApiError {
    ApiError::NotFound("a log-in by an issuer was".to_owned())
}

/// Where to send the browser, and the cookie to send along.
pub(super) async fn begin(state: &State, is_plain: bool) -> Result<(String, String), ApiError> {
    let issuer = state.services.authenticator.issuer().ok_or_else(not_configured)?;
    let attempt = Attempt::begin();
    match issuer.log_in_url(&attempt).await {
        Ok(url) => Ok((url, set_cookie(attempt.text(), LIFE_S, is_plain))),
        Err(Error::NoClient) => Err(not_configured()),
        Err(error) => Err(ApiError::Issuer(error)),
    }
}

/// Who came back; `is_near` = over a plain connection of this machine.
pub(super) async fn finish(
    state: &State,
    params: &Params,
    headers: &HeaderMap,
    is_near: bool,
) -> Result<Principal, Failed> {
    let failed = |detail: &str, error| Failed { detail: detail.to_owned(), error };
    let Some(issuer) = state.services.authenticator.issuer() else { return Err(failed("", not_configured())) };
    let attempt = begun(headers, is_near);
    let Some(attempt) = attempt.filter(|a| params.text("state").is_some_and(|state| a.is_state(state))) else {
        return Err(failed("not begun here", ApiError::bad("state", "is not that of a log-in begun in this browser")));
    };
    let Some(code) = params.text("code") else {
        return Err(failed("refused by the issuer", ApiError::Unauthenticated));
    };
    match issuer.redeem(code, &attempt, state.services.clock.now()).await {
        Ok(person) => Ok(of_person(person)),
        Err(Error::Refused(refusal)) => Err(failed(refusal.word(), ApiError::Unauthenticated)),
        Err(error @ Error::Status { .. }) => {
            tracing::warn!(%error, "a log-in failed");
            Err(failed("the issuer did not take the code", ApiError::Unauthenticated))
        }
        Err(error) => Err(failed("the issuer did not answer", ApiError::Issuer(error))),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{COOKIE, HeaderValue};

    use super::*;

    #[test]
    fn the_plain_cookie_counts_on_this_machine_only() {
        let (one, other) = (Attempt::begin(), Attempt::begin());
        let check = |cookies: String, is_near: bool, expected: Option<&Attempt>| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_str(&cookies).unwrap());
            assert!(begun(&headers, is_near).as_ref() == expected, "{cookies} {is_near}");
        };
        let (plain, secure) = (format!("iotm-oidc={}", one.text()), format!("__Secure-iotm-oidc={}", other.text()));
        check(plain.clone(), true, Some(&one));
        check(plain.clone(), false, None);
        check(secure.clone(), false, Some(&other));
        check(format!("{plain}; {secure}"), true, Some(&other));
        check(format!("{plain}; {secure}"), false, Some(&other));
    }
}
