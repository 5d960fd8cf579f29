//! `import`: takes an old installation over.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::desk;
use super::global::Global;
use super::{output, runtime};
use crate::archive::{Bucket, CloudOptions};
use crate::config::Settings;
use crate::domain::{Clock, Timestamp};
use crate::import::{self, Kind, Options, Precision, Reading, Report, Target};
use crate::payload::Window;
use crate::serve::{self, DataDir};
use crate::store::{self, AuditOutcome, SharedStore};

/// Take an old installation over: its tables, the messages of its bucket, the points of its InfluxDB
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter import --tables old/ --dry-run                      a folder with devices.csv, device_alerts.csv, …
  iot-meter import --tables dump.sql                            what pg_dump --data-only wrote
  iot-meter import --postgres-url postgres://iot@old/iot        the old database itself
  iot-meter import --raw old-bucket/                            {device_id}/{category}/{time}.json
  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… \\
    iot-meter import --raw s3://iot-data --raw-endpoint http://minio:9000
  influxd inspect export-lp … | iot-meter import --points -     line protocol, or annotated CSV; gzipped or not
  iot-meter import --raw old-bucket/ --before 2026-11-29T00:00:00Z

No server may run on the data directory meanwhile (with Postgres: on any of its nodes). What is there already is left as it
is, but for quarantined meters that nobody has changed, which get their rows: run it again after an interruption, or when the
old installation has more. Run it as the user of the server, which is to read what it writes. Exit code 1 when something was
refused.")]
pub(super) struct ImportArgs {
    /// Tables of the old database: a folder with a CSV file a table, or a file of pg_dump (plain, with column names)
    #[arg(long, value_name = "PATH", conflicts_with = "postgres_url")]
    tables: Option<PathBuf>,
    /// The old database itself
    #[arg(long, value_name = "URL")]
    postgres_url: Option<String>,
    /// Messages of the old bucket: a folder, or s3://bucket/folder
    #[arg(long, value_name = "PLACE")]
    raw: Option<String>,
    /// Address of the bucket's server, where it is not the cloud's own
    #[arg(long, value_name = "URL", requires = "raw")]
    raw_endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long, value_name = "NAME", requires = "raw")]
    raw_region: Option<String>,
    /// Points of InfluxDB: line protocol or annotated CSV, gzipped or not; `-` reads stdin
    #[arg(long, value_name = "FILE", num_args = 1..)]
    points: Vec<PathBuf>,
    /// Unit of the times in line protocol
    #[arg(long, value_enum, default_value_t)]
    precision: Unit,
    /// Tag with the meter's id
    #[arg(long, value_name = "NAME", default_value = "device_id")]
    device_tag: String,
    /// Only points of this measurement; repeatable
    #[arg(long, value_name = "NAME")]
    measurement: Vec<String>,
    /// Leave this field of points out; repeatable
    #[arg(long, value_name = "NAME")]
    skip_field: Vec<String>,
    /// Only what was received (points: measured) before this time, from which on this server has received itself
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<Timestamp>,
    /// Read and judge everything, store nothing; what is there already is not looked for
    #[arg(long)]
    dry_run: bool,
    /// Where what is refused is written, a JSON object a line [default: import-refused.jsonl in the data directory]
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
}

/// Unit of times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum Unit {
    #[default]
    Ns,
    Us,
    Ms,
    S,
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| "write a time with its zone: 2026-11-29T00:00:00Z".to_owned())
}

pub(super) fn run(args: ImportArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    anyhow::ensure!(
        args.tables.is_some() || args.postgres_url.is_some() || args.raw.is_some() || !args.points.is_empty(),
        "nothing to import: name --tables, --postgres-url, --raw or --points (see iot-meter import --help)"
    );
    let settings = global.load(Vec::new())?.settings;
    let output = global.output;
    let report = runtime::block_on(async move {
        let handle = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || import(args, &settings, handle)).await.context("the import panicked")?
    })?;
    output::print(output, &report, || describe(&report))?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn import(args: ImportArgs, settings: &Settings, runtime: tokio::runtime::Handle) -> anyhow::Result<Report> {
    let data = DataDir::open(&settings.data_dir)?;
    let now = Clock::system().now();
    let target = match args.dry_run {
        true => None,
        false => Some(open_target(settings, &data, runtime.clone())?),
    };
    let store = target.as_ref().map(|target| target.store.clone());
    let raw = args.raw.as_deref().map(|place| open_raw(place, &args, runtime)).transpose()?;
    let kept = Duration::from_secs(settings.retention.telemetry_days * 86_400);
    let options = Options {
        tables: args.tables,
        postgres_url: args.postgres_url,
        raw,
        points: args.points,
        reading: Reading {
            device_tag: args.device_tag,
            measurements: args.measurement,
            skipped_fields: args.skip_field,
            precision: match args.precision {
                Unit::Ns => Precision::Ns,
                Unit::Us => Precision::Us,
                Unit::Ms => Precision::Ms,
                Unit::S => Precision::S,
            },
        },
        before: args.before,
        is_dry: args.dry_run,
        refused: args.refused.unwrap_or_else(|| data.path("import-refused.jsonl")),
        scratch: data.path("run"),
        oldest: now.plus_us(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX).saturating_neg()),
        raw_oldest: raw_oldest(settings.retention.raw_days, now),
        window: Window { past: kept, future: Duration::from_secs(settings.ingest.future_s) },
        now,
    };
    let bar = progress();
    let mut heard = BTreeMap::new();
    let report = import::run(&options, target, &mut |kind, read| {
        heard.insert(kind, read);
        bar.set_message(format!("{} {read}", kind.name()));
    });
    bar.finish_and_clear();
    if let Some(store) = store {
        note(&store, &report, &heard, now)?;
    }
    report.context("the import stopped; what is stored stays, run it again to go on")
}

/// Notes what became of it. What stopped it comes before a log that cannot be written, which may have the same cause.
fn note(
    store: &SharedStore,
    report: &Result<Report, import::Error>,
    heard: &BTreeMap<Kind, u64>,
    now: Timestamp,
) -> anyhow::Result<()> {
    match report {
        Ok(report) => {
            let stored = report.kinds.iter().map(|(kind, tally)| format!("{} {}", tally.stored, kind.name()));
            desk::note(store, "import.run", "", stored.collect::<Vec<_>>().join(", "), now)
        }
        Err(error) => {
            let read: String =
                heard.iter().map(|(kind, count)| format!(", {count} {} or more read", kind.name())).collect();
            let detail = format!("stopped{read}: {error}");
            if let Err(unnoted) = desk::note_outcome(store, "import.run", "", AuditOutcome::Failed, detail, now) {
                eprintln!("warning: {unnoted:#}");
            }
            Ok(())
        }
    }
}

/// Since when the archive keeps what was received: its upkeep deletes whole days. `None` = for ever.
fn raw_oldest(days: u64, now: Timestamp) -> Option<Timestamp> {
    const DAY_US: i64 = 86_400_000_000;
    let days = i64::try_from(days).ok().filter(|days| *days > 0)?;
    let at = now.plus_us(days.saturating_mul(DAY_US).saturating_neg());
    Some(at.plus_us(-at.0.rem_euclid(DAY_US)))
}

fn open_target(settings: &Settings, data: &DataDir, runtime: tokio::runtime::Handle) -> anyhow::Result<Target> {
    let url = &settings.database.url;
    let options = store::Options { node: data.node_id()?, ..store::Options::default() };
    let store = store::open_with(url.reveal(), &options).with_context(|| format!("cannot open {}", url.redacted()))?;
    let archive = Bucket::open(&settings.archive.url, &serve::cloud_options(settings), runtime)?;
    Ok(Target { store, archive })
}

/// A folder, as a path or as file://, or a bucket.
fn open_raw(place: &str, args: &ImportArgs, runtime: tokio::runtime::Handle) -> anyhow::Result<Bucket> {
    let options = CloudOptions {
        endpoint: args.raw_endpoint.clone().unwrap_or_default(),
        region: args.raw_region.clone().unwrap_or_default(),
        ..CloudOptions::default()
    };
    let url = match place.contains("://") {
        true => place.to_owned(),
        false => {
            let folder = std::fs::canonicalize(place).with_context(|| format!("cannot read {place}"))?;
            // What a URL would read otherwise.
            format!("file://{}", folder.display().to_string().replace('%', "%25"))
        }
    };
    Ok(Bucket::open_foreign(&url, &options, runtime)?)
}

fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} read, {elapsed}");
    // Drawn on stderr, and only when that is a terminal.
    let bar = ProgressBar::new_spinner().with_style(style.unwrap_or(ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn describe(report: &Report) -> String {
    let row = |(kind, tally): (&Kind, &import::Tally)| {
        let numbers = [tally.read, tally.stored, tally.duplicate, tally.later, tally.refusals()];
        std::iter::once(kind.name().to_owned()).chain(numbers.map(|n| n.to_string())).collect::<Vec<_>>()
    };
    let stored = if report.dry_run { "WOULD STORE" } else { "STORED" };
    let head = ["", "READ", stored, "DUPLICATE", "LATER", "REFUSED"];
    let mut text = output::table(&head, &report.kinds.iter().map(row).collect::<Vec<_>>());
    for (kind, tally) in &report.kinds {
        for (reason, count) in &tally.refused {
            let _ = writeln!(text, "refused: {count} {} for {reason}", kind.name());
        }
        if tally.archive_only > 0 {
            let days = "retention.telemetry_days";
            let _ = writeln!(
                text,
                "{} {} are older than {days}: they are in the archive only",
                tally.archive_only,
                kind.name()
            );
        }
    }
    for (table, columns) in &report.ignored_columns {
        let _ = writeln!(text, "columns of {table} that have no place here: {}", columns.join(", "));
    }
    if !report.quarantined.is_empty() {
        let shown: Vec<&str> = report.quarantined.iter().take(10).map(String::as_str).collect();
        let more = if report.quarantined.len() > shown.len() { " …" } else { "" };
        let count = report.quarantined.len();
        let _ = writeln!(text, "{count} meters were not registered and are quarantined: {}{more}", shown.join(" "));
    }
    for note in &report.notes {
        let _ = writeln!(text, "{note}");
    }
    if let Some(file) = &report.refused_file {
        let _ = writeln!(text, "what was refused is in {}", file.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_keeps_whole_days_and_without_a_number_all_of_them() {
        let check = |days: u64, now: &str, expected: Option<&str>| {
            let oldest = raw_oldest(days, time(now).unwrap()).map(|oldest| oldest.to_string());
            assert_eq!(oldest.as_deref(), expected, "{days} before {now}");
        };
        check(0, "2026-02-12T10:00:00Z", None);
        check(2, "2026-02-12T00:00:00Z", Some("2026-02-10T00:00:00Z"));
        check(2, "2026-02-12T23:59:59Z", Some("2026-02-10T00:00:00Z"));
    }
}
