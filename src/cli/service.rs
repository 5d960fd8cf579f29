//! `service`: accounts of programs that log in to MQTT, kept in the database of this machine, like keys. A running server
//! takes over a change within seconds: what was revoked is disconnected.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::desk::{Desk, LOCAL, Made};
use super::global::Global;
use crate::api::services::{fault_of_filters, is_service_name};
use crate::domain::Timestamp;
use crate::store::{Outcome, ServiceAccount, ServiceChange};
use crate::vault::token::{self, Kind};

/// Make, list and revoke service accounts: programs that log in to MQTT
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter service create grafana --read 'iot/+/telemetry' --read 'iot/+/status'
  iot-meter service create planner --write 'planner/#' --expires-in-days 365
  iot-meter service list
  iot-meter service revoke grafana")]
pub(super) struct ServiceArgs {
    #[command(subcommand)]
    command: ServiceCommand,
}

#[derive(Debug, Subcommand)]
enum ServiceCommand {
    /// Make an account; its token (the MQTT password) is printed once and stored only as a digest
    Create(CreateArgs),
    /// List accounts, revoked and expired ones too
    #[command(after_help = "\
Example:
  iot-meter service list --output json")]
    List,
    /// Revoke an account for good; its sessions end within seconds
    #[command(after_help = "\
Example:
  iot-meter service revoke grafana")]
    Revoke {
        /// The account
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter service create grafana --read 'iot/+/telemetry' --read 'iot/+/status'
  iot-meter service create planner --write 'planner/#' --expires-in-days 365")]
struct CreateArgs {
    /// The MQTT user name: 1 to 64 of A-Z a-z 0-9 . _ -
    name: String,
    /// Filter it may subscribe to, or to parts of it; repeatable
    #[arg(long, value_name = "FILTER")]
    read: Vec<String>,
    /// Filter of topics it may publish to; repeatable
    #[arg(long, value_name = "FILTER")]
    write: Vec<String>,
    /// Days until it ends [default: never]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_in_days: Option<u32>,
}

pub(super) fn run(args: ServiceArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let desk = Desk::open(global)?;
    match args.command {
        ServiceCommand::Create(args) => create(&desk, args),
        ServiceCommand::List => {
            desk.list(&desk.store.services().context("cannot list the accounts")?, to_json, &HEAD, to_row)
        }
        ServiceCommand::Revoke { name } => {
            let change = ServiceChange { revoked_at: Some(desk.now), ..ServiceChange::default() };
            let found = desk.store.update_service(&name, &change).context("cannot revoke the account")?;
            desk.revoked("service", "name", &name, found.is_some())
        }
    }
}

fn create(desk: &Desk, args: CreateArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(is_service_name(&args.name), "a name is 1 to 64 of A-Z a-z 0-9 . _ -");
    for (flag, filters) in [("--read", &args.read), ("--write", &args.write)] {
        if let Some(fault) = fault_of_filters(filters) {
            anyhow::bail!("{flag} {fault}");
        }
    }
    let token = token::generate(Kind::Service);
    let account = ServiceAccount {
        name: args.name,
        token_sha256: token.sha256,
        read: args.read,
        write: args.write,
        created_at: desk.now,
        created_by: LOCAL.to_owned(),
        expires_at: args.expires_in_days.map(|d| desk.now.plus(Duration::from_secs(u64::from(d) * 86_400))),
        revoked_at: None,
        last_used_at: None,
    };
    let name = &account.name;
    let is_new = desk.store.create_service(&account).context("cannot store the account")? == Outcome::Done(());
    anyhow::ensure!(is_new, "there is an account {name} already");
    let rights = format!("reads {:?}, writes {:?}", account.read, account.write);
    let text = format!("MQTT user name: {name}\nMQTT password:  {}   (shown only now)\n", *token.text);
    let shown = to_json(&account, desk.now);
    desk.made("service.create", name, rights, Made { shown, secret: ("token", &token.text), text })
}

fn to_json(account: &ServiceAccount, now: Timestamp) -> Value {
    let time = |t: Option<Timestamp>| t.map(|t| t.to_string());
    json!({
        "name": account.name,
        "read": account.read,
        "write": account.write,
        "state": account.state(now),
        "created_by": account.created_by,
        "created_at": account.created_at.to_string(),
        "expires_at": time(account.expires_at),
        "revoked_at": time(account.revoked_at),
        "last_used_at": time(account.last_used_at),
    })
}

const HEAD: [&str; 5] = ["NAME", "STATE", "READS", "WRITES", "LAST USED"];

fn to_row(account: &ServiceAccount, now: Timestamp) -> Vec<String> {
    let last_used = account.last_used_at.map(|at| at.to_string()).unwrap_or_default();
    let (reads, writes) = (account.read.join(" "), account.write.join(" "));
    vec![account.name.clone(), account.state(now).to_owned(), reads, writes, last_used]
}
