//! What a handler may answer instead of a result, and how it looks: RFC 9457 `application/problem+json`.
//!
//! Invariant: the outside text ([`ApiError`]'s `Display`) never holds SQL, paths or driver text; the inside text is
//! logged once, with the request's id, where the answer leaves (see `edge`). The HTTP status is chosen here only.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{archive, history, notify, oidc, store, tls};

/// When a key with too many streams may look whether one of them has ended: a stream nobody reads any more ends when its next
/// sign of life cannot be sent.
const STREAM_RETRY_S: u64 = 10;

/// A field, parameter or body member and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Fault {
    /// The member's name; nested ones with dots, array members with `[n]`.
    #[schema(example = "device_id")]
    pub field: String,
    /// What is wrong, to be read after the name.
    #[schema(example = "is required")]
    pub message: String,
}

impl Fault {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// The body of every error answer.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says it all.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The status.
    pub status: u16,
    /// What went wrong, for people.
    pub detail: String,
    /// The same text as `detail`.
    pub error: String,
    /// The request's id, as in the log.
    pub request_id: String,
    /// Every bad field at once, where fields are to blame.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

/// Why a row of a table is not taken; what is worse comes later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RowRefusal {
    /// What it is about is there already, and otherwise.
    Conflict,
    /// It breaks a rule.
    Invalid,
    /// Whoever asks may not.
    Forbidden,
    /// The database could not take it.
    Away,
}

impl RowRefusal {
    /// Its status.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Conflict => StatusCode::CONFLICT,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Away => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Why a request got no result.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The head, or the body, is not what it should be to be read at all.
    #[error("{0}")]
    Malformed(&'static str),
    /// The request line and headers are larger than the HTTP library reads.
    #[error("the request line and headers are too large or too many")]
    HeadTooLarge,
    /// The request line and headers did not arrive.
    #[error("the request did not arrive in time")]
    HeadTooSlow,
    /// The path and query are longer than allowed.
    #[error("the path and query are longer than {limit_bytes} bytes")]
    UriTooLong {
        /// The limit.
        limit_bytes: usize,
    },
    /// The body did not arrive.
    #[error("the body did not arrive in time")]
    BodyTooSlow,
    /// Bad parameters, or a bad body of a call that old clients make.
    #[error("{}", Faults(.0))]
    Bad(Vec<Fault>),
    /// A well-formed body that breaks a rule.
    #[error("{}", Faults(.0))]
    Invalid(Vec<Fault>),
    /// No credential, or none that is known.
    #[error("a valid key is needed: Authorization: Bearer, X-API-Key, or Basic with the key as password")]
    Unauthenticated,
    /// No client certificate, or none that is good.
    #[error("a valid client certificate is needed, over HTTPS")]
    CertificateNeeded,
    /// Known, but not allowed.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing there.
    #[error("{0} not found")]
    NotFound(String),
    /// The path exists, the method does not.
    #[error("method not allowed here; allowed: {0}")]
    MethodNotAllowed(String),
    /// The state of things forbids it.
    #[error("{0}")]
    Conflict(String),
    /// `If-Match` names another version.
    #[error("the resource has changed since it was read; read it again")]
    Stale,
    /// `If-Match` names a version of what has none.
    #[error("this has no ETag, so If-Match can name no version of it: send * or leave it out")]
    Untagged,
    /// The body is over the limit.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The body is not JSON.
    #[error("the body must be application/json, without content encoding")]
    UnsupportedMedia,
    /// The body is not a form with a file.
    #[error(
        "the body must be multipart/form-data with the parts version, device_type and file, without content encoding"
    )]
    FormNeeded,
    /// The body is not a table of devices.
    #[error("the body must be text/csv or application/x-ndjson, in UTF-8 and without content encoding")]
    TableNeeded,
    /// Rows of a table that is taken whole or not at all.
    #[error("nothing was imported: {}", Faults(.faults))]
    Rows {
        /// The worst of what is wrong.
        why: RowRefusal,
        /// The rows, or the first of them.
        faults: Vec<Fault>,
    },
    /// A range of bytes that is not there.
    #[error("there are {size_bytes} bytes only")]
    NoSuchRange {
        /// How many there are.
        size_bytes: u64,
    },
    /// Too many requests of this kind.
    #[error("too many requests; try again in {retry_after_s} s")]
    TooMany {
        /// Seconds to wait.
        retry_after_s: u64,
    },
    /// The database failed.
    #[error("{}", if .0.is_transient() { "the database is unavailable, try again" } else { "internal error" })]
    Store(#[from] store::Error),
    /// The files of the certificate authority cannot be used.
    #[error("internal error")]
    Authority(#[from] tls::Error),
    /// The token issuer failed.
    #[error("the log-in service cannot be reached now, try again")]
    Issuer(#[source] oidc::Error),
    /// The archive failed.
    #[error("the archive cannot be read now, try again")]
    Archive(#[from] archive::Error),
    /// What only the archive has of a device's history cannot be read.
    #[error(
        "this range reaches back to what only the archive still has, and the archive cannot be read now: try again, or ask for a later start"
    )]
    Past(#[source] archive::Error),
    /// A task that must hear of it does not answer in time.
    #[error("the collector is busy, try again")]
    Busy,
    /// As many imports as there may be at once.
    #[error("other imports are running, try again when they are done")]
    ImportsFull,
    /// As many long reads as there may be at once.
    #[error("other long reads are running, try again when they are done")]
    ReadsFull,
    /// As many streams as there may be.
    #[error("there are {most} streams of events open, which is the most there may be (http.max_streams)")]
    StreamsFull {
        /// The limit.
        most: usize,
    },
    /// As many streams as one key may have.
    #[error("this key has {most} streams of events open, which is the most one key may have")]
    StreamsOfKey {
        /// The limit.
        most: usize,
    },
    /// Too many alerts wait to be sent.
    #[error("too many alerts wait to be sent, try again")]
    OutboxFull,
    /// Alerts cannot be kept, neither in the database nor beside it.
    #[error("the alerts cannot be kept now, try again")]
    Spool(#[source] std::io::Error),
    /// The process is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// A defect of ours.
    #[error("internal error")]
    Internal(&'static str),
}

impl From<history::Error> for ApiError {
    fn from(error: history::Error) -> Self {
        match error {
            history::Error::Store(error) => Self::Store(error),
            history::Error::Archive(error) => Self::Past(error),
        }
    }
}

impl From<notify::Error> for ApiError {
    fn from(error: notify::Error) -> Self {
        match error {
            notify::Error::Full => Self::OutboxFull,
            notify::Error::Store(error) => Self::Store(error),
            notify::Error::Spool(error) => Self::Spool(error),
        }
    }
}

struct Faults<'a>(&'a [Fault]);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}{} {}", fault.field, fault.message)?;
        }
        Ok(())
    }
}

impl ApiError {
    /// A single bad parameter.
    pub fn bad(field: &str, message: impl Into<String>) -> Self {
        Self::Bad(vec![Fault::new(field, message)])
    }

    /// The named device does not exist.
    pub fn no_device(id: &str) -> Self {
        Self::NotFound(format!("device {id:?}"))
    }

    /// The fields to blame.
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Bad(faults) | Self::Invalid(faults) | Self::Rows { faults, .. } => faults,
            _ => &[],
        }
    }

    /// What the log should say and the client should not.
    pub fn inside(&self) -> Option<String> {
        match self {
            Self::Store(error) => Some(chain(error)),
            Self::Authority(error) => Some(chain(error)),
            Self::Archive(error) | Self::Past(error) => Some(chain(error)),
            Self::Issuer(error) => Some(chain(error)),
            Self::Spool(error) => Some(chain(error)),
            Self::Internal(detail) => Some((*detail).to_owned()),
            _ => None,
        }
    }

    /// The header that belongs to the status, where there is one.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let name = HeaderName::from_static;
        match self {
            Self::Unauthenticated | Self::CertificateNeeded => Some((
                name("www-authenticate"),
                HeaderValue::from_static("Bearer realm=\"iot-meter\", Basic realm=\"iot-meter\", charset=\"UTF-8\""),
            )),
            Self::TooMany { retry_after_s } => Some((name("retry-after"), HeaderValue::from(*retry_after_s))),
            Self::StreamsOfKey { .. } => Some((name("retry-after"), HeaderValue::from(STREAM_RETRY_S))),
            Self::NoSuchRange { size_bytes } => {
                HeaderValue::from_str(&format!("bytes */{size_bytes}")).ok().map(|v| (name("content-range"), v))
            }
            Self::MethodNotAllowed(allow) => HeaderValue::from_str(allow).ok().map(|v| (name("allow"), v)),
            _ if self.status_code() == StatusCode::SERVICE_UNAVAILABLE => {
                Some((name("retry-after"), HeaderValue::from_static("1")))
            }
            _ => None,
        }
    }
}

/// An error with its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTooSlow | Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UriTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unauthenticated | Self::CertificateNeeded => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Stale | Self::Untagged => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoSuchRange { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Rows { why, .. } => why.status(),
            Self::UnsupportedMedia | Self::FormNeeded | Self::TableNeeded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany { .. } | Self::StreamsOfKey { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Store(error) if !error.is_transient() && !matches!(error, store::Error::Interrupted) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Store(_)
            | Self::Archive(_)
            | Self::Past(_)
            | Self::Issuer(_)
            | Self::Busy
            | Self::ImportsFull
            | Self::ReadsFull
            | Self::StreamsFull { .. }
            | Self::OutboxFull
            | Self::Spool(_)
            | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Authority(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Status and headers; the body is written at the edge, which knows the request's id.
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status_code());
        if let Some((name, value)) = self.header() {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The problem to show for an error that left a handler; errors of the framework show their status only.
pub(super) fn problem(status: StatusCode, error: Option<&ApiError>, request_id: &str) -> Problem {
    let title = status.canonical_reason().unwrap_or("Error");
    let detail = error.map_or_else(|| title.to_lowercase(), ToString::to_string);
    Problem {
        kind: "about:blank",
        title,
        status: status.as_u16(),
        error: detail.clone(),
        detail,
        request_id: request_id.to_owned(),
        errors: error.map_or_else(Vec::new, |e| e.faults().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_every_field_and_repeats_its_detail_for_old_clients() {
        let error = ApiError::Bad(vec![Fault::new("a", "is required"), Fault::new("b", "must be a string")]);
        let problem = problem(error.status_code(), Some(&error), "r1");
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["status"], 400);
        assert_eq!(json["detail"], "a is required; b must be a string");
        assert_eq!(json["error"], json["detail"]);
        assert_eq!(json["errors"][1]["field"], "b");
        assert_eq!(json["request_id"], "r1");
    }

    #[test]
    fn what_the_database_said_stays_inside() {
        let source = "UNIQUE constraint failed: /var/secret.db".into();
        let error = ApiError::from(store::Error::Failed { operation: "list devices", source });
        assert_eq!(error.status_code(), 500);
        assert_eq!(error.to_string(), "internal error");
        assert!(error.inside().unwrap().contains("UNIQUE"));
    }

    #[test]
    fn who_asks_too_often_or_too_much_is_told_when_to_come_back() {
        for error in [ApiError::TooMany { retry_after_s: 3 }, ApiError::StreamsOfKey { most: 80 }] {
            let response = error.error_response();
            assert_eq!(response.status(), 429);
            let after_s: u64 = response.headers().get("retry-after").unwrap().to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&after_s), "{error:?}");
        }
    }

    #[test]
    fn a_busy_database_is_503_with_retry_after() {
        let error = ApiError::from(store::Error::Unavailable { operation: "x", source: "busy".into() });
        let response = error.error_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers().get("retry-after").unwrap(), "1");
    }
}
