//! A client's connection, between its socket and the HTTP library: what the library does not do by itself, or does without
//! asking anybody.
//!
//! - It answers by itself when it cannot read a request's head (400), when the head is too large (431) or too slow (408): no
//!   middleware sees these. The connection sees them go out bare, and gives them the problem body, the request id, the security
//!   headers and the log line that every other answer gets at the `edge` (`refusal`).
//! - It reads ahead whatever is sent, and takes it apart. The connection hands it one head at a time, of a body what is asked
//!   for, and nothing more before the answer has gone (`talk`).
//! - It waits for ever for a client that reads nothing. The connection does not (`stall`); nor for one that sends nothing.
//! - It says "100 Continue" before anybody has looked at the head. The connection says it when the body is asked for.
//!
//! Invariant: only what goes out while no request is being answered is touched, so what a handler says is never taken for
//! an answer of the library, whatever it says. A request is being answered from the call of [`track()`] until its whole body
//! is flushed.

mod head;
mod measure;
mod refusal;
mod stall;
mod talk;
mod track;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use self::head::{Fault, Head};
use self::refusal::{bare, dressed};
use self::stall::Stall;
use super::door::Place;
use super::socket::Socket;

pub(super) use self::stall::Outgoing;
pub(super) use self::talk::Talk;
pub(super) use self::track::{PIECE_BYTES, track};

/// The library's word, and ours.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bytes read of what nobody has asked for, to hear of a client that has gone.
const PEEK_BYTES: usize = 512;

/// How long a client may take for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// There may be no request that is complete enough to be answered. (The library looks at the time of the first head only:
    /// whoever sends a later one slowly would stay for ever.)
    pub(super) idle: Duration,
    /// It may take nothing of what it is sent.
    pub(super) stalled: Duration,
    /// It may go on sending what nobody reads, to find the answer meanwhile.
    pub(super) farewell: Duration,
}

/// A client's connection.
pub(super) struct Wire<S = Socket> {
    socket: S,
    talk: Rc<Talk>,
    /// Words of our own, on their way out.
    answer: Bytes,
    /// What of a head has come, while there is no request.
    head: Head,
    /// What came behind a head and nobody has asked for.
    ahead: Bytes,
    /// The client sends nothing more.
    is_ended: bool,
    patience: Patience,
    /// The end of the time without a request, and how many requests there were when it was set.
    deadline: Option<(u64, Pin<Box<Sleep>>)>,
    stall: Stall,
    /// The end of the time for what is thrown away; set when all is said.
    farewell: Option<Pin<Box<Sleep>>>,
    _place: Option<Place>,
}

impl<S> Wire<S> {
    pub(super) fn new(socket: S, patience: Patience, place: Option<Place>) -> Self {
        Self {
            socket,
            talk: Rc::default(),
            answer: Bytes::new(),
            head: Head::default(),
            ahead: Bytes::new(),
            is_ended: false,
            patience,
            deadline: None,
            stall: Stall::new(patience.stalled),
            farewell: None,
            _place: place,
        }
    }

    pub(super) fn socket(&self) -> &S {
        &self.socket
    }

    pub(super) fn talk(&self) -> Rc<Talk> {
        Rc::clone(&self.talk)
    }

    /// A head that is no good: to the library it looks as if the client had gone.
    fn refuse(&mut self, fault: Fault) {
        self.answer = dressed(bare(fault)).unwrap_or_default();
        self.talk.cut();
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// The next head, and nothing behind it.
    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (begun, patience) = (self.talk.begun(), self.patience.idle);
        if self.deadline.as_ref().is_some_and(|(at, _)| *at != begun) {
            (self.deadline, self.head) = (None, Head::default());
        }
        let (_, deadline) = self.deadline.get_or_insert_with(|| (begun, Box::pin(tokio::time::sleep(patience))));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.head.is_over() {
            // The request is about to begin.
            self.talk.wait_for_room(cx);
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            match self.head.take(&self.ahead[..length]) {
                Ok(taken) => buf.put_slice(&self.ahead.split_to(taken)),
                Err(fault) => self.refuse(fault),
            }
            return Poll::Ready(Ok(()));
        }
        if self.is_ended {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        let came = &buf.filled()[before..];
        self.is_ended = came.is_empty();
        match self.head.take(came) {
            Ok(taken) => {
                self.ahead = Bytes::copy_from_slice(&came[taken..]);
                buf.set_filled(before + taken);
            }
            Err(fault) => {
                buf.set_filled(before);
                self.refuse(fault);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Of a body, what is asked for.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = self.talk.room();
        if room == 0 || self.talk.is_cut() {
            self.talk.wait_for_room(cx);
            return self.poll_gone(cx).map(Err);
        }
        let room = room.min(buf.remaining());
        if !self.ahead.is_empty() {
            let taken = self.talk.read(&self.ahead[..self.ahead.len().min(room)]);
            buf.put_slice(&self.ahead.split_to(taken));
            return Poll::Ready(Ok(()));
        }
        if self.is_ended {
            return Poll::Ready(Ok(()));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut part))?;
        self.is_ended = part.filled().is_empty();
        let taken = self.talk.read(part.filled());
        self.ahead = Bytes::copy_from_slice(&part.filled()[taken..]);
        buf.advance(taken);
        Poll::Ready(Ok(()))
    }

    /// Ready when the client has gone. What it sends meanwhile is kept, and then no more read.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.ahead.is_empty() || self.is_ended {
            return Poll::Pending;
        }
        let mut bytes = [0; PEEK_BYTES];
        let mut part = ReadBuf::new(&mut bytes);
        match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut part)) {
            Ok(()) => {
                self.is_ended = part.filled().is_empty();
                self.ahead = Bytes::copy_from_slice(part.filled());
                Poll::Pending
            }
            Err(error) => Poll::Ready(error),
        }
    }

    /// Throws away what still comes: closing a socket with unread bytes would take back what was just said.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience.farewell;
        let timer = self.farewell.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        let mut bytes = [0; PEEK_BYTES];
        while !self.is_ended && timer.as_mut().poll(cx).is_pending() {
            let mut part = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut part));
            self.is_ended = read.is_err() || part.filled().is_empty();
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.talk.is_busy() {
            (self.deadline, self.head) = (None, Head::default());
            return self.poll_body(cx, buf);
        }
        if self.talk.is_cut() {
            return Poll::Ready(Ok(()));
        }
        self.poll_head(cx, buf)
    }
}

impl<S: AsyncWrite + Outgoing + Unpin> Wire<S> {
    /// One step of sending, as long as something of it goes.
    fn sending<T>(
        &mut self,
        cx: &mut Context<'_>,
        step: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let polled = step(Pin::new(&mut self.socket), cx);
        self.stall.judge(polled, self.socket.sent(), cx)
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.talk.take_continue() && self.ahead.is_empty() {
            self.answer = Bytes::from_static(CONTINUE);
        }
        while !self.answer.is_empty() {
            let answer = self.answer.clone();
            match ready!(self.sending(cx, |socket, cx| socket.poll_write(cx, &answer)))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.answer.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Outgoing + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_answer(cx))?;
        if !self.talk.is_busy()
            && let Some(answer) = dressed(buf)
        {
            self.answer = answer;
            return Poll::Ready(Ok(buf.len()));
        }
        // The request waits for all to be sent, so nothing comes behind it.
        let word = buf.strip_suffix(CONTINUE).filter(|_| self.talk.is_continue_coming());
        if word.is_some_and(<[u8]>::is_empty) {
            self.talk.hold_continue();
            return Poll::Ready(Ok(buf.len()));
        }
        let before = word.unwrap_or(buf);
        self.sending(cx, |socket, cx| socket.poll_write(cx, before))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        ready!(self.sending(cx, |socket, cx| socket.poll_flush(cx)))?;
        self.talk.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.farewell.is_none() {
            ready!(self.poll_answer(cx))?;
            ready!(self.sending(cx, |socket, cx| socket.poll_shutdown(cx)))?;
        }
        if self.talk.is_cut() {
            ready!(self.poll_farewell(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
