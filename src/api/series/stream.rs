//! A long answer, made on a blocking thread while the client reads it.
//!
//! Bounded: a few chunks wait for a slow client, then the reading waits; a client that takes nothing for too long is
//! cut off, so that it cannot keep the thread. An error before the first chunk becomes a proper error answer; after it
//! the connection is broken off, so that a part is never taken for the whole.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::api::error::ApiError;
use crate::api::{PATIENCE, State};
use crate::history::{self, History};
use crate::observe::trace;

/// Text is handed over in pieces of about this size.
const CHUNK_BYTES: usize = 64 * 1024;
/// Pieces that wait for the client.
const WAITING: usize = 4;

type Piece = Result<Bytes, history::Error>;

/// Where the text goes.
pub struct Sink {
    buffer: String,
    bytes: Vec<u8>,
    to: mpsc::Sender<Piece>,
    runtime: tokio::runtime::Handle,
    write_timeout: Duration,
    /// The client has something already.
    is_begun: bool,
}

/// Whoever waits for the answer, to be asked while nothing is written.
pub struct Client(mpsc::Sender<Piece>);

impl Client {
    /// Breaks when the client is gone.
    pub fn waits(&self) -> ControlFlow<()> {
        if self.0.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Sink {
    /// Whom the text is for.
    pub fn client(&self) -> Client {
        Client(self.to.clone())
    }

    /// Text to append to; call [`flow`](Self::flow) afterwards.
    pub fn buffer(&mut self) -> &mut String {
        &mut self.buffer
    }

    /// Bytes to append to, for an answer that is no text; call [`flow`](Self::flow) afterwards.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Hands the text over when there is enough of it. Breaks when the client is gone.
    pub fn flow(&mut self) -> ControlFlow<()> {
        match self.buffer.len() + self.bytes.len() {
            _ if self.to.is_closed() => ControlFlow::Break(()),
            0..CHUNK_BYTES => ControlFlow::Continue(()),
            _ => self.hand_over(),
        }
    }

    fn hand_over(&mut self) -> ControlFlow<()> {
        self.is_begun = true;
        if !self.bytes.is_empty() {
            let piece = Bytes::from(std::mem::take(&mut self.bytes));
            return self.send(Ok(piece));
        }
        let piece = Bytes::from(std::mem::replace(&mut self.buffer, String::with_capacity(CHUNK_BYTES + 1024)));
        self.send(Ok(piece))
    }

    fn send(&self, piece: Piece) -> ControlFlow<()> {
        let sent = self.runtime.block_on(async { tokio::time::timeout(self.write_timeout, self.to.send(piece)).await });
        if matches!(sent, Ok(Ok(()))) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// A place among those that read for long.
async fn place(scans: &Arc<Semaphore>, patience: Duration) -> Result<OwnedSemaphorePermit, ApiError> {
    let place = tokio::time::timeout(patience, Arc::clone(scans).acquire_owned()).await;
    place.map_err(|_| ApiError::ReadsFull)?.map_err(|_| ApiError::Stopping)
}

/// Answers with what `produce` writes. Where as many long reads as there may be go on for too long, it is refused.
pub async fn respond(
    state: &State,
    content_type: &'static str,
    produce: impl FnOnce(&History, &mut Sink) -> Result<ControlFlow<()>, history::Error> + Send + 'static,
) -> Result<HttpResponse, ApiError> {
    let permit = place(&state.scans, PATIENCE).await?;
    let (to, mut pieces) = mpsc::channel::<Piece>(WAITING);
    let history = state.services.history.clone();
    let runtime = tokio::runtime::Handle::current();
    let write_timeout = state.options.write_timeout;
    tokio::task::spawn_blocking(trace::carry(move || {
        let _permit = permit;
        let mut sink = Sink { buffer: String::new(), bytes: Vec::new(), to, runtime, write_timeout, is_begun: false };
        // A broken flow drops the sender before the end mark: the client sees the answer break off.
        match produce(&history, &mut sink) {
            Ok(ControlFlow::Continue(())) if sink.hand_over().is_continue() => drop(sink.send(Ok(Bytes::new()))),
            Ok(_) => {}
            Err(error) => {
                // Before the first piece it becomes an error answer, which is logged where it leaves.
                if sink.is_begun {
                    tracing::error!(error = &error as &dyn std::error::Error, "a long answer was broken off");
                }
                // A client that has gone needs no end.
                let _ = sink.send(Err(error));
            }
        }
    }));
    let first = pieces.recv().await.ok_or(ApiError::Stopping)??;
    let rest = futures_util::stream::unfold(Some((Some(first), pieces)), next);
    Ok(HttpResponse::Ok().content_type(content_type).streaming(rest))
}

type Progress = Option<(Option<Bytes>, mpsc::Receiver<Piece>)>;

/// The next piece; an empty one marks the good end.
async fn next(progress: Progress) -> Option<(Result<Bytes, io::Error>, Progress)> {
    let (first, mut pieces) = progress?;
    if let Some(first) = first {
        return Some((Ok(first), Some((None, pieces))));
    }
    match pieces.recv().await {
        Some(Ok(piece)) if piece.is_empty() => None,
        Some(Ok(piece)) => Some((Ok(piece), Some((None, pieces)))),
        Some(Err(_)) | None => Some((Err(io::Error::other("broken off")), None)),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;

    use super::*;

    #[actix_web::test]
    async fn who_finds_no_place_is_refused_and_told_to_come_again() {
        let scans = Arc::new(Semaphore::new(1));
        let held = place(&scans, Duration::from_secs(20)).await.unwrap();
        let refused = place(&scans, Duration::from_millis(10)).await.err().unwrap();
        assert!(matches!(refused, ApiError::ReadsFull));
        let response = refused.error_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers().get("retry-after").unwrap(), "1");
        drop(held);
        assert!(place(&scans, Duration::from_secs(20)).await.is_ok());
    }

    #[actix_web::test]
    async fn whoever_reads_is_told_that_nobody_waits_any_more() {
        let (to, pieces) = mpsc::channel(1);
        let client = Client(to);
        assert!(client.waits().is_continue());
        drop(pieces);
        assert!(client.waits().is_break());
    }
}
