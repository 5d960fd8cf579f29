//! Rows of the old tables → devices, configurations, alerts, commands of the store.
//!
//! Invariant: a command that was still open in the old installation is never sent from here: it is kept as cancelled (its
//! meter may have had it long ago).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::meters::Meters;
use super::report::{Kind, Ledger};
use super::row::{Row, Wrong};
use super::{Error, Options};
use crate::domain::command::CommandStatus;
use crate::domain::{CommandId, DEFAULT_DEVICE_TYPE, DeviceId, Timestamp};
use crate::payload::validate_command;
use crate::store::{Batch, NewDevice, OldAlert, OldCommand, OldConfig, OldDevice, Store, TakenOver};

/// Rows of one transaction.
const CHUNK: usize = 500;

/// Who has sent what was taken over.
const BY: &str = "import";

const TYPE: &[&str] = &["alert_type", "type"];
const CMD: &[&str] = &["cmd", "command", "command_type"];
const CREATED: &[&str] = &["created_at", "timestamp", "ts"];

/// A device, and what its row says of when it was last there.
struct Device {
    old: OldDevice,
    last_seen: Option<Timestamp>,
    fw_version: Option<String>,
}

/// Takes rows, and stores them in chunks.
pub(super) struct Registrar<'a, 'b> {
    meters: &'a mut Meters,
    ledger: &'a mut Ledger<'b>,
    now: Timestamp,
    devices: Vec<(String, Device)>,
    configs: Vec<(String, OldConfig)>,
    alerts: Vec<(String, OldAlert)>,
    commands: Vec<(String, OldCommand)>,
    /// Tables whose columns are known to be enough.
    checked: BTreeSet<&'static str>,
    /// In a dry run: the devices there would be.
    seen: BTreeSet<DeviceId>,
}

impl<'a, 'b> Registrar<'a, 'b> {
    pub(super) fn new(options: &Options, meters: &'a mut Meters, ledger: &'a mut Ledger<'b>) -> Self {
        let (devices, configs, alerts, commands) = Default::default();
        let (checked, seen) = Default::default();
        Self { meters, ledger, now: options.now, devices, configs, alerts, commands, checked, seen }
    }

    /// One more row.
    pub(super) fn take(&mut self, table: &'static str, place: &str, mut row: Row) -> Result<(), Error> {
        let kind = kind_of(table);
        self.check(table, &row)?;
        self.ledger.read(kind);
        let place = place.to_owned();
        let read = match kind {
            Kind::Devices => device(&mut row, self.now).map(|old| self.devices.push((place.clone(), old))),
            Kind::Configs => config(&mut row, self.now).map(|old| self.configs.push((place.clone(), old))),
            Kind::Alerts => alert(&mut row, self.meters.oldest).map(|old| self.alerts.push((place.clone(), old))),
            _ => command(&mut row, self.meters.oldest).map(|(old, was_open)| {
                if was_open {
                    self.ledger.note("commands that were still open are kept as cancelled; nothing is sent".to_owned());
                }
                self.commands.push((place.clone(), old));
            }),
        };
        if let Err((reason, detail)) = read {
            return self.ledger.refuse(kind, reason, &place, detail);
        }
        let ignored = self.ledger.ignored_columns.entry(table).or_default();
        for name in row.ignored() {
            if !ignored.iter().any(|known| known == name) {
                ignored.push(name.to_owned());
            }
        }
        // What another table speaks of is there before.
        let waiting = [self.devices.len(), self.configs.len(), self.alerts.len(), self.commands.len()];
        if waiting.iter().any(|n| *n >= CHUNK) { self.flush() } else { Ok(()) }
    }

    /// The last rows.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        self.ledger.ignored_columns.retain(|_, names| !names.is_empty());
        Ok(())
    }

    /// Refuses a table that cannot be read, by what is missing.
    fn check(&mut self, table: &'static str, row: &Row) -> Result<(), Error> {
        if !self.checked.insert(table) {
            return Ok(());
        }
        let wanted: &[&[&str]] = match kind_of(table) {
            Kind::Devices | Kind::Configs => &[&["device_id"]],
            Kind::Alerts => &[&["device_id"], TYPE, CREATED],
            _ => &[&["cmd_id"], &["device_id"], CMD, CREATED],
        };
        let there: Vec<String> = row.columns().map(str::to_owned).collect();
        match wanted.iter().find(|names| !names.iter().any(|name| there.iter().any(|t| t == name))) {
            Some(names) => {
                Err(Error::MissingColumn { table, wanted: names.join(" (or ") + &")".repeat(names.len() - 1), there })
            }
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let devices = std::mem::take(&mut self.devices);
        let rows: Vec<OldDevice> = devices.iter().map(|(_, device)| device.old.clone()).collect();
        let places: Vec<String> = devices.iter().map(|(place, _)| place.clone()).collect();
        self.seen.extend(rows.iter().map(|row| row.new.device_id.clone()));
        self.meters.know(rows.iter().map(|row| row.new.device_id.clone()));
        self.store(Kind::Devices, &places, &rows, |row| &row.new.device_id, |s, rows| s.take_over_devices(rows))?;
        self.note_last_seen(&devices)?;
        let (places, rows): (Vec<_>, Vec<_>) = std::mem::take(&mut self.configs).into_iter().unzip();
        self.store(Kind::Configs, &places, &rows, |row| &row.device, |s, rows| s.take_over_configs(rows))?;
        let (places, rows): (Vec<_>, Vec<_>) = std::mem::take(&mut self.alerts).into_iter().unzip();
        self.store(Kind::Alerts, &places, &rows, |row| &row.device, |s, rows| s.take_over_alerts(rows))?;
        let (places, rows): (Vec<_>, Vec<_>) = std::mem::take(&mut self.commands).into_iter().unzip();
        self.store(Kind::Commands, &places, &rows, |row| &row.device, |s, rows| s.take_over_commands(rows))
    }

    fn store<T>(
        &mut self,
        kind: Kind,
        places: &[String],
        rows: &[T],
        device: impl Fn(&T) -> &DeviceId,
        call: impl Fn(&dyn Store, &[T]) -> Result<Vec<TakenOver>, crate::store::Error>,
    ) -> Result<(), Error> {
        let verdicts = match &self.meters.store {
            _ if rows.is_empty() => return Ok(()),
            Some(store) => call(&**store, rows)?,
            None => rows
                .iter()
                .map(|row| match self.seen.contains(device(row)) {
                    true => TakenOver::Stored,
                    false => TakenOver::NoDevice,
                })
                .collect(),
        };
        for ((place, row), verdict) in places.iter().zip(rows).zip(verdicts) {
            match verdict {
                TakenOver::Stored => self.ledger.tally(kind).stored += 1,
                TakenOver::Known => self.ledger.tally(kind).duplicate += 1,
                TakenOver::NoDevice => {
                    self.ledger.refuse(kind, "unknown_device", place, format!("there is no device {}", device(row)))?;
                }
            }
        }
        Ok(())
    }

    /// When devices that nothing is known of were last there.
    fn note_last_seen(&mut self, devices: &[(String, Device)]) -> Result<(), Error> {
        let Some(store) = &self.meters.store else { return Ok(()) };
        let ids: Vec<DeviceId> = devices.iter().map(|(_, device)| device.old.new.device_id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut states = Vec::new();
        for (id, mut state) in store.device_states(&ids)? {
            let said = devices.iter().find(|(_, device)| device.old.new.device_id == id).map(|(_, device)| device);
            let Some(said) = said.filter(|_| state.last_seen.is_none()) else { continue };
            if said.last_seen.is_some() || said.fw_version.is_some() {
                state.last_seen = said.last_seen;
                state.fw_version = state.fw_version.or(said.fw_version.clone());
                states.push((id, state));
            }
        }
        if !states.is_empty() {
            store.commit(&Batch { states, ..Batch::default() })?;
        }
        Ok(())
    }
}

fn kind_of(table: &str) -> Kind {
    match table {
        "devices" => Kind::Devices,
        "device_configs" => Kind::Configs,
        "device_alerts" => Kind::Alerts,
        _ => Kind::Commands,
    }
}

fn device(row: &mut Row, now: Timestamp) -> Result<Device, Wrong> {
    let device_id = row.device()?;
    let mut metadata = row.object(&["metadata", "meta"])?;
    let status = row.text(&["status"]);
    let is_active = status.as_deref().is_none_or(|status| status == "active");
    if let Some(other) = status.filter(|status| status != "active" && status != "inactive") {
        // Words of the old installation that have no place here are kept as what they were.
        metadata.insert("old_status".into(), json!(other));
    }
    let created_at = row.time(&["created_at", "registered_at"])?.unwrap_or(now);
    let last_seen = row.time(&["last_seen", "last_seen_at", "last_heartbeat"])?;
    let fw_version = row.text(&["fw_version", "firmware_version"]);
    // It is not known here whether the meter is there.
    row.pass_over(&["connection_status", "id"]);
    let new = NewDevice {
        device_name: row.text(&["device_name", "name"]).unwrap_or_else(|| device_id.to_string()),
        device_type: row.text(&["device_type", "type"]).unwrap_or_else(|| DEFAULT_DEVICE_TYPE.to_owned()),
        location: row.text(&["location"]),
        device_id,
        is_active,
        metadata,
        token_sha256: None,
    };
    let updated_at = row.time(&["updated_at"])?.unwrap_or(created_at);
    Ok(Device { old: OldDevice { new, created_at, updated_at }, last_seen, fw_version })
}

const SETTINGS: [&str; 4] = ["sampling_cadence_ms", "send_interval_s", "hello_interval_s", "brokers"];

/// A column a setting, all of them as JSON in one column, or a row a setting with its name and value.
fn config(row: &mut Row, now: Timestamp) -> Result<OldConfig, Wrong> {
    let device = row.device()?;
    let mut settings = row.object(&["config", "configuration", "config_data", "settings"])?;
    if let Some(key) = row.text(&["config_key", "key", "parameter"]) {
        let value = row.text(&["config_value", "value"]).unwrap_or_default();
        settings.insert(key, serde_json::from_str(&value).unwrap_or(Value::String(value)));
    }
    let columns: [&'static [&'static str]; 4] =
        [&["sampling_cadence_ms"], &["send_interval_s"], &["hello_interval_s"], &["brokers"]];
    for (name, column) in SETTINGS.into_iter().zip(columns) {
        if let Some(value) = row.json(column)? {
            settings.insert(name.to_owned(), value);
        }
    }
    settings.retain(|_, value| !value.is_null());
    if let Err(faults) = validate_command("update_config", &settings) {
        let words = faults.into_iter().map(|fault| format!("{} {}", fault.field.replace("params.", ""), fault.message));
        return Err(("bad_setting", words.collect::<Vec<_>>().join("; ")));
    }
    let updated_at = row.time(&["updated_at", "created_at"])?.unwrap_or(now);
    row.pass_over(&["id"]);
    let number = |name: &str| settings.get(name).and_then(Value::as_i64);
    Ok(OldConfig {
        device,
        sampling_cadence_ms: number("sampling_cadence_ms"),
        send_interval_s: number("send_interval_s"),
        hello_interval_s: number("hello_interval_s"),
        brokers: settings.get("brokers").cloned(),
        updated_at,
    })
}

fn created_at(row: &mut Row) -> Result<Timestamp, Wrong> {
    row.time(CREATED)?.ok_or(("missing_value", "created_at has no value".to_owned()))
}

/// Retention would delete at once what is over and as old as this: it is refused, so that somebody knows.
fn is_kept(created_at: Timestamp, oldest: Timestamp) -> Result<(), Wrong> {
    match created_at < oldest {
        true => {
            Err(("older_than_retention", format!("it is of {created_at}, and over: raise retention.telemetry_days")))
        }
        false => Ok(()),
    }
}

fn alert(row: &mut Row, oldest: Timestamp) -> Result<OldAlert, Wrong> {
    let device = row.device()?;
    let created_at = created_at(row)?;
    let cleared_at = row.time(&["cleared_at", "resolved_at"])?;
    let seen_at = row.time(&["acknowledged_at"])?;
    let is_seen = row.flag(&["acknowledged"])?.unwrap_or(seen_at.is_some());
    let by = row.text(&["acknowledged_by"]).unwrap_or_else(|| BY.to_owned());
    if is_seen || cleared_at.is_some() {
        is_kept(created_at, oldest)?;
    }
    row.pass_over(&["id"]);
    Ok(OldAlert {
        device,
        alert_type: row.text(TYPE).ok_or(("missing_value", "alert_type has no value".to_owned()))?,
        severity: row.text(&["severity", "level"]).unwrap_or_else(|| "info".to_owned()),
        message: row.text(&["message", "description"]).unwrap_or_default(),
        created_at,
        cleared_at,
        acknowledged: is_seen.then(|| (seen_at.unwrap_or(created_at), by)),
    })
}

/// The command, and whether it was still open.
fn command(row: &mut Row, oldest: Timestamp) -> Result<(OldCommand, bool), Wrong> {
    let device = row.device()?;
    let id = row.text(&["cmd_id"]).ok_or(("missing_value", "cmd_id has no value".to_owned()))?;
    let cmd_id = CommandId::parse(&id).ok_or_else(|| ("bad_cmd_id", format!("{id:?} is not a UUID")))?;
    let cmd = row.text(CMD).ok_or(("missing_value", "cmd has no value".to_owned()))?;
    let params: Map<String, Value> = row.object(&["params", "parameters", "payload"])?;
    let created_at = created_at(row)?;
    is_kept(created_at, oldest)?;
    let status = row.text(&["status", "state"]).unwrap_or_else(|| "pending".to_owned());
    let result = row.text(&["result", "ack_result"]);
    let ended = ended(&status, result.as_deref())?;
    let said = row.text(&["detail", "ack_detail", "error", "error_message"]);
    let finished_at =
        row.time(&["finished_at", "acked_at", "ack_at", "acknowledged_at", "completed_at", "updated_at"])?;
    let sent_at = row.time(&["sent_at"])?;
    let by = row.text(&["created_by"]);
    row.pass_over(&["id"]);
    let old = OldCommand {
        cmd_id,
        device,
        cmd,
        params,
        status: ended.unwrap_or(CommandStatus::Cancelled),
        detail: said.or_else(|| ended.is_none().then(|| format!("was {status} in the old installation"))),
        created_at,
        created_by: by.unwrap_or_else(|| BY.to_owned()),
        sent_at,
        finished_at: Some(finished_at.unwrap_or(created_at)),
    };
    Ok((old, ended.is_none()))
}

/// How a command ended; `None` = it was still open.
fn ended(status: &str, result: Option<&str>) -> Result<Option<CommandStatus>, Wrong> {
    use CommandStatus::{Accepted, Delivered, Error, Pending, Sent};
    let of_result = || result.and_then(CommandStatus::from_name).filter(|status| status.is_final());
    let status = status.to_ascii_lowercase();
    match CommandStatus::from_name(&status) {
        Some(Pending | Sent | Delivered) => Ok(of_result()),
        Some(over) => Ok(Some(over)),
        None => match status.as_str() {
            "acked" | "acknowledged" | "completed" | "success" | "done" => Ok(Some(of_result().unwrap_or(Accepted))),
            "failed" | "failure" => Ok(Some(of_result().unwrap_or(Error))),
            "queued" | "published" | "in_progress" => Ok(None),
            _ => Err(("bad_status", format!("{status:?} is not a status of a command"))),
        },
    }
}
