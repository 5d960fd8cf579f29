//! What of a request goes into the audit log: every write, every log-in, every refusal of somebody known, every bad
//! credential. Reads that were allowed do not, nor requests without a credential that only read.
//!
//! Invariants: no body, no query and no credential is ever part of an entry; a request is one entry at most. What a handler
//! knows better it says by a [`Remark`], and does not write an entry of its own; where its work goes on when the client has gone,
//! it takes the [`Draft`], and with it the duty to note how it ended. A write whose end nobody has noted, as its client went away,
//! is an entry, too.

use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, HttpRequest};

use super::State;
use super::auth::{Denied, Principal};
use super::edge::RequestId;
use super::peer::Peer;
use crate::audit::{Event, Log, Outcome};

/// Longest target and detail.
const MAX_TEXT: usize = 128;

/// What a handler knows better than the route: put into the request's extensions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Remark {
    /// Who it turned out to be.
    pub actor: Option<String>,
    /// What it is called wherever it is done, on the command line too; else it is method and route.
    pub action: Option<&'static str>,
    /// On what.
    pub target: Option<String>,
    /// What else.
    pub detail: Option<String>,
}

impl Remark {
    /// Attaches it to a request.
    pub(super) fn on(self, request: &HttpRequest) {
        request.extensions_mut().insert(self);
    }
}

/// What is noted of a write of which it is not known how it ended: it may be done all the same.
const UNKNOWN_END: &str = "nobody was answered; how it ended is not known";

/// The part of an entry that is known before the answer. Whoever has it notes how the request ended.
#[derive(Debug)]
pub(super) struct Draft {
    event: Event,
    is_write: bool,
    /// Where it is noted if nobody says how it ended.
    owed: Option<Log>,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(log) = self.owed.take() {
            log.note(Event { outcome: Outcome::Failed, detail: UNKNOWN_END.to_owned(), ..self.event.clone() });
        }
    }
}

impl Draft {
    pub(super) fn of(state: &State, request: &ServiceRequest, peer: Peer) -> Self {
        let pattern = request.match_pattern().map(|p| super::routes::plain(&p)).unwrap_or_default();
        let event = Event {
            at: state.services.clock.now(),
            actor: "-".to_owned(),
            address: peer.address,
            action: format!("{} {pattern}", request.method()),
            target: target(&pattern, request.path()),
            outcome: Outcome::Done,
            request_id: request.extensions().get::<RequestId>().map(|id| id.0.clone()),
            detail: String::new(),
        };
        let is_write =
            !pattern.is_empty() && !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        Self { event, is_write, owed: None }
    }

    /// From now on the request is at work for somebody who is known.
    pub(super) fn let_in(&mut self, state: &State, principal: &Principal) {
        self.event.actor.clone_from(&principal.name);
        self.owed = self.is_write.then(|| state.services.audit.clone());
    }

    /// Takes it from a request, so that nobody else notes how that ended.
    pub(super) fn take(request: &HttpRequest) -> Option<Self> {
        request.extensions_mut().remove::<Self>()
    }

    /// Notes a bad credential.
    pub(super) fn denied(self, state: &State, denied: &Denied) {
        let mut event = self.event.clone();
        let why = if denied.detail.is_empty() { String::new() } else { format!(" ({})", denied.detail) };
        event.detail = cut(&format!("{}{why} at {}", denied.reason, event.action));
        event.action = "credential.refused".to_owned();
        event.target = cut(&denied.claimed);
        event.outcome = Outcome::Refused;
        state.services.audit.note(event);
    }

    /// Notes how it ended, where that is to be noted.
    pub(super) fn finished(mut self, state: &State, request: &HttpRequest, location: Option<&str>, status: StatusCode) {
        self.owed = None;
        let remark = request.extensions_mut().remove::<Remark>();
        let principal = request.extensions().get::<Principal>().map(|p| p.name.clone());
        let is_refusal_of_known = status == StatusCode::FORBIDDEN && principal.is_some();
        if !self.is_write && !is_refusal_of_known && remark.is_none() {
            return;
        }
        // What Alertmanager tells, again and again, nobody has done.
        if status.is_success() && self.event.action.ends_with(super::alertmanager::PATH) {
            return;
        }
        // Paths and methods there are none of change nothing.
        if remark.is_none() && matches!(status, StatusCode::METHOD_NOT_ALLOWED) {
            return;
        }
        self.ended(state, principal, remark.unwrap_or_default(), location, status);
    }

    /// Notes how it ended, by whomever.
    pub(super) fn ended(
        mut self,
        state: &State,
        principal: Option<String>,
        remark: Remark,
        location: Option<&str>,
        status: StatusCode,
    ) {
        self.owed = None;
        let mut event = self.event.clone();
        let Remark { actor, action, target, detail } = remark;
        event.actor = actor.or(principal).unwrap_or(event.actor);
        event.action = action.map_or(event.action, str::to_owned);
        let made = || location.filter(|_| event.target.is_empty()).and_then(|l| l.rsplit('/').next());
        event.target = cut(target.as_deref().or_else(made).unwrap_or(&event.target));
        event.outcome = match status.as_u16() {
            401 | 403 | 429 => Outcome::Refused,
            ..=399 => Outcome::Done,
            _ => Outcome::Failed,
        };
        event.detail = cut(&detail
            .map_or_else(|| format!("status {}", status.as_u16()), |d| format!("status {} {d}", status.as_u16())));
        state.services.audit.note(event);
    }
}

/// What stands in place of the names of a pattern.
fn target(pattern: &str, path: &str) -> String {
    let parts = pattern.split('/').zip(path.split('/'));
    let named: Vec<&str> = parts.filter(|(name, _)| name.starts_with('{')).map(|(_, part)| part).collect();
    cut(&named.join("/"))
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_what_the_path_names() {
        assert_eq!(target("/api/devices/{id}/commands", "/api/devices/m-1/commands"), "m-1");
        assert_eq!(target("/api/devices", "/api/devices"), "");
        assert_eq!(target("/api/devices/{id}/raw-data/{file}", "/api/devices/a/raw-data/b/c"), "a/b");
        assert_eq!(cut(&format!("a\u{7}{}", "x".repeat(500))).len(), MAX_TEXT);
    }
}
