//! Who is there: credentials of a CONNECT → an identity, or why not.
//!
//! Invariant: an identity is made only by an [`Authenticator`], which also says by which token; what it may do is the
//! business of `acl`.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use crate::domain::DeviceId;
use crate::mqtt::Reason;
use crate::tls::Peer;

/// What a client says of itself.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Credentials<'a> {
    /// Empty where the client left the choice to the server.
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub peer: SocketAddr,
    /// Nobody on the way can read what it says.
    pub is_encrypted: bool,
    /// The certificate it has proved to have, found good by TLS.
    pub certificate: Option<&'a Peer>,
}

/// Who a client is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identity {
    /// A registered meter.
    Device(DeviceId),
    /// Anybody, where authentication is switched off.
    Open,
    /// Another program, with what it may do.
    Service(Arc<Grant>),
}

/// What a service account is allowed, as it was when it logged in.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// The account.
    pub name: String,
    /// Which credential it has: after another one its sessions are another's.
    pub token_sha256: [u8; 32],
    /// Filters it may subscribe to, or to parts of them.
    pub read: Vec<String>,
    /// Filters of topics it may publish to.
    pub write: Vec<String>,
}

/// Without the digest.
impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("name", &self.name).field("read", &self.read).field("write", &self.write).finish()
    }
}

impl Identity {
    /// As written to the journal: the device id, the service's name, or nothing for [`Identity::Open`].
    pub fn name(&self) -> &str {
        match self {
            Self::Device(id) => id.as_str(),
            Self::Open => "",
            Self::Service(grant) => &grant.name,
        }
    }

    /// Whether commands for a device are for it.
    pub(super) fn obeys_for(&self, device: &DeviceId) -> bool {
        match self {
            Self::Device(id) => id == device,
            Self::Open => true,
            Self::Service(_) => false,
        }
    }

    /// Whether both are the same client, whatever either is allowed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Service(a), Self::Service(b)) => a.name == b.name,
            _ => self == other,
        }
    }

    /// Under which name its session with `client_id` is kept. A service's are in a room of their own: no name of theirs
    /// can be a device's, nor another service's.
    pub(super) fn session_id<'a>(&self, client_id: &'a str) -> Cow<'a, str> {
        match self {
            Self::Service(grant) => format!("service/{}/{client_id}", grant.name).into(),
            Self::Device(_) | Self::Open => client_id.into(),
        }
    }
}

/// A client that is let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Who it is.
    pub identity: Identity,
    /// SHA-256 of the token it has shown for it; `None` = it was let in by something else.
    pub token_sha256: Option<[u8; 32]>,
}

/// By no token.
impl From<Identity> for Admitted {
    fn from(identity: Identity) -> Self {
        Self { identity, token_sha256: None }
    }
}

/// Why a client is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denied {
    /// Unknown name or wrong secret: one answer for both.
    #[error("bad user name or password")]
    BadCredentials,
    /// Known, and not allowed to connect.
    #[error("not authorized")]
    NotAuthorized,
    /// The certificate is not, or no longer, good for anything here.
    #[error("the certificate is revoked, has expired, or is not of a device that may connect")]
    Certificate,
    /// A password alone does not do.
    #[error("a client certificate is wanted (mqtt.require_client_certificate)")]
    CertificateWanted,
    /// The password came over a connection that others can read.
    #[error(
        "a token is taken in TLS only, unless it comes from this machine: connect to mqtts, or set mqtt.plain_tokens"
    )]
    PlainToken,
    /// A device must use its id as client id.
    #[error("the client id is not the device id")]
    ClientId,
    /// It cannot be found out now.
    #[error("the credential store is unavailable")]
    Unavailable,
}

impl Denied {
    /// The answer to CONNECT.
    pub const fn reason(self) -> Reason {
        match self {
            Self::BadCredentials => Reason::BadUserNameOrPassword,
            Self::NotAuthorized | Self::Certificate | Self::CertificateWanted | Self::PlainToken => {
                Reason::NotAuthorized
            }
            Self::ClientId => Reason::ClientIdentifierNotValid,
            Self::Unavailable => Reason::ServerUnavailable,
        }
    }
}

/// The answer of an [`Authenticator`], to be awaited.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Admitted, Denied>> + Send + 'a>>;

/// What somebody who was let in before is now, to be awaited.
pub type Recalled<'a> = Pin<Box<dyn Future<Output = Result<Identity, Denied>> + Send + 'a>>;

/// Decides who a client is.
pub trait Authenticator: Send + Sync + 'static {
    /// Must not block; may be dropped half-way when the client goes or takes too long.
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Answer<'a>;

    /// Whether anybody it lets in is of this kind. A session of another kind, of a time with another authenticator, would
    /// only be in the way of whoever comes with its client id.
    fn has_kind(&self, _identity: &Identity) -> bool {
        true
    }

    /// Whether somebody who was let in by an earlier process is still there, with what it may do now. Must not block.
    fn recall<'a>(&'a self, identity: &'a Identity) -> Recalled<'a> {
        Box::pin(std::future::ready(Ok(identity.clone())))
    }
}

/// Lets everybody in (`--open`).
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenAuthenticator;

impl Authenticator for OpenAuthenticator {
    fn authenticate<'a>(&'a self, _credentials: Credentials<'a>) -> Answer<'a> {
        Box::pin(std::future::ready(Ok(Identity::Open.into())))
    }
}
