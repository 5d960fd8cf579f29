//! `archive`: what is in the archive, read from its objects; a server may run or not.

mod cat;
mod export;
mod ls;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::global::Global;
use super::runtime;
use crate::archive::{Bucket, CATEGORIES, Part, dir_of};
use crate::config::{Flag, Settings};
use crate::domain::{Clock, DeviceId, Timestamp};
use crate::payload::Window;
use crate::serve;

const DAY_US: i64 = 86_400_000_000;

/// Look into the archive, take messages and measurements out of it, and check it; a server may run or not
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter archive ls                                        a line a day
  iot-meter archive ls --date 2026-02-12 --output json        its objects
  iot-meter archive cat dc-meter-007/hello/2026-02-12T10-00-10.123456Z-42.json
  iot-meter archive cat --device dc-meter-007 --category invalid --from -1d | jq .reason
  iot-meter archive export --device dc-meter-007 --from 2026-01-01 --to 2026-02-01 --out january.parquet
  iot-meter archive verify --archive-url s3://meters/fleet    exit code 1 when something is wrong

Times are 2026-02-12, 2026-02-12T10:00:00Z, or -30m, -1h, -7d from now.")]
pub(super) struct ArchiveArgs {
    /// The archive [default: that of the settings]
    #[arg(long, global = true, value_name = "URL")]
    archive_url: Option<String>,
    #[command(subcommand)]
    command: ArchiveCommand,
}

#[derive(Debug, Subcommand)]
enum ArchiveCommand {
    /// Show days, or the objects of a day or a device
    Ls(ls::LsArgs),
    /// Show messages as they were received: one by its name, or many as JSON lines
    Cat(cat::CatArgs),
    /// Write a device's measurements into a file: CSV, NDJSON, JSON or Parquet
    Export(export::ExportArgs),
    /// Read every object and say what is wrong: checksums, counts, places, missing and repeated messages
    Verify(verify::VerifyArgs),
}

/// What was received within some time.
#[derive(Debug, Args)]
struct Received {
    /// Received from then on
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    from: Option<Timestamp>,
    /// Received before then
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    to: Option<Timestamp>,
    /// Received on this day
    #[arg(long, value_name = "DATE", value_parser = date, conflicts_with_all = ["from", "to"])]
    date: Option<Timestamp>,
}

impl Received {
    fn part(&self, device: Option<DeviceId>, category: Option<String>) -> Part {
        let all = Part::default();
        let (from, to) = match self.date {
            Some(day) => (day, day.plus_us(DAY_US)),
            None => (self.from.unwrap_or(all.from), self.to.unwrap_or(all.to)),
        };
        Part { from, to, device, category }
    }
}

/// What the subcommands work on.
struct Opened {
    bucket: Bucket,
    window: Window,
}

pub(super) fn run(args: ArchiveArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let flag = |value| Flag { flag: "--archive-url".to_owned(), key: "archive.url".to_owned(), value };
    let settings = global.load(args.archive_url.map(flag).into_iter().collect())?.settings;
    let output = global.output;
    runtime::block_on(async move {
        let opened = open(&settings).await?;
        let done = tokio::task::spawn_blocking(move || match args.command {
            ArchiveCommand::Ls(args) => ls::run(&args, &opened.bucket, output),
            ArchiveCommand::Cat(args) => cat::run(&args, &opened),
            ArchiveCommand::Export(args) => export::run(&args, &opened, output),
            ArchiveCommand::Verify(args) => verify::run(&args, &opened.bucket, output),
        });
        done.await?
    })
}

async fn open(settings: &Settings) -> anyhow::Result<Opened> {
    // A directory that is not there is not to be made by looking at it.
    if let Some(dir) = dir_of(&settings.archive.url) {
        anyhow::ensure!(dir.is_dir(), "there is no archive in {}; name another by --archive-url", dir.display());
    }
    let past = Duration::from_secs(settings.retention.telemetry_days * 86_400);
    let window = Window { past, future: Duration::from_secs(settings.ingest.future_s) };
    Ok(Opened { bucket: serve::open_archive(settings).await?, window })
}

fn device(text: &str) -> Result<DeviceId, String> {
    DeviceId::parse(text)
        .ok_or_else(|| "is no device id: 1 to 128 of A-Z a-z 0-9 . _ -, beginning with none of . and -".to_owned())
}

fn category(text: &str) -> Result<String, String> {
    CATEGORIES.contains(&text).then(|| text.to_owned()).ok_or_else(|| format!("is none of {}", CATEGORIES.join(", ")))
}

/// The beginning of a day.
fn date(text: &str) -> Result<Timestamp, String> {
    let day = Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z"));
    day.ok_or_else(|| "is no date such as 2026-02-12".to_owned())
}

fn time(text: &str) -> Result<Timestamp, String> {
    time_at(text, Clock::system().now())
}

fn time_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || "is none of 2026-02-12, 2026-02-12T10:00:00Z, -30m, -1h, -7d".to_owned();
    if let Some(ago) = text.strip_prefix('-') {
        let unit_s = match ago.as_bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            Some(b'd') => 86_400,
            _ => return Err(wrong()),
        };
        let count: i64 = ago[..ago.len() - 1].parse().map_err(|_| wrong())?;
        let us = count.checked_mul(unit_s * 1_000_000).filter(|us| *us >= 0).ok_or_else(wrong)?;
        return Ok(now.plus_us(-us));
    }
    Timestamp::parse_rfc3339(text).or_else(|| date(text).ok()).ok_or_else(wrong)
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_instants_or_ago() {
        let now = Timestamp::parse_rfc3339("2026-02-12T10:00:00Z").unwrap();
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(time_at(text, now).ok().map(|t| t.to_string()).as_deref(), expected, "{text:?}");
        };
        check("2026-02-12", Some("2026-02-12T00:00:00Z"));
        check("2026-02-12T11:00:00+01:00", Some("2026-02-12T10:00:00Z"));
        for bad in ["", "-", "-1", "-1w", "--1h", "yesterday", "2026-02-30", "-999999999999999999d", "1h"] {
            check(bad, None);
        }
        check("-0s", Some("2026-02-12T10:00:00Z"));
        check("-30m", Some("2026-02-12T09:30:00Z"));
        check("-1h", Some("2026-02-12T09:00:00Z"));
        check("-7d", Some("2026-02-05T10:00:00Z"));
    }

    #[test]
    fn sizes_are_short() {
        let check = |bytes: u64, expected: &str| assert_eq!(size(bytes), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1536, "1.5 KiB");
        check(3 << 40, "3.0 TiB");
    }
}
