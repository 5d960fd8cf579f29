//! `audit`: the audit log in the database of this machine, read and verified beside the API.
//!
//! `verify` walks the whole chain. That shows every edit by whoever did not hash all later entries anew; against one who did,
//! it is told the newest hash of an earlier `verify` (`--since ID:HASH`), kept somewhere else.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::desk::open_store;
use super::global::Global;
use super::output;
use crate::api;
use crate::domain::Timestamp;
use crate::store::chain::Walk;
use crate::store::{AuditFilter, AuditOutcome, AuditRow, Page, SharedStore};

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
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Entries at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Print all entries that match, oldest first, as JSON lines
    Export {
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Walk the chain of hashes; names the first entry that is not as it was written
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

/// An entry known from before.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Since {
    id: i64,
    hash: [u8; 32],
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
        AuditCommand::Verify { since } => return verify(&store, since.as_ref(), global),
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

/// What a walk found.
struct Found {
    walk: Walk,
    entries: u64,
    fault: Option<String>,
}

fn walk(store: &SharedStore, since: Option<&Since>) -> anyhow::Result<Found> {
    let ends = store.audit_ends().context("cannot read the audit log")?;
    let mut found = Found { walk: Walk::behind(ends.anchor), entries: 0, fault: None };
    let mut is_seen = since.is_none_or(|since| since.id <= ends.anchor.0);
    let mut each = |row: AuditRow| {
        let step = found.walk.step(&row).map_err(|broken| broken.to_string()).and_then(|()| match since {
            Some(since) if since.id == row.id && since.hash != row.hash => {
                Err(format!("entry {} was changed, and all later ones were hashed anew", row.id))
            }
            _ => Ok(()),
        });
        is_seen |= since.is_some_and(|since| since.id == row.id);
        match step {
            Ok(()) => {
                found.entries += 1;
                ControlFlow::Continue(())
            }
            Err(fault) => {
                found.fault = Some(fault);
                ControlFlow::Break(())
            }
        }
    };
    let read = store.scan_audit(&AuditFilter::default(), &mut each);
    match read {
        Err(crate::store::Error::Corrupt { .. }) => {
            found.fault = Some(format!("an entry behind {} cannot be read any more: it was changed", found.walk.id));
        }
        other => other.context("cannot read the audit log")?,
    }
    if found.fault.is_none() && found.walk.id < ends.last_given {
        found.fault = Some(format!("entries {} to {} are missing at the end", found.walk.id + 1, ends.last_given));
    }
    if found.fault.is_none() && !is_seen {
        found.fault = Some("the entry of --since is missing".to_owned());
    }
    Ok(found)
}

fn verify(store: &SharedStore, since: Option<&Since>, global: &Global) -> anyhow::Result<ExitCode> {
    let Found { walk, entries, fault } = walk(store, since)?;
    let (last, hash) = (walk.id, hex::encode(walk.hash));
    let answer = json!({
        "good": fault.is_none(), "fault": fault, "entries": entries, "last_id": last, "last_hash": hash,
    });
    output::print(global.output, &answer, || match &fault {
        None => format!("{entries} entries, all as they were written; the newest: {last}:{hash}\n"),
        Some(fault) => format!("{fault}\n({entries} entries before it are as they were written)\n"),
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
