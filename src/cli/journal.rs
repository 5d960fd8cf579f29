//! `journal`: what is in the journal's files, read while no server runs on them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::global::{Global, Output};
use super::output;
use super::progress::{bar, show};
use crate::journal::{self, Finding, Offset, Record, Report};
use crate::serve::DataDir;

/// Check and look into the journal of a data directory; no server may run on it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter journal verify --data-dir /var/lib/iot-meter     exit code 1 when something is damaged
  iot-meter journal verify --salvage                         give up damaged records, keep all others
  iot-meter journal inspect --from 120000 --limit 20
  iot-meter journal inspect --output json | jq .topic        one object a record")]
pub(super) struct JournalArgs {
    #[command(subcommand)]
    command: JournalCommand,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Read every record and explain what is wrong, with offsets
    #[command(after_help = "\
Examples:
  iot-meter journal verify --data-dir /var/lib/iot-meter
  iot-meter journal verify --salvage     give up damaged records, keep all others")]
    Verify {
        /// Rewrite damaged segments without their damaged records; the old files are kept beside them
        #[arg(long)]
        salvage: bool,
        /// The journal's directory [default: journal in the data directory]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Show records
    #[command(after_help = "\
Examples:
  iot-meter journal inspect --from 120000 --limit 20
  iot-meter journal inspect --output json | jq .topic")]
    Inspect {
        /// First offset [default: the first there is]
        #[arg(long, value_name = "OFFSET", default_value_t = 0)]
        from: u64,
        /// Records at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u64,
        /// The journal's directory [default: journal in the data directory]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl JournalCommand {
    /// The directory meant.
    fn dir(&self, global: &Global) -> anyhow::Result<PathBuf> {
        let (Self::Verify { dir, .. } | Self::Inspect { dir, .. }) = self;
        match dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(global.load(Vec::new())?.settings.data_dir.join("journal")),
        }
    }
}

pub(super) fn run(args: JournalArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let dir = args.command.dir(global)?;
    anyhow::ensure!(dir.is_dir(), "{} is no directory", dir.display());
    // A journal that is being written looks torn, and must not be changed behind the back of its writer.
    let _at_rest = match &args.command {
        JournalCommand::Verify { .. } => Some(DataDir::journal_at_rest(&dir)?),
        JournalCommand::Inspect { .. } => None,
    };
    match args.command {
        JournalCommand::Verify { salvage: false, .. } => verify(&dir, global.output),
        JournalCommand::Verify { salvage: true, .. } => salvage(&dir, global),
        JournalCommand::Inspect { from, limit, .. } => inspect(&dir, Offset(from), limit, global.output),
    }
}

fn verify(dir: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let bar = bar();
    let report = journal::verify(dir, |done, all| show(&bar, done, all));
    bar.finish_and_clear();
    let report = report.with_context(|| format!("cannot read the journal in {}", dir.display()))?;
    output::print(output, &report_json(&report), || describe(&report))?;
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn salvage(dir: &Path, global: &Global) -> anyhow::Result<ExitCode> {
    let bar = bar();
    let done = journal::salvage(dir, |done, all| show(&bar, done, all));
    bar.finish_and_clear();
    let done = done.with_context(|| format!("cannot salvage the journal in {}", dir.display()))?;
    let replaced: Vec<_> = done.replaced.iter().map(|(new, old)| json!({"segment": new, "damaged": old})).collect();
    let answer = json!({"found": report_json(&done.report), "lost_records": done.lost_records, "replaced": replaced});
    output::print(global.output, &answer, || {
        let kept = done.replaced.iter().map(|(_, old)| format!("kept the damaged {}\n", old.display()));
        format!("{}{}{} records given up\n", describe(&done.report), kept.collect::<String>(), done.lost_records)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One line a record; it is printed while reading, so that memory does not grow with the limit.
fn inspect(dir: &Path, from: Offset, limit: u64, output: Output) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut failed = None;
    let shown = journal::inspect(dir, from, limit, |record| {
        if failed.is_none() {
            failed = writeln!(out, "{}", line(&record, output)).err();
        }
    })
    .with_context(|| format!("cannot read the journal in {}", dir.display()))?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    out.flush()?;
    if shown == 0 {
        eprintln!("no record from offset {from} on");
    }
    Ok(ExitCode::SUCCESS)
}

fn line(record: &Record<'_>, output: Output) -> String {
    let payload = String::from_utf8_lossy(record.payload);
    match output {
        Output::Json => json!({
            "offset": record.offset.0,
            "received_at": record.received_at.to_string(),
            "topic": record.topic,
            "identity": record.identity,
            "content_type": record.content_type,
            "qos": record.flags.qos,
            "retain": record.flags.retain,
            "dup": record.flags.dup,
            "size_bytes": record.payload.len(),
            "payload": payload,
        })
        .to_string(),
        Output::Text => {
            let short: String = payload.chars().take(100).map(|c| if c.is_control() { ' ' } else { c }).collect();
            let topic: String = record.topic.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            format!("{} {} {topic} {} B {short}", record.offset, record.received_at, record.payload.len())
        }
    }
}

fn report_json(report: &Report) -> Value {
    let finding = |f: &Finding| json!({"offset": f.offset.0, "is_damage": f.kind.is_damage(), "text": f.to_string()});
    json!({
        "is_sound": report.is_sound(),
        "segments": report.segments,
        "bytes": report.bytes,
        "records": report.records,
        "lost_records": report.lost_records,
        "first": report.first.0,
        "head": report.head.0,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "findings_omitted": report.findings_omitted,
    })
}

fn describe(report: &Report) -> String {
    let mut text: String = report.findings.iter().map(|finding| format!("{finding}\n")).collect();
    if report.findings_omitted > 0 {
        text.push_str(&format!("and {} further findings\n", report.findings_omitted));
    }
    let verdict = if report.is_sound() { "sound" } else { "damaged" };
    text.push_str(&format!(
        "{verdict}: {} records in {} segments ({} bytes), offsets {} to {}, {} lost\n",
        report.records, report.segments, report.bytes, report.first, report.head, report.lost_records
    ));
    text
}
