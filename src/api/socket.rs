//! A client's socket: TCP, or TLS in it, with the certificate the client may have brought.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::wire::Outgoing;
use crate::tls::{Peer, Tls};

/// See the module.
pub(super) enum Socket {
    Plain(Tcp),
    /// In a box: most of a TLS stream is buffers, and most sockets have none.
    InTls(Box<TlsStream<Tcp>>, Option<Arc<Peer>>),
}

/// Most that TLS keeps of what is not sent.
const UNSENT_BYTES: usize = 32 * 1024;

/// TCP that counts what the network has taken: TLS takes what it is given, and sends it when it can.
pub(super) struct Tcp {
    stream: TcpStream,
    sent: u64,
}

/// Set on connections in TLS.
#[derive(Clone)]
pub(super) struct Secure {
    /// The client's certificate, if it has brought one that is good.
    pub(super) peer: Option<Arc<Peer>>,
}

impl Socket {
    /// A handshake, if there is to be one, in so much time at most.
    pub(super) async fn accept(socket: TcpStream, tls: Option<Tls>, within: Duration) -> io::Result<Self> {
        // Small answers go at once: else the second part of each would wait 40 ms for the client's word on the first one.
        let _ = socket.set_nodelay(true);
        let socket = Tcp { stream: socket, sent: 0 };
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        match tokio::time::timeout(within, Box::pin(tls.accept(socket))).await {
            Ok(Ok((mut stream, peer))) => {
                stream.get_mut().1.set_buffer_limit(Some(UNSENT_BYTES));
                Ok(Self::InTls(Box::new(stream), peer))
            }
            Ok(Err(refusal)) => Err(io::Error::other(refusal)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// What the handlers may know of the connection.
    pub(super) fn secure(&self) -> Option<Secure> {
        match self {
            Self::Plain(_) => None,
            Self::InTls(_, peer) => Some(Secure { peer: peer.clone() }),
        }
    }

    /// The other end.
    pub(super) fn address_of(socket: &TcpStream) -> Option<SocketAddr> {
        socket.peer_addr().ok()
    }
}

impl Outgoing for Socket {
    fn sent(&self) -> u64 {
        match self {
            Self::Plain(tcp) => tcp.sent,
            Self::InTls(stream, _) => stream.get_ref().0.sent,
        }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::InTls(stream, _) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::InTls(stream, _) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::InTls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::InTls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
