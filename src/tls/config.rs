//! From files to what handshakes are made with.
//!
//! Invariants: a client's certificate is refused in the handshake when it was revoked here, whatever its CA's lists say,
//! and when it is of our own authority and does not say that it is for clients.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion, version,
};

use super::files::{Files, certificates};
use super::revoked::Revocations;
use super::{Current, Error, TlsOptions, TlsVersion};
use crate::domain::Clock;
use crate::pki::{Crl, Facts};

/// Tickets given out at the end of a handshake. A client that connects again gets the next one then.
const TICKETS: usize = 1;

/// Makes what handshakes are made with.
pub(super) fn make(
    options: &TlsOptions,
    files: &Files,
    revocations: &Revocations,
    clock: &Clock,
    generation: u64,
) -> Result<Current, Error> {
    let provider = Arc::new(ring::default_provider());
    let key = files.certified(options, &provider)?;
    let verifier = verifier(options, files, &provider, revocations)?;
    let facts = key.cert.first().and_then(|der| Facts::of_der(der).ok());
    let config = server_config(options.min_version, provider, key, verifier.clone(), clock)?;
    Ok(Current { config: Arc::new(config), verifier, digest: files.digest(), generation, facts })
}

/// What every TLS connection is made with.
fn server_config(
    oldest: TlsVersion,
    provider: Arc<CryptoProvider>,
    key: CertifiedKey,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    clock: &Clock,
) -> Result<ServerConfig, Error> {
    let versions: &[&SupportedProtocolVersion] = match oldest {
        TlsVersion::V12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::V13 => &[&version::TLS13],
    };
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(OurTime(clock.clone())))
        .with_protocol_versions(versions)
        .expect("ring has cipher suites of both versions")
        .with_client_cert_verifier(verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new().map_err(Error::Tickets)?;
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}

fn verifier(
    options: &TlsOptions,
    files: &Files,
    provider: &Arc<CryptoProvider>,
    revocations: &Revocations,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
    if files.client_cas.is_empty() {
        return Ok(None);
    }
    let (mut roots, mut own) = (RootCertStore::empty(), Vec::new());
    for (path, pem) in options.client_ca_files.iter().zip(&files.client_cas) {
        let found = certificates(pem);
        if found.is_empty() {
            return Err(Error::NoCertificate { path: path.clone() });
        }
        for certificate in found {
            if options.own_ca_file.as_ref() == Some(path) {
                own.extend(Facts::of_der(&certificate).map(|facts| facts.subject));
            }
            roots.add(certificate).map_err(|source| Error::UnusableCa { path: path.clone(), source })?;
        }
    }
    let unusable = || Error::UnusableCrl { path: options.crl_file.clone().unwrap_or_default() };
    let lists = match &files.crl {
        Some(bytes) => Crl::read(bytes).map_err(|_| unusable())?,
        None => Vec::new(),
    };
    // Of certificates no list speaks of nothing is known: those of our own CA have their list in the database.
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(lists.into_iter().map(|list| CertificateRevocationListDer::from(list.der)))
        .allow_unknown_revocation_status()
        .clear_root_hint_subjects();
    let builder = if options.is_certificate_required { builder } else { builder.allow_unauthenticated() };
    let inner = builder.build().map_err(|_| unusable())?;
    Ok(Some(Arc::new(Verifier { inner, own, revocations: revocations.clone() })))
}

/// The one clock, as the library asks for it.
#[derive(Debug)]
struct OurTime(Clock);

impl TimeProvider for OurTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.0.now().since(crate::domain::Timestamp(0));
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// The library's check, and then ours.
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    /// The names of our own authority.
    own: Vec<Vec<u8>>,
    revocations: Revocations,
}

impl Verifier {
    /// Whether our authority stands above a certificate. Its name is enough: the chain was found good, and a certificate
    /// of another authority of that name is judged by the stricter rule, no more.
    fn is_own(&self, facts: &Facts, intermediates: &[CertificateDer<'_>]) -> bool {
        let is_ours = |facts: &Facts| self.own.contains(&facts.issuer);
        is_ours(facts) || intermediates.iter().filter_map(|der| Facts::of_der(der).ok()).any(|facts| is_ours(&facts))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let facts = Facts::of_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        // The library refuses what is for other purposes (RFC 5280 section 4.2.1.12), and lets pass what is for any. Our
        // authority never leaves it open: something else has used its key.
        if !facts.is_for_clients && self.is_own(&facts, intermediates) {
            return Err(CertificateError::InvalidPurpose.into());
        }
        match self.revocations.has(&facts.serial) {
            true => Err(CertificateError::Revoked.into()),
            false => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
