//! What the HTTP library answers by itself when it cannot read a request's head (400), when the head is too large (431) or
//! too slow (408): no middleware sees these. Here the connection itself sees them go out bare, and gives them the problem
//! body, the request id, the security headers and the log line that every other answer gets at the `edge`.
//!
//! Invariant: only what goes out while no request is being answered is touched, so what a handler says is never taken for
//! an answer of the library, whatever it says. A request is being answered from the call of [`track`] until its whole body
//! is flushed. (An unreadable head that came in one piece behind a good one goes out with that one's answer, and bare.)

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError};
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::edge;
use super::error::{ApiError, problem};
use super::socket::Socket;

/// What a connection knows of its requests. Stays on one thread.
#[derive(Debug, Default)]
pub(super) struct Talk {
    /// Requests whose answer is not complete.
    under_way: Cell<usize>,
    /// There was a request since the last time all was flushed.
    is_busy: Cell<bool>,
    /// Requests so far.
    begun: Cell<u64>,
}

impl Talk {
    fn begin(self: &Rc<Self>) -> Answering {
        self.under_way.set(self.under_way.get() + 1);
        self.is_busy.set(true);
        self.begun.set(self.begun.get().wrapping_add(1));
        Answering(Rc::clone(self))
    }

    fn flushed(&self) {
        if self.under_way.get() == 0 {
            self.is_busy.set(false);
        }
    }
}

/// Lives until the answer is complete, or given up.
struct Answering(Rc<Talk>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get().saturating_sub(1));
    }
}

/// The outermost layer: tells the connection of its requests.
pub(super) async fn track(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Tracked>, Error> {
    let answering = request.conn_data::<Rc<Talk>>().map(Talk::begin);
    let response = next.call(request).await?.map_into_boxed_body();
    Ok(response.map_body(|_, body| Tracked { body, _answering: answering }))
}

/// A body that holds its request open.
pub(super) struct Tracked {
    body: BoxBody,
    _answering: Option<Answering>,
}

impl MessageBody for Tracked {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// Largest head: whoever sends it is not known yet.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const UNREADABLE: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n";

/// Looks through a head for its size, and for lines that end with a bare LF. RFC 9112 lets a recipient take one for the end
/// of a line, and the library does; a proxy before us may take it for part of a value, and then both see different requests.
#[derive(Debug, Default)]
struct Head {
    len: usize,
    last: u8,
    line_len: usize,
    has_begun: bool,
    is_over: bool,
}

impl Head {
    /// The answer to what is wrong with these bytes, as far as they belong to the head.
    fn fault(&mut self, bytes: &[u8]) -> Option<&'static [u8]> {
        for &byte in bytes {
            if self.is_over {
                return None;
            }
            self.len += 1;
            if self.len > MAX_HEAD_BYTES {
                return Some(TOO_LARGE);
            }
            match byte {
                b'\n' if self.last != b'\r' => return Some(UNREADABLE),
                // Empty lines before a request are passed over (RFC 9112, 2.2).
                b'\n' if self.line_len == 0 => self.is_over = self.has_begun,
                b'\n' => self.line_len = 0,
                b'\r' => {}
                _ => (self.line_len, self.has_begun) = (self.line_len + 1, true),
            }
            self.last = byte;
        }
        None
    }
}

/// A client's connection.
pub(super) struct Wire<S = Socket> {
    socket: S,
    talk: Rc<Talk>,
    /// An answer in place of the library's, on its way out.
    answer: Bytes,
    /// What of a head has come, while there is no request.
    head: Head,
    /// How long there may be no request.
    patience: Duration,
    /// The end of that, and how many requests there were when it was set.
    deadline: Option<(u64, Pin<Box<Sleep>>)>,
}

impl<S> Wire<S> {
    /// `patience`: how long a connection may be without a request that is complete enough to be answered. (The library
    /// looks at the time of the first head only: whoever sends a later one slowly would stay for ever.)
    pub(super) fn new(socket: S, patience: Duration) -> Self {
        Self { socket, talk: Rc::default(), answer: Bytes::new(), head: Head::default(), patience, deadline: None }
    }

    pub(super) fn socket(&self) -> &S {
        &self.socket
    }

    pub(super) fn talk(&self) -> Rc<Talk> {
        Rc::clone(&self.talk)
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.answer.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.answer))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.answer.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (begun, patience) = (self.talk.begun.get(), self.patience);
        if self.deadline.as_ref().is_some_and(|(at, _)| *at != begun) || self.talk.is_busy.get() {
            self.deadline = None;
            self.head = Head::default();
        }
        if !self.talk.is_busy.get() {
            let (_, deadline) = self.deadline.get_or_insert_with(|| (begun, Box::pin(tokio::time::sleep(patience))));
            if deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if !self.talk.is_busy.get()
            && let Some(bare) = self.head.fault(&buf.filled()[before..])
        {
            // To the library it looks as if the client had gone.
            buf.set_filled(before);
            self.answer = refusal(bare).unwrap_or_default();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_answer(cx))?;
        if !self.talk.is_busy.get()
            && let Some(answer) = refusal(buf)
        {
            self.answer = answer;
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.talk.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// The answer in place of the library's: a head of 4xx or 5xx and no body.
fn refusal(bare: &[u8]) -> Option<Bytes> {
    let head = std::str::from_utf8(bare).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next()?;
    let status = status_line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let status = StatusCode::from_u16(status).ok().filter(|s| s.is_client_error() || s.is_server_error())?;
    let error = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ApiError::HeadTooLarge,
        StatusCode::REQUEST_TIMEOUT => ApiError::HeadTooSlow,
        s if s.is_server_error() => ApiError::Internal("the HTTP library lost track of a connection"),
        _ => ApiError::Malformed("the request line or a header cannot be read"),
    };
    let id = edge::new_request_id();
    let body = serde_json::to_string(&problem(error.status_code(), Some(&error), &id)).ok()?;
    let mut answer = format!("{status_line}\r\ncontent-type: application/problem+json\r\n");
    answer.push_str(&format!("content-length: {}\r\nconnection: close\r\n", body.len()));
    for (name, value) in edge::headers(&id) {
        answer.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    let is_replaced = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        ["content-length", "content-type", "connection"].iter().any(|n| name.eq_ignore_ascii_case(n))
    };
    for line in lines.filter(|line| !is_replaced(line)) {
        answer.push_str(&format!("{line}\r\n"));
    }
    answer.push_str("\r\n");
    answer.push_str(&body);
    edge::refused(&id, error.status_code(), error.inside());
    Some(Bytes::from(answer))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const BARE: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: now\r\n\r\n";

    /// Writes `BARE` and flushes; what the client gets.
    async fn send(wire: &mut Wire<tokio::io::DuplexStream>, client: &mut tokio::io::DuplexStream) -> Vec<u8> {
        wire.write_all(BARE).await.unwrap();
        wire.flush().await.unwrap();
        let mut got = vec![0; 4096];
        let length = client.read(&mut got).await.unwrap();
        got.truncate(length);
        got
    }

    #[tokio::test]
    async fn only_what_goes_out_between_requests_is_the_librarys() {
        let (socket, mut client) = duplex(4096);
        let mut wire = Wire::new(socket, Duration::from_secs(60));
        let answering = wire.talk().begin();
        assert_eq!(send(&mut wire, &mut client).await, BARE, "part of a handler's body");
        drop(answering);
        wire.flush().await.unwrap();
        let answer = String::from_utf8(send(&mut wire, &mut client).await).unwrap();
        assert!(answer.contains("\r\ndate: now\r\n") && answer.ends_with('}'), "{answer}");
        let answering = wire.talk().begin();
        drop(answering);
        assert_eq!(send(&mut wire, &mut client).await, BARE, "the end of a body that is not flushed");
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_gets_the_whole_answer() {
        let (socket, mut client) = duplex(16);
        let mut wire = Wire::new(socket, Duration::from_secs(60));
        let writer = async move {
            wire.write_all(BARE).await.unwrap();
            wire.shutdown().await.unwrap();
        };
        let mut got = String::new();
        let (read, ()) = tokio::join!(client.read_to_string(&mut got), writer);
        read.unwrap();
        let (head, body) = got.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{got}");
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{got}");
    }

    #[test]
    fn a_line_of_a_head_ends_with_both_letters() {
        let check = |pieces: &[&str], expected: bool| {
            let mut head = Head::default();
            let found = pieces.iter().any(|piece| head.fault(piece.as_bytes()) == Some(UNREADABLE));
            assert_eq!(found, expected, "{pieces:?}");
        };
        check(&["GET / HTTP/1.1\r\nHost: x\r\n\r\nbody\nof lines\n"], false);
        check(&["\r\n\r\nGET / HTTP/1.1\r", "\nA: b\r\n\r", "\n", "\n"], false);
        check(&["GET / HTTP/1.1\nHost: x\r\n\r\n"], true);
        check(&["GET / HTTP/1.1\r\nA: b", "\nContent-Length: 5\r\n\r\n"], true);
        check(&["GET / HTTP/1.1\r\n\n"], true);
        check(&["\n"], true);
    }

    #[test]
    fn a_head_is_16_kib_at_most_and_a_body_as_large_as_it_likes() {
        let large = |n: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(n - 23));
        assert_eq!(Head::default().fault(large(MAX_HEAD_BYTES).as_bytes()), None);
        assert_eq!(Head::default().fault(large(MAX_HEAD_BYTES + 1).as_bytes()), Some(TOO_LARGE));
        let body = format!("{}{}", large(100), "x".repeat(2 * MAX_HEAD_BYTES));
        assert_eq!(Head::default().fault(body.as_bytes()), None);
    }

    #[test]
    fn only_a_bare_refusal_is_replaced() {
        let check = |head: &str, expected: bool| assert_eq!(refusal(head.as_bytes()).is_some(), expected, "{head:?}");
        check("HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n", true);
        check("HTTP/1.0 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", true);
        check("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", true);
        check("HTTP/1.1 100 Continue\r\n\r\n", false);
        check("HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nbad", false);
        check("HTTP/1.1 4", false);
        check("", false);
    }
}
