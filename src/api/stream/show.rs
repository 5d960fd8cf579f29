//! Events as text: the format of WHATWG HTML, section 9.2.6, and in it JSON as the REST calls have it. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use crate::api::alerts::AlertBody;
use crate::api::commands::CommandBody;
use crate::api::devices::StatusBody;
use crate::api::series::format::{Format, Writer};
use crate::live::{Event, Position};
use crate::series::{Point, Quantity};
use crate::store::TelemetryRow;

/// How long a client waits before it comes back.
const RETRY_MS: u32 = 3000;

/// The beginning: from here on everything is told.
pub fn opening(position: &Position) -> String {
    format!("retry: {RETRY_MS}\nid: {position}\n: events follow\n\n")
}

/// Nothing has happened; with the position, so that who comes back has not missed what was passed over.
pub fn heartbeat(position: &Position) -> String {
    format!("id: {position}\n: still here\n\n")
}

/// Something is missing here.
pub fn lost(position: &Position, events: Option<u64>) -> String {
    let events = events.map_or_else(|| "null".to_owned(), |count| count.to_string());
    format!("id: {position}\nevent: lost\ndata: {{\"events\":{events}}}\n\n")
}

/// Appends an event; nothing where there is nothing to show.
pub fn event(position: &Position, event: &Event, out: &mut String) {
    let Some((kind, _)) = event.subject() else { return };
    // Writing to a string cannot fail.
    let _ = write!(out, "id: {position}\nevent: {}\ndata: ", kind.names().0);
    match event {
        Event::Reading(row) => reading(row, out),
        Event::Presence(device, state) => json(&StatusBody::of(device, state), out),
        Event::Alert(alert) => json(&AlertBody::from(alert.clone()), out),
        Event::Command(command) => json(&CommandBody::from(command.clone()), out),
        Event::Unseen => {}
    }
    out.push_str("\n\n");
}

/// One line: JSON has no line breaks outside of texts, and escapes those within.
fn json(body: &impl Serialize, out: &mut String) {
    out.push_str(&serde_json::to_string(body).unwrap_or_default());
}

/// A message with its readings in order of time.
fn reading(row: &TelemetryRow, out: &mut String) {
    let TelemetryRow { device, ts, seq, received_at, values } = row;
    let seq = seq.counted().map_or_else(|| "null".to_owned(), |seq| seq.to_string());
    // Ids and times need no escaping.
    let _ =
        write!(out, "{{\"device_id\":\"{device}\",\"time\":\"{ts}\",\"seq\":{seq},\"received_at\":\"{received_at}\"");
    out.push_str(",\"readings\":");
    let mut writer = Writer::new(Format::Json, device.as_str());
    writer.begin(out);
    for (slot, offset_us) in values.offsets_us.iter().enumerate() {
        for series in &values.series {
            let Some(value) = series.values.get(slot).copied().filter(|value| !value.is_nan()) else { continue };
            let is_plausible = series.metric.is_plausible(value);
            let (quantity, unit) = (Quantity::Measured(series.metric.clone()), series.unit.clone());
            writer.point(&Point { time: ts.plus_us(*offset_us), quantity, value, unit, is_plausible }, out);
        }
    }
    writer.end(out);
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DeviceId, Metric, Sequence, Telemetry, Timestamp};
    use crate::live::Hub;

    #[tokio::test]
    async fn a_message_is_one_event_with_all_its_readings() {
        let hub = Hub::default();
        hub.close();
        let position = hub.watch(None).await.position();
        let ts = Timestamp::parse_rfc3339("2026-02-12T10:00:00Z").unwrap();
        let mut values = Telemetry::default();
        values.push(0, Metric::parse("voltage_dc").unwrap(), None, 750.0);
        values.push(100_000, Metric::parse("voltage_dc").unwrap(), None, 9e9);
        values.push(100_000, Metric::parse("door").unwrap(), Some("\n"), 1.0);
        let device = DeviceId::parse("m1").unwrap();
        let row = TelemetryRow { device, ts, seq: Sequence::Counted(7), received_at: ts.plus_us(1_000_000), values };
        let mut text = String::new();
        event(&position, &Event::Reading(row), &mut text);
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!((lines.len(), lines[1]), (5, "event: reading"), "{text}");
        assert_eq!(lines[0], format!("id: {position}"));
        let data: serde_json::Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&data["device_id"], &data["seq"]), (&"m1".into(), &7.into()));
        assert_eq!(data["received_at"], "2026-02-12T10:00:01Z");
        let readings = data["readings"].as_array().unwrap();
        assert_eq!(readings.len(), 3);
        assert_eq!(readings[0]["metric"], "voltage_dc");
        assert_eq!((&readings[1]["quality"], &readings[1]["unit"]), (&"out_of_range".into(), &"V".into()));
        assert_eq!((&readings[2]["metric"], &readings[2]["unit"]), (&"door".into(), &"\n".into()));
    }
}
