//! Who is asking, and what they may: nobody anything, unless a key, a token or a session says so.
//!
//! Invariant: nothing that decides is remembered from request to request: a key or session is looked up each time, so what
//! any node revokes is refused by the next request of every node. (Measured in an unoptimised build, among
//! 1000 keys: 25 µs, 80 with the way to a blocking thread and back.) Must not
//! know: routes and resources.

mod authenticator;
mod credential;
pub(super) mod session;

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev};

pub use authenticator::{Authenticator, SessionRules};
pub(super) use authenticator::{Denied, Failure, of_person};
pub(super) use credential::{Credential, cookie};

use super::error::ApiError;
use crate::domain::{DeviceId, Timestamp};
use crate::store::{ApiKey, Role};

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// For logs, the audit and "acknowledged by": `key:<prefix>`, `user:<subject>`, `alertmanager`, or `open`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Only devices whose id begins with this.
    pub device_prefix: Option<String>,
    /// How it proved itself.
    pub via: Via,
}

/// How somebody proved who they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Via {
    /// Nobody has to.
    Open,
    /// The token that is configured for Alertmanager.
    Alertmanager,
    /// An API key.
    Key,
    /// A token of the issuer.
    Token,
    /// A session of the console.
    Session {
        /// Its digest, by which it can be ended.
        id_sha256: [u8; 32],
        /// What a write has to bring besides the cookie.
        csrf_token: String,
        /// Its end.
        expires_at: Timestamp,
    },
}

impl Principal {
    fn open() -> Self {
        Self { name: "open".to_owned(), role: Role::Admin, device_prefix: None, via: Via::Open }
    }

    /// Alertmanager, known by its token.
    pub(super) fn alertmanager() -> Self {
        Self { name: "alertmanager".to_owned(), role: Role::Operator, device_prefix: None, via: Via::Alertmanager }
    }

    fn of(key: &ApiKey) -> Self {
        let name = format!("key:{}", key.prefix);
        Self { name, role: key.role, device_prefix: key.device_prefix.clone(), via: Via::Key }
    }

    /// Whether it may see and touch `device`.
    pub fn may_reach(&self, device: &DeviceId) -> bool {
        self.device_prefix.as_ref().is_none_or(|prefix| device.as_str().starts_with(prefix.as_str()))
    }

    /// Refuses a device that is not within its reach.
    pub fn must_reach(&self, device: &DeviceId) -> Result<(), ApiError> {
        let is_reached = self.may_reach(device);
        is_reached.then_some(()).ok_or_else(|| ApiError::Forbidden("this key does not reach this device".to_owned()))
    }

    /// Refuses what is about all devices to a key that is limited to some.
    pub fn whole_fleet(&self) -> Result<(), ApiError> {
        match &self.device_prefix {
            None => Ok(()),
            Some(prefix) => Err(ApiError::Forbidden(format!(
                "this key is limited to devices that begin with {prefix:?}; this call is about all devices"
            ))),
        }
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
            (Some(id), Some(principal)) => principal.must_reach(&id).map(|()| Self(id)),
        };
        std::future::ready(found.map_err(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_limits_which_devices_are_reached() {
        let principal = Principal { device_prefix: Some("dc-".into()), ..Principal::open() };
        assert!(principal.may_reach(&DeviceId::parse("dc-1").unwrap()));
        assert!(!principal.may_reach(&DeviceId::parse("ac-1").unwrap()));
        assert!(principal.whole_fleet().is_err());
    }
}
