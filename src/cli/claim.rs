//! `claim`: what new meters enrol with, kept in the database of this machine, like keys.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::global::Global;
use super::key::note;
use super::key::open_store;
use super::output;
use crate::domain::{Clock, DevicePattern, Timestamp};
use crate::store::Claim;
use crate::vault::token::{self, Kind};

/// Make, list and revoke claims: what new meters enrol with
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter claim create --name depot-7 --devices 'depot7-*' --max-uses 40 --expires-in-days 14
  iot-meter claim list
  iot-meter claim revoke 1a2b3c4d")]
pub(super) struct ClaimArgs {
    #[command(subcommand)]
    command: ClaimCommand,
}

#[derive(Debug, Subcommand)]
enum ClaimCommand {
    /// Make a claim; its token is printed once and stored only as a digest
    Create(CreateArgs),
    /// List claims, also those that are over
    List,
    /// Revoke a claim for good; who has enrolled by it stays
    Revoke {
        /// The token's public prefix, as listed
        prefix: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What it is for
    #[arg(long)]
    name: String,
    /// Which devices: a prefix of their ids, or a pattern of the whole id with * and ?
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    devices: DevicePattern,
    /// How many devices
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_uses: u32,
    /// Days until it ends
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=365))]
    expires_in_days: u32,
}

fn pattern(text: &str) -> Result<DevicePattern, String> {
    DevicePattern::parse(text).ok_or_else(|| "write 1 to 128 of A-Z a-z 0-9 . _ - and * ?".to_owned())
}

pub(super) fn run(args: ClaimArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let now = Clock::system().now();
    let store = open_store(global)?;
    match args.command {
        ClaimCommand::Create(args) => {
            let token = token::generate(Kind::Claim);
            let life = Duration::from_secs(u64::from(args.expires_in_days) * 86_400);
            let claim = Claim {
                prefix: token.prefix,
                token_sha256: token.sha256,
                name: args.name,
                devices: args.devices,
                max_uses: args.max_uses,
                uses: 0,
                created_at: now,
                created_by: "local".to_owned(),
                expires_at: now.plus(life),
                revoked_at: None,
            };
            store.create_claim(&claim).context("cannot store the claim")?;
            let detail = format!("{:?} for {} devices {}", claim.name, claim.max_uses, claim.devices);
            note(&store, "claim.create", &claim.prefix, detail, now)?;
            let mut answer = to_json(&claim, now);
            answer["token"] = json!(*token.text);
            output::print(global.output, &answer, || {
                format!("{}\n(shown only now; revoke it by {})\n", *token.text, claim.prefix)
            })?;
        }
        ClaimCommand::List => {
            let claims = store.claims().context("cannot list the claims")?;
            let all: Vec<Value> = claims.iter().map(|claim| to_json(claim, now)).collect();
            output::print(global.output, &all, || listed(&claims, now))?;
        }
        ClaimCommand::Revoke { prefix } => {
            let found = store.revoke_claim(&prefix, now).context("cannot revoke the claim")?;
            anyhow::ensure!(found, "there is no claim {prefix}");
            note(&store, "claim.revoke", &prefix, String::new(), now)?;
            output::print(global.output, &json!({"prefix": prefix, "revoked": true}), || {
                format!("{prefix} is revoked\n")
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(claim: &Claim, now: Timestamp) -> Value {
    json!({
        "prefix": claim.prefix,
        "name": claim.name,
        "devices": claim.devices.as_str(),
        "max_uses": claim.max_uses,
        "uses": claim.uses,
        "state": claim.state(now),
        "created_by": claim.created_by,
        "created_at": claim.created_at.to_string(),
        "expires_at": claim.expires_at.to_string(),
        "revoked_at": claim.revoked_at.map(|at| at.to_string()),
    })
}

fn listed(claims: &[Claim], now: Timestamp) -> String {
    let row = |c: &Claim| {
        vec![
            c.prefix.clone(),
            c.name.clone(),
            c.state(now).to_owned(),
            c.devices.to_string(),
            format!("{} of {}", c.uses, c.max_uses),
            c.expires_at.to_string(),
        ]
    };
    let head = ["PREFIX", "NAME", "STATE", "DEVICES", "USED", "EXPIRES"];
    output::table(&head, &claims.iter().map(row).collect::<Vec<_>>())
}
