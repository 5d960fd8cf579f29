//! The client's side: which authorities a client of ours trusts, and what it shows of itself. From bytes, not from files.
//!
//! Invariant: no error repeats what was read.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// A client cannot speak TLS with what it was given.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of authorities is empty, or of another kind.
    #[error("it holds no certificate in PEM form")]
    NoAuthority,
    /// None was named, and there are no others.
    #[error("this system has no certificate authorities; name some in a file")]
    NoSystemAuthorities,
    /// The client's own files are empty, or of another kind.
    #[error("it holds no certificate, or no private key, in PEM form")]
    NoIdentity,
    /// They do not go together, or are of a kind that is not known.
    #[error("it cannot be used: {0}")]
    Unusable(#[source] rustls::Error),
}

/// The authorities of a file (PEM), or those of the system: of these, what cannot be read among many is passed over, as
/// every browser does.
pub fn authorities(pem: Option<&[u8]>) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let Some(pem) = pem else {
        let found = rustls_native_certs::load_native_certs().certs;
        return if found.is_empty() { Err(ClientError::NoSystemAuthorities) } else { Ok(found) };
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(ClientError::NoAuthority)
}

/// The same, as handshakes want them.
pub fn trusted(pem: Option<&[u8]>) -> Result<Arc<RootCertStore>, ClientError> {
    let found = authorities(pem)?;
    let mut roots = RootCertStore::empty();
    match pem {
        Some(_) => {
            for certificate in found {
                roots.add(certificate).map_err(ClientError::Unusable)?;
            }
        }
        None => drop(roots.add_parsable_certificates(found)),
    }
    if roots.is_empty() { Err(ClientError::NoSystemAuthorities) } else { Ok(Arc::new(roots)) }
}

/// What handshakes are made with; `identity` = certificate (with those of its issuers) and private key, PEM.
pub fn client_config(roots: Arc<RootCertStore>, identity: Option<(&[u8], &[u8])>) -> Result<ClientConfig, ClientError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(ClientError::Unusable)?;
    let builder = builder.with_root_certificates(roots);
    let Some((certificate, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(ClientError::NoIdentity)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| ClientError::NoIdentity)?;
    builder.with_client_auth_cert(chain, key).map_err(ClientError::Unusable)
}
