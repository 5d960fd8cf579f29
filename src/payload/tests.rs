//! Decoding against the vectors, against its own encoder, and against anything at all.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::domain::message::{AckResult, CommandAck, Hello, OtaState, OtaStatus};
use crate::domain::{Body, CommandId, Metric, Sequence, Telemetry};

use super::*;

const WINDOW: Window = Window { past: Duration::from_secs(400 * 86_400), future: Duration::from_secs(86_400) };

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-02-12T13:00:00Z").expect("a time")
}

fn meter() -> DeviceId {
    DeviceId::parse("m-1").expect("valid")
}

fn read(kind: Kind, payload: &[u8]) -> Result<Message, Refusal> {
    decode(&meter(), kind, "", payload, now(), WINDOW)
}

fn values(message: &Message) -> &Telemetry {
    match &message.body {
        Body::Telemetry(telemetry) => telemetry,
        other => panic!("telemetry expected: {other:?}"),
    }
}

/// Sample times, one a value, ordered.
fn sample_times(message: &Message) -> Vec<Timestamp> {
    let telemetry = values(message);
    let mut times = Vec::new();
    for (slot, offset) in telemetry.offsets_us.iter().enumerate() {
        let count = telemetry.series.iter().filter(|series| !series.values[slot].is_nan()).count();
        times.extend(std::iter::repeat_n(message.ts.plus_us(*offset), count));
    }
    times
}

fn check_vector(case: &Value, content_type: &str, payload: &[u8]) {
    let (name, topic) = (&case["name"], case["topic"].as_str().expect("a topic"));
    let (device, kind) = parse_topic(topic).expect("a meter topic");
    let device = DeviceId::parse(device).expect("valid");
    let result = decode(&device, kind, content_type, payload, now(), WINDOW);
    if case["outcome"] == "invalid" {
        assert_eq!(result.err().map(Refusal::name), case["reason"].as_str(), "{name}");
        return;
    }
    assert_eq!(case["outcome"], "stored", "{name}: an outcome this test does not know");
    let message = result.unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
    assert_eq!(u64::from(message.version), case.get("version").map_or(2, |v| v.as_u64().expect("a number")), "{name}");
    let expect = |key: &str, got: u64| {
        if let Some(expected) = case.get(key) {
            assert_eq!(Some(got), expected.as_u64(), "{name}: {key}");
        }
    };
    if let Body::Telemetry(telemetry) = &message.body {
        expect("values", telemetry.len() as u64);
        expect("flagged", telemetry.flagged.into());
        expect("dropped", telemetry.dropped.into());
    }
    let time = |value: &Value| value.as_str().and_then(Timestamp::parse_rfc3339).expect("a time");
    if let Some(expected) = case.get("ts") {
        assert_eq!(message.ts, time(expected), "{name}");
    }
    if let Some(expected) = case.get("sample_ts") {
        let expected: Vec<Timestamp> = expected.as_array().expect("times").iter().map(time).collect();
        assert_eq!(sample_times(&message), expected, "{name}");
    }
    if let Some(status) = case.pointer("/effect/connection_status") {
        let is_online = !matches!(message.body, Body::Status { online: false });
        assert_eq!(status, if is_online { "online" } else { "offline" }, "{name}");
    }
    if let Some(version) = case.pointer("/effect/fw_version") {
        assert!(matches!(&message.body, Body::Hello(hello) if *version == hello.fw_version), "{name}");
    }
}

#[test]
fn every_vector_has_its_outcome_in_json_and_in_cbor() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors/messages.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("the vectors are JSON");
    assert!(cases.len() >= 31, "the vectors have shrunk");
    for case in &cases {
        let payload = case["payload"].as_str().expect("a payload");
        check_vector(case, "", payload.as_bytes());
        if let Ok(tree) = serde_json::from_str::<Value>(payload) {
            let cbor = minicbor_serde::to_vec(&tree).expect("in memory");
            check_vector(case, "application/cbor", &cbor);
            check_vector(case, if tree.is_object() { "" } else { "Application/CBOR; x=y" }, &cbor);
        }
    }
}

/// A datagram with these members replaced (`null` removes), as JSON text.
fn datagram(changes: Value) -> String {
    let mut object = json!({
        "v": 2, "device_id": "m-1", "ts": "2026-02-12T10:00:10Z", "seq": 7, "msg_type": "telemetry",
        "measurements": [{"ts": "2026-02-12T10:00:01Z", "type": "voltage_dc", "val": 750.0}],
    });
    for (name, value) in changes.as_object().expect("an object") {
        object[name] = value.clone();
    }
    object.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    object.to_string()
}

#[track_caller]
fn check_refusal(payload: &str, expected: Refusal) {
    assert_eq!(read(Kind::Telemetry, payload.as_bytes()), Err(expected), "{payload}");
}

#[test]
fn a_measurement_far_from_its_message_is_dropped_and_counted() {
    let check = |ts: &str, is_kept: bool| {
        let entry = |ts: &str| json!({"ts": ts, "type": "voltage_dc", "val": 750.0});
        let text = datagram(json!({"measurements": [entry("2026-02-12T10:00:01Z"), entry(ts)]}));
        let Ok(Message { body: Body::Telemetry(telemetry), .. }) = read(Kind::Telemetry, text.as_bytes()) else {
            panic!("{ts}: no telemetry");
        };
        assert_eq!((telemetry.len(), telemetry.dropped), if is_kept { (2, 0) } else { (1, 1) }, "{ts}");
    };
    check("2026-02-12T09:00:10Z", true);
    check("2026-02-11T10:00:10Z", true);
    check("2026-02-11T10:00:09.999999Z", false);
    check("2025-03-01T00:00:00Z", false);
}

#[test]
fn what_is_wrong_first_is_the_reason() {
    let all_wrong = json!({"device_id": "x", "ts": "x", "seq": -1, "msg_type": "x", "measurements": []});
    check_refusal(&datagram(all_wrong.clone()), Refusal::DeviceMismatch);
    let mut wrong = all_wrong;
    let mut fix = |name: &str, value: Value| {
        wrong[name] = value;
        datagram(wrong.clone())
    };
    check_refusal(&fix("device_id", json!("m-1")), Refusal::BadTimestamp);
    check_refusal(&fix("ts", json!("2024-02-12T10:00:10Z")), Refusal::TimestampOutOfRange);
    check_refusal(&fix("ts", json!("2026-02-13T13:00:01Z")), Refusal::TimestampOutOfRange);
    check_refusal(&fix("ts", json!("2026-02-13T13:00:00Z")), Refusal::BadSeq);
    check_refusal(&fix("seq", json!(1)), Refusal::BadMsgType);
    check_refusal(&fix("msg_type", json!("telemetry")), Refusal::NoMeasurements);
    check_refusal(&fix("measurements", json!("none")), Refusal::BadField);
    check_refusal(&datagram(json!({"device_id": null})), Refusal::BadField);
    check_refusal(&datagram(json!({"v": "2"})), Refusal::UnknownVersion);
    check_refusal(&datagram(json!({"v": 0})), Refusal::UnknownVersion);
}

#[test]
fn a_text_that_is_not_one_object_is_malformed() {
    let good = datagram(json!({}));
    assert!(read(Kind::Telemetry, good.as_bytes()).is_ok());
    assert!(read(Kind::Telemetry, format!(" {good}\r\n").as_bytes()).is_ok(), "blanks around are JSON");
    check_refusal(&format!("{good}x"), Refusal::Malformed);
    check_refusal(&format!("{good}{good}"), Refusal::Malformed);
    check_refusal(&format!("\u{feff}{good}"), Refusal::Malformed);
    check_refusal(&good.replacen('{', r#"{"seq":7,"#, 1), Refusal::Malformed);
    check_refusal(&good.replacen('{', r#"{"measurements":[],"#, 1), Refusal::Malformed);
    check_refusal(&good.replace(r#""val":"#, r#""val":1,"val":"#), Refusal::Malformed);
    check_refusal(r#"{"a":1,"a":2}"#, Refusal::Malformed);
    check_refusal("\"text\"", Refusal::Malformed);
    check_refusal("null", Refusal::Malformed);
    let mut latin = good.replace("m-1", "m?1").into_bytes();
    let at = latin.iter().position(|b| *b == b'?').expect("put there");
    latin[at] = 0xE9;
    assert_eq!(read(Kind::Telemetry, &latin), Err(Refusal::Malformed));
}

#[test]
fn one_bad_measurement_is_dropped_alone() {
    let good = r#"{"ts":"2026-02-12T10:00:01Z","type":"voltage_dc","val":750}"#;
    for bad in [
        r#"{"type":"a","val":"1"}"#,
        r#"{"type":"a","val":null}"#,
        r#"{"type":"a","val":true}"#,
        r#"{"type":"a","val":NaN}"#,
        r#"{"type":"a","val":-Infinity}"#,
        r#"{"type":"a","val":1e999}"#,
        r#"{"type":"a","val":{"x":[1]}}"#,
        r#"{"type":"a","val":[1]}"#,
        r#"{"type":"a"}"#,
        r#"{"val":1}"#,
        r#"{"type":"","val":1}"#,
        r#"{"type":"a b","val":1}"#,
        r#"{"type":7,"val":1}"#,
        r#"{"type":"a","val":1,"ts":"yesterday"}"#,
        r#"{"type":"a","val":1,"ts":1770000000}"#,
        r#"{"type":"a","val":1,"ts":"2026-02-12T10:00:01"}"#,
        r#"{"type":"a","val":1,"ts":"1970-01-01T00:00:00Z"}"#,
        "7",
        "null",
        "[{}]",
        r#""text""#,
    ] {
        let payload = datagram(json!({"measurements": "X"})).replace(r#""X""#, &format!("[{good},{bad},{good}]"));
        let message = read(Kind::Telemetry, payload.as_bytes()).unwrap_or_else(|e| panic!("{bad}: {e:?}"));
        assert_eq!((values(&message).len(), values(&message).dropped), (2, 1), "{bad}");
    }
}

#[test]
fn a_datagram_of_which_nothing_is_usable_is_still_a_message() {
    let message = read(Kind::Telemetry, datagram(json!({"measurements": [1, 2]})).as_bytes()).expect("kept");
    assert_eq!((values(&message).len(), values(&message).dropped, message.seq), (0, 2, Sequence::Counted(7)));
}

#[test]
fn depth_and_width_exhaust_nothing() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let payload = datagram(json!({"extra": "X"})).replace(r#""X""#, &deep);
    assert!(read(Kind::Telemetry, payload.as_bytes()).is_ok(), "what is not read may be as deep as it likes");
    check_refusal(&"[".repeat(250_000), Refusal::Malformed);
    check_refusal(&r#"{"a":"#.repeat(50_000), Refusal::Malformed);
    for open in [0x81_u8, 0x9F, 0xBF, 0xA1, 0xC6, 0x82] {
        let cbor = [vec![0xA1, 0x61, b'v'], vec![open; 250_000]].concat();
        assert_eq!(read(Kind::Telemetry, &cbor), Err(Refusal::Malformed), "{open:#x}");
    }
    // A list that claims 2^63 entries.
    let claim = [&[0xA1, 0x6C][..], b"measurements", &[0x9B, 0x80, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(read(Kind::Telemetry, &claim), Err(Refusal::Malformed));
}

#[test]
fn cbor_of_indefinite_lengths_small_floats_and_tags_is_the_same_message() {
    let mut cbor = Vec::new();
    let mut e = minicbor::Encoder::new(&mut cbor);
    e.begin_map().unwrap().str("v").unwrap().u8(2).unwrap();
    e.str("device_id").unwrap().begin_str().unwrap().str("m-").unwrap().str("1").unwrap().end().unwrap();
    e.str("ts").unwrap().tag(minicbor::data::Tag::new(0)).unwrap().str("2026-02-12T10:00:10Z").unwrap();
    e.str("seq").unwrap().u64(7).unwrap().str("msg_type").unwrap().str("telemetry").unwrap();
    e.u8(1).unwrap().str("a key that is no text").unwrap();
    e.str("measurements").unwrap().begin_array().unwrap().begin_map().unwrap();
    e.str("ts").unwrap().str("2026-02-12T10:00:01Z").unwrap().str("type").unwrap().str("voltage_dc").unwrap();
    e.str("val").unwrap().f16(750.0).unwrap().end().unwrap().end().unwrap().end().unwrap();
    assert_eq!(read(Kind::Telemetry, &cbor), read(Kind::Telemetry, datagram(json!({})).as_bytes()));
    cbor.push(0);
    assert_eq!(read(Kind::Telemetry, &cbor), Err(Refusal::Malformed), "something behind it");
}

#[test]
fn what_an_old_meter_prints_for_no_number_is_dropped_and_counted_as_in_cbor() {
    let check = |json: &str, members: &[(&str, Option<f64>)], expected: (usize, u16)| {
        let members: std::collections::BTreeMap<_, _> = members.iter().copied().collect();
        let cbor = minicbor_serde::to_vec(&members).expect("in memory");
        for payload in [json.as_bytes(), &cbor[..]] {
            let message = read(Kind::Telemetry, payload).expect("is good");
            assert_eq!((values(&message).len(), values(&message).dropped), expected, "{json}");
        }
    };
    let (nan, one) = (Some(f64::NAN), Some(1.0));
    check(r#"{"voltage_dc":NaN,"current_dc":1}"#, &[("voltage_dc", nan), ("current_dc", one)], (1, 1));
    check(r#"{"a":-Infinity,"b":1e999}"#, &[("a", Some(f64::NEG_INFINITY)), ("b", Some(f64::INFINITY))], (0, 2));
    check(r#"{"a":NaN,"b":null,"c":1.0}"#, &[("a", nan), ("b", None), ("c", one)], (1, 1));
    check_refusal(r#"{"a":NaN,"a":1}"#, Refusal::Malformed);
}

#[test]
fn old_meters_are_understood() {
    let check = |kind, payload: &str, expected: Result<(&str, usize, u16), Refusal>| {
        let got = read(kind, payload.as_bytes()).map(|m| {
            assert_eq!((m.version, m.seq.counted()), (1, None), "{payload}");
            let (len, dropped) = match &m.body {
                Body::Telemetry(telemetry) => (telemetry.len(), telemetry.dropped),
                _ => (0, 0),
            };
            (m.ts.to_string(), len, dropped)
        });
        assert_eq!(got, expected.map(|(ts, len, dropped)| (ts.to_owned(), len, dropped)), "{payload}");
    };
    let telemetry = |payload: &str, expected| check(Kind::Telemetry, payload, expected);
    telemetry(r#"{"timestamp":"2026-02-12T12:00:00","a":1,"b":2}"#, Ok(("2026-02-12T12:00:00Z", 2, 0)));
    telemetry(r#"{"ts":1770897600,"a":1,"v":1,"seq":3}"#, Ok(("2026-02-12T12:00:00Z", 1, 0)));
    telemetry(r#"{"timestamp":1770897600250,"a":1}"#, Ok(("2026-02-12T12:00:00.250Z", 1, 0)));
    telemetry(r#"{"a":1,"b":1e999,"c":[1],"d e":2,"f":true}"#, Ok(("2026-02-12T13:00:00Z", 1, 2)));
    telemetry(r#"{"timestamp":"soon","a":1}"#, Err(Refusal::BadTimestamp));
    telemetry(r#"{"timestamp":1,"a":1}"#, Err(Refusal::TimestampOutOfRange));
    telemetry(r#"{"timestamp":1e300,"a":1}"#, Err(Refusal::TimestampOutOfRange));
    telemetry(r#"{"device_id":"m-2","a":1}"#, Err(Refusal::DeviceMismatch));
    telemetry("{}", Err(Refusal::NoMeasurements));
    let many: Vec<String> = (0..201).map(|n| format!("\"m{n}\":1")).collect();
    telemetry(&format!("{{{}}}", many.join(",")), Err(Refusal::TooManyMeasurements));
    telemetry(&format!("{{{}}}", many[1..].join(",")), Ok(("2026-02-12T13:00:00Z", 200, 0)));
    check(Kind::Status, r#"{"status":"online"}"#, Ok(("2026-02-12T13:00:00Z", 0, 0)));
    check(Kind::Hello, r#"{"fw_version":"1"}"#, Err(Refusal::BadField));
}

#[test]
fn without_a_counter_only_the_same_bytes_are_the_same_message() {
    let seq = |payload: &str| read(Kind::Telemetry, payload.as_bytes()).expect("stored").seq;
    assert_eq!(seq(r#"{"a":1}"#), seq(r#"{"a":1}"#));
    assert_ne!(seq(r#"{"a":1}"#), seq(r#"{"a": 1}"#));
    assert_eq!(Sequence::from_i64(seq(r#"{"a":1}"#).to_i64()), seq(r#"{"a":1}"#), "as stored");
}

#[test]
fn texts_that_are_kept_are_bounded() {
    let ack = |detail: &str| {
        json!({"v": 2, "device_id": "m-1", "ts": "2026-02-12T10:00:10Z", "seq": 1, "msg_type": "command_ack",
               "cmd_id": "a3f7c2e1-9b4d-4e8a-b6f1-2d3e4f5a6b7c", "result": "error", "detail": detail})
    };
    let message = read(Kind::CommandAck, ack(&"é".repeat(600)).to_string().as_bytes()).expect("stored");
    assert!(matches!(message.body, Body::CommandAck(CommandAck { detail: Some(d), .. }) if d == "é".repeat(512)));
    let hello = json!({"v": 2, "device_id": "m-1", "ts": "2026-02-12T10:00:10Z", "seq": 1, "msg_type": "hello",
        "fw_version": "x".repeat(65), "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0});
    assert_eq!(read(Kind::Hello, hello.to_string().as_bytes()), Err(Refusal::BadField));
}

fn telemetry_strategy() -> impl Strategy<Value = Body> {
    let metric = prop_oneof!["(voltage_dc|current_dc|pf|temperature)", "[A-Za-z0-9_.-]{1,64}"];
    let value = prop_oneof![any::<i16>().prop_map(|n| f64::from(n) / 8.0), proptest::num::f64::NORMAL, Just(0.0)];
    let sample = (-20_i64..20, metric, value, proptest::option::of("[A-Za-zé%]{1,8}"));
    proptest::collection::vec(sample, 1..40).prop_map(|samples| {
        let mut telemetry = Telemetry::default();
        for (offset, name, value, unit) in samples {
            telemetry.push(offset * 250_000, Metric::parse(&name).expect("valid"), unit.as_deref(), value);
        }
        Body::Telemetry(telemetry)
    })
}

fn body_strategy() -> impl Strategy<Value = Body> {
    let id = || any::<u128>().prop_map(|n| CommandId(uuid::Uuid::from_u128(n)));
    let detail = || proptest::option::of(r#"[ -~é"\\\n]{0,60}"#);
    let hello = ("[ -~]{1,64}", any::<u64>(), any::<u32>(), 0.0..=100.0, proptest::option::of(-60.0..120.0));
    let results = [AckResult::Accepted, AckResult::Rejected, AckResult::Error, AckResult::Unsupported];
    let states = [OtaState::Downloading, OtaState::Verifying, OtaState::Applying, OtaState::Success, OtaState::Failed];
    prop_oneof![
        4 => telemetry_strategy(),
        1 => hello.prop_map(|(fw_version, uptime_s, broker_connections, buf_usage_pct, temp_internal)| {
            Body::Hello(Hello { fw_version, uptime_s, broker_connections, buf_usage_pct, temp_internal })
        }),
        1 => any::<bool>().prop_map(|online| Body::Status { online }),
        1 => (id(), 0..results.len(), detail()).prop_map(move |(cmd_id, result, detail)| {
            Body::CommandAck(CommandAck { cmd_id, result: results[result], detail })
        }),
        1 => (id(), 0..states.len(), 0.0..=100.0, "[ -~]{1,64}", detail()).prop_map(
            move |(cmd_id, state, progress_pct, fw_version_target, detail)| {
                Body::OtaStatus(OtaStatus { cmd_id, state: states[state], progress_pct, fw_version_target, detail })
            }
        ),
    ]
}

fn message_strategy() -> impl Strategy<Value = Message> {
    (any::<u32>(), 0..86_400_000_000_i64, body_strategy()).prop_map(|(seq, age_us, body)| Message {
        device: meter(),
        ts: now().plus_us(-age_us),
        seq: Sequence::Counted(seq),
        version: 2,
        body,
    })
}

fn kind_of(message: &Message) -> Kind {
    Kind::ALL.into_iter().find(|kind| kind.name() == message.body.kind()).expect("every body has a kind")
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(message in message_strategy()) {
        for form in [Form::Json, Form::Cbor] {
            let kind = kind_of(&message);
            let read_back = read(kind, &encode(&message, form));
            let mut read_back = read_back.map_err(|e| TestCaseError::fail(format!("{form:?}: {e:?}")))?;
            if kind == Kind::Status {
                read_back.seq = message.seq;
            }
            if kind == Kind::Telemetry {
                // The order of types may differ; what is written again does not.
                prop_assert_eq!(values(&read_back).len(), values(&message).len());
                prop_assert_eq!(values(&read_back).flagged, values(&message).flagged);
                prop_assert_eq!(sample_times(&read_back), sample_times(&message));
                let again = read(kind, &encode(&read_back, form)).expect("read once");
                prop_assert_eq!(encode(&again, form), encode(&read_back, form));
            } else {
                prop_assert_eq!(&read_back, &message);
            }
        }
    }

    #[test]
    fn json_and_cbor_say_the_same(message in message_strategy()) {
        let kind = kind_of(&message);
        let [json, cbor] = [Form::Json, Form::Cbor].map(|form| read(kind, &encode(&message, form)).expect("valid"));
        if kind == Kind::Status {
            prop_assert_eq!(json.body, cbor.body);
        } else {
            prop_assert_eq!(format!("{json:?}"), format!("{cbor:?}"), "NaN slots are equal as text");
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        kind in proptest::sample::select(Kind::ALL.to_vec()),
        content_type in proptest::sample::select(vec!["", "application/json", "application/cbor"]),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = decode(&meter(), kind, content_type, &bytes, now(), WINDOW);
    }

    #[test]
    fn a_damaged_message_does_not_make_it_panic(
        message in message_strategy(),
        form in proptest::sample::select(vec![Form::Json, Form::Cbor]),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = encode(&message, form);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read(kind_of(&message), &bytes);
        let _ = read(kind_of(&message), &bytes[..cut.index(bytes.len())]);
        let _ = decode_command(&bytes, None);
    }
}
