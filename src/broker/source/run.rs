//! A source for as long as the broker runs: connected, or trying to be.
//!
//! Invariant: whatever the external broker does, this ends only when our own broker stops or the journal has failed.
//! A change is logged once; the state of now is on the task board.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::connection::{Connection, End, Observer};
use super::dial::{dial, password};
use super::line::Line;
use super::session::{Profile, Session};
use super::{Options, TASKS};
use crate::broker::Shared;
use crate::observe::backoff::Backoff;
use crate::observe::{Board, TaskState, counted, metrics};

/// A connection that has stood for so long was a good one: after it, tries begin anew without a pause.
const GOOD: Duration = Duration::from_secs(10);

/// What others see of the source.
struct Face {
    task: &'static str,
    label: String,
    address: String,
    board: Board,
    up_since: Option<Instant>,
    /// What was logged last.
    complaint: String,
}

impl Observer for Face {
    fn up(&mut self, granted: u8) {
        self.up_since = Some(Instant::now());
        self.complaint.clear();
        self.board.set(self.task, TaskState::Running);
        metrics::SOURCE_CONNECTED.set(&[("source", &self.label)], 1.0);
        tracing::info!(source = self.label, address = self.address, "connected to the external broker");
        if granted == 0 {
            tracing::warn!(
                source = self.label,
                "the external broker grants QoS 0 only: what it sends while this server is away is lost"
            );
        }
    }
}

impl Face {
    /// Not connected, and why.
    fn down(&mut self, end: &End) {
        metrics::SOURCE_CONNECTED.set(&[("source", &self.label)], 0.0);
        let reason = end.to_string();
        counted!(
            warn if self.complaint != reason,
            metrics::SOURCE_FAILURES,
            [("source", &self.label)],
            1,
            source = self.label,
            address = self.address,
            reason,
            "no connection to the external broker; trying again"
        );
        self.board.set(self.task, TaskState::Retrying(format!("the broker {}: {reason}", self.address)));
        self.complaint = reason;
    }

    /// Whether the connection that has just ended was a good one.
    fn was_good(&mut self) -> bool {
        self.up_since.take().is_some_and(|since| since.elapsed() >= GOOD)
    }
}

/// Runs a source until the broker stops.
pub(in crate::broker) async fn run(shared: Arc<Shared>, line: Arc<Line>, options: Options, board: Board) {
    let mut stop = shared.stop.subscribe();
    let mut face = Face {
        task: TASKS.get(options.number).copied().unwrap_or("source"),
        label: options.number.to_string(),
        address: options.address.to_string(),
        board,
        up_since: None,
        complaint: String::new(),
    };
    let mut session = Session::new(Profile {
        version: options.version,
        client_id: options.client_id.clone(),
        filter: options.filter.clone(),
        session_expiry_s: options.session_expiry_s,
        keep_alive: options.keep_alive_s,
    });
    let mut backoff = Backoff::default();
    face.board.set(face.task, TaskState::Starting);
    metrics::SOURCE_CONNECTED.set(&[("source", &face.label)], 0.0);
    while !shared.is_stopping() {
        let end = once(&shared, &line, &options, &mut session, &mut face).await;
        if matches!(end, End::Stopping | End::JournalFailed) {
            break;
        }
        if face.was_good() {
            backoff = Backoff::default();
        }
        face.down(&end);
        let _ = timeout(backoff.next_pause(), stop.changed()).await; // either way, on it goes
    }
    metrics::SOURCE_CONNECTED.set(&[("source", &face.label)], 0.0);
    face.board.set(face.task, TaskState::Stopped);
}

/// One connection, from dialling to its end.
async fn once(shared: &Shared, line: &Line, options: &Options, session: &mut Session, face: &mut Face) -> End {
    let mut stop = shared.stop.subscribe();
    let dialling = timeout(options.connect_timeout, async { Ok((password(options).await?, dial(options).await?)) });
    let dialled = tokio::select! {
        dialled = dialling => dialled,
        _ = stop.wait_for(|stopping| *stopping) => return End::Stopping,
    };
    let (password, stream) = match dialled {
        Ok(Ok(dialled)) => dialled,
        Ok(Err(error)) => return End::Dial(error),
        Err(_) => return End::NoAnswer,
    };
    let label = face.label.clone();
    let place = (shared, line, label.as_str());
    Connection::new(place, options, session, face, stream, password.as_deref()).run().await
}
