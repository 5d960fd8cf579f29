//! Asking the issuer over HTTP. Blocks: for blocking threads.

use std::time::Duration;

use super::Error;
use super::flow::encoded;
use crate::fetch::{self, Answer, Client, Limits};

/// A whole answer has that long, and that size.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(5), max_bytes: 256 * 1024 };

/// GET.
pub(super) fn get(url: &str, what: &'static str) -> Result<Vec<u8>, Error> {
    read(Client::new(LIMITS).send("GET", url, &[("Accept", "application/json")], None), what)
}

/// POST of a form, signed with `Authorization` where there is any.
pub(super) fn post(
    url: &str,
    form: &[(&str, &str)],
    authorization: Option<&str>,
    what: &'static str,
) -> Result<Vec<u8>, Error> {
    let mut headers = vec![("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded")];
    headers.extend(authorization.map(|value| ("Authorization", value)));
    let pairs: Vec<String> = form.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    read(Client::new(LIMITS).send("POST", url, &headers, Some(pairs.join("&").into_bytes())), what)
}

fn read(result: Result<Answer, fetch::Error>, what: &'static str) -> Result<Vec<u8>, Error> {
    match result {
        Ok(Answer { status: 200, body, .. }) => Ok(body),
        Ok(Answer { status, .. }) => Err(Error::Status { what, status }),
        // The issuer's own description may name any address.
        Err(fetch::Error::Unsafe) => Err(Error::Unreadable { what, why: "its address is not https" }),
        Err(error) => Err(Error::Unreachable { what, source: Box::new(error) }),
    }
}
