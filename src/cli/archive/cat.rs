//! `archive cat`: messages as they were received.

use std::io::{BufWriter, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::json;

use super::{Opened, Received, category, device};
use crate::archive::{self, Archived, Reader};
use crate::domain::DeviceId;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter archive cat dc-meter-007/hello/2026-02-12T10-00-10.123456Z-42.json
  iot-meter archive cat --device dc-meter-007 --category invalid --from -1d | jq .reason")]
pub(super) struct CatArgs {
    /// A message, as listings of raw data name it: its exact bytes are written
    #[arg(value_name = "NAME", conflicts_with_all = ["device", "category", "from", "to", "date"])]
    name: Option<String>,
    /// Messages of this device, a JSON object a line
    #[arg(long, value_name = "ID", value_parser = device)]
    device: Option<DeviceId>,
    /// Messages of this category
    #[arg(long, value_name = "CATEGORY", value_parser = category)]
    category: Option<String>,
    #[command(flatten)]
    received: Received,
    /// Messages at most
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

pub(super) fn run(args: &CatArgs, opened: &Opened) -> anyhow::Result<ExitCode> {
    match &args.name {
        Some(name) => one(name, opened),
        None => many(args, opened),
    }
}

fn one(name: &str, opened: &Opened) -> anyhow::Result<ExitCode> {
    let id = name.split('/').next().and_then(DeviceId::parse);
    let id =
        id.with_context(|| format!("{name:?} does not begin with a device id; names are as in raw-data listings"))?;
    let reader = Reader::of_bucket(opened.bucket.clone(), opened.window);
    let (_, payload) =
        reader.read_blocking(&id, name)?.with_context(|| format!("there is no message {name:?} in the archive"))?;
    let mut out = std::io::stdout().lock();
    out.write_all(&payload)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn many(args: &CatArgs, opened: &Opened) -> anyhow::Result<ExitCode> {
    let part = args.received.part(args.device.clone(), args.category.clone());
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut left, mut failed) = (args.limit.unwrap_or(u64::MAX), None);
    if left > 0 {
        archive::messages(&opened.bucket, &part, &mut |message| {
            left -= 1;
            failed = writeln!(out, "{}", line(&message)).err();
            if failed.is_some() || left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What is no text is written in base64.
fn line(message: &Archived) -> String {
    let mut line = json!({
        "name": message.name(),
        "device_id": message.device,
        "category": message.category,
        "topic": message.topic,
        "received_at": message.received_at.to_string(),
        "ts": message.ts.map(|ts| ts.to_string()),
        "seq": message.seq,
        "reason": message.reason,
        "qos": message.qos,
        "retain": message.is_retained,
        "content_type": message.content_type,
        "node": message.node,
        "journal_offset": message.offset,
        "size_bytes": message.payload.len(),
    });
    match std::str::from_utf8(&message.payload) {
        Ok(text) => line["payload"] = text.into(),
        Err(_) => line["payload_base64"] = STANDARD.encode(&message.payload).into(),
    }
    line.to_string()
}
