//! `key`: API keys, kept in the database of this machine.
//!
//! A running server looks a key up at every request: a change holds at once.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::desk::{Desk, Made};
use super::global::Global;
use crate::api::key;
use crate::api::keys::state_of as state;
use crate::domain::{Clock, Timestamp};
use crate::store::{ApiKey, Role};

/// Make, list and revoke API keys
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter key create --name grafana --role viewer
  iot-meter key create --name depot-7 --role operator --devices depot7- --expires 365d
  iot-meter key create --name audit --role admin --expires 2027-01-31
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
    #[command(after_help = "\
Example:
  iot-meter key list --output json")]
    List,
    /// Revoke a key for good; a running server refuses it from then on
    #[command(after_help = "\
Example:
  iot-meter key revoke 1a2b3c4d")]
    Revoke {
        /// The key's public prefix, as listed
        prefix: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter key create --name grafana --role viewer
  iot-meter key create --name depot-7 --role operator --devices depot7- --expires 365d
  iot-meter key create --name audit --role admin --expires 2027-01-31")]
struct CreateArgs {
    /// What it is for
    #[arg(long)]
    name: String,
    /// viewer reads; operator also writes devices, alerts and commands; admin may do everything
    #[arg(long, default_value = "viewer", value_parser = ["viewer", "operator", "admin"])]
    role: String,
    /// Only for devices whose id begins with this
    #[arg(long, alias = "device-prefix", value_name = "PREFIX", value_parser = device_prefix)]
    devices: Option<String>,
    /// When it ends: 90d, 12h, a date or an RFC 3339 time [default: never]
    #[arg(long, value_name = "TIME", value_parser = end, conflicts_with = "expires_in_days")]
    expires: Option<End>,
    /// Days until it ends
    #[arg(long, hide = true, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_in_days: Option<u32>,
}

/// When a key ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    In(Duration),
    At(Timestamp),
}

/// Seconds of 36 500 days, the longest life of a key that ends.
const MAX_LIFE_S: u64 = 36_500 * 86_400;

fn end(text: &str) -> Result<End, String> {
    end_behind(text, Clock::system().now())
}

fn end_behind(text: &str, now: Timestamp) -> Result<End, String> {
    if let Some(at) = key::parse_end(text) {
        return if now < at { Ok(End::At(at)) } else { Err("is past".to_owned()) };
    }
    let seconds = text.len().checked_sub(1).and_then(|last| text.split_at_checked(last)).and_then(|(count, unit)| {
        let unit_s = match unit {
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        count.parse::<u64>().ok()?.checked_mul(unit_s).filter(|s| (1..=MAX_LIFE_S).contains(s))
    });
    let wrong = || "must be such as 90d, 12h or 4w, a date such as 2027-01-31, or an RFC 3339 time".to_owned();
    seconds.map(|s| End::In(Duration::from_secs(s))).ok_or_else(wrong)
}

fn device_prefix(text: &str) -> Result<String, String> {
    let is_good = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    let fits = (1..=128).contains(&text.len());
    if is_good && fits { Ok(text.to_owned()) } else { Err("must be 1 to 128 of A-Z a-z 0-9 . _ -".to_owned()) }
}

pub(super) fn run(args: KeyArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let desk = Desk::open(global)?;
    match args.command {
        KeyCommand::Create(args) => {
            let (text, key) = new_key(args, desk.now)?;
            desk.store.create_api_key(&key).context("cannot store the key")?;
            let detail = format!("{} {:?}", key.role.name(), key.name);
            let shown = to_json(&key, desk.now);
            let told = format!("{text}\n(shown only now; revoke it by {})\n", key.prefix);
            desk.made("key.create", &key.prefix, detail, Made { shown, secret: ("key", &text), text: told })
        }
        KeyCommand::List => desk.list(&desk.store.api_keys().context("cannot list the keys")?, to_json, &HEAD, to_row),
        KeyCommand::Revoke { prefix } => {
            let is_found = desk.store.revoke_api_key(&prefix, desk.now).context("cannot revoke the key")?;
            desk.revoked("key", "prefix", &prefix, is_found)
        }
    }
}

/// A key as asked for: its text, and what is stored of it.
fn new_key(args: CreateArgs, now: Timestamp) -> anyhow::Result<(String, ApiKey)> {
    let role = Role::from_name(&args.role).context("the role was checked against its names")?;
    let (text, mut key) = key::generate(&args.name, role, args.devices, now);
    let days = args.expires_in_days.map(|days| End::In(Duration::from_secs(u64::from(days) * 86_400)));
    key.expires_at = args.expires.or(days).map(|end| match end {
        End::In(length) => now.plus(length),
        End::At(at) => at,
    });
    Ok((text, key))
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
        "last_used_at": time(key.last_used_at),
        "last_used_from": key.last_used_from.map(|address| address.to_string()),
    })
}

const HEAD: [&str; 8] = ["PREFIX", "NAME", "ROLE", "STATE", "DEVICES", "CREATED", "EXPIRES", "LAST USED"];

fn to_row(key: &ApiKey, now: Timestamp) -> Vec<String> {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    vec![
        key.prefix.clone(),
        key.name.clone(),
        Role::name(key.role).to_owned(),
        state(key, now).to_owned(),
        key.device_prefix.as_ref().map_or_else(|| "all".to_owned(), |prefix| format!("{prefix}…")),
        key.created_at.to_string(),
        time(key.expires_at),
        time(key.last_used_at),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_length_a_date_or_a_time() {
        let date = Timestamp::parse_rfc3339("2027-01-31T00:00:00Z").expect("is a time");
        let end = |text: &str| end_behind(text, date.plus_us(-1));
        assert_eq!(end("90d"), Ok(End::In(Duration::from_secs(90 * 86_400))));
        assert_eq!(end("12h"), Ok(End::In(Duration::from_secs(43_200))));
        assert_eq!(end("2027-01-31"), Ok(End::At(date)));
        assert_eq!(end("2027-01-31T01:00:00+01:00"), Ok(End::At(date)));
        for bad in ["", "d", "0d", "-1d", "90", "90y", "36501d", "2027-13-01", "é"] {
            assert!(end(bad).is_err(), "{bad:?}");
        }
        assert_eq!(end_behind("2027-01-31", date), Err("is past".to_owned()));
    }

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
