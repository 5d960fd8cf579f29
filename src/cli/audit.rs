//! `audit`: the audit log in the database of this machine, read and verified beside the API.
//!
//! `verify` walks the whole chain. That shows every edit by whoever did not hash all later entries anew; against one who did,
//! it is told the newest hash of an earlier `verify` (`--since ID:HASH`), kept somewhere else. What retention took away must
//! have been older than `retention.audit_days`, by an entry of the log.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::desk::open_store;
use super::global::Global;
use super::output;
use crate::api;
use crate::domain::Timestamp;
use crate::store::chain::Walk;
use crate::store::{self, AuditEnds, AuditFilter, AuditOutcome, AuditRow, Page, Proof, SharedStore, Since};

/// List, export and verify the audit log
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter audit list --outcome refused
  iot-meter audit list --actor key:1a2b3c4d --limit 20
  iot-meter audit export > audit.jsonl
  iot-meter audit verify                          prints the newest entry and its hash: keep it elsewhere
  iot-meter audit verify --since 1200:9f86d081…   also that this entry is still there, unchanged")]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List entries, newest first
    #[command(after_help = "\
Example:
  iot-meter audit list --outcome refused --limit 20")]
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Entries at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Print all entries that match, oldest first, as JSON lines
    #[command(after_help = "\
Example:
  iot-meter audit export --from 2026-01-01 > audit.jsonl")]
    Export {
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Walk the chain of hashes; names the first entry that is not as it was written
    #[command(after_help = "\
Examples:
  iot-meter audit verify                          prints the newest entry and its hash: keep it elsewhere
  iot-meter audit verify --since 1200:9f86d081…   also that this entry is still there, unchanged")]
    Verify {
        /// An entry and its hash as an earlier `verify` printed them
        #[arg(long, value_name = "ID:HASH", value_parser = place)]
        since: Option<Since>,
    },
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// Who, exactly
    #[arg(long)]
    actor: Option<String>,
    /// What the action begins with
    #[arg(long)]
    action: Option<String>,
    /// On what, exactly
    #[arg(long)]
    target: Option<String>,
    /// What came of it
    #[arg(long, value_parser = ["done", "refused", "failed"])]
    outcome: Option<String>,
    /// Not before: an RFC 3339 time or a date
    #[arg(long, value_parser = time)]
    from: Option<Timestamp>,
    /// Before: an RFC 3339 time or a date
    #[arg(long, value_parser = time)]
    to: Option<Timestamp>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    api::key::parse_end(text).ok_or_else(|| "must be an RFC 3339 time or a date such as 2027-01-31".to_owned())
}

fn place(text: &str) -> Result<Since, String> {
    let read = || {
        let (id, hash) = text.split_once(':')?;
        Some(Since { id: id.parse().ok()?, hash: hex::decode(hash).ok()?.try_into().ok()? })
    };
    read().ok_or_else(|| "must be ID:HASH as `audit verify` prints it".to_owned())
}

impl FilterArgs {
    fn filter(self) -> AuditFilter {
        let Self { actor, action, target, outcome, from, to } = self;
        let outcome = outcome.as_deref().and_then(AuditOutcome::from_name);
        AuditFilter { actor, action, target, outcome, from, to }
    }
}

pub(super) fn run(args: AuditArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let store = open_store(global)?;
    match args.command {
        AuditCommand::List { filter, limit } => {
            let rows = store.audit(&filter.filter(), Page::behind(None, limit)).context("cannot read the audit log")?;
            let bodies: Vec<api::audit::AuditBody> = rows.items.iter().cloned().map(Into::into).collect();
            output::print(global.output, &bodies, || listed(&rows.items))?;
        }
        AuditCommand::Export { filter } => export(&store, &filter.filter())?,
        AuditCommand::Verify { since } => return verify(&store, since, global),
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(rows: &[AuditRow]) -> String {
    let row = |AuditRow { id, entry, .. }: &AuditRow| {
        let address = entry.address.map(|a| a.to_string()).unwrap_or_default();
        vec![
            id.to_string(),
            entry.at.to_string(),
            entry.actor.clone(),
            address,
            entry.action.clone(),
            entry.target.clone(),
            entry.outcome.name().to_owned(),
            entry.detail.clone(),
        ]
    };
    let head = ["ID", "AT", "ACTOR", "ADDRESS", "ACTION", "TARGET", "OUTCOME", "DETAIL"];
    output::table(&head, &rows.iter().map(row).collect::<Vec<_>>())
}

fn export(store: &SharedStore, filter: &AuditFilter) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let mut each = |row| {
        written = out.write_all(api::audit::line(row).as_bytes());
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    store.scan_audit(filter, &mut each).context("cannot read the audit log")?;
    written?;
    Ok(out.flush()?)
}

/// What a walk through the log found.
struct Found {
    end: Walk,
    entries: u64,
    fault: Option<String>,
}

/// Walks it again if it was trimmed meanwhile: a server may be running.
fn walk(store: &SharedStore, since: Option<Since>, kept: Duration) -> anyhow::Result<Found> {
    loop {
        let ends = store.audit_ends().context("cannot read the audit log")?;
        let found = walk_from(store, ends, since, kept)?;
        if found.fault.is_none() || store.audit_ends().context("cannot read the audit log")?.anchor == ends.anchor {
            return Ok(found);
        }
    }
}

fn walk_from(store: &SharedStore, ends: AuditEnds, since: Option<Since>, kept: Duration) -> anyhow::Result<Found> {
    let mut proof = match Proof::new(ends, since, kept) {
        Ok(proof) => proof,
        Err(fault) => return Ok(Found { end: Walk::behind(ends.anchor), entries: 0, fault: Some(fault.to_string()) }),
    };
    let mut fault = None;
    let mut each = |row: AuditRow| match proof.take(&row) {
        Ok(()) => ControlFlow::Continue(()),
        Err(found) => {
            fault = Some(found.to_string());
            ControlFlow::Break(())
        }
    };
    match store.scan_audit(&AuditFilter::default(), &mut each) {
        Err(store::Error::Corrupt { .. }) => {
            fault = Some(format!("an entry behind {} cannot be read any more: it was changed", proof.end().id));
        }
        other => other.context("cannot read the audit log")?,
    }
    let fault = fault.or_else(|| proof.finish().err().map(|fault| fault.to_string()));
    Ok(Found { end: proof.end(), entries: proof.entries(), fault })
}

fn verify(store: &SharedStore, since: Option<Since>, global: &Global) -> anyhow::Result<ExitCode> {
    let days = global.load(Vec::new())?.settings.retention.audit_days;
    let Found { end, entries, fault } = walk(store, since, Duration::from_secs(days * 86_400))?;
    let (last, hash) = (end.id, hex::encode(end.hash));
    let answer = json!({
        "good": fault.is_none(), "fault": fault, "entries": entries, "last_id": last, "last_hash": hash,
    });
    output::print(global.output, &answer, || match &fault {
        None => format!("{entries} entries, all as they were written; the newest: {last}:{hash}\n"),
        Some(fault) => format!("{fault}\n({entries} entries are as they were written)\n"),
    })?;
    Ok(if fault.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_id_and_a_hash() {
        let hash = "ab".repeat(32);
        assert_eq!(place(&format!("7:{hash}")), Ok(Since { id: 7, hash: [0xab; 32] }));
        for bad in ["", "7", "7:", "7:abcd", "x:00"] {
            assert!(place(bad).is_err(), "{bad:?}");
        }
    }
}
