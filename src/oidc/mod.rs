//! Tokens of an OpenID Connect issuer: who somebody is, according to whom we were told to believe.
//!
//! Promise: a token is believed only when one of the issuer's keys signed it by one of the pinned asymmetric algorithms, for
//! us, and it is valid now; what role that gives is configured. The issuer being away stops nobody whose key is known: the
//! last good keys stay. Must not know: HTTP requests and sessions of ours, where settings come from.
//!
//! Why not the crate `jsonwebtoken`: 9 passes over `exp` and `nbf` of a wrong type (GHSA-h395-gr6q-cpjc), 10 brings either a
//! second crypto provider or the `rsa` crate (RUSTSEC-2023-0071). What we need of JOSE is one compact form and three kinds
//! of keys; the signatures are checked by `ring`, which TLS has brought already.
//!
//! Start from [`Issuer`]; `jwt` is the judgement, `jwks` the keys, `flow` the log-in of a browser.

mod claims;
mod fetch;
mod flow;
mod issuer;
mod json;
mod jwks;
mod jwt;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use flow::Attempt;
pub use issuer::{Issuer, TASK};
pub use jwks::Algorithm;

use crate::store::Role;

/// Whom to believe, and what.
#[derive(Clone, Debug)]
pub struct Options {
    /// `iss` of its tokens, exactly; discovery asks here.
    pub issuer: String,
    /// `aud` of tokens the API takes; empty = it takes none.
    pub audience: String,
    /// What tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Where in a token the role stands: names of members, from the outside in.
    pub role_claim: Vec<String>,
    /// Values there, and the roles they give; the greatest counts.
    pub roles: Vec<(String, Role)>,
    /// Where the devices stand, if tokens are limited to some.
    pub devices_claim: Vec<String>,
    /// For the console's log-in.
    pub client: Option<Client>,
}

/// Where the issuer's keys are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// In a file, read again when it changes.
    File(PathBuf),
    /// At this address.
    Url(String),
    /// Where the issuer's own description says.
    Discovery,
}

/// Ourselves, as the issuer knows us.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Client {
    pub id: String,
    pub secret: Option<String>,
    /// Our `/api/session/oidc/callback`, as browsers reach it.
    pub redirect_url: String,
    pub scopes: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("id", &self.id).field("redirect_url", &self.redirect_url).finish_non_exhaustive()
    }
}

/// Whom a token is about.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Person {
    /// `sub`, with what could hurt a log replaced.
    pub subject: String,
    pub role: Role,
    pub device_prefix: Option<String>,
}

/// Why a token is not believed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Refusal {
    Malformed,
    Algorithm,
    /// Perhaps a new one: worth asking the issuer.
    UnknownKey,
    Signature,
    Issuer,
    Audience,
    Expired,
    NotYet,
    Subject,
    Nonce,
    NoRole,
    NoDevices,
    /// The API takes no tokens.
    NotTaken,
}

impl Refusal {
    /// For the audit.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed token",
            Self::Algorithm => "algorithm not allowed",
            Self::UnknownKey => "unknown signing key",
            Self::Signature => "bad signature",
            Self::Issuer => "other issuer",
            Self::Audience => "other audience",
            Self::Expired => "expired token",
            Self::NotYet => "token not yet valid",
            Self::Subject => "no subject",
            Self::Nonce => "other log-in",
            Self::NoRole => "no role",
            Self::NoDevices => "no devices",
            Self::NotTaken => "tokens are not taken",
        }
    }
}

/// Why the issuer, or a log-in with it, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error("the issuer did not give its {what}")]
    Unreachable {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that is no good one.
    #[error("the issuer answered {status} when asked for its {what}")]
    Status {
        /// What was asked for.
        what: &'static str,
        /// HTTP status.
        status: u16,
    },
    /// An answer that cannot be read.
    #[error("the issuer's {what} cannot be read: {why}")]
    Unreadable {
        /// What was asked for.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No console log-in is configured.
    #[error("no log-in by the issuer is configured")]
    NoClient,
    /// The token of a log-in is not believed.
    #[error("the token of a log-in is not believed: {}", .0.word())]
    Refused(Refusal),
}
