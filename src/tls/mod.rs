//! TLS of all listeners: the server's certificate, who may be a client, tickets; one place where a `ServerConfig` is made.
//! And what a client of ours trusts ([`client`]).
//!
//! Promises: one crypto provider (`ring`); TLS 1.3 unless 1.2 is asked for; a key that every user of the machine may read
//! is refused. The files are read anew every so often: a handshake takes the last ones that were good, connections keep
//! what they have, bad files are logged and change nothing. A client's certificate is checked in the handshake **and**
//! after it, resumed or not: against the CAs, the lists of revoked ones and the time of now ([`Peer::standing`]). One that
//! says what it is for must say that it is for TLS clients; one of our own authority must say it in any case.
//!
//! Sessions are resumed by tickets that the client keeps (RFC 8446 section 2.2), nothing is remembered here of clients
//! that have gone. The tickets' key lives as long as the files it was made with, twelve hours at most: whoever was let in
//! by a CA that is no more trusted comes back as a stranger.
//!
//! Must not know: MQTT, HTTP, the database; which device a name is. Start from [`Tls`].

pub mod client;
mod config;
mod files;
mod own_ca;
mod peer;
mod refusal;
mod revoked;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use crate::domain::Clock;
use crate::observe::metrics;
use crate::pki::Facts;
use files::Files;

pub use own_ca::OwnCa;
pub use peer::{Peer, Unfit};
pub use refusal::Refusal;
pub use revoked::Revocations;

/// The oldest protocol version taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsVersion {
    /// RFC 5246, for old modems' stacks.
    V12,
    /// RFC 8446.
    #[default]
    V13,
}

/// Where the certificates are, and how they are used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsOptions {
    /// What it is for, as the metrics name it: `mqtt` or `https`.
    pub server: &'static str,
    /// PEM file of the server's certificate, followed by those of its issuers up to the CA.
    pub cert_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
    /// The oldest protocol version taken.
    pub min_version: TlsVersion,
    /// PEM files of the authorities whose certificates clients may bring; none = clients are not asked.
    pub client_ca_files: Vec<PathBuf>,
    /// Which of these is our own, if any: what it has signed must say that it is for clients.
    pub own_ca_file: Option<PathBuf>,
    /// File of lists of revoked certificates, of an external authority.
    pub crl_file: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub is_certificate_required: bool,
    /// How often the files are read anew.
    pub reload_every: Duration,
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of the certificate or of its key.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file of the certificate has none.
    #[error("{path} holds no certificate in PEM form")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file of the key has none.
    #[error("{path} holds no private key in PEM form, or an encrypted one")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Everybody on the machine could be this server.
    #[error("{path} is a private key that every user of this machine may read; take that right away (chmod o-r)")]
    ExposedKey {
        /// The file.
        path: PathBuf,
    },
    /// Of a kind that is not known, or not the certificate's.
    #[error("the private key {path} does not go with its certificate")]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// A certificate that no client's certificate can be checked against.
    #[error("{path} holds a certificate that cannot be used as an authority")]
    UnusableCa {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// The lists of revoked certificates cannot be read, or are of a kind that is not known.
    #[error("{path} holds no list of revoked certificates that can be used")]
    UnusableCrl {
        /// The file.
        path: PathBuf,
    },
    /// The files of our own authority are not what they should be.
    #[error("{path}, or the key beside it, cannot be used")]
    UnusableOwnCa {
        /// The file of its certificate.
        path: PathBuf,
        /// Why not.
        #[source]
        source: crate::pki::Error,
    },
    /// The system gives no random bytes.
    #[error("no keys can be made for session tickets")]
    Tickets(#[source] rustls::Error),
}

impl Error {
    /// The file at fault.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            Self::Unreadable { path, .. }
            | Self::NoCertificate { path }
            | Self::NoKey { path }
            | Self::ExposedKey { path }
            | Self::UnusableKey { path, .. }
            | Self::UnusableCa { path, .. }
            | Self::UnusableOwnCa { path, .. }
            | Self::UnusableCrl { path } => Some(path),
            Self::Tickets(_) => None,
        }
    }
}

/// The TLS side of listeners; clones are the same one.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    options: TlsOptions,
    clock: Clock,
    revocations: Revocations,
    current: RwLock<Arc<Current>>,
}

/// What handshakes are made with now.
struct Current {
    config: Arc<ServerConfig>,
    /// `None` = clients are not asked.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Of the files it was made from.
    digest: [u8; 32],
    /// Grows with every new one.
    generation: u64,
    /// What the server's certificate says.
    facts: Option<Facts>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.0.options.cert_file).finish()
    }
}

impl Tls {
    /// Reads the files. The error names the one at fault.
    pub fn open(options: TlsOptions, revocations: &Revocations, clock: &Clock) -> Result<Self, Error> {
        let files = Files::read(&options)?;
        let current = config::make(&options, &files, revocations, clock, 1)?;
        let (revocations, clock) = (revocations.clone(), clock.clone());
        Ok(Self(Arc::new(Inner { options, clock, revocations, current: RwLock::new(Arc::new(current)) })))
    }

    /// A handshake with a client. What comes out of it is checked and counted; the caller sets the time it may take.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, Option<Arc<Peer>>), Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server = ("server", self.0.options.server);
        let current = self.current();
        let done = tokio_rustls::TlsAcceptor::from(Arc::clone(&current.config)).accept(stream).await;
        let admitted = match done {
            Err(error) => Err(Refusal::of(&error)),
            Ok(mut stream) => match self.peer(&current, stream.get_ref().1) {
                Ok(peer) => Ok((stream, peer)),
                Err(refusal) => {
                    // The handshake is over: there is no other word for it than a good-bye.
                    let _ = stream.shutdown().await;
                    Err(refusal)
                }
            },
        };
        match &admitted {
            Ok((stream, _)) => {
                let kind = match stream.get_ref().1.handshake_kind() {
                    Some(rustls::HandshakeKind::Resumed) => "resumed",
                    _ => "full",
                };
                let version = match stream.get_ref().1.protocol_version() {
                    Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
                    _ => "1.3",
                };
                metrics::TLS_HANDSHAKES.increment(&[server, ("kind", kind), ("version", version)], 1);
            }
            Err(refusal) => metrics::TLS_REFUSED.increment(&[server, ("reason", refusal.name())], 1),
        }
        admitted
    }

    /// The client's certificate, looked at once more: a resumed session has not been asked, and the files may have
    /// changed since the handshake began.
    fn peer(&self, used: &Current, connection: &rustls::ServerConnection) -> Result<Option<Arc<Peer>>, Refusal> {
        let Some(chain) = connection.peer_certificates() else { return Ok(None) };
        let is_full = connection.handshake_kind() != Some(rustls::HandshakeKind::Resumed);
        let checked = if is_full { used.generation } else { 0 };
        let peer = Peer::new(self.clone(), chain, checked).ok_or(Refusal::BadCertificate)?;
        peer.standing(self.0.clock.now()).map_err(Refusal::from)?;
        Ok(Some(Arc::new(peer)))
    }

    /// Whether both are clones of one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What the certificate in use says.
    pub fn facts(&self) -> Option<Facts> {
        self.current().facts.clone()
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files anew; `true` = there was something new, and it counts from the next handshake on.
    pub fn refresh(&self) -> Result<bool, Error> {
        let Inner { options, clock, revocations, current } = &*self.0;
        let files = Files::read(options)?;
        let before = self.current();
        if before.digest == files.digest() {
            return Ok(false);
        }
        let new = config::make(options, &files, revocations, clock, before.generation + 1)?;
        *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        // Those that are connected are judged anew.
        revocations.poke();
        Ok(true)
    }

    /// Looks for new files until `stop` says so. `note` hears of new files (`true`) and of bad ones.
    pub async fn keep_fresh(self, mut stop: watch::Receiver<bool>, note: impl Fn(bool)) {
        let mut fault = None;
        while !*stop.borrow() {
            tokio::select! {
                _ = stop.wait_for(|stops| *stops) => return,
                () = tokio::time::sleep(self.0.options.reload_every) => {}
            }
            let reader = self.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || reader.refresh()).await else { continue };
            let path = self.0.options.cert_file.display();
            match read {
                Ok(is_new) => {
                    let was_bad = fault.take().is_some();
                    if is_new || was_bad {
                        tracing::info!(%path, is_new, "certificates read");
                    }
                    if is_new {
                        note(true);
                    }
                }
                Err(error) => {
                    note(false);
                    // Once for each fault: it stays until somebody acts.
                    let text = with_source(&error);
                    if fault.as_ref() != Some(&text) {
                        tracing::error!(error = text, "the new certificates are no good; those before stay in use");
                        fault = Some(text);
                    }
                }
            }
        }
    }
}

fn with_source(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
