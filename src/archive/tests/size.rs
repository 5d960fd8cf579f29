//! What a value takes in the archive, on what simulated meters say.

use super::super::batch::Pending;
use super::super::classify::classify;
use super::super::encode::Encoder;
use super::super::full::Scan;
use super::super::key::ObjectName;
use super::super::merge::merge;
use super::*;
use crate::simulate::Profile;
use crate::simulate::meter::{Build, Config, Meter};

/// 2026-02-12T10:00:00Z: the beginning of an hour.
const START: Timestamp = Timestamp(1_770_890_400_000_000);
const WEEK: Window = Window { past: Duration::from_secs(7 * 86_400), future: DAY };

/// What meters of all lines say within some seconds, as it is received: each a few thousandths of a second after it was said.
fn fleet(meters: u32, seconds: i64) -> Vec<(Timestamp, String, Vec<u8>)> {
    let mut all = Vec::new();
    for index in 0..meters {
        let profile = Profile::LINES[index as usize % Profile::LINES.len()];
        let device_id = format!("sim-{}-{:04}", profile.name(), index + 1);
        let config = Config { sampling_cadence_ms: 1000, send_interval_s: 10, hello_interval_s: 30 };
        let phase = f64::from(index * 37 % meters + 1) / f64::from(meters);
        let (fw_version, seed, command_key) = ("1.4.2".to_owned(), u64::from(index) + 7, None);
        let build = Build { device_id, profile, config, fw_version, speed: 1.0, seed, command_key, phase };
        // Meters are switched on at any time.
        let on = START.plus_us(-60_000_000 - i64::from(index) * 1_234_567 % 10_000_000);
        let mut meter = Meter::new(build, on);
        let end = START.plus_us(seconds * 1_000_000);
        let mut lag = u64::from(index) + 1;
        while meter.next_wake() < end {
            let now = meter.next_wake();
            for message in meter.tick(now) {
                lag = lag.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let received_at = now.plus_us(2_000 + (lag >> 33) as i64 % 30_000);
                let topic = format!("iot/{}/{}", meter.device_id(), message.kind.topic_end());
                all.push((received_at, topic, message.payload.to_vec()));
            }
        }
    }
    all.retain(|(received_at, ..)| *received_at >= START);
    all.sort();
    all
}

fn values(messages: &[(Timestamp, String, Vec<u8>)]) -> usize {
    let of = |payload: &[u8]| payload.windows(6).filter(|window| window == b"\"val\":").count();
    messages.iter().map(|(_, _, payload)| of(payload)).sum()
}

/// The objects that become of messages, one for each of `batches`.
fn written<'a>(batches: impl Iterator<Item = &'a [(Timestamp, String, Vec<u8>)]>) -> Vec<(ObjectName, bytes::Bytes)> {
    let (mut next, mut objects) = (0, Vec::new());
    for batch in batches {
        let mut pending = Pending::default();
        for (received_at, topic, payload) in batch {
            let record = Record {
                offset: Offset(next),
                received_at: *received_at,
                topic,
                identity: topic.split('/').nth(1).unwrap(),
                content_type: "",
                flags: Flags { qos: 2, retain: false, dup: false },
                payload,
            };
            next += 1;
            pending.push(&record);
        }
        let batch = pending.take(|_| None, |record| classify(record, WEEK)).unwrap();
        for part in batch.parts(&NODE.hyphenated().to_string()) {
            let (bytes, _) = Encoder::default().encode(&batch, &part, "").unwrap();
            objects.push((part.name, bytes));
        }
    }
    objects
}

fn payloads(objects: &[(ObjectName, bytes::Bytes)]) -> Vec<(i64, Vec<u8>)> {
    let mut all = Vec::new();
    for (_, bytes) in objects {
        let mut scan = Scan::new(bytes.clone()).unwrap();
        loop {
            let rows = scan.next_rows().unwrap();
            if rows.is_empty() {
                break;
            }
            all.extend(rows.into_iter().map(|row| (row.offset, row.payload.data().to_vec())));
        }
    }
    all.sort();
    all
}

fn per_value(objects: &[(ObjectName, bytes::Bytes)], values: usize) -> f64 {
    objects.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() as f64 / values as f64
}

#[test]
fn an_hour_of_simulated_meters_takes_less_than_three_bytes_a_value() {
    let messages = fleet(20, 3599);
    let values = values(&messages);
    assert!(messages.len() > 7000 && values > 180_000, "{} messages, {values} values", messages.len());
    // As one object a minute, and put together.
    let minutes = messages.chunk_by(|a, b| a.0.micros() / 60_000_000 == b.0.micros() / 60_000_000);
    let written = written(minutes);
    assert_eq!(written.len(), 60);
    let first = per_value(&written, values);
    let whole = merge(written.clone()).map_err(|failed| failed.error).unwrap();
    let whole = [(whole.name, whole.bytes)];
    let last = per_value(&whole, values);
    println!("20 meters: {first:.2} bytes a value as written, {last:.2} put together");
    let sent: Vec<_> = (0..).zip(messages).map(|(offset, (_, _, payload))| (offset, payload)).collect();
    assert_eq!(payloads(&written), sent);
    assert_eq!(payloads(&whole), sent);
    assert!(last <= 3.0, "{last:.2} bytes a value");
}

#[test]
fn an_object_of_a_large_fleet_takes_less_than_three_bytes_a_value_as_it_is_written() {
    let messages = fleet(4000, 12);
    let values = values(&messages);
    let written = written(std::iter::once(messages.as_slice()));
    let first = per_value(&written, values);
    println!("4000 meters: {} messages, {first:.2} bytes a value as written", messages.len());
    assert!(first <= 3.0, "{first:.2} bytes a value");
}
