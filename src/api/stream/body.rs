//! A stream while it lasts: what happened, a sign of life when nothing does, and now and then a look at the key.
//!
//! Bounded: a piece of text at a time, made when the connection has room for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::time::Instant;

use super::places::Place;
use super::query::Query;
use super::show;
use crate::api::State;
use crate::api::auth::{Credential, Failure, Principal};
use crate::live::{Event, Heard, Position, Watch};
use crate::observe::metrics;

/// How often something is sent: proxies take a silent connection for a dead one, and only who is written to is known to be gone.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often the key is looked at.
const CHECK: Duration = Duration::from_secs(2);
/// So long a stream goes on while the database cannot say whether its key is good.
const TRUST: Duration = Duration::from_secs(30);
/// Events taken at once.
const TAKEN: usize = 64;
/// A piece is sent when it is so long.
const PIECE_BYTES: usize = 64 * 1024;

/// Who listens, and what they brought.
pub struct Who {
    pub principal: Principal,
    pub credential: Credential,
    pub address: Option<IpAddr>,
}

/// See the module.
pub struct Streaming {
    state: web::Data<State>,
    watch: Watch,
    query: Query,
    who: Who,
    /// Taken, and not yet written.
    waiting: VecDeque<(Position, Arc<Event>)>,
    is_begun: bool,
    sent_at: Instant,
    checked_at: Instant,
    /// Since then nobody can say whether the key is good.
    doubted_at: Option<Instant>,
    _place: Place,
}

impl Streaming {
    pub fn new(state: web::Data<State>, watch: Watch, query: Query, place: Place, who: Who) -> Self {
        let now = Instant::now();
        Self {
            state,
            watch,
            query,
            who,
            waiting: VecDeque::new(),
            is_begun: false,
            sent_at: now,
            checked_at: now,
            doubted_at: None,
            _place: place,
        }
    }

    /// All of it, piece by piece.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures_util::stream::unfold(self, |mut streaming| async move {
            let piece = streaming.next().await?;
            streaming.sent_at = Instant::now();
            Some((Ok(Bytes::from(piece)), streaming))
        })
    }

    /// The next piece; `None` = the end.
    async fn next(&mut self) -> Option<String> {
        if !self.is_begun {
            self.is_begun = true;
            return Some(show::opening(&self.watch.position()));
        }
        loop {
            if self.checked_at.elapsed() >= CHECK && !self.is_still_good().await {
                return None;
            }
            if self.waiting.is_empty() {
                match self.watch.take(TAKEN, |event| self.query.wants(event)) {
                    Heard::Closed => return None,
                    Heard::Lost { position, events } => {
                        metrics::STREAM_LOST.increment(&[], events.unwrap_or(1));
                        return Some(show::lost(&position, events));
                    }
                    Heard::Events(events) => self.waiting.extend(events),
                }
            }
            if !self.waiting.is_empty() {
                return Some(self.write());
            }
            let until = (self.sent_at + HEARTBEAT).min(self.checked_at + CHECK);
            let is_quiet = tokio::time::timeout_at(until, self.watch.wait()).await.is_err();
            if is_quiet && self.sent_at.elapsed() >= HEARTBEAT {
                return Some(show::heartbeat(&self.watch.position()));
            }
            // What others asked for may be much.
            tokio::task::yield_now().await;
        }
    }

    fn write(&mut self) -> String {
        let mut text = String::new();
        while text.len() < PIECE_BYTES
            && let Some((position, event)) = self.waiting.pop_front()
        {
            show::event(&position, &event, &mut text);
            if let Some((kind, _)) = event.subject() {
                metrics::STREAM_EVENTS.increment(&[("kind", kind.names().0)], 1);
            }
        }
        text
    }

    /// Whether whoever listens may still.
    async fn is_still_good(&mut self) -> bool {
        self.checked_at = Instant::now();
        let services = &self.state.services;
        let Who { principal, credential, address } = &self.who;
        match services.authenticator.identify(&services.store, credential, *address).await {
            Ok(now) => {
                self.doubted_at = None;
                (now.name, now.role, now.device_prefix)
                    == (principal.name.clone(), principal.role, principal.device_prefix.clone())
            }
            Err(Failure::Store(_)) => self.doubted_at.get_or_insert(self.checked_at).elapsed() < TRUST,
            Err(Failure::Nothing | Failure::Denied(_)) => false,
        }
    }
}
