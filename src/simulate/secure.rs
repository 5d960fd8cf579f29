//! How meters, and whoever registers them, speak TLS: the files that were named, read once, and a line to a broker.
//!
//! Invariant: each connection remembers its own tickets only, as a meter does: its first handshake is a full one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, RootCerts};
use ureq::typestate::AgentScope;

use super::options::Error;
use crate::tls::client;

/// Files for TLS.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsFiles {
    /// Authorities to trust, PEM; `None` = those of the system.
    pub ca_file: Option<PathBuf>,
    /// Where meters have their certificates: `{device_id}.pem` and `{device_id}.key`, as `pki issue --out` writes them. A
    /// meter without files there logs in by its token.
    pub cert_dir: Option<PathBuf>,
}

/// What was read of them.
pub(crate) struct Trust {
    roots: Arc<RootCertStore>,
    cert_dir: Option<PathBuf>,
}

impl Trust {
    /// Reads the authorities. Blocking, but short.
    pub(crate) fn read(files: &TlsFiles) -> Result<Self, Error> {
        let pem = files.ca_file.as_deref().map(read).transpose()?;
        let roots = client::trusted(pem.as_deref()).map_err(|source| unusable(files.ca_file.as_deref(), source))?;
        Ok(Self { roots, cert_dir: files.cert_dir.clone() })
    }

    /// What the handshakes of one device are made with.
    pub(crate) fn of_device(&self, device_id: &str) -> Result<Arc<ClientConfig>, Error> {
        let files = self.cert_dir.as_ref().map(|dir| dir.join(format!("{device_id}.pem"))).filter(|pem| pem.exists());
        let identity = match &files {
            Some(pem) => Some((read(pem)?, read(&pem.with_extension("key"))?)),
            None => None,
        };
        let identity = identity.as_ref().map(|(pem, key)| (pem.as_slice(), key.as_slice()));
        let config = client::client_config(Arc::clone(&self.roots), identity);
        let mut config = config.map_err(|source| unusable(files.as_deref(), source))?;
        config.resumption = Resumption::in_memory_sessions(1);
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::TlsFile { path: path.to_owned(), source })
}

fn unusable(path: Option<&Path>, source: client::ClientError) -> Error {
    Error::Tls { of: path.map_or_else(|| "TLS".to_owned(), |path| path.display().to_string()), source }
}

/// Opens a line to a broker.
pub(crate) async fn dial(config: Arc<ClientConfig>, host: &str, port: u16) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, tcp).await
}

/// The settings of an HTTP client for `url`.
pub(super) fn http(url: &str, ca_file: Option<&Path>) -> Result<ConfigBuilder<AgentScope>, Error> {
    let builder = ureq::Agent::config_builder();
    // Authorities of the system are many: they are not read for nothing.
    Ok(if url.starts_with("https://") { builder.tls_config(of_http(ca_file)?) } else { builder })
}

fn of_http(ca_file: Option<&Path>) -> Result<ureq::tls::TlsConfig, Error> {
    let pem = ca_file.map(read).transpose()?;
    let found = client::authorities(pem.as_deref()).map_err(|source| unusable(ca_file, source))?;
    let roots: Vec<_> = found.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ureq::tls::TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}
