//! The end of a connection: why, what the client is told, what is still to be done.
//!
//! Invariants: what the journal was given is still confirmed to the session; nothing follows DISCONNECT; the will is
//! published or waits, the session goes back to its slot, whatever happens to the socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::connection::{Connection, Turn};
use super::io::{Io, Wake};
use super::slot::Signals;
use super::stats::Counters;
use super::{accept, will};
use crate::mqtt::packet::Disconnect;
use crate::mqtt::{Packet, Reason, Violation, codec};

/// Why a connection ends.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the client said goodbye")]
    Goodbye,
    #[error("closed by the peer")]
    Closed,
    #[error(transparent)]
    Malformed(#[from] codec::Error),
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("not allowed to publish to {topic}")]
    NotAllowed { topic: ByteString },
    #[error("silent for longer than its keep-alive allows")]
    KeepAlive,
    #[error("takes no data")]
    Stalled,
    #[error("the client has connected again")]
    TakenOver,
    #[error("ended by an operator")]
    Dismissed,
    #[error("the certificate is no longer good")]
    Expelled,
    #[error("the journal has failed")]
    JournalFailed,
    #[error("the server is stopping")]
    Stopping,
    #[error("cut off: the time for stopping is over")]
    CutOff,
}

impl End {
    /// The reason of the DISCONNECT that a client of MQTT 5 gets (section 3.14.2.1); `None` = nothing can be said to it.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Goodbye | Self::Closed | Self::Stalled => None,
            Self::Malformed(error) => error.told(),
            Self::Violation(violation) => Some(violation.reason()),
            Self::NotAllowed { .. } | Self::Expelled => Some(Reason::NotAuthorized),
            Self::KeepAlive => Some(Reason::KeepAliveTimeout),
            Self::TakenOver => Some(Reason::SessionTakenOver),
            Self::Dismissed => Some(Reason::AdministrativeAction),
            Self::JournalFailed => Some(Reason::Unspecified),
            Self::Stopping | Self::CutOff => Some(Reason::ServerShuttingDown),
        }
    }

    /// Whether the last will is kept back whatever the client said. An operator's end is final: a will would speak for a
    /// device that is gone, and register it anew; whoever has a revoked certificate may not even be the device.
    pub(super) const fn is_silent(&self) -> bool {
        matches!(self, Self::Stopping | Self::CutOff | Self::Dismissed | Self::Expelled)
    }

    /// The counter of such ends.
    pub(super) fn counter<'a>(&self, counters: &'a Counters) -> Option<&'a std::sync::atomic::AtomicU64> {
        match self {
            Self::Malformed(_) | Self::Violation(_) => Some(&counters.closed_malformed),
            Self::NotAllowed { .. } => Some(&counters.closed_not_allowed),
            Self::KeepAlive => Some(&counters.closed_keep_alive),
            Self::Stalled => Some(&counters.closed_stalled),
            Self::TakenOver => Some(&counters.closed_taken_over),
            Self::Expelled => Some(&counters.closed_certificate),
            Self::Goodbye | Self::Closed | Self::Dismissed | Self::JournalFailed | Self::Stopping | Self::CutOff => {
                None
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<S> {
    /// The connection ends: a client of MQTT 5 is told why, what the journal has is still confirmed, then the will, then
    /// the session goes back.
    pub(super) async fn finish(mut self, end: End) {
        self.note(&end);
        let awaited = std::mem::take(&mut self.awaited);
        let last_words = self.say_goodbye(&end).map(|io| accept::linger(Arc::clone(&self.shared), io));
        // Nobody waits for them but a stop.
        let last_words = if self.is_stopping { last_words } else { last_words.map(tokio::spawn).and(None) };
        loop {
            let mark = *self.durable.borrow_and_update();
            if self.complete(mark).is_err() || self.pending.is_empty() || end == End::CutOff {
                break;
            }
            match self.wait(false).await {
                Turn::Durable(false) => break,
                Turn::Io(Wake::Signal(signals)) if signals.has(Signals::ABORT) => break,
                Turn::Durable(true) | Turn::Seek => {}
                Turn::Io(_) => self.session.hear(Instant::now().into_std()),
            }
        }
        self.note_inflight(0);
        self.session.abandon_unconfirmed();
        if end.is_silent() || self.slot.is_dismissed() {
            self.session.take_will();
        }
        let now = Instant::now().into_std();
        let due = self.session.park(now);
        if due.is_some_and(|due| due <= now)
            && let Some(will) = self.session.take_will()
        {
            will::fire(&self.shared, self.slot.identity.clone(), will).await;
        }
        self.report();
        // A session that is kept does not ask again for what it has not got.
        self.awaited = awaited;
        while !self.session.ends_with_connection() && !self.awaited.is_empty() {
            self.seek();
            tokio::task::yield_now().await;
        }
        let Self { shared, slot, session, .. } = self;
        shared.hub.go_offline(&slot, &session);
        shared.hub.release(&slot, session);
        if let Some(last_words) = last_words {
            last_words.await;
        }
    }

    /// The last packet, where there is something to say; nothing follows. Gives the socket.
    fn say_goodbye(&mut self, end: &End) -> Option<Io<S>> {
        let start = self.session.start();
        let (is_v5, wants_reasons) = (start.has_flow_control, start.wants_reasons);
        match end.reason().filter(|_| is_v5) {
            Some(reason) => {
                let reason_string = wants_reasons.then(|| end.to_string().into());
                self.send(&Packet::Disconnect(Disconnect { reason_string, ..Disconnect::new(reason) }));
            }
            None if matches!(end, End::Closed | End::Stalled) => self.io.close(),
            None => {}
        }
        self.is_mute = true;
        self.io.take()
    }

    fn note(&self, end: &End) {
        if let Some(counter) = end.counter(&self.shared.hub.counters) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let device_id = self.slot.identity.name();
        tracing::debug!(client_id = &*self.slot.client_id, device_id, peer = %self.peer, reason = %end, "connection closed");
    }
}
