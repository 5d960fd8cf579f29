//! The task that sends notices, one at a time: claims, delivers, writes down what came of it.
//!
//! A notice whose end cannot be written (the database went away meanwhile) is not sent again by this process: the end is
//! kept and written first of all when the database is back. GitHub being away is no reason not to be ready: it shows in the
//! metrics, as the task's last error, and in `GET /api/webhooks`.

use std::time::Duration;

use tokio::sync::watch;

use super::alertmanager::Alert;
use super::delivery::{Delivery, End, Next};
use super::desk::{Desk, Error, Place};
use super::github::{self, Call, Trouble};
use super::pace::Pace;
use super::{Options, text};
use crate::domain::{Clock, Timestamp};
use crate::fetch::{Answer, Client, Limits};
use crate::observe::trace::{self, Context, Current, Span, SpanKind, Tracer};
use crate::observe::{Board, TaskState, counted, metrics};
use crate::store::{AlertStatus, DRY_RUN, Due, Issue, OVERTAKEN, OutboxRow, OutboxState, Settlement};

/// The name on the task board.
pub const TASK: &str = "notifier";

/// How often it looks for what is due, unless it is woken.
const TICK: Duration = Duration::from_secs(2);
/// How often the outbox is counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Longest delivery: all pages of all lists, each as slow as it may be.
const LEASE: Duration = Duration::from_secs(300);
/// A notice that has to wait longer for its next call is let go: its lease would end meanwhile, and another node send it too.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LIMITS: Limits = Limits { timeout: Duration::from_secs(10), max_bytes: 16 << 20 };

/// Sends until `stop` says so. Each try of a notice is a trace of its own, which GitHub is told.
pub async fn run(desk: Desk, options: Options, board: Board, tracer: Tracer, stop: watch::Receiver<bool>) {
    board.set(TASK, TaskState::Running);
    let client = match options.is_dry() {
        true => None,
        false => tokio::task::spawn_blocking(|| Client::new(LIMITS)).await.ok(),
    };
    let (clock, pace) = (board.clock().clone(), Pace::default());
    let sender = Sender { desk, options, client, clock, board: board.clone(), tracer, pace, unsettled: None };
    sender.run(stop).await;
    board.set(TASK, TaskState::Stopped);
}

struct Sender {
    desk: Desk,
    options: Options,
    client: Option<Client>,
    clock: Clock,
    board: Board,
    tracer: Tracer,
    pace: Pace,
    /// What came of a notice of the database, still to be written.
    unsettled: Option<(i64, Settlement)>,
}

impl Sender {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (mut counted, mut is_failing) = (None::<tokio::time::Instant>, false);
        while !*stop.borrow() {
            // First: of the database one may have to wait for an answer.
            metrics::OUTBOX_SPOOLED.set(&[], self.desk.spooled() as f64);
            match self.work(&stop).await {
                Ok(()) => {
                    is_failing = false;
                    self.board.set(TASK, TaskState::Running);
                }
                Err(error) => {
                    // Once an absence: it is looked for every few seconds.
                    if !std::mem::replace(&mut is_failing, true) {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "notices cannot be handed out; trying again");
                    }
                    self.board.set(TASK, TaskState::Retrying("the store failed to hand out notices".into()));
                }
            }
            if counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
                counted = Some(tokio::time::Instant::now());
                self.count().await;
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.desk.woken() => {}
                _ = stop.wait_for(|stops| *stops) => {}
            }
        }
    }

    /// Everything that is due. The database first; what this node has kept goes out only while that is away.
    async fn work(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Error> {
        let of_database = self.work_at(Place::Database, stop).await;
        if of_database.is_err() && self.desk.spooled() > 0 {
            self.work_at(Place::Spool, stop).await?;
        }
        of_database
    }

    async fn work_at(&mut self, place: Place, stop: &watch::Receiver<bool>) -> Result<(), Error> {
        if place == Place::Database {
            if let Some((id, end)) = self.unsettled.clone() {
                self.desk.settle(place, id, &self.options.node, end).await?;
                self.unsettled = None;
            }
            self.desk.adopt().await?;
        }
        while !*stop.borrow() && self.pace.wait(false, self.clock.now()).is_zero() {
            let now = self.clock.now();
            let Some(due) = self.desk.claim(place, &self.options.node, now, now.plus(LEASE)).await? else { break };
            let id = due.row.id;
            let (context, _) = self.tracer.begin(None);
            let current = Current { context: context.clone(), request_id: None, tracer: self.tracer.clone() };
            let Some(end) = trace::within(current, self.deliver(due, stop)).await else { break };
            record(&self.tracer, context, now, &end);
            let settled = self.desk.settle(place, id, &self.options.node, end.clone()).await;
            if settled.is_err() && place == Place::Database {
                self.unsettled = Some((id, end));
            }
            settled?;
        }
        Ok(())
    }

    /// What came of a notice; `None` = the process is stopping, and it is begun again after the next start.
    async fn deliver(&mut self, due: Due, stop: &watch::Receiver<bool>) -> Option<Settlement> {
        let Due { row, issue, is_overtaken } = due;
        let alert = Alert::of_json(&row.body);
        let result = match alert {
            _ if is_overtaken => Ok(End { result: OVERTAKEN, issue: None }),
            None => Err(Trouble::Refused("the notice cannot be read".to_owned())),
            Some(alert) if self.client.is_none() => {
                say_what_would_be(&alert, &self.options.repository);
                Ok(End { result: DRY_RUN, issue: None })
            }
            Some(alert) => {
                let known = issue.filter(|issue| issue.repository == self.options.repository);
                self.converse(alert, &row, known.map(|issue| issue.number), stop).await?
            }
        };
        Some(self.settlement(&row, result))
    }

    fn settlement(&mut self, row: &OutboxRow, result: Result<End, Trouble>) -> Settlement {
        let now = self.clock.now();
        let (fingerprint, name, alert_status) = (&row.fingerprint, &row.name, row.status.name());
        match result {
            Ok(End { result, issue }) => {
                counted!(
                    info,
                    metrics::OUTBOX_TRIES,
                    [("result", "done")],
                    1,
                    fingerprint,
                    name,
                    alert_status,
                    result,
                    issue,
                    "alert told"
                );
                let issue = issue.map(|number| Issue { repository: self.options.repository.clone(), number });
                let (state, result) = (OutboxState::Done, Some(result.to_owned()));
                let (attempts, next_attempt_at) = (row.attempts, row.next_attempt_at);
                let (last_error, held_until) = (None, None);
                Settlement { at: now, state, attempts, next_attempt_at, last_error, result, issue, held_until }
            }
            Err(trouble) => {
                let end = self.pace.settle(row, trouble, now);
                let reason = end.last_error.clone().unwrap_or_default();
                let (state, next) = (end.state.name(), end.next_attempt_at);
                counted!(
                    warn,
                    metrics::OUTBOX_TRIES,
                    [("result", if end.state == OutboxState::Dead { "dead" } else { "later" })],
                    1,
                    fingerprint,
                    name,
                    alert_status,
                    state,
                    until = %next,
                    attempts = end.attempts,
                    reason,
                    "alert not told"
                );
                self.board.note(TASK, &reason);
                end
            }
        }
    }

    /// `None` = the process is stopping.
    async fn converse(
        &mut self,
        alert: Alert,
        row: &OutboxRow,
        known: Option<i64>,
        stop: &watch::Receiver<bool>,
    ) -> Option<Result<End, Trouble>> {
        let (mut delivery, mut next) = Delivery::begin(alert, row.clone(), known);
        loop {
            let call = match next {
                Next::Done(end) => return Some(Ok(end)),
                Next::Ask(call) => call,
            };
            let now = self.clock.now();
            let wait = self.pace.wait(call.is_write(), now);
            if wait > LONGEST_WAIT {
                return Some(Err(Trouble::Limited(Some(now.plus(wait)))));
            }
            let mut stopping = stop.clone();
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stops| *stops) => return None,
                () = tokio::time::sleep(wait) => {}
            }
            let heard = match self.ask(&call).await {
                Ok(answer) => {
                    let now = self.clock.now();
                    let heard = delivery.heard(&call, &answer, now);
                    count_call(&call, &heard);
                    if heard.is_ok() {
                        self.pace.is_well(call.is_write(), github::rest(&answer, now));
                    }
                    heard
                }
                Err(words) => {
                    let heard = Err(Trouble::Away(words));
                    count_call(&call, &heard);
                    heard
                }
            };
            next = match heard {
                Ok(next) => next,
                Err(trouble) => return Some(Err(trouble)),
            };
        }
    }

    async fn ask(&mut self, call: &Call) -> Result<Answer, String> {
        let (Some(client), Some(token)) = (self.client.clone(), self.options.token.clone()) else {
            return Err("there is no token".to_owned());
        };
        self.pace.sent(call.is_write(), self.clock.now());
        let (method, path, body) = call.request(&self.options.repository);
        let url = format!("{}{path}", self.options.api_url);
        let body = body.map(|body| body.to_string().into_bytes());
        let send = move || {
            let authorization = zeroize::Zeroizing::new(format!("Bearer {}", token.as_str()));
            let mut headers = vec![
                ("accept", "application/vnd.github+json"),
                ("x-github-api-version", "2022-11-28"),
                ("authorization", authorization.as_str()),
            ];
            if body.is_some() {
                headers.push(("content-type", "application/json"));
            }
            let trace = trace::outgoing();
            headers.extend(trace.iter().map(|(name, value)| (*name, value.as_str())));
            client.send(method, &url, &headers, body)
        };
        let attributes = [("github.call", call.name())];
        let asking = move || trace::in_span("ask GitHub", SpanKind::Client, &attributes, send);
        match tokio::task::spawn_blocking(trace::carry(asking)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    operation = call.name(),
                    "GitHub does not answer"
                );
                Err(format!("GitHub does not answer to {}: {error}", call.name()))
            }
            Err(_) => Err("the call was broken off".to_owned()),
        }
    }

    async fn count(&self) {
        // While the database is away the last figures stay.
        let Ok(figures) = self.desk.figures().await else { return };
        for (state, count) in [("pending", figures.pending), ("done", figures.done), ("dead", figures.dead)] {
            metrics::OUTBOX_NOTICES.set(&[("state", state)], count as f64);
        }
        let age = figures.oldest.map_or(0.0, |at| self.clock.now().since(at).as_secs_f64());
        metrics::OUTBOX_OLDEST_SECONDS.set(&[], age);
    }
}

/// A try of a notice as a span, from the moment it was claimed.
fn record(tracer: &Tracer, context: Context, claimed: Timestamp, end: &Settlement) {
    tracer.record(Span {
        name: "tell an alert".into(),
        context,
        parent: None,
        kind: SpanKind::Internal,
        start: claimed,
        end: end.at,
        attributes: vec![("notice.state", end.state.name().into())],
        is_error: end.state != OutboxState::Done,
    });
}

fn count_call(call: &Call, heard: &Result<Next, Trouble>) {
    let result = match heard {
        Ok(_) => "ok",
        Err(Trouble::Away(_)) => "away",
        Err(Trouble::Limited(_)) => "limited",
        Err(Trouble::Refused(_) | Trouble::Gone) => "refused",
    };
    metrics::GITHUB_REQUESTS.increment(&[("call", call.name()), ("result", result)], 1);
}

fn say_what_would_be(alert: &Alert, repository: &str) {
    let (fingerprint, title) = (&alert.fingerprint, text::title(alert));
    match alert.status {
        AlertStatus::Firing => {
            tracing::info!(fingerprint, title, repository, "dry run: an issue would be opened, or opened again");
        }
        AlertStatus::Resolved => {
            tracing::info!(fingerprint, title, repository, "dry run: the issue would be commented and closed");
        }
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests;
