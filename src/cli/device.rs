//! `device`: meters in the registry, through the API of the running server.

mod import;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::Device;
use super::global::{ApiArgs, Global};
use super::output;
use crate::domain::DeviceId;

/// Register, list, show and remove meters at a running server
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter device add dc-meter-007 --name \"Unit 7, car A\" --type dc_meter --location Depot
  iot-meter device import meters.csv              columns device_id, device_name, location, metadata.car, …
  iot-meter device import meters.jsonl --atomic   one JSON object a line; all of them or none
  iot-meter device list --connection offline
  iot-meter device show dc-meter-007 --output json
  iot-meter device command-key dc-meter-007
  iot-meter device remove dc-meter-007 --purge")]
pub(super) struct DeviceArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: DeviceCommand,
}

#[derive(Debug, Subcommand)]
enum DeviceCommand {
    /// Register a meter; prints its MQTT token, which is shown only this once
    Add(AddArgs),
    /// Register many meters: CSV with a header row, or one JSON object a line; goes on after a refused one
    Import(import::ImportArgs),
    /// List meters
    List(ListArgs),
    /// Show a meter
    #[command(after_help = "\
Example:
  iot-meter device show dc-meter-007 --output json")]
    Show {
        #[arg(value_parser = device_id)]
        id: String,
    },
    /// Make a new command key, which is shown only this once; the meter's commands are signed with it from now on
    #[command(after_help = "\
Example:
  iot-meter device command-key dc-meter-007")]
    CommandKey {
        #[arg(value_parser = device_id)]
        id: String,
    },
    /// Let a meter that has enrolled, or is registered, enrol once more
    #[command(after_help = "\
Example:
  iot-meter device allow-enrolment dc-meter-007")]
    AllowEnrolment {
        #[arg(value_parser = device_id)]
        id: String,
    },
    /// Remove a meter from the registry; what it measured is kept
    #[command(after_help = "\
Example:
  iot-meter device remove dc-meter-007 --purge")]
    Remove {
        #[arg(value_parser = device_id)]
        id: String,
        /// Delete what it measured too
        #[arg(long)]
        purge: bool,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  iot-meter device add dc-meter-007 --name \"Unit 7, car A\" --type dc_meter --location Depot --metadata car=A")]
struct AddArgs {
    /// 1 to 128 of A-Z a-z 0-9 . _ -
    #[arg(value_parser = device_id)]
    id: String,
    /// For people [default: the id]
    #[arg(long)]
    name: Option<String>,
    /// Kind of meter
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
    /// Where it is
    #[arg(long)]
    location: Option<String>,
    /// Further facts; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Register it inactive
    #[arg(long)]
    inactive: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter device list --connection offline
  iot-meter device list --type dc_meter --output json")]
struct ListArgs {
    /// Only those with this status
    #[arg(long, value_parser = ["active", "inactive"])]
    status: Option<String>,
    /// Only those with this connection status
    #[arg(long, value_parser = ["online", "offline", "unknown"])]
    connection: Option<String>,
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
    /// Only those whose id or name contains this
    #[arg(long)]
    query: Option<String>,
}

pub(super) fn run(args: DeviceArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let client = args.api.client(global)?;
    match args.command {
        DeviceCommand::Add(add) => {
            let answer = client.post("/api/devices", &body_of(&add))?.body;
            let device: Device = client.decode("/api/devices", answer.clone())?;
            output::print(global.output, &answer, || added(&device))?;
        }
        DeviceCommand::Import(table) => return import::run(&client, &table, global),
        DeviceCommand::List(filter) => {
            let devices = Value::Array(client.get_all("/api/devices", &query_of(&filter))?);
            let rows: Vec<Device> = client.decode("/api/devices", devices.clone())?;
            output::print(global.output, &devices, || listed(&rows))?;
        }
        DeviceCommand::Show { id } => {
            let path = format!("/api/devices/{id}");
            let answer = client.get(&path, &[])?.body;
            output::print(global.output, &answer, || shown(&answer))?;
        }
        DeviceCommand::CommandKey { id } => {
            let answer = client.post(&format!("/api/devices/{id}/command-key"), &json!({}))?.body;
            output::print(global.output, &answer, || {
                let key = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
                let (hex, base64) = (key("command_key"), key("command_key_base64"));
                format!("command key of {id}   (shown only now)\nhex     {hex}\nbase64  {base64}\n")
            })?;
        }
        DeviceCommand::AllowEnrolment { id } => {
            let answer = client.delete(&format!("/api/devices/{id}/enrolment"), &[])?.body;
            output::print(global.output, &answer, || format!("{id} may enrol once more\n"))?;
        }
        DeviceCommand::Remove { id, purge } => {
            let query: &[_] = if purge { &[("purge", "true")] } else { &[] };
            let answer = client.delete(&format!("/api/devices/{id}"), query)?.body;
            output::print(global.output, &answer, || format!("{id} is removed\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn device_id(text: &str) -> Result<String, String> {
    let id = DeviceId::parse(text).ok_or("not a device id: 1 to 128 of A-Z a-z 0-9 . _ -, not starting with . or -")?;
    Ok(id.as_str().to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn body_of(add: &AddArgs) -> Value {
    let name = add.name.as_ref().unwrap_or(&add.id);
    let status = if add.inactive { "inactive" } else { "active" };
    let mut body = json!({"device_id": add.id, "device_name": name, "status": status});
    let members = [("device_type", &add.device_type), ("location", &add.location)];
    for (member, value) in members.into_iter().filter_map(|(m, v)| Some((m, v.as_ref()?))) {
        body[member] = json!(value);
    }
    if !add.metadata.is_empty() {
        body["metadata"] = add.metadata.iter().map(|(n, v)| (n.clone(), json!(v))).collect::<Map<_, _>>().into();
    }
    body
}

fn query_of(filter: &ListArgs) -> Vec<(&'static str, &str)> {
    let all = [
        ("status", &filter.status),
        ("connection_status", &filter.connection),
        ("type", &filter.device_type),
        ("q", &filter.query),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
}

fn added(device: &Device) -> String {
    let id = &device.device_id;
    match &device.token {
        Some(token) => {
            format!(
                "{id} is registered\nMQTT client id: {id}\nMQTT user name: {id}\nMQTT password:  {token}   (shown only now)\n"
            )
        }
        None => format!("{id} is registered\n"),
    }
}

fn listed(devices: &[Device]) -> String {
    let row = |d: &Device| {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        vec![
            d.device_id.clone(),
            d.device_name.clone(),
            text(&d.device_type),
            text(&d.location),
            d.status.clone(),
            d.connection_status.clone(),
            text(&d.last_seen),
            text(&d.fw_version),
        ]
    };
    let head = ["ID", "NAME", "TYPE", "LOCATION", "STATUS", "CONNECTION", "LAST SEEN", "FIRMWARE"];
    output::table(&head, &devices.iter().map(row).collect::<Vec<_>>())
}

fn shown(device: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let members = device.as_object().into_iter().flatten();
    output::table(&["FIELD", "VALUE"], &members.map(|(n, v)| vec![n.clone(), text(v)]).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_not_sent() {
        let add = AddArgs {
            id: "m1".into(),
            name: None,
            device_type: None,
            location: Some("Depot".into()),
            metadata: vec![("car".into(), "A".into())],
            inactive: false,
        };
        let expected = json!({"device_id": "m1", "device_name": "m1", "status": "active", "location": "Depot", "metadata": {"car": "A"}});
        assert_eq!(body_of(&add), expected);
    }

    #[test]
    fn ids_and_pairs_are_checked_before_anything_is_sent() {
        assert!(device_id("m1").is_ok() && device_id("../x").is_err() && device_id("").is_err());
        assert!(pair("a=b=c").is_ok_and(|(n, v)| n == "a" && v == "b=c"));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }
}
