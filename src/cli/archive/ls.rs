//! `archive ls`: days, or objects.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{Received, category, device, size};
use crate::archive::{self, Bucket, ObjectInfo};
use crate::cli::global::Output;
use crate::cli::output;
use crate::domain::{DeviceId, Timestamp};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter archive ls                                   a line a day
  iot-meter archive ls --date 2026-02-12 --output json   its objects")]
pub(super) struct LsArgs {
    /// Objects with messages of this device, and how many it has in each
    #[arg(long, value_name = "ID", value_parser = device)]
    device: Option<DeviceId>,
    /// Of these only
    #[arg(long, value_name = "CATEGORY", value_parser = category, requires = "device")]
    category: Option<String>,
    #[command(flatten)]
    received: Received,
    /// A line an object rather than a day
    #[arg(long)]
    objects: bool,
}

pub(super) fn run(args: &LsArgs, bucket: &Bucket, output: Output) -> anyhow::Result<ExitCode> {
    let part = args.received.part(args.device.clone(), args.category.clone());
    let by_object = args.objects || args.received.date.is_some();
    let (mut objects, mut days) = (Vec::new(), BTreeMap::<String, (u64, u64, u64)>::new());
    archive::objects(bucket, &part, &mut |object| {
        if by_object {
            objects.push(object);
        } else {
            let day = days.entry(day_of(&object.key).to_owned()).or_default();
            *day = (day.0 + 1, day.1 + object.messages, day.2 + object.size);
        }
        ControlFlow::Continue(())
    })?;
    match by_object {
        true => print_objects(&objects, output)?,
        false => print_days(&days, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The day in an object's key.
fn day_of(key: &str) -> &str {
    key.split('/').find_map(|part| part.strip_prefix("date=")).unwrap_or_default()
}

fn print_days(days: &BTreeMap<String, (u64, u64, u64)>, output: Output) -> anyhow::Result<()> {
    let json: Vec<Value> = days
        .iter()
        .map(|(day, (objects, messages, bytes))| {
            json!({"date": day, "objects": objects, "messages": messages, "size_bytes": bytes})
        })
        .collect();
    output::print(output, &json, || {
        let row = |(day, (objects, messages, bytes)): (&String, &(u64, u64, u64))| {
            vec![day.clone(), objects.to_string(), messages.to_string(), size(*bytes)]
        };
        output::table(&["DATE", "OBJECTS", "MESSAGES", "SIZE"], &days.iter().map(row).collect::<Vec<_>>())
    })
}

fn print_objects(objects: &[ObjectInfo], output: Output) -> anyhow::Result<()> {
    let span = |span: Option<(Timestamp, Timestamp)>| span.map(|(a, b)| [a.to_string(), b.to_string()]);
    let json: Vec<Value> = objects
        .iter()
        .map(|o| {
            json!({
                "key": o.key, "node": o.node, "first_offset": o.offsets.0, "last_offset": o.offsets.1,
                "size_bytes": o.size, "messages": o.messages, "is_compacted": o.is_compacted,
                "received": span(o.received), "ts": span(o.times),
            })
        })
        .collect();
    output::print(output, &json, || {
        let row = |o: &ObjectInfo| {
            let [oldest, newest] = span(o.received).unwrap_or_default();
            vec![o.key.clone(), o.messages.to_string(), size(o.size), oldest, newest]
        };
        let head = ["OBJECT", "MESSAGES", "SIZE", "RECEIVED FROM", "TO"];
        output::table(&head, &objects.iter().map(row).collect::<Vec<_>>())
    })
}
