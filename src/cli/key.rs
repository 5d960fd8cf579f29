//! `key`: API keys, kept in the database of this machine.
//!
//! They are made beside the API, not through it: whoever can write the database needs no key, and the first one, or one
//! after all are lost, can be made while nothing runs. A running server takes over a change within seconds.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::global::{Global, make_data_dir};
use super::output;
use crate::domain::{Clock, Timestamp};
use crate::store::{self, ApiKey, Role, SharedStore};

/// Make, list and revoke API keys
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter key create --name grafana --role viewer
  iot-meter key create --name depot-7 --role operator --device-prefix depot7- --expires-in-days 365
  iot-meter key list
  iot-meter key revoke 1a2b3c4d")]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key; it is printed once and stored only as a digest
    Create(CreateArgs),
    /// List keys, revoked and expired ones too
    List,
    /// Revoke a key for good; a running server refuses it within seconds
    Revoke {
        /// The key's public prefix, as listed
        prefix: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What it is for
    #[arg(long)]
    name: String,
    /// viewer reads; operator also writes devices, alerts and commands; admin may do everything
    #[arg(long, default_value = "viewer", value_parser = ["viewer", "operator", "admin"])]
    role: String,
    /// Only for devices whose id begins with this
    #[arg(long, value_name = "PREFIX")]
    device_prefix: Option<String>,
    /// Days until it ends [default: never]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_in_days: Option<u32>,
}

pub(super) fn run(args: KeyArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let now = Clock::system().now();
    let store = open_store(global)?;
    match args.command {
        KeyCommand::Create(args) => {
            let (text, key) = new_key(args, now)?;
            store.create_api_key(&key).context("cannot store the key")?;
            let mut answer = to_json(&key, now);
            answer["key"] = json!(text);
            output::print(global.output, &answer, || {
                format!("{text}\n(shown only now; revoke it by {})\n", key.prefix)
            })?;
        }
        KeyCommand::List => {
            let keys = store.api_keys().context("cannot list the keys")?;
            let all: Vec<Value> = keys.iter().map(|key| to_json(key, now)).collect();
            output::print(global.output, &all, || listed(&keys, now))?;
        }
        KeyCommand::Revoke { prefix } => {
            let found = store.revoke_api_key(&prefix, now).context("cannot revoke the key")?;
            anyhow::ensure!(found, "there is no key {prefix}");
            output::print(global.output, &json!({"prefix": prefix, "revoked": true}), || {
                format!("{prefix} is revoked\n")
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A key as asked for: its text, and what is stored of it.
fn new_key(args: CreateArgs, now: Timestamp) -> anyhow::Result<(String, ApiKey)> {
    let role = Role::from_name(&args.role).context("the role was checked against its names")?;
    let (text, mut key) = crate::api::key::generate(&args.name, role, args.device_prefix, now);
    key.expires_at = args.expires_in_days.map(|days| now.plus(Duration::from_secs(u64::from(days) * 86_400)));
    Ok((text, key))
}

fn open_store(global: &Global) -> anyhow::Result<SharedStore> {
    let settings = global.load(Vec::new())?.settings;
    make_data_dir(&settings.data_dir)?;
    let url = &settings.database.url;
    store::open(url.reveal()).with_context(|| format!("cannot open {}", url.redacted()))
}

fn state(key: &ApiKey, now: Timestamp) -> &'static str {
    match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now => "expired",
        _ => "valid",
    }
}

fn to_json(key: &ApiKey, now: Timestamp) -> Value {
    let time = |t: Option<Timestamp>| t.map(|t| t.to_string());
    json!({
        "prefix": key.prefix,
        "name": key.name,
        "role": key.role.name(),
        "state": state(key, now),
        "device_prefix": key.device_prefix,
        "created_at": key.created_at.to_string(),
        "expires_at": time(key.expires_at),
        "revoked_at": time(key.revoked_at),
    })
}

fn listed(keys: &[ApiKey], now: Timestamp) -> String {
    let row = |k: &ApiKey| {
        let expires = k.expires_at.map(|t| t.to_string()).unwrap_or_default();
        let devices = k.device_prefix.as_ref().map_or_else(|| "all".to_owned(), |p| format!("{p}…"));
        let role = Role::name(k.role).to_owned();
        vec![
            k.prefix.clone(),
            k.name.clone(),
            role,
            state(k, now).to_owned(),
            devices,
            k.created_at.to_string(),
            expires,
        ]
    };
    let head = ["PREFIX", "NAME", "ROLE", "STATE", "DEVICES", "CREATED", "EXPIRES"];
    output::table(&head, &keys.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_revoked_before_it_is_expired_and_never_shows_its_digest() {
        let key = ApiKey {
            prefix: "1a2b3c4d".into(),
            key_sha256: [7; 32],
            role: Role::Viewer,
            name: "grafana".into(),
            device_prefix: None,
            created_at: Timestamp(0),
            expires_at: Some(Timestamp(10)),
            revoked_at: None,
            last_used_at: None,
            last_used_from: None,
        };
        assert_eq!(state(&key, Timestamp(9)), "valid");
        assert_eq!(state(&key, Timestamp(10)), "expired");
        assert_eq!(state(&ApiKey { revoked_at: Some(Timestamp(1)), ..key.clone() }, Timestamp(9)), "revoked");
        let shown = to_json(&key, Timestamp(0)).to_string();
        assert!(!shown.contains("sha256") && shown.contains("grafana"), "{shown}");
    }
}
