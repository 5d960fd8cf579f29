//! From an address to an open stream: name, TCP, TLS, and the password as it is now.
//!
//! TLS is `rustls` with the certificate authorities of the system, or those of a file; both are read at each connection,
//! so that renewed ones are taken without a restart.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::{self, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Address, Options, Password};
use crate::tls::client::{self, ClientError};

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
    #[error("the file of `{key}` cannot be read: {source}")]
    File {
        key: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("`ca_file`: {0}")]
    Trust(#[source] ClientError),
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
    let config = blocking(move || {
        let pem = ca_file.map(std::fs::read).transpose();
        let pem = pem.map_err(|source| Error::File { key: "ca_file", source })?;
        client::trusted(pem.as_deref()).and_then(|roots| client::client_config(roots, None)).map_err(Error::Trust)
    });
    let config = config.await?;
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
