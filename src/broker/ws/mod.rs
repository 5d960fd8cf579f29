//! A WebSocket as a byte stream: MQTT in binary messages (RFC 6455; MQTT 5 section 6).
//!
//! Invariants: packets may share a message or span several, in both directions `[MQTT-6.0.0-2]`; any other data frame
//! ends the connection `[MQTT-6.0.0-1]`; pings are answered while the connection is read; whoever ends it says so with a
//! close frame as far as the socket takes it at once. A message larger than the limit is refused by its header, before a
//! byte of it is held; until the client is known the limit is that of a CONNECT. Knows nothing of MQTT packets. The protocol itself is `tungstenite`'s; it is fed through [`Bridge`], so that no wakers and
//! no buffers of its own are needed around it.

mod handshake;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, Utf8Bytes};

use super::stream::Stream;
pub(super) use handshake::accept;

/// Bytes read at a time, kept for each connection: a meter's datagram with its frame fits.
const READ_BUFFER: usize = 2 << 10;

/// What the heads of frames, and pings, may take of a stranger besides its CONNECT.
const HEADS: usize = 1 << 10;

/// Longest message written. What is written is copied, so that this bounds what a slow client costs.
const WRITE_CHUNK: usize = 16 << 10;

/// Largest message, alone or in frames, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sizes {
    /// Until the client is known.
    pub(super) stranger: usize,
    /// From then on.
    pub(super) client: usize,
}

type Why = Box<dyn std::error::Error + Send + Sync>;

/// See the module.
pub(super) struct WebSocket<S> {
    stream: S,
    protocol: WebSocketContext,
    /// What is left of the last message read.
    message: Bytes,
    /// Whether the last message written is not yet out.
    is_behind: bool,
    /// Largest message once the client is known.
    max_message: usize,
    /// Bytes that may still be read until the client is known: a message may be held in frames, and a frame beside it.
    budget: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// A stream whose handshake is done; `early` = what came behind it.
    fn new(stream: S, early: BytesMut, sizes: Sizes) -> Self {
        let now = sizes.stranger.min(sizes.client);
        let budget = (now + HEADS).saturating_sub(early.len());
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(now))
            .max_frame_size(Some(now));
        let protocol = WebSocketContext::from_partially_read(early.into(), Role::Server, Some(config));
        Self { stream, protocol, message: Bytes::new(), is_behind: false, max_message: sizes.client, budget }
    }

    /// Tells the peer why, as far as the socket takes it, and gives up.
    fn fail(&mut self, cx: &mut Context<'_>, code: CloseCode, why: impl Into<Why>) -> io::Error {
        let why = why.into();
        tracing::debug!(reason = %why, "WebSocket closed");
        // The connection ends, said or not.
        let _ = self.close(cx, code);
        io::Error::new(io::ErrorKind::InvalidData, why)
    }

    fn close(&mut self, cx: &mut Context<'_>, code: CloseCode) -> Result<(), Error> {
        let frame = CloseFrame { code, reason: Utf8Bytes::default() };
        let mut bridge = Bridge { stream: &mut self.stream, cx, budget: &mut self.budget };
        self.protocol.close(&mut bridge, Some(frame))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for WebSocket<S> {
    fn admit(&mut self) {
        self.budget = usize::MAX;
        self.protocol.set_config(|config| {
            config.max_message_size = Some(self.max_message);
            config.max_frame_size = Some(self.max_message);
        });
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.message.is_empty() {
            let read = this.protocol.read(&mut Bridge { stream: &mut this.stream, cx, budget: &mut this.budget });
            match read {
                Ok(Message::Binary(message)) => this.message = message,
                // An answer to a ping or to a close is on its way: the next read sees to it.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {}
                Ok(Message::Text(_)) => {
                    return Poll::Ready(Err(this.fail(cx, CloseCode::Unsupported, "a text message")));
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(Error::Io(_)) if this.budget == 0 => {
                    return Poll::Ready(Err(this.fail(cx, CloseCode::Size, "more than a CONNECT takes")));
                }
                Err(Error::Io(error)) => return Poll::Ready(Err(error)),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Poll::Ready(Ok(())),
                // Gone without a word.
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(this.fail(cx, code_of(&error), error))),
            }
        }
        let n = this.message.len().min(buf.remaining());
        buf.put_slice(&this.message[..n]);
        this.message.advance(n);
        if this.message.is_empty() {
            this.message = Bytes::new(); // lets go of the read buffer behind it
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut bridge = Bridge { stream: &mut this.stream, cx, budget: &mut this.budget };
        if this.is_behind {
            match pending(this.protocol.flush(&mut bridge)) {
                Poll::Ready(Ok(())) => this.is_behind = false,
                other => return other.map_ok(|()| 0),
            }
        }
        let chunk = &buf[..buf.len().min(WRITE_CHUNK)];
        if chunk.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // What cannot be written now is kept in the protocol's buffer: taken, all the same.
        match pending(this.protocol.write(&mut bridge, Message::Binary(Bytes::copy_from_slice(chunk)))) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {}
            Poll::Pending => this.is_behind = true,
        }
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut bridge = Bridge { stream: &mut this.stream, cx, budget: &mut this.budget };
        let flushed = pending(this.protocol.flush(&mut bridge));
        this.is_behind &= !matches!(flushed, Poll::Ready(Ok(())));
        flushed
    }

    /// A close frame, where none has been sent, and the end of the stream below.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if pending(this.close(cx, CloseCode::Normal)).is_pending() {
            return Poll::Pending;
        }
        // After a failure the stream below is ended all the same.
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

/// An answer of the protocol as one of a poll: the bridge has registered the waker.
fn pending(result: Result<(), Error>) -> Poll<io::Result<()>> {
    match result {
        Ok(()) => Poll::Ready(Ok(())),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        Err(Error::Io(error)) => Poll::Ready(Err(error)),
        Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, error))),
    }
}

/// RFC 6455 section 7.4.1.
fn code_of(error: &Error) -> CloseCode {
    match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    }
}

/// An async stream for the duration of one poll, as a blocking one that would block.
struct Bridge<'a, 'b, S> {
    stream: &'a mut S,
    cx: &'a mut Context<'b>,
    /// Bytes that may still be read.
    budget: &'a mut usize,
}

fn blocking<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for Bridge<'_, '_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = buf.len().min(*self.budget);
        if room == 0 {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let mut buf = ReadBuf::new(&mut buf[..room]);
        blocking(Pin::new(&mut *self.stream).poll_read(self.cx, &mut buf))?;
        *self.budget -= buf.filled().len();
        Ok(buf.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for Bridge<'_, '_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        blocking(Pin::new(&mut *self.stream).poll_write(self.cx, buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        blocking(Pin::new(&mut *self.stream).poll_flush(self.cx))
    }
}
