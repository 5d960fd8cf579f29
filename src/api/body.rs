//! The one way into the API for JSON bodies: content type, size, syntax, types and rules, in that order, and all
//! faults of a body at once.
//!
//! `null` means absent. Calls that old clients make answer 400 and ignore unknown fields ([`Rule::Lenient`]), all
//! others answer 422 and refuse unknown fields by name ([`Rule::Strict`]), unless the body is another program's
//! ([`Rule::Foreign`]). What is no JSON is 400 everywhere. Knows no resource.

use std::future::Future;
use std::pin::Pin;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev, web};
use futures_util::StreamExt;
use garde::Validate;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::State;
use super::auth::Principal;
use super::error::{ApiError, Fault};

/// How faults and unknown fields are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// 400; unknown fields are ignored.
    Lenient,
    /// 422; unknown fields are faults.
    Strict,
    /// 422; unknown fields are ignored: others say what the body looks like.
    Foreign,
}

/// A body with its rules.
pub trait Contract: Validate<Context = ()> + Sized {
    /// How faults are treated.
    const RULE: Rule;
    /// Takes the members out of the object.
    fn read(fields: &mut Fields) -> Self;
}

/// The members of a JSON object that are not yet taken, and the faults found so far.
#[derive(Debug, Default)]
pub struct Fields {
    members: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Fields {
    /// The member `name`, absent when missing or null; `expected` says what else it must be.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        match self.members.remove(name)? {
            Value::Null => None,
            value => match serde_json::from_value(value) {
                Ok(value) => Some(value),
                Err(_) => {
                    self.faults.push(Fault::new(name, format!("must be {expected}")));
                    None
                }
            },
        }
    }

    /// Adds a fault of what was read.
    pub fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Whether a fault of the member `name` itself is known.
    pub fn is_faulty(&self, name: &str) -> bool {
        self.faults.iter().any(|fault| fault.field == name)
    }

    /// A text member; U+0000 is refused, which not every database can keep.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let text: String = self.take(name, "a string")?;
        if text.contains('\0') {
            self.fault(Fault::new(name, "must not contain U+0000".to_owned()));
            return None;
        }
        Some(text)
    }

    /// An object member.
    pub fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        self.take(name, "an object")
    }
}

/// Largest body of somebody nobody knows yet: a log-in, an enrolment.
const STRANGER_BODY_BYTES: usize = 32 * 1024;

/// A body that kept all its rules.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// Reads and judges a body; an empty one is an empty object.
pub fn parse<T: Contract>(bytes: &[u8]) -> Result<T, ApiError> {
    let value = match bytes.iter().all(u8::is_ascii_whitespace) {
        true => Value::Object(Map::new()),
        false => serde_json::from_slice(bytes).map_err(|_| ApiError::Malformed("the body is not valid JSON"))?,
    };
    let Value::Object(members) = value else {
        return Err(match T::RULE {
            Rule::Strict => ApiError::Invalid(vec![Fault::new("body", "must be a JSON object")]),
            Rule::Lenient | Rule::Foreign => ApiError::Malformed("the body must be a JSON object"),
        });
    };
    judge(members, T::RULE).map_err(|faults| match T::RULE {
        Rule::Lenient => ApiError::Bad(faults),
        Rule::Strict | Rule::Foreign => ApiError::Invalid(faults),
    })
}

/// Reads and judges the members of an object; all that is wrong at once.
pub fn judge<T: Contract>(members: Map<String, Value>, rule: Rule) -> Result<T, Vec<Fault>> {
    let mut fields = Fields { members, faults: Vec::new() };
    let body = T::read(&mut fields);
    let Fields { members, mut faults } = fields;
    if rule == Rule::Strict {
        faults.extend(members.keys().map(|name| Fault::new(name.as_str(), "is not a known field")));
    }
    if let Err(report) = body.validate() {
        for (path, error) in report.iter() {
            let field = path.to_string();
            if !faults.iter().any(|fault| fault.field == field) {
                faults.push(Fault::new(field, error.message()));
            }
        }
    }
    if faults.is_empty() { Ok(body) } else { Err(faults) }
}

/// Whether the headers announce a body this API reads. No content type at all is taken as JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let plain = headers.get(CONTENT_ENCODING).is_none_or(|e| e.as_bytes().eq_ignore_ascii_case(b"identity"));
    let kind = match headers.get(CONTENT_TYPE).map(|v| v.to_str()) {
        None => return plain,
        Some(Err(_)) => return false,
        Some(Ok(text)) => text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase(),
    };
    plain && (kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")))
}

/// The bytes that the headers announce, if they say.
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok())
}

/// Reads a body of a limited size in a limited time.
pub(super) async fn read_whole(
    request: &HttpRequest,
    payload: web::Payload,
    limit_bytes: usize,
) -> Result<Vec<u8>, ApiError> {
    if announced(request.headers()).is_some_and(|length| length > limit_bytes) {
        return Err(ApiError::TooLarge { limit_bytes });
    }
    let timeout = State::of(request).options.body_timeout;
    let read = read_limited(payload, limit_bytes);
    tokio::time::timeout(timeout, read).await.map_err(|_| ApiError::BodyTooSlow)?
}

async fn read_limited(mut payload: web::Payload, limit_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ApiError::Malformed("the body could not be read"))?;
        if bytes.len() + chunk.len() > limit_bytes {
            return Err(ApiError::TooLarge { limit_bytes });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

impl<T: Contract + 'static> FromRequest for Body<T> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, actix_web::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let options = &State::of(request).options;
        let is_stranger = request.extensions().get::<Principal>().is_none();
        let most = if is_stranger { STRANGER_BODY_BYTES } else { usize::MAX };
        let limit_bytes = options.body_limit_bytes.min(most);
        let headers = request.headers();
        let refused = match announced(headers) {
            Some(0) => None,
            Some(length) if length > limit_bytes => Some(ApiError::TooLarge { limit_bytes }),
            _ if !is_json(headers) => Some(ApiError::UnsupportedMedia),
            _ => None,
        };
        let payload = web::Payload::from_request(request, payload).into_inner();
        let request = request.clone();
        Box::pin(async move {
            if let Some(error) = refused {
                return Err(error.into());
            }
            Ok(Self(parse(&read_whole(&request, payload?, limit_bytes).await?)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[derive(Debug, Validate)]
    struct Strict {
        #[garde(required, inner(length(min = 1)))]
        name: Option<String>,
        #[garde(inner(range(min = 1, max = 5)))]
        size: Option<u32>,
    }

    impl Contract for Strict {
        const RULE: Rule = Rule::Strict;
        fn read(fields: &mut Fields) -> Self {
            Self { name: fields.text("name"), size: fields.take("size", "a positive integer") }
        }
    }

    #[test]
    fn all_faults_of_a_body_are_named_at_once() {
        let error = parse::<Strict>(br#"{"size": "big", "colour": 1, "shape": null}"#).unwrap_err();
        let mut fields: Vec<_> = error.faults().iter().map(|f| f.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["colour", "name", "shape", "size"]);
        assert!(matches!(error, ApiError::Invalid(_)));
    }

    #[test]
    fn null_means_absent_and_an_empty_body_is_an_empty_object() {
        assert_eq!(parse::<Strict>(br#"{"name":"a","size":null}"#).unwrap().size, None);
        assert_eq!(parse::<Strict>(b" ").unwrap_err().faults().len(), 1);
    }

    #[test]
    fn what_is_no_json_is_malformed_and_what_is_no_object_invalid() {
        for body in [&b"{"[..], b"\xff\xfe", b"{\"a\":1} x", b"[1"] {
            assert!(matches!(parse::<Strict>(body), Err(ApiError::Malformed(_))), "{body:?}");
        }
        for body in [&b"[]"[..], b"1", b"null", b" \"x\" "] {
            let error = parse::<Strict>(body).unwrap_err();
            let fields: Vec<_> = error.faults().iter().map(|fault| fault.field.as_str()).collect();
            assert!(matches!(error, ApiError::Invalid(_)) && fields == ["body"], "{body:?}");
        }
    }

    #[test]
    fn only_json_content_types_are_read() {
        let check = |kind: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
            }
            assert_eq!(is_json(&headers), expected, "{kind:?}");
        };
        check(None, true);
        check(Some("application/json"), true);
        check(Some("Application/JSON; charset=utf-8"), true);
        check(Some("application/merge-patch+json"), true);
        check(Some("text/plain"), false);
        check(Some("application/x-www-form-urlencoded"), false);
    }
}
