//! A client that has brought a certificate.
//!
//! Invariant: [`Peer::standing`] is what a handshake would say now; it costs a look into a table, and a check of
//! signatures only where the files have changed since the last time.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls::pki_types::{CertificateDer, UnixTime};

use super::Tls;
use crate::domain::Timestamp;
use crate::pki::Facts;

/// Why a certificate is no longer good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// By an operator, or by a list of its authority.
    #[error("the certificate was revoked")]
    Revoked,
    /// Its time is over.
    #[error("the certificate has expired")]
    Expired,
    /// Its authority is no longer trusted.
    #[error("the certificate's authority is not trusted")]
    NotTrusted,
}

/// See the module.
#[derive(Debug)]
pub struct Peer {
    tls: Tls,
    common_name: Option<String>,
    serial: String,
    not_after: Timestamp,
    chain: Box<[CertificateDer<'static>]>,
    /// The generation of files it was last found good with.
    checked: AtomicU64,
}

impl Peer {
    /// `None` = the certificate cannot be read.
    pub(super) fn new(tls: Tls, chain: &[CertificateDer<'static>], checked: u64) -> Option<Self> {
        let facts = Facts::of_der(chain.first()?).ok()?;
        let (common_name, serial, not_after) = (facts.common_name, facts.serial, facts.not_after);
        // Copied: the connection keeps its own out of reach.
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        Some(Self { tls, common_name, serial, not_after, chain, checked: AtomicU64::new(checked) })
    }

    /// The one common name of its certificate, if that has exactly one.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The serial of its certificate, lower-case hex.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Its certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        self.chain.first().map_or(&[], |der| der)
    }

    /// Whether the certificate is still good.
    pub fn standing(&self, now: Timestamp) -> Result<(), Unfit> {
        if self.tls.0.revocations.has(&self.serial) {
            return Err(Unfit::Revoked);
        }
        if now > self.not_after {
            return Err(Unfit::Expired);
        }
        let current = self.tls.current();
        if self.checked.load(Ordering::Acquire) == current.generation {
            return Ok(());
        }
        let verifier = current.verifier.as_ref().ok_or(Unfit::NotTrusted)?;
        let (end_entity, intermediates) = self.chain.split_first().ok_or(Unfit::NotTrusted)?;
        let at = UnixTime::since_unix_epoch(now.since(Timestamp(0)));
        match verifier.verify_client_cert(end_entity, intermediates, at) {
            Ok(_) => {
                self.checked.store(current.generation, Ordering::Release);
                Ok(())
            }
            Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked)) => Err(Unfit::Revoked),
            Err(_) => Err(Unfit::NotTrusted),
        }
    }
}
