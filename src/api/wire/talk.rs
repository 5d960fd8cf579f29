//! What a connection and the requests on it tell each other: one request at a time, nothing is read but what it asks for, and
//! the next one is begun when the answer to the last one has gone.
//!
//! ```text
//!            head           asks for its body, a piece at a time
//! connection ───► request ─────────────────────────────────────► connection
//!            ◄─── arrives, begins when all is flushed ◄─── flushed
//! ```
//!
//! Invariants: while a request is being answered the connection is read only where its body is asked for; the library, which
//! would read and take apart 128 KiB of requests that wait, sees one. An answer before the end of its request is the last one of
//! its connection. "100 Continue" is said when the body is asked for, not before: who is refused by the head has not sent it.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::measure::Measure;

/// Bytes of a body that are read at a time.
const PIECE_BYTES: u64 = 16 * 1024;

/// Between a connection and its requests. Stays on one thread.
#[derive(Debug, Default)]
pub(in crate::api) struct Talk(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    /// Requests so far.
    begun: u64,
    /// A request waits for its turn.
    is_waiting: bool,
    /// An answer is being made.
    is_answering: bool,
    /// Something may be unsent.
    is_unsent: bool,
    /// What is to come of the body; `None` = nothing.
    body: Option<Measure>,
    /// So many bytes of it may be read now.
    room: u64,
    /// An answer came before the end of its request.
    is_cut: bool,
    expectation: Expectation,
    /// It knows the word.
    understands: bool,
    /// Who waits until something may be read.
    reader: Option<Waker>,
    /// Who waits until all is sent.
    sender: Option<Waker>,
}

/// What becomes of `Expect: 100-continue`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Expectation {
    #[default]
    None,
    /// The library's word is on its way out, and is to be held back.
    Coming,
    /// It was held back.
    Held,
    /// It is to be said.
    Due,
}

impl Talk {
    // ---- the request's side ------------------------------------------------------------------------------------

    /// A request has come; it begins when it is [`clear`](Self::poll_clear). `expects` = the library says "100 Continue" to
    /// it now; `understands` = it knows what that is.
    pub(super) fn arrive(self: &Rc<Self>, expects: bool, understands: bool) -> Answering {
        let mut state = self.0.borrow_mut();
        state.is_waiting = true;
        state.begun = state.begun.wrapping_add(1);
        (state.room, state.body, state.understands) = (0, None, understands);
        if expects {
            (state.expectation, state.is_unsent) = (Expectation::Coming, true);
        }
        drop(state);
        Answering(Rc::clone(self))
    }

    /// Ready when all that was said before is sent.
    pub(super) fn poll_clear(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        if !state.is_unsent {
            return Poll::Ready(());
        }
        state.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The request is being answered from here on.
    pub(super) fn begin(&self, body: Measure) {
        let mut state = self.0.borrow_mut();
        (state.is_waiting, state.is_answering, state.is_unsent) = (false, true, true);
        state.body = Some(body).filter(|body| !body.is_over());
        // A short body is read unasked: its sender has not waited either.
        if state.expectation == Expectation::None {
            state.ask();
        }
    }

    /// The body is waited for.
    pub(super) fn ask(&self) {
        let mut state = self.0.borrow_mut();
        if state.expectation == Expectation::Held {
            state.expectation = Expectation::Due;
        }
        state.ask();
    }

    /// The body has been read to its end.
    pub(super) fn body_is_over(&self) {
        self.0.borrow_mut().body = None;
    }

    /// The answer is known; `true` = it is the last one, as the request has not come to its end.
    pub(super) fn answered(&self) -> bool {
        let mut state = self.0.borrow_mut();
        state.is_cut = state.is_cut || state.body.is_some();
        state.is_cut
    }

    // ---- the connection's side ---------------------------------------------------------------------------------

    /// Whether a request is there, up to the last byte of its answer.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.0.borrow();
        state.is_waiting || state.is_unsent
    }

    /// Requests so far.
    pub(super) fn begun(&self) -> u64 {
        self.0.borrow().begun
    }

    /// Whether nothing that still comes in counts.
    pub(super) fn is_cut(&self) -> bool {
        self.0.borrow().is_cut
    }

    /// Nothing that still comes in counts.
    pub(super) fn cut(&self) {
        self.0.borrow_mut().is_cut = true;
    }

    /// So many bytes of a body may be read.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.0.borrow().room).unwrap_or(usize::MAX)
    }

    /// These have come; how many of them belong to it.
    pub(super) fn read(&self, bytes: &[u8]) -> usize {
        let mut state = self.0.borrow_mut();
        let Some(body) = &mut state.body else { return 0 };
        let taken = body.take(bytes);
        if body.is_over() {
            (state.body, state.room) = (None, 0);
        } else {
            state.room = state.room.saturating_sub(taken as u64);
        }
        taken
    }

    /// To be woken when there is something to read, or no request any more.
    pub(super) fn wait_for_room(&self, cx: &Context<'_>) {
        self.0.borrow_mut().reader = Some(cx.waker().clone());
    }

    /// Whether the library's "100 Continue" is the last of what it is sending.
    pub(super) fn is_continue_coming(&self) -> bool {
        self.0.borrow().expectation == Expectation::Coming
    }

    /// It has been held back.
    pub(super) fn hold_continue(&self) {
        let mut state = self.0.borrow_mut();
        state.expectation = if state.understands { Expectation::Held } else { Expectation::None };
    }

    /// Whether it is to be said now; once.
    pub(super) fn take_continue(&self) -> bool {
        let mut state = self.0.borrow_mut();
        let is_due = state.expectation == Expectation::Due;
        if is_due {
            state.expectation = Expectation::None;
        }
        is_due
    }

    /// All that was said so far is sent.
    pub(super) fn flushed(&self) {
        let mut state = self.0.borrow_mut();
        if state.is_answering || !state.is_unsent {
            return;
        }
        state.is_unsent = false;
        let waker = if state.is_waiting { state.sender.take() } else { state.reader.take() };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn ask(&mut self) {
        let piece = self.body.as_ref().map_or(0, |body| body.most().min(PIECE_BYTES));
        if self.room == 0 && piece > 0 {
            self.room = piece;
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// Lives until the answer is complete, or given up.
#[derive(Debug)]
pub(super) struct Answering(Rc<Talk>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.0.borrow_mut();
        (state.is_waiting, state.is_answering, state.room) = (false, false, 0);
        state.expectation = Expectation::None;
    }
}

/// See [`Talk::poll_clear`].
pub(super) async fn clear(talk: &Talk) {
    std::future::poll_fn(|cx| talk.poll_clear(cx)).await;
}

/// A body of a request that tells the connection when it is waited for.
pub(super) struct Asked<P> {
    pub(super) payload: Pin<Box<P>>,
    pub(super) talk: Rc<Talk>,
}

impl<P, T, E> futures_util::Stream for Asked<P>
where
    P: futures_util::Stream<Item = Result<T, E>>,
{
    type Item = Result<T, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.payload.as_mut().poll_next(cx);
        match &polled {
            Poll::Pending => self.talk.ask(),
            Poll::Ready(None) => self.talk.body_is_over(),
            Poll::Ready(Some(_)) => {}
        }
        polled
    }
}
