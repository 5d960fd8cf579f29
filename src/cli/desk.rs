//! What the subcommands have in common that make, list and revoke credentials in the database of this machine.
//!
//! They work beside the API, not through it: whoever can write the database needs no key, and the first one can be made
//! while nothing runs. Invariant: what is done here is in the audit log, as `local`; a secret is printed once.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::global::{Global, Output, make_data_dir};
use super::output;
use crate::domain::{Clock, Timestamp};
use crate::store::{self, AuditEntry, AuditOutcome, SharedStore};

/// Who has done it.
pub(super) const LOCAL: &str = "local";

/// See the module.
pub(super) struct Desk {
    pub(super) store: SharedStore,
    pub(super) now: Timestamp,
    output: Output,
}

/// What was made: as it is listed, its secret under the name that it has in JSON, and what people are told.
pub(super) struct Made<'a> {
    pub(super) shown: Value,
    pub(super) secret: (&'a str, &'a str),
    pub(super) text: String,
}

impl Desk {
    /// Opens the database.
    pub(super) fn open(global: &Global) -> anyhow::Result<Self> {
        global.log_quietly()?;
        Ok(Self { store: open_store(global)?, now: Clock::system().now(), output: global.output })
    }

    /// Notes what was made, and shows it with its secret.
    pub(super) fn made(&self, action: &str, target: &str, detail: String, made: Made<'_>) -> anyhow::Result<ExitCode> {
        note(&self.store, action, target, detail, self.now)?;
        let Made { mut shown, secret: (name, secret), text } = made;
        shown[name] = json!(secret);
        output::print(self.output, &shown, || text)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Lists all there are.
    pub(super) fn list<T>(
        &self,
        all: &[T],
        json: impl Fn(&T, Timestamp) -> Value,
        head: &[&str],
        row: impl Fn(&T, Timestamp) -> Vec<String>,
    ) -> anyhow::Result<ExitCode> {
        let shown: Vec<Value> = all.iter().map(|item| json(item, self.now)).collect();
        let rows = || all.iter().map(|item| row(item, self.now)).collect::<Vec<_>>();
        output::print(self.output, &shown, || output::table(head, &rows()))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Notes and says that one `kind`, named by its `field`, was revoked, if it was found.
    pub(super) fn revoked(&self, kind: &str, field: &str, name: &str, is_found: bool) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(is_found, "there is no {kind} {name}");
        note(&self.store, &format!("{kind}.revoke"), name, String::new(), self.now)?;
        output::print(self.output, &json!({field: name, "revoked": true}), || format!("{name} is revoked\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Notes what was done in the audit log.
pub(super) fn note(
    store: &SharedStore,
    action: &str,
    target: &str,
    detail: String,
    at: Timestamp,
) -> anyhow::Result<()> {
    note_outcome(store, action, target, AuditOutcome::Done, detail, at)
}

/// The same, of what may have gone wrong.
pub(super) fn note_outcome(
    store: &SharedStore,
    action: &str,
    target: &str,
    outcome: AuditOutcome,
    detail: String,
    at: Timestamp,
) -> anyhow::Result<()> {
    let entry = AuditEntry {
        at,
        actor: LOCAL.to_owned(),
        address: None,
        action: action.to_owned(),
        target: target.to_owned(),
        outcome,
        request_id: None,
        detail,
    };
    store.append_audit(&[entry]).context("cannot write the audit log")
}

/// The database of this machine.
pub(super) fn open_store(global: &Global) -> anyhow::Result<SharedStore> {
    let settings = global.load(Vec::new())?.settings;
    make_data_dir(&settings.data_dir)?;
    let url = &settings.database.url;
    let is_new = url.reveal().strip_prefix("sqlite://").is_some_and(|file| !std::path::Path::new(file).exists());
    let store = store::open(url.reveal()).with_context(|| format!("cannot open {}", url.redacted()))?;
    if is_new {
        // A server that runs elsewhere would know nothing of what is made here.
        eprintln!(
            "note: there was no database; {} is new. A server with other settings does not know it",
            url.redacted()
        );
    }
    Ok(store)
}
