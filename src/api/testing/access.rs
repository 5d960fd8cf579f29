//! The part of the fake store that is real: a SQLite file that goes away with it.

use std::ops::ControlFlow;
use std::sync::Arc;

use actix_web::web;

use super::{Bench, FakeStore};
use crate::api::{Authenticator, State};
use crate::audit;
use crate::domain::{Clock, Timestamp};
use crate::oidc::Issuer;
use crate::store::*;

/// A real database.
pub struct Real {
    store: SharedStore,
    _dir: tempfile::TempDir,
}

impl Default for Real {
    fn default() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&format!("sqlite://{}", dir.path().join("a.db").display())).unwrap();
        Self { store, _dir: dir }
    }
}

impl FakeStore {
    /// The real database behind it.
    pub fn real(&self) -> &dyn Store {
        &*self.1.store
    }
}

impl Live for FakeStore {
    fn live_end(&self) -> Result<LivePlace, Error> {
        self.real().live_end()
    }
    fn live_changes(&self, after: LivePlace, limit: u32) -> Result<LiveChanges, Error> {
        self.real().live_changes(after, limit)
    }
    fn trim_live(&self, read: LivePlace) -> Result<usize, Error> {
        self.real().trim_live(read)
    }
}

impl Access for FakeStore {
    fn list_api_keys(&self, page: Page) -> Result<Listing<ApiKey>, Error> {
        self.real().list_api_keys(page)
    }
    fn note_uses(&self, keys: &[KeyUse], sessions: &[SessionUse]) -> Result<(), Error> {
        self.real().note_uses(keys, sessions)
    }
    fn create_web_session(&self, new: &WebSession, keep: usize) -> Result<(), Error> {
        self.real().create_web_session(new, keep)
    }
    fn web_session(&self, id_sha256: &[u8; 32]) -> Result<Option<(WebSession, Option<ApiKey>)>, Error> {
        self.real().web_session(id_sha256)
    }
    fn end_web_session(&self, id_sha256: &[u8; 32]) -> Result<bool, Error> {
        self.real().end_web_session(id_sha256)
    }
    fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), Error> {
        self.real().append_audit(entries)
    }
    fn audit(&self, filter: &AuditFilter, page: Page) -> Result<Listing<AuditRow>, Error> {
        self.real().audit(filter, page)
    }
    fn scan_audit(&self, filter: &AuditFilter, each: &mut dyn FnMut(AuditRow) -> ControlFlow<()>) -> Result<(), Error> {
        self.real().scan_audit(filter, each)
    }
    fn audit_ends(&self) -> Result<AuditEnds, Error> {
        self.real().audit_ends()
    }
    fn trim_audit(&self, before: Timestamp, limit: usize, now: Timestamp) -> Result<usize, Error> {
        self.real().trim_audit(before, limit, now)
    }
}

impl Bench {
    /// With tokens of an issuer.
    pub fn with_issuer(self, issuer: impl FnOnce(Clock) -> Arc<Issuer>) -> Self {
        let authenticator = Authenticator::new(false, self.clock.clone()).with_issuer(Some(issuer(self.clock.clone())));
        let mut services = self.state.services.clone();
        services.authenticator = Arc::new(authenticator);
        let state = web::Data::new(State::new(services, self.state.options.clone()));
        Self { state, ..self }
    }

    /// What was noted for the audit log since the last call.
    pub fn noted(&self) -> Vec<audit::Event> {
        self.noted.lock().unwrap().take()
    }
}
