//! The seam to the journal: append now, know later that it is on disk.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;

use crate::journal::{Entry, Error, Journal, Offset};

/// An append on its way. Dropped before it is ready, it has appended nothing or everything.
pub(super) type Append<'a> = Pin<Box<dyn Future<Output = Result<Offset, Error>> + Send + 'a>>;

/// What the broker needs of a journal.
pub(super) trait Intake: Send + Sync + 'static {
    /// Queues the entries; waits while there is no room. Gives their exclusive end.
    fn append<'a>(&'a self, entries: &'a [Entry<'a>]) -> Append<'a>;

    /// Exclusive end of what is on disk; the sender is dropped when no more will be.
    fn durable(&self) -> watch::Receiver<Offset>;
}

impl Intake for Journal {
    fn append<'a>(&'a self, entries: &'a [Entry<'a>]) -> Append<'a> {
        Box::pin(Self::append(self, entries))
    }

    fn durable(&self) -> watch::Receiver<Offset> {
        Self::durable(self)
    }
}
