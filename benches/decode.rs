//! How long one datagram of 20 values takes to decode, beside merely skipping through the same bytes: the limit.
//!
//! `cargo bench --bench decode`

use std::hint::black_box;
use std::time::{Duration, Instant};

use iot_meter::domain::metric::Known;
use iot_meter::domain::{Body, DeviceId, Message, Metric, Sequence, Telemetry, Timestamp};
use iot_meter::payload::{Form, Kind, Window, decode, encode};

/// The shortest of many runs, in nanoseconds a call. A run is shorter than a time slice of the operating system, so that
/// on a busy machine some run is undisturbed.
fn nanoseconds(mut call: impl FnMut()) -> f64 {
    const CALLS: u32 = 100;
    let runs = (0..2000).map(|_| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    });
    runs.fold(f64::INFINITY, f64::min)
}

fn datagram(device: &DeviceId, ts: Timestamp) -> Message {
    let mut telemetry = Telemetry::default();
    for second in 0..10 {
        let (offset_us, wobble) = ((second - 9) * 1_000_000, second as f64);
        telemetry.push(offset_us, Metric::Known(Known::VoltageDc), None, 751.5 + wobble);
        telemetry.push(offset_us, Metric::Known(Known::CurrentDc), None, 309.25 - wobble);
    }
    Message { device: device.clone(), ts, seq: Sequence::Counted(142), version: 2, body: Body::Telemetry(telemetry) }
}

fn main() {
    let device = DeviceId::parse("dc-meter-007").expect("a valid id");
    let now = Timestamp::parse_rfc3339("2026-02-12T10:00:10.250Z").expect("a time");
    let window = Window { past: Duration::from_secs(400 * 86_400), future: Duration::from_secs(86_400) };
    let message = datagram(&device, now);
    for form in [Form::Json, Form::Cbor] {
        let bytes = encode(&message, form);
        let read = || decode(&device, Kind::Telemetry, form.content_type(), &bytes, now, window);
        assert!(read().is_ok_and(|m| matches!(m.body, Body::Telemetry(t) if t.len() == 20)), "a whole datagram");
        let decoding = nanoseconds(|| drop(black_box(read())));
        let encoding = nanoseconds(|| drop(black_box(encode(&message, form))));
        let skipping = nanoseconds(|| match form {
            Form::Json => drop(black_box(serde_json::from_slice::<serde::de::IgnoredAny>(&bytes))),
            Form::Cbor => drop(black_box(minicbor::Decoder::new(&bytes).skip())),
        });
        println!(
            "{form:?}: {} bytes, decode {decoding:.0} ns, limit (skip) {skipping:.0} ns, ratio {:.2}, encode {encoding:.0} ns",
            bytes.len(),
            decoding / skipping,
        );
    }
}
