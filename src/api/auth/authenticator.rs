//! Finds out who sent a request, and notes that a key or session was used.
//!
//! Invariant: an unknown key and a wrong one take the same way: one look-up, one comparison of digests, one answer. Why a
//! credential is no good is counted and audited, never said.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use subtle::ConstantTimeEq;

use super::{Credential, Principal, Via, session};
use crate::api::key::{self, Verdict};
use crate::domain::{Clock, Timestamp};
use crate::observe::metrics;
use crate::oidc::{self, Issuer};
use crate::store::{self, KeyUse, SessionUse, SharedStore, WebSession};

/// A use is noted at most once in this time.
const NOTE_EVERY_US: i64 = 60_000_000;
/// Keys and sessions whose last noted use is remembered. (One forgotten is noted once more.)
const NOTED: usize = 4096;

/// How long a session of the console lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionRules {
    /// From its beginning.
    pub life: Duration,
    /// Without a request.
    pub idle: Duration,
}

impl Default for SessionRules {
    fn default() -> Self {
        Self { life: Duration::from_secs(12 * 3600), idle: Duration::from_secs(3600) }
    }
}

/// Judges credentials.
#[derive(Debug)]
pub struct Authenticator {
    is_open: bool,
    clock: Clock,
    rules: SessionRules,
    issuer: Option<Arc<Issuer>>,
    /// SHA-256 of Alertmanager's token.
    alertmanager: Option<[u8; 32]>,
    noted: Cache<String, Timestamp>,
}

/// A credential that is no good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    /// Why, as counted.
    pub reason: &'static str,
    /// The public part of what was brought, if it has one.
    pub claimed: String,
    /// More for the audit.
    pub detail: &'static str,
}

/// Why nobody was identified.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was brought.
    Nothing,
    /// What was brought is no good.
    Denied(Denied),
    /// It could not be looked up.
    Store(store::Error),
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

fn denied(reason: &'static str, claimed: &str, detail: &'static str) -> Failure {
    Failure::Denied(Denied { reason, claimed: claimed.to_owned(), detail })
}

impl Authenticator {
    /// With `is_open` everybody is an administrator.
    pub fn new(is_open: bool, clock: Clock) -> Self {
        Self {
            is_open,
            clock,
            rules: SessionRules::default(),
            issuer: None,
            alertmanager: None,
            noted: Cache::new(NOTED),
        }
    }

    /// With other rules for sessions.
    pub fn with_session_rules(self, rules: SessionRules) -> Self {
        Self { rules, ..self }
    }

    /// Tokens of this issuer are taken too.
    pub fn with_issuer(self, issuer: Option<Arc<Issuer>>) -> Self {
        Self { issuer, ..self }
    }

    /// Alertmanager has this token, which no database has to know.
    pub fn with_alertmanager_token(self, token: Option<&str>) -> Self {
        Self { alertmanager: token.map(key::digest), ..self }
    }

    /// Whether Alertmanager brought its token.
    pub(in crate::api) fn is_alertmanager(&self, credential: &Credential) -> bool {
        let (Credential::Key(text) | Credential::Token(text)) = credential else { return false };
        self.alertmanager.is_some_and(|expected| bool::from(expected.ct_eq(&key::digest(text))))
    }

    /// Whether no credential is asked for.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// How long sessions last.
    pub fn session_rules(&self) -> SessionRules {
        self.rules
    }

    /// Whose tokens are taken.
    pub fn issuer(&self) -> Option<&Arc<Issuer>> {
        self.issuer.as_ref()
    }

    /// Who brought this from that address.
    pub(in crate::api) async fn identify(
        &self,
        store: &SharedStore,
        credential: &Credential,
        address: Option<IpAddr>,
    ) -> Result<Principal, Failure> {
        if self.is_open {
            return Ok(Principal::open());
        }
        let found = match credential {
            Credential::None => return Err(Failure::Nothing),
            Credential::Unreadable => Err(denied("unreadable", "", "")),
            Credential::Key(text) => self.of_key(store, text, address).await,
            Credential::Token(text) => self.of_token(text).await,
            Credential::Session(text) => self.of_session(store, text).await,
        };
        if let Err(Failure::Denied(denied)) = &found {
            metrics::AUTH_FAILURES.increment(&[("reason", denied.reason)], 1);
        }
        found
    }

    async fn of_key(&self, store: &SharedStore, text: &str, address: Option<IpAddr>) -> Result<Principal, Failure> {
        let Some(prefix) = key::prefix_of(text) else { return Err(denied("unreadable", "", "")) };
        let wanted = prefix.to_owned();
        let stored = store::run(store, move |s| s.api_key(&wanted)).await?;
        let now = self.clock.now();
        let reason = match (key::judge(text, stored.as_ref(), now), &stored) {
            (Verdict::Good, Some(key)) => {
                if self.is_to_note(&key.prefix, key.last_used_at, now) {
                    let key = KeyUse { prefix: key.prefix.clone(), at: now, address };
                    note(store, vec![key], Vec::new());
                }
                return Ok(Principal::of(key));
            }
            (Verdict::Wrong, _) => "wrong_key",
            (Verdict::Revoked, _) => "revoked_key",
            (Verdict::Expired, _) => "expired_key",
            (Verdict::Unknown | Verdict::Good, _) => "unknown_key",
        };
        Err(denied(reason, prefix, ""))
    }

    async fn of_token(&self, text: &str) -> Result<Principal, Failure> {
        let Some(issuer) = &self.issuer else { return Err(denied("token", "", "no issuer is configured")) };
        match issuer.identify(text, self.clock.now()).await {
            Ok(person) => Ok(of_person(person)),
            Err(refusal) => Err(denied("token", "", refusal.word())),
        }
    }

    async fn of_session(&self, store: &SharedStore, text: &str) -> Result<Principal, Failure> {
        let id_sha256 = session::digest(text);
        let found = store::run(store, move |s| s.web_session(&id_sha256)).await?;
        let now = self.clock.now();
        let Some((own, key)) = found else { return Err(denied("session", "", "unknown")) };
        let is_key_good = own.key_prefix.is_none() || key.is_some_and(|key| key.is_good(now));
        if !is_key_good || !is_alive(&own, self.rules.idle, now) {
            return Err(denied("session", &own.actor, "over"));
        }
        if self.is_to_note(&hex::encode(id_sha256), Some(own.last_used_at), now) {
            note(store, Vec::new(), vec![SessionUse { id_sha256, at: now }]);
        }
        let via = Via::Session { id_sha256, csrf_token: session::csrf_token(text), expires_at: own.expires_at };
        Ok(Principal { name: own.actor, role: own.role, device_prefix: own.device_prefix, via })
    }

    /// Whether the last noted use, by any node or by this one, is old enough.
    fn is_to_note(&self, name: &str, stored: Option<Timestamp>, now: Timestamp) -> bool {
        let is_old = |at: Timestamp| now.0 - at.0 >= NOTE_EVERY_US;
        let is_due = stored.is_none_or(is_old) && self.noted.get(name).is_none_or(is_old);
        if is_due {
            self.noted.insert(name.to_owned(), now);
        }
        is_due
    }
}

/// A person's principal.
pub(in crate::api) fn of_person(person: oidc::Person) -> Principal {
    let name = format!("user:{}", person.subject);
    Principal { name, role: person.role, device_prefix: person.device_prefix, via: Via::Token }
}

fn is_alive(session: &WebSession, idle: Duration, now: Timestamp) -> bool {
    now < session.expires_at && now < session.last_used_at.plus(idle)
}

/// Beside the request: nobody waits for it.
fn note(store: &SharedStore, keys: Vec<KeyUse>, sessions: Vec<SessionUse>) {
    let store = Arc::clone(store);
    drop(tokio::task::spawn_blocking(move || {
        if let Err(error) = store.note_uses(&keys, &sessions) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the use of a key could not be noted");
        }
    }));
}
