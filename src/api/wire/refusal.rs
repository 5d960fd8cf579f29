//! The library's bare answer to a head it could not read, dressed as every other answer is at the `edge`.

use actix_web::ResponseError;
use actix_web::http::StatusCode;
use bytes::Bytes;

use super::head::Fault;
use crate::api::edge;
use crate::api::error::{ApiError, problem};

/// What the library would have said.
pub(super) const fn bare(fault: Fault) -> &'static [u8] {
    match fault {
        Fault::Unreadable => b"HTTP/1.1 400 Bad Request\r\n\r\n",
        Fault::TooLarge => b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n",
    }
}

/// The answer in place of the library's: a head of 4xx or 5xx and no body.
pub(super) fn dressed(bare: &[u8]) -> Option<Bytes> {
    let head = std::str::from_utf8(bare).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next()?;
    let status = status_line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let status = StatusCode::from_u16(status).ok().filter(|s| s.is_client_error() || s.is_server_error())?;
    let error = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ApiError::HeadTooLarge,
        StatusCode::REQUEST_TIMEOUT => ApiError::HeadTooSlow,
        s if s.is_server_error() => ApiError::Internal("the HTTP library lost track of a connection"),
        _ => ApiError::Malformed("the request line or a header cannot be read"),
    };
    let id = edge::new_request_id();
    let body = serde_json::to_string(&problem(error.status_code(), Some(&error), &id)).ok()?;
    let mut answer = format!("{status_line}\r\ncontent-type: application/problem+json\r\n");
    answer.push_str(&format!("content-length: {}\r\nconnection: close\r\n", body.len()));
    for (name, value) in edge::headers(&id) {
        answer.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    let is_replaced = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        ["content-length", "content-type", "connection"].iter().any(|n| name.eq_ignore_ascii_case(n))
    };
    for line in lines.filter(|line| !is_replaced(line)) {
        answer.push_str(&format!("{line}\r\n"));
    }
    answer.push_str("\r\n");
    answer.push_str(&body);
    edge::refused(&id, error.status_code(), error.inside());
    Some(Bytes::from(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_refusal_is_replaced() {
        let check = |head: &str, expected: bool| assert_eq!(dressed(head.as_bytes()).is_some(), expected, "{head:?}");
        check("HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n", true);
        check("HTTP/1.0 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", true);
        check("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", true);
        check("HTTP/1.1 100 Continue\r\n\r\n", false);
        check("HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nbad", false);
        check("HTTP/1.1 4", false);
        check("", false);
    }
}
