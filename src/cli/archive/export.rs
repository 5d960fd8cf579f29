//! `archive export`: a device's measurements as a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Opened, device, time};
use crate::api::Exporter;
use crate::archive::{self, Reader};
use crate::cli::global::Output;
use crate::cli::output;
use crate::domain::{Clock, DeviceId, Timestamp};
use crate::history;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter archive export --device dc-meter-007 --from 2026-01-01 --to 2026-02-01 --out january.parquet
  iot-meter archive export --device dc-meter-007 --from -1h --metric voltage_dc --format ndjson --out - | jq .value")]
pub(super) struct ExportArgs {
    /// The device
    #[arg(long, value_name = "ID", value_parser = device)]
    device: DeviceId,
    /// Messages made from then on, by the meter's clock
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    from: Option<Timestamp>,
    /// Messages made before then
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    to: Option<Timestamp>,
    /// Only these types; repeated or separated by commas
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    metric: Vec<String>,
    /// The file; - = standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// csv, ndjson, json or parquet [default: what the file's name ends with]
    #[arg(long, value_name = "FORMAT", value_parser = ["csv", "ndjson", "json", "parquet"])]
    format: Option<String>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

impl ExportArgs {
    fn format(&self) -> anyhow::Result<String> {
        let ending = || self.out.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        let format = self.format.clone().or_else(ending);
        format.context("the file's name does not say the format; add --format csv, ndjson, json or parquet")
    }
}

pub(super) fn run(args: &ExportArgs, opened: &Opened, output: Output) -> anyhow::Result<ExitCode> {
    let mut bytes = Vec::new();
    let exporter = Exporter::new(&args.format()?, &args.device, &args.metric, &mut bytes)?;
    let is_stdout = args.out == Path::new("-");
    if is_stdout {
        write(args, opened, exporter, bytes, std::io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    let shown = args.out.display();
    anyhow::ensure!(args.force || !args.out.exists(), "{shown} is there already; --force replaces it");
    // What is cut short is not to be taken for the whole.
    let mut part = args.out.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
    let done = write(args, opened, exporter, bytes, BufWriter::new(&file));
    let (messages, points) = done.inspect_err(|_| {
        // What is left of it is of no use; that it cannot be removed changes nothing.
        let _ = std::fs::remove_file(&part);
    })?;
    file.sync_all()
        .and_then(|()| std::fs::rename(&part, &args.out))
        .with_context(|| format!("cannot write {shown}"))?;
    let answer = json!({"file": args.out, "messages": messages, "points": points});
    output::print(output, &answer, || format!("{points} points of {messages} messages written to {shown}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes all; how many messages and points.
fn write(
    args: &ExportArgs,
    opened: &Opened,
    mut exporter: Exporter,
    mut bytes: Vec<u8>,
    mut out: impl Write,
) -> anyhow::Result<(u64, u64)> {
    let (from, to) = (args.from.unwrap_or(Timestamp(i64::MIN)), args.to.unwrap_or(Timestamp(i64::MAX)));
    let bar = Bar::new(opened, from, to)?;
    let reader = Reader::of_bucket(opened.bucket.clone(), opened.window);
    let (mut messages, mut points) = (0, 0);
    let mut failed: Option<anyhow::Error> = None;
    history::scan_archive(&reader, &args.device, from, to, &mut |row| {
        bar.at(row.ts);
        messages += 1;
        let written = exporter.row(&row, &mut bytes).map_err(anyhow::Error::from).and_then(|count| {
            points += count;
            out.write_all(&bytes)?;
            bytes.clear();
            Ok(())
        });
        failed = written.err();
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    exporter.finish(&mut bytes)?;
    out.write_all(&bytes)?;
    out.flush()?;
    bar.bar.finish_and_clear();
    Ok((messages, points))
}

/// How far it has come, by message time.
struct Bar {
    bar: ProgressBar,
    start: Timestamp,
}

impl Bar {
    fn new(opened: &Opened, from: Timestamp, to: Timestamp) -> anyhow::Result<Self> {
        let now = Clock::system().now();
        let first = archive::first_day(&opened.bucket)?.unwrap_or(now);
        let (start, end) = (from.max(first), to.min(now));
        let style = ProgressStyle::with_template("{bar:40} {percent} % {eta}");
        // Drawn on stderr, and only when that is a terminal.
        let bar =
            ProgressBar::new(end.since(start).as_secs()).with_style(style.unwrap_or(ProgressStyle::default_bar()));
        Ok(Self { bar, start })
    }

    fn at(&self, ts: Timestamp) {
        self.bar.set_position(ts.since(self.start).as_secs());
    }
}
