//! One socket: bytes in, bytes out, a timer and the signal, polled as one.
//!
//! Invariants: a connection at rest owns no buffer (reads go through one scratch buffer a thread); of a stranger no more
//! than a given number of bytes is held; what is to be written is bounded by its filler looking at [`Io::is_full`]; time
//! without any progress of a write is measured. Works on any byte stream. Knows nothing of packets.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::slot::{Signal, Signals};
use super::stream::Stream;

/// Bytes read at a time.
const SCRATCH: usize = 64 << 10;

/// Unwritten bytes at which no more is added.
const FULL: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// What has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wake {
    /// There are new bytes in [`Io::input`].
    Read,
    /// The peer has closed, or the socket failed.
    Closed,
    /// It was full and is no more; where [`Io::is_ending`], it has written all.
    Drained,
    /// A time set by [`Io::arm`] has come, or an earlier one.
    Timer,
    /// Somebody has told the connection something.
    Signal(Signals),
}

/// See the module.
pub(super) struct Io<S> {
    /// `None` once closed.
    stream: Option<S>,
    /// Bytes read and not yet decoded.
    pub(super) input: BytesMut,
    /// At so many bytes of input no more is read.
    max_input: usize,
    /// Bytes to write; the first `written` are done.
    pub(super) output: Vec<u8>,
    written: usize,
    needs_flush: bool,
    timer: Option<Pin<Box<Sleep>>>,
    write_timeout: Duration,
    blocked_since: Option<Instant>,
    /// Whether somebody waits for all to be written.
    pub(super) is_ending: bool,
    /// Counted since the last look.
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Io<S> {
    /// For a peer that is known.
    pub(super) fn new(stream: S, write_timeout: Duration) -> Self {
        Self {
            stream: Some(stream),
            input: BytesMut::new(),
            max_input: usize::MAX,
            output: Vec::new(),
            written: 0,
            needs_flush: false,
            timer: None,
            write_timeout,
            blocked_since: None,
            is_ending: false,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// For a peer that nobody knows yet: of its input no more than `max_input` bytes are held until it is admitted.
    pub(super) fn for_stranger(stream: S, write_timeout: Duration, max_input: usize) -> Self {
        Self { max_input, ..Self::new(stream, write_timeout) }
    }

    /// Whether enough is waiting to be written.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() - self.written >= FULL
    }

    /// Whether all is written.
    pub(super) fn is_drained(&self) -> bool {
        (self.output.is_empty() && !self.needs_flush) || self.stream.is_none()
    }

    /// Whether the peer has taken nothing for the write timeout.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.blocked_since.is_some_and(|since| now >= since + self.write_timeout)
    }

    /// Sees to a [`Wake::Timer`] not later than `at`.
    pub(super) fn arm(&mut self, at: Instant) {
        match &mut self.timer {
            Some(timer) if timer.deadline() <= at => {}
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    /// Closes the stream, with its own last words (TLS, WebSocket) as far as the socket takes them at once; signals and
    /// the timer go on.
    pub(super) fn close(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let _ = Pin::new(&mut stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
        self.input = BytesMut::new();
        self.output = Vec::new();
        self.written = 0;
        self.blocked_since = None;
    }

    /// Writes what there is, reads if it may, and says the first thing that happened.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, may_read: bool, signal: Option<&Signal>) -> Poll<Wake> {
        if let Some(signal) = signal {
            let signals = signal.take(cx.waker());
            if signals != Signals::NONE {
                return Poll::Ready(Wake::Signal(signals));
            }
        }
        let (was_full, was_drained) = (self.is_full(), self.is_drained());
        if self.write(cx).is_err() {
            return Poll::Ready(Wake::Closed);
        }
        if (was_full && !self.is_full()) || (self.is_ending && !was_drained && self.is_drained()) {
            return Poll::Ready(Wake::Drained);
        }
        if may_read && let Poll::Ready(wake) = self.read(cx) {
            return Poll::Ready(wake);
        }
        if let Some(since) = self.blocked_since {
            self.arm(since + self.write_timeout); // the timer may have gone off for an earlier one
        }
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            self.timer = None;
            return Poll::Ready(Wake::Timer);
        }
        if self.output.is_empty() {
            self.output = Vec::new();
        }
        Poll::Pending
    }

    /// Takes the socket with what is to be written out of it; signals and the timer go on. `None` = it is closed.
    pub(super) fn take(&mut self) -> Option<Self> {
        let mut taken = Self::new(self.stream.take()?, self.write_timeout);
        taken.output = std::mem::take(&mut self.output);
        taken.written = self.written;
        self.close();
        Some(taken)
    }

    /// Writes the rest, says that nothing more comes, and reads on until the peer says so too. May be dropped half-way.
    pub(super) async fn end(mut self) {
        self.is_ending = true;
        while !self.is_drained() {
            if poll_fn(|cx| self.poll(cx, false, None)).await == Wake::Closed {
                return;
            }
        }
        let Some(stream) = &mut self.stream else { return };
        if stream.shutdown().await.is_ok() {
            loop {
                self.input.clear();
                if poll_fn(|cx| self.read(cx)).await == Wake::Closed {
                    return;
                }
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        let room = self.max_input.saturating_sub(self.input.len()).min(SCRATCH);
        if room == 0 {
            return Poll::Pending;
        }
        BUFFER.with_borrow_mut(|buffer| {
            let mut space = ReadBuf::new(&mut buffer[..room]);
            match Pin::new(stream).poll_read(cx, &mut space) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) if !space.filled().is_empty() => {
                    self.input.extend_from_slice(space.filled());
                    self.bytes_in += space.filled().len() as u64;
                    Poll::Ready(Wake::Read)
                }
                Poll::Ready(_) => Poll::Ready(Wake::Closed),
            }
        })
    }

    /// As far as it goes now.
    fn write(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.written < self.output.len() {
            match Pin::new(&mut *stream).poll_write(cx, &self.output[self.written..]) {
                Poll::Ready(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.written += n;
                    self.bytes_out += n as u64;
                    self.blocked_since = None;
                    self.needs_flush = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.block();
                    return Ok(());
                }
            }
        }
        self.output.clear();
        self.written = 0;
        if self.needs_flush {
            match Pin::new(&mut *stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.needs_flush = false;
                    self.blocked_since = None;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => self.block(),
            }
        }
        Ok(())
    }

    fn block(&mut self) {
        if self.blocked_since.is_none() {
            self.blocked_since = Some(Instant::now());
        }
        if self.written >= FULL {
            self.output.drain(..self.written);
            self.written = 0;
        }
    }
}

impl<S: Stream> Io<S> {
    /// The peer is known from now on.
    pub(super) fn admit(&mut self) {
        self.max_input = usize::MAX;
        if let Some(stream) = &mut self.stream {
            stream.admit();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn of_a_stranger_no_more_is_held_than_it_may_send() {
        let (ours, peer) = tokio::io::duplex(1000);
        let mut io = Io::for_stranger(ours, Duration::from_secs(5), 300);
        let mut peer = std::pin::pin!(peer);
        peer.write_all(&[7; 1000]).await.unwrap();
        assert_eq!(poll_fn(|cx| io.poll(cx, true, None)).await, Wake::Read);
        assert!(poll_fn(|cx| Poll::Ready(io.poll(cx, true, None))).await.is_pending());
        assert_eq!(io.input.len(), 300);
        io.max_input = usize::MAX;
        assert_eq!(poll_fn(|cx| io.poll(cx, true, None)).await, Wake::Read);
        assert_eq!(io.input.len(), 1000);
    }

    #[tokio::test]
    async fn a_peer_that_takes_some_and_then_nothing_is_noticed_without_any_other_timer() {
        let patience = Duration::from_millis(100);
        let (ours, mut peer) = tokio::io::duplex(10);
        let mut io = Io::new(ours, patience);
        io.output = vec![0; 100];
        let start = Instant::now();
        let half = async {
            tokio::time::sleep(patience / 2).await;
            peer.read_exact(&mut [0; 10]).await.unwrap();
            std::future::pending::<()>().await;
        };
        let stalled = async {
            loop {
                assert_eq!(poll_fn(|cx| io.poll(cx, false, None)).await, Wake::Timer);
                if io.is_stalled(Instant::now()) {
                    return;
                }
            }
        };
        tokio::select! {
            biased; // on a machine that stands still both may be ready at once
            () = half => {}
            done = tokio::time::timeout(Duration::from_secs(5), stalled) => done.expect("noticed"),
        }
        assert!(start.elapsed() >= patience * 3 / 2, "counted from the last progress");
    }
}
