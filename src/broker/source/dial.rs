//! From an address to an open stream: name, TCP, TLS, and the password as it is now.
//!
//! TLS is `rustls` with the certificate authorities of the system, or those of a file; both are read at each connection,
//! so that renewed ones are taken without a restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{self, CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Address, Options, Password};

/// What a connection needs of a socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The broker cannot be reached. The texts are safe to show to API clients.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("it cannot be connected to: {0}")]
    Connect(#[source] io::Error),
    #[error("its name is not one for a certificate")]
    Name(#[source] pki_types::InvalidDnsNameError),
    #[error("TLS cannot be agreed upon: {0}")]
    Tls(#[source] io::Error),
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
    #[error("the file of `{key}` cannot be read: {source}")]
    File {
        key: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the file of `ca_file` holds no certificate: {0}")]
    Certificates(#[source] pki_types::pem::Error),
    #[error("this system has no certificate authorities; name some with `ca_file`")]
    NoRoots,
}

/// Opens a stream.
pub(super) async fn dial(options: &Options) -> Result<Box<dyn Stream>, Error> {
    let Address { is_tls, host, port } = &options.address;
    let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(Error::Connect)?;
    // Acknowledgements are small and waited for. Where it cannot be set, they are a little late.
    let _ = tcp.set_nodelay(true);
    if !is_tls {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(host.clone()).map_err(Error::Name)?;
    let ca_file = options.ca_file.clone();
    let config = blocking(move || client_config(ca_file.as_deref())).await?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(Error::Tls)?;
    Ok(Box::new(tls))
}

/// The password, where there is one.
pub(super) async fn password(options: &Options) -> Result<Option<String>, Error> {
    match &options.password {
        None => Ok(None),
        Some(Password::Text(text)) => Ok(Some(text.clone())),
        Some(Password::File(path)) => {
            let path: PathBuf = path.clone();
            let read = blocking(move || std::fs::read_to_string(path)).await;
            let text = read.map_err(|source| Error::File { key: "password_file", source })?;
            Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
    }
}

fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let pem = std::fs::read(path).map_err(|source| Error::File { key: "ca_file", source })?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots.add(certificate.map_err(Error::Certificates)?).map_err(Error::Setup)?;
            }
        }
        // What cannot be read among many is passed over, as every browser does.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    match (roots.is_empty(), ca_file) {
        (true, Some(_)) => return Err(Error::Certificates(pki_types::pem::Error::NoItemsFound)),
        (true, None) => return Err(Error::NoRoots),
        (false, _) => {}
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(Error::Setup)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Reads files off the async workers.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the runtime is ending, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
