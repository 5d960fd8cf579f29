//! How long a client may take nothing of what it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use crate::observe::metrics;

/// What counts the bytes that have gone.
pub(in crate::api) trait Outgoing {
    /// So many that the other end's network has taken.
    fn sent(&self) -> u64;
}

/// Runs while there is something to be sent, anew with every byte that goes.
#[derive(Debug)]
pub(super) struct Stall {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    sent: u64,
}

impl Stall {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, sent: 0 }
    }

    /// What came of sending; an error where that has been waiting for too long.
    pub(super) fn judge<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        sent: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.timer = None;
            return polled;
        }
        if self.timer.is_none() || self.sent != sent {
            (self.timer, self.sent) = (Some(Box::pin(tokio::time::sleep(self.limit))), sent);
        }
        let is_over = self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
        if !is_over {
            return Poll::Pending;
        }
        metrics::HTTP_CLOSED.increment(&[("reason", "stalled")], 1);
        tracing::debug!(bytes = sent, "an HTTP client takes nothing of its answer; closed");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}
