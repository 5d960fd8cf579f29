//! `claim`: what new meters enrol with, kept in the database of this machine, like keys.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::desk::{Desk, LOCAL, Made};
use super::global::Global;
use crate::domain::{DevicePattern, Timestamp};
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
    #[command(after_help = "\
Example:
  iot-meter claim list --output json")]
    List,
    /// Revoke a claim for good; who has enrolled by it stays
    #[command(after_help = "\
Example:
  iot-meter claim revoke 1a2b3c4d")]
    Revoke {
        /// The token's public prefix, as listed
        prefix: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  iot-meter claim create --name depot-7 --devices 'depot7-*' --max-uses 40 --expires-in-days 14")]
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
    let desk = Desk::open(global)?;
    match args.command {
        ClaimCommand::Create(args) => create(&desk, args),
        ClaimCommand::List => {
            desk.list(&desk.store.claims().context("cannot list the claims")?, to_json, &HEAD, to_row)
        }
        ClaimCommand::Revoke { prefix } => {
            let is_found = desk.store.revoke_claim(&prefix, desk.now).context("cannot revoke the claim")?;
            desk.revoked("claim", "prefix", &prefix, is_found)
        }
    }
}

fn create(desk: &Desk, args: CreateArgs) -> anyhow::Result<ExitCode> {
    let token = token::generate(Kind::Claim);
    let claim = Claim {
        prefix: token.prefix,
        token_sha256: token.sha256,
        name: args.name,
        devices: args.devices,
        max_uses: args.max_uses,
        uses: 0,
        created_at: desk.now,
        created_by: LOCAL.to_owned(),
        expires_at: desk.now.plus(Duration::from_secs(u64::from(args.expires_in_days) * 86_400)),
        revoked_at: None,
    };
    desk.store.create_claim(&claim).context("cannot store the claim")?;
    let detail = format!("{:?} for {} devices {}", claim.name, claim.max_uses, claim.devices);
    let text = format!("{}\n(shown only now; revoke it by {})\n", *token.text, claim.prefix);
    let shown = to_json(&claim, desk.now);
    desk.made("claim.create", &claim.prefix, detail, Made { shown, secret: ("token", &token.text), text })
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

const HEAD: [&str; 6] = ["PREFIX", "NAME", "STATE", "DEVICES", "USED", "EXPIRES"];

fn to_row(claim: &Claim, now: Timestamp) -> Vec<String> {
    vec![
        claim.prefix.clone(),
        claim.name.clone(),
        claim.state(now).to_owned(),
        claim.devices.to_string(),
        format!("{} of {}", claim.uses, claim.max_uses),
        claim.expires_at.to_string(),
    ]
}
