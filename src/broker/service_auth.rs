//! Service accounts: name and token against the store.
//!
//! Invariants: a service token has a form that no device's token has, and only a password of that form is ever taken for
//! one: neither a device nor an account can stand in the way of another of the same name. An unknown name, a wrong token, a
//! revoked and an expired account get one answer.

use std::sync::Arc;

use super::auth::{Denied, Grant, Identity};
use crate::domain::Timestamp;
use crate::store::{self, ServiceAccount, SharedStore};
use crate::vault::token::{self, Kind};

/// How often a log-in is noted.
const NOTE_EVERY_US: i64 = 60_000_000;
/// Longest name looked up.
const MAX_NAME_LEN: usize = 64;

/// Whether a password can only be a service's.
pub(super) fn is_service_token(password: &[u8]) -> bool {
    token::prefix_of(Kind::Service, password).is_some()
}

/// What an account allows now; `None` = nothing.
pub fn grant_of(account: Option<&ServiceAccount>, now: Timestamp) -> Option<Grant> {
    let account = account.filter(|account| account.state(now) == "valid")?;
    let ServiceAccount { name, token_sha256, read, write, .. } = account.clone();
    Some(Grant { name, token_sha256, read, write })
}

/// What a service that was let in before may do now.
pub(super) async fn look_again(store: &SharedStore, name: &str, now: Timestamp) -> Result<Identity, Denied> {
    let wanted = name.to_owned();
    let account = store::run(store, move |s| s.service(&wanted)).await.map_err(|error| {
        tracing::warn!(%error, "cannot check the credential of a service");
        Denied::Unavailable
    })?;
    let grant = grant_of(account.as_ref(), now).ok_or(Denied::NotAuthorized)?;
    Ok(Identity::Service(Arc::new(grant)))
}

/// Judges a log-in, and notes a good one.
pub(super) async fn check(store: &SharedStore, name: &str, token: &[u8], now: Timestamp) -> Result<Identity, Denied> {
    let wanted = name.to_owned();
    let is_long = name.len() > MAX_NAME_LEN;
    let found = store::run(store, move |s| if is_long { Ok(None) } else { s.service(&wanted) }).await;
    let account = found.map_err(|error| {
        tracing::warn!(%error, "cannot check the credential of a service");
        Denied::Unavailable
    })?;
    let is_same = token::is_same(token, account.as_ref().map(|account| &account.token_sha256));
    let grant = grant_of(account.as_ref(), now).filter(|_| is_same).ok_or(Denied::BadCredentials)?;
    if account.and_then(|account| account.last_used_at).is_none_or(|at| now.0 - at.0 >= NOTE_EVERY_US) {
        let (store, name) = (Arc::clone(store), name.to_owned());
        // Nobody waits for it, and a log-in does not fail for it.
        tokio::spawn(async move {
            let _ = store::run(&store, move |s| s.note_service_use(&name, now)).await;
        });
    }
    Ok(Identity::Service(Arc::new(grant)))
}
