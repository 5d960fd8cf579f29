//! What a client speaks through: TCP, TLS, a WebSocket, or one inside another.
//!
//! Invariant: a stream that gathers before it gives (a WebSocket's messages) gathers no more than a CONNECT takes until it
//! is told that its client is known. Knows nothing of who that is.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// See the module.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The client is known: from now on it may send what clients may.
    fn admit(&mut self) {}
}

/// Any stream: one kind for all wrappings, so that there are two kinds of connection and not four.
pub(super) type AnyStream = Box<dyn Stream>;

impl Stream for TcpStream {}

impl Stream for TlsStream<TcpStream> {}

impl Stream for AnyStream {
    fn admit(&mut self) {
        (**self).admit();
    }
}
