//! Sockets around TCP: WebSocket and TLS as a client has them, and certificates for a moment.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Bytes, Message, WebSocket};

use super::mqtt::tcp;

/// The bytes in a WebSocket's binary messages.
pub struct Web<S> {
    pub socket: WebSocket<S>,
    message: Bytes,
}

/// Opens a WebSocket on a socket; the server may refuse, with an HTTP status.
pub fn try_web<S: Read + Write>(socket: S, path: &str, protocol: &str) -> Result<Web<S>, u16> {
    let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_str(protocol).unwrap());
    match tungstenite::client(request, socket) {
        Ok((socket, answer)) => {
            assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "mqtt");
            Ok(Web { socket, message: Bytes::new() })
        }
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => Err(answer.status().as_u16()),
        Err(other) => panic!("neither opened nor refused: {other}"),
    }
}

/// Opens a WebSocket as a good client does.
pub fn web(to: SocketAddr) -> Web<TcpStream> {
    try_web(tcp(to), "/mqtt", "mqtt").unwrap_or_else(|status| panic!("refused with {status}"))
}

impl<S: Read + Write> Web<S> {
    /// Reads up to the server's close frame; its code.
    pub fn closed_with(&mut self) -> Option<u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

impl<S: Read + Write> Read for Web<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.message.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(message)) => self.message = message,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) => return Err(error),
                Err(_) => return Ok(0),
            }
        }
        let n = self.message.len().min(buf.len());
        buf[..n].copy_from_slice(&self.message.split_to(n));
        Ok(n)
    }
}

impl<S: Read + Write> Write for Web<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.write(Message::Binary(Bytes::copy_from_slice(buf))).map_err(io::Error::other)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush().map_err(io::Error::other)
    }
}

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Any version the server likes.
pub const ANY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// A TLS handshake by a client that trusts this certificate alone.
pub fn tls(
    to: SocketAddr,
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp(to));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// A certificate and its key in files.
pub struct Certificate {
    dir: tempfile::TempDir,
}

impl Certificate {
    /// New files; the certificate, to be trusted.
    pub fn new() -> (Self, CertificateDer<'static>) {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        let cert = this.replace();
        (this, cert)
    }

    pub fn cert_file(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub fn key_file(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// Another pair in the same files.
    pub fn replace(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.cert_file(), made.cert.pem()).unwrap();
        std::fs::write(self.key_file(), made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(self.key_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
        made.cert.der().clone()
    }
}
