//! What a server does to rights by itself, in the audit log: keys and certificates that nobody asked for over the API.
//!
//! Written at once: most of it is done before the task behind [`audit::Log`](crate::audit::Log) runs, and a start that fails
//! later would take the queue with it.

use crate::domain::Timestamp;
use crate::store::{self, AuditEntry, AuditOutcome, SharedStore};

/// Who has done it.
pub const ACTOR: &str = "server";

/// Notes what was done.
pub async fn note(
    store: &SharedStore,
    action: &str,
    target: &str,
    detail: String,
    at: Timestamp,
) -> Result<(), store::Error> {
    let entry = AuditEntry {
        at,
        actor: ACTOR.to_owned(),
        address: None,
        action: action.to_owned(),
        target: target.to_owned(),
        outcome: AuditOutcome::Done,
        request_id: None,
        detail,
    };
    store::run(store, move |s| s.append_audit(&[entry])).await
}

/// All entries, oldest first: who, what, on what, and more.
#[cfg(test)]
pub fn noted(store: &SharedStore) -> Vec<[String; 4]> {
    let rows = store.audit(&store::AuditFilter::default(), store::Page::offset(0, 1000)).expect("is read").items;
    rows.into_iter().rev().map(|row| [row.entry.actor, row.entry.action, row.entry.target, row.entry.detail]).collect()
}
