//! `service`: accounts of programs that log in to MQTT, kept in the database of this machine, like keys. A running server
//! takes over a change within seconds: what was revoked is disconnected.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::global::Global;
use super::key::note;
use super::key::open_store;
use super::output;
use crate::api::services::{fault_of_filters, is_service_name};
use crate::domain::{Clock, Timestamp};
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
    List,
    /// Revoke an account for good; its sessions end within seconds
    Revoke {
        /// The account
        name: String,
    },
}

#[derive(Debug, Args)]
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
    global.log_quietly()?;
    let now = Clock::system().now();
    let store = open_store(global)?;
    match args.command {
        ServiceCommand::Create(args) => {
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
                created_at: now,
                created_by: "local".to_owned(),
                expires_at: args.expires_in_days.map(|d| now.plus(Duration::from_secs(u64::from(d) * 86_400))),
                revoked_at: None,
                last_used_at: None,
            };
            let is_new = store.create_service(&account).context("cannot store the account")? == Outcome::Done(());
            anyhow::ensure!(is_new, "there is an account {} already", account.name);
            let rights = format!("reads {:?}, writes {:?}", account.read, account.write);
            note(&store, "service.create", &account.name, rights, now)?;
            let mut answer = to_json(&account, now);
            answer["token"] = json!(*token.text);
            output::print(global.output, &answer, || {
                let name = &account.name;
                format!("MQTT user name: {name}\nMQTT password:  {}   (shown only now)\n", *token.text)
            })?;
        }
        ServiceCommand::List => {
            let accounts = store.services().context("cannot list the accounts")?;
            let all: Vec<Value> = accounts.iter().map(|account| to_json(account, now)).collect();
            output::print(global.output, &all, || listed(&accounts, now))?;
        }
        ServiceCommand::Revoke { name } => {
            let change = ServiceChange { revoked_at: Some(now), ..ServiceChange::default() };
            let found = store.update_service(&name, &change).context("cannot revoke the account")?;
            anyhow::ensure!(found.is_some(), "there is no account {name}");
            note(&store, "service.revoke", &name, String::new(), now)?;
            output::print(global.output, &json!({"name": name, "revoked": true}), || format!("{name} is revoked\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
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

fn listed(accounts: &[ServiceAccount], now: Timestamp) -> String {
    let row = |a: &ServiceAccount| {
        let last_used = a.last_used_at.map(|t| t.to_string()).unwrap_or_default();
        vec![a.name.clone(), a.state(now).to_owned(), a.read.join(" "), a.write.join(" "), last_used]
    };
    output::table(&["NAME", "STATE", "READS", "WRITES", "LAST USED"], &accounts.iter().map(row).collect::<Vec<_>>())
}
