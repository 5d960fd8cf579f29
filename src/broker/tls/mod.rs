//! TLS of the listeners: the server's certificate from two PEM files, and the one place where a `ServerConfig` is made.
//!
//! Invariants: one crypto provider (`ring`); TLS 1.3 unless 1.2 is asked for; a key that every user of the machine may
//! read is refused. The files are read anew every so often: a handshake takes the last pair that was good, connections
//! keep what they have, a bad pair is logged and changes nothing. Sessions are never resumed: the certificates of a
//! handshake are those of now, and nothing is remembered of clients that have gone. Does not know who a client is:
//! [`server_config`] asks for no client certificate.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use sha2::{Digest, Sha256};

use super::{Error, Shared};

/// The oldest protocol version taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsVersion {
    /// RFC 5246, for old modems' stacks.
    V12,
    /// RFC 8446.
    #[default]
    V13,
}

/// Where the certificate is, and how it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsOptions {
    /// PEM file of the server's certificate, followed by those of its issuers up to the CA.
    pub cert_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
    /// The oldest protocol version taken.
    pub min_version: TlsVersion,
    /// How often the files are read anew.
    pub reload_every: Duration,
}

/// The TLS side of listeners; clones are the same one.
#[derive(Clone)]
pub struct Tls {
    options: Arc<TlsOptions>,
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.options.cert_file).finish()
    }
}

impl Tls {
    /// Reads the files. The error names the one at fault.
    pub fn open(options: TlsOptions) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let files = Files::read(&options)?;
        let key = files.certified(&options, &provider)?;
        let current = Arc::new(Current { key: RwLock::new(Arc::new(key)), digest: Mutex::new(files.digest()) });
        let config = Arc::new(server_config(options.min_version, provider, Arc::clone(&current)));
        Ok(Self { options: Arc::new(options), config, current })
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.config).into()
    }

    /// Whether both are clones of one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.current, &other.current)
    }

    /// Reads the files anew; `true` = there was something new, and it counts from the next handshake on.
    fn refresh(&self) -> Result<bool, Error> {
        let files = Files::read(&self.options)?;
        let mut digest = self.current.digest.lock().unwrap_or_else(PoisonError::into_inner);
        if *digest == files.digest() {
            return Ok(false);
        }
        let key = files.certified(&self.options, self.config.crypto_provider())?;
        *self.current.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        *digest = files.digest();
        Ok(true)
    }
}

/// What every TLS connection is made with.
fn server_config(oldest: TlsVersion, provider: Arc<CryptoProvider>, current: Arc<Current>) -> ServerConfig {
    let versions: &[&SupportedProtocolVersion] = match oldest {
        TlsVersion::V12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::V13 => &[&version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring has cipher suites of both versions")
        .with_no_client_auth()
        .with_cert_resolver(current);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// The pair in use.
#[derive(Debug)]
struct Current {
    key: RwLock<Arc<CertifiedKey>>,
    /// Of the files it was made from.
    digest: Mutex<[u8; 32]>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Both files as they are.
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    /// Whether every user of the machine may read the key.
    is_exposed: bool,
}

impl Files {
    fn read(options: &TlsOptions) -> Result<Self, Error> {
        let read = |path: &Path| {
            let read = || -> io::Result<(Vec<u8>, u32)> {
                let mut file = File::open(path)?;
                let (mut bytes, mode) = (Vec::new(), file.metadata()?.mode());
                file.read_to_end(&mut bytes)?;
                Ok((bytes, mode))
            };
            read().map_err(|source| Error::Unreadable { path: path.to_owned(), source })
        };
        let (cert, _) = read(&options.cert_file)?;
        let (key, mode) = read(&options.key_file)?;
        Ok(Self { cert, key, is_exposed: mode & 0o004 != 0 })
    }

    fn certified(&self, options: &TlsOptions, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&self.cert).collect::<Result<_, _>>().unwrap_or_default();
        if chain.is_empty() {
            return Err(Error::NoCertificate { path: options.cert_file.clone() });
        }
        let path = options.key_file.clone();
        // The parser's words could repeat what is in the file.
        let Ok(key) = PrivateKeyDer::from_pem_slice(&self.key) else { return Err(Error::NoKey { path }) };
        if self.is_exposed {
            return Err(Error::ExposedKey { path });
        }
        CertifiedKey::from_der(chain, key, provider).map_err(|source| Error::UnusableKey { path, source })
    }

    fn digest(&self) -> [u8; 32] {
        let length = (self.cert.len() as u64).to_be_bytes();
        Sha256::new().chain_update(length).chain_update(&self.cert).chain_update(&self.key).finalize().into()
    }
}

/// Looks for new files until the broker stops.
pub(super) async fn keep_fresh(shared: Arc<Shared>, tls: Tls) {
    let mut stop = shared.stop.subscribe();
    let mut fault = None;
    while !shared.is_stopping() {
        tokio::select! {
            _ = stop.wait_for(|stops| *stops) => return,
            () = tokio::time::sleep(tls.options.reload_every) => {}
        }
        let reader = tls.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || reader.refresh()).await else { continue };
        let path = tls.options.cert_file.display();
        match read {
            Ok(is_new) => {
                let was_bad = fault.take().is_some();
                if is_new || was_bad {
                    tracing::info!(%path, is_new, "certificate read");
                }
                if is_new {
                    shared.count(|c| &c.tls_reloads);
                }
            }
            Err(error) => {
                shared.count(|c| &c.tls_reload_failures);
                // Once for each fault: it stays until somebody acts.
                let text = with_source(&error);
                if fault.as_ref() != Some(&text) {
                    tracing::error!(error = text, "the new certificate is no good; the one before stays in use");
                    fault = Some(text);
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
