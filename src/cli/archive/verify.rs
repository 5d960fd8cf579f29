//! `archive verify`: whether everything is there, once, and as it was.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Received, size};
use crate::archive::{self, ArchiveReport, Bucket};
use crate::cli::global::Output;
use crate::cli::output;
use crate::cli::progress::{bar, show};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  iot-meter archive verify --archive-url s3://meters/fleet     exit code 1 when something is wrong")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    received: Received,
}

pub(super) fn run(args: &VerifyArgs, bucket: &Bucket, output: Output) -> anyhow::Result<ExitCode> {
    let bar = bar();
    let report = archive::verify(bucket, &args.received.part(None, None), &mut |done, all| show(&bar, done, all));
    bar.finish_and_clear();
    let report = report?;
    let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    let answer = json!({
        "is_sound": report.is_sound(), "objects": report.objects, "contained": report.contained,
        "size_bytes": report.bytes, "messages": report.messages, "faults": faults, "faults_omitted": report.omitted,
    });
    output::print(output, &answer, || describe(&report))?;
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(report: &ArchiveReport) -> String {
    let mut text: String = report.faults.iter().map(|fault| format!("{fault}\n")).collect();
    if report.omitted > 0 {
        text.push_str(&format!("and {} further faults\n", report.omitted));
    }
    let verdict = if report.is_sound() { "sound" } else { "not sound" };
    let ArchiveReport { objects, messages, bytes, contained, .. } = report;
    text.push_str(&format!("{verdict}: {messages} messages in {objects} objects ({})", size(*bytes)));
    if *contained > 0 {
        text.push_str(&format!(", {contained} objects are in others already"));
    }
    text.push('\n');
    text
}
