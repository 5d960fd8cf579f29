//! Who is asking, and what they may: nobody anything, unless a key says so.
//!
//! Invariant: a key revoked on this node is refused by the next request ([`Authenticator::forget`]); a key revoked on
//! another node within [`KEY_CACHE_US`]. Must not know: routes and resources.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quick_cache::sync::Cache;

use super::error::ApiError;
use super::key;
use crate::domain::{Clock, DeviceId, Timestamp};
use crate::store::{self, ApiKey, Role, SharedStore};

/// How long a key that was looked up is believed.
pub const KEY_CACHE_US: i64 = 5_000_000;
/// Most keys remembered.
const KEY_CACHE_LEN: usize = 1024;

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// For logs and for "acknowledged by": `key:<prefix>`, or `open`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Only devices whose id begins with this.
    pub device_prefix: Option<String>,
}

impl Principal {
    fn open() -> Self {
        Self { name: "open".to_owned(), role: Role::Admin, device_prefix: None }
    }

    fn of(key: &ApiKey) -> Self {
        Self { name: format!("key:{}", key.prefix), role: key.role, device_prefix: key.device_prefix.clone() }
    }

    /// Whether it may see and touch `device`.
    pub fn may_reach(&self, device: &DeviceId) -> bool {
        self.device_prefix.as_ref().is_none_or(|prefix| device.as_str().starts_with(prefix.as_str()))
    }

    /// Refuses figures about all devices to a key that is limited to some.
    pub fn whole_fleet(&self) -> Result<(), ApiError> {
        match &self.device_prefix {
            None => Ok(()),
            Some(prefix) => Err(ApiError::Forbidden(format!(
                "this key is limited to devices that begin with {prefix:?}; this call is about all devices"
            ))),
        }
    }
}

/// Looks keys up, and remembers them for a moment.
#[derive(Debug)]
pub struct Authenticator {
    is_open: bool,
    clock: Clock,
    seen: Cache<String, (ApiKeyBox, Timestamp)>,
}

/// Keeps key digests out of debug output.
#[derive(Clone)]
struct ApiKeyBox(ApiKey);

impl std::fmt::Debug for ApiKeyBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key:{}", self.0.prefix)
    }
}

/// What a request brings as proof.
#[derive(Clone, PartialEq, Eq)]
enum Credential {
    None,
    Unreadable,
    Key(String),
}

impl Authenticator {
    /// With `is_open` everybody is an administrator.
    pub fn new(is_open: bool, clock: Clock) -> Self {
        Self { is_open, clock, seen: Cache::new(KEY_CACHE_LEN) }
    }

    /// Whether no credential is asked for.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Who sent these headers; [`ApiError::Unauthenticated`] when nobody known did.
    pub async fn identify(&self, store: &SharedStore, headers: &HeaderMap) -> Result<Principal, ApiError> {
        if self.is_open {
            return Ok(Principal::open());
        }
        let Credential::Key(text) = credential(headers) else { return Err(ApiError::Unauthenticated) };
        let prefix = key::prefix_of(&text).ok_or(ApiError::Unauthenticated)?;
        let now = self.clock.now();
        let key = match self.remembered(prefix, now) {
            Some(key) => key,
            None => self.look_up(store, prefix, now).await?.ok_or(ApiError::Unauthenticated)?,
        };
        if key::verify(&text, &key, now) { Ok(Principal::of(&key)) } else { Err(ApiError::Unauthenticated) }
    }

    /// Whether the request brings any credential, good or bad.
    pub fn has_credential(headers: &HeaderMap) -> bool {
        credential(headers) != Credential::None
    }

    /// Forgets a key, so that the next request looks it up: to be called when one is changed or revoked.
    pub fn forget(&self, prefix: &str) {
        self.seen.remove(prefix);
    }

    fn remembered(&self, prefix: &str, now: Timestamp) -> Option<ApiKey> {
        let (key, at) = self.seen.get(prefix)?;
        ((0..KEY_CACHE_US).contains(&(now.0 - at.0))).then_some(key.0)
    }

    async fn look_up(&self, store: &SharedStore, prefix: &str, now: Timestamp) -> Result<Option<ApiKey>, store::Error> {
        let wanted = prefix.to_owned();
        let found = store::run(store, move |s| s.api_key(&wanted)).await?;
        if let Some(key) = &found {
            self.seen.insert(prefix.to_owned(), (ApiKeyBox(key.clone()), now));
        }
        Ok(found)
    }
}

fn credential(headers: &HeaderMap) -> Credential {
    let text = |name: &str| headers.get(name).map(|v| v.to_str().map(str::trim));
    match text("x-api-key") {
        Some(Ok(key)) => return Credential::Key(key.to_owned()),
        Some(Err(_)) => return Credential::Unreadable,
        None => {}
    }
    let Some(header) = text(AUTHORIZATION.as_str()) else { return Credential::None };
    let Some((scheme, rest)) = header.ok().and_then(|h| h.split_once(' ')) else { return Credential::Unreadable };
    if scheme.eq_ignore_ascii_case("bearer") {
        return Credential::Key(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Credential::Unreadable;
    }
    let decoded = STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((_, password)) => Credential::Key(password.to_owned()),
        None => Credential::Unreadable,
    }
}

/// The principal the guard found. Extracting it on a route the guard left open fails.
impl FromRequest for Principal {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let found = request.extensions().get::<Self>().cloned();
        std::future::ready(found.ok_or_else(|| ApiError::Unauthenticated.into()))
    }
}

/// The device a path names (`{id}`), known to be within the asker's reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target(pub DeviceId);

impl FromRequest for Target {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let text = request.match_info().get("id").unwrap_or_default();
        let found = match (DeviceId::parse(text), request.extensions().get::<Principal>()) {
            (_, None) => Err(ApiError::Unauthenticated),
            (None, Some(_)) => Err(ApiError::no_device(&text.chars().take(128).collect::<String>())),
            (Some(id), Some(principal)) if principal.may_reach(&id) => Ok(Self(id)),
            (Some(_), Some(_)) => Err(ApiError::Forbidden("this key does not reach this device".to_owned())),
        };
        std::future::ready(found.map_err(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    #[test]
    fn a_key_comes_as_bearer_as_header_or_as_basic_password() {
        let check = |name: &'static str, value: &str, expected: Credential| {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            assert!(credential(&headers) == expected, "{name}: {value}");
        };
        check("authorization", "Bearer abc", Credential::Key("abc".into()));
        check("authorization", "bearer  abc ", Credential::Key("abc".into()));
        check("x-api-key", "abc", Credential::Key("abc".into()));
        check("authorization", "Basic dXNlcjphYmM=", Credential::Key("abc".into()));
        check("authorization", "Basic !!!", Credential::Unreadable);
        check("authorization", "Digest x", Credential::Unreadable);
        check("authorization", "abc", Credential::Unreadable);
        check("accept", "*/*", Credential::None);
    }

    #[test]
    fn a_prefix_limits_which_devices_are_reached() {
        let principal = Principal { device_prefix: Some("dc-".into()), ..Principal::open() };
        assert!(principal.may_reach(&DeviceId::parse("dc-1").unwrap()));
        assert!(!principal.may_reach(&DeviceId::parse("ac-1").unwrap()));
        assert!(principal.whole_fleet().is_err());
    }
}
