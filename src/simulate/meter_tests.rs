//! A meter's behaviour, told as time, commands and downloads in and messages out.

use super::*;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const START: Timestamp = Timestamp(1_770_890_400_000_000);

fn build(send_interval_s: u32, hello_interval_s: u32) -> Build {
    Build {
        command_key: None,
        device_id: "m-1".into(),
        profile: Profile::Dc750,
        config: Config { sampling_cadence_ms: 1000, send_interval_s, hello_interval_s },
        fw_version: "1.0.0".into(),
        speed: 1.0,
        seed: 7,
        phase: 1.0,
    }
}

fn meter() -> Meter {
    Meter::new(build(10, 30), START)
}

fn json_of(message: &Outgoing) -> Json {
    serde_json::from_slice(&message.payload).unwrap()
}

/// Lives until `seconds` after the start, waking when the meter asks for it.
fn live(meter: &mut Meter, seconds: i64) -> Vec<Json> {
    let end = START.plus_us(seconds * 1_000_000);
    let mut out = Vec::new();
    loop {
        let wake = meter.next_wake();
        if wake > end {
            return out;
        }
        out.extend(meter.tick(wake).iter().map(json_of));
    }
}

fn kinds(messages: &[Json]) -> Vec<&str> {
    messages.iter().map(|m| m["msg_type"].as_str().unwrap()).collect()
}

fn command(n: u8, cmd: &str, params: Json) -> Vec<u8> {
    let id = Uuid::from_bytes([n; 16]);
    let body = json!({"v": 2, "cmd_id": id, "ts": "2026-02-12T10:00:00Z", "cmd": cmd, "params": params});
    serde_json::to_vec(&body).unwrap()
}

fn published(effects: &[Effect]) -> Vec<Json> {
    let published = |effect: &Effect| match effect {
        Effect::Publish(message) => Some(json_of(message)),
        _ => None,
    };
    effects.iter().filter_map(published).collect()
}

#[test]
fn a_datagram_each_ten_seconds_holds_ten_pairs_and_counts_up() {
    let messages = live(&mut meter(), 60);
    assert_eq!(kinds(&messages)[..3], ["hello", "telemetry", "telemetry"]);
    assert_eq!(messages.len(), 7);
    for (index, message) in messages.iter().enumerate() {
        assert_eq!(message["seq"], index);
        assert_eq!((&message["v"], &message["device_id"]), (&json!(2), &json!("m-1")));
    }
    let datagram = &messages[2]["measurements"].as_array().unwrap();
    let of = |name: &str| datagram.iter().filter(|m| m["type"] == name).count();
    assert_eq!((of("voltage_dc"), of("current_dc")), (10, 10));
    let (first, last) = (&datagram[0]["ts"], &messages[2]["ts"]);
    assert_eq!(
        (first.as_str().unwrap(), last.as_str().unwrap()),
        ("2026-02-12T10:00:11.000Z", "2026-02-12T10:00:20.000Z")
    );
}

#[test]
fn periodic_hellos_come_only_while_the_send_interval_is_longer() {
    let check = |send, hello, expected: usize| {
        let mut meter = Meter::new(build(send, hello), START);
        let messages = live(&mut meter, 600);
        // One at power-on is always there.
        let hellos = kinds(&messages).iter().filter(|k| **k == "hello").count() - 1;
        assert_eq!(hellos, expected, "send {send} hello {hello}");
    };
    check(10, 30, 0);
    check(30, 30, 0);
    check(60, 30, 20);
    check(300, 60, 10);
}

#[test]
fn power_on_restarts_the_counter_and_keeps_the_configuration() {
    let mut meter = meter();
    live(&mut meter, 60);
    meter.on_command(&command(1, "update_config", json!({"send_interval_s": 5})), START.plus_us(60_000_000));
    meter.power_on(START.plus_us(90_000_000));
    let messages = live(&mut meter, 100);
    assert_eq!(messages.iter().map(|m| m["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(messages[0]["uptime_s"], 0);
    assert_eq!(meter.config().send_interval_s, 5);
}

#[test]
fn a_full_datagram_goes_before_its_time() {
    let mut build = build(3600, 3600);
    build.config.sampling_cadence_ms = 100;
    let messages = live(&mut Meter::new(build, START), 100);
    let telemetry: Vec<_> = messages.iter().filter(|m| m["msg_type"] == "telemetry").collect();
    assert!(telemetry.len() > 5);
    for message in telemetry {
        let count = message["measurements"].as_array().unwrap().len();
        assert!((190..=200).contains(&count), "{count}");
    }
}

#[test]
fn a_command_is_acknowledged_and_takes_effect_once() {
    let mut meter = meter();
    let order = command(1, "update_config", json!({"sampling_cadence_ms": 500, "send_interval_s": 60}));
    let acks = published(&meter.on_command(&order, START));
    assert_eq!((acks.len(), &acks[0]["result"], &acks[0]["msg_type"]), (1, &json!("accepted"), &json!("command_ack")));
    assert_eq!(meter.config(), Config { sampling_cadence_ms: 500, send_interval_s: 60, hello_interval_s: 30 });
    assert_eq!(meter.on_command(&order, START), []);

    let effects = meter.on_command(&command(2, "reboot", Json::Null), START);
    assert_eq!(published(&effects)[0]["result"], "accepted");
    assert_eq!(effects[1], Effect::Reboot);

    let effects = meter.on_command(&command(3, "request_status", json!({})), START);
    assert_eq!(kinds(&published(&effects)), ["command_ack", "hello"]);

    let effects = meter.on_command(&command(4, "factory_reset", json!({})), START);
    assert_eq!(effects.last(), Some(&Effect::Reboot));
    assert_eq!(meter.config(), build(10, 30).config);

    let brokers = json!({"brokers": [{"host": "other", "port": 1}]});
    let effects = meter.on_command(&command(5, "update_config", brokers), START);
    assert_eq!(effects.last(), Some(&Effect::MoveTo(vec![Broker { host: "other".into(), port: 1 }])));
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() {
    let check = |n, cmd: &str, params: Json, expected: &str| {
        let mut meter = meter();
        let effects = meter.on_command(&command(n, cmd, params), START);
        assert_eq!(effects.len(), 1);
        let ack = &published(&effects)[0];
        assert_eq!(ack["result"], expected, "{cmd}");
        assert!(ack["detail"].is_string());
        assert_eq!(meter.config(), build(10, 30).config);
    };
    check(1, "self_destruct", json!({}), "unsupported");
    check(2, "update_config", json!({"send_interval_s": 0}), "rejected");
    check(3, "update_config", json!({"send_interval_s": 20, "sampling_cadence_ms": 1}), "rejected");
    check(4, "update_config", json!({"colour": "red"}), "rejected");
    check(5, "update_config", json!({"brokers": []}), "rejected");
    check(6, "start_ota", json!({"fw_version": "2"}), "rejected");
    let mut meter = meter();
    assert_eq!(meter.on_command(b"not json", START), []);
    let foreign = json!({"cmd_id": Uuid::nil(), "cmd": "reboot", "device_id": "m-2"});
    assert_eq!(meter.on_command(&serde_json::to_vec(&foreign).unwrap(), START), []);
}

fn ota_order(n: u8) -> Vec<u8> {
    let params =
        json!({"fw_version": "2.0.0", "fw_url": "http://h/f", "fw_sha256": "ab".repeat(32), "fw_size_bytes": 9});
    command(n, "start_ota", params)
}

#[test]
fn a_good_update_reboots_and_its_first_hello_has_the_new_version() {
    let mut meter = meter();
    let effects = meter.on_command(&ota_order(1), START);
    assert_eq!(kinds(&published(&effects)), ["command_ack", "ota_status"]);
    assert_eq!(effects[2], Effect::Fetch { url: "http://h/f".into(), size_bytes: 9 });
    let second = published(&meter.on_command(&ota_order(2), START));
    assert_eq!(second[0]["result"], "rejected");

    let effects = meter.on_download(Download::Done { size_bytes: 9, sha256: "ab".repeat(32) }, START);
    let states: Vec<_> = published(&effects).iter().map(|m| m["ota_state"].clone()).collect();
    assert_eq!(states, ["verifying", "applying", "success"]);
    assert_eq!(published(&effects)[2]["fw_version_target"], "2.0.0");
    assert_eq!(effects.last(), Some(&Effect::Reboot));
    meter.power_on(START.plus_us(1_000_000));
    let first = &live(&mut meter, 1)[0];
    assert_eq!(
        (&first["msg_type"], &first["fw_version"], &first["seq"]),
        (&json!("hello"), &json!("2.0.0"), &json!(0))
    );
}

#[test]
fn a_wrong_checksum_fails_and_the_meter_stays_as_it_is() {
    let mut meter = meter();
    meter.on_command(&ota_order(1), START);
    let effects = meter.on_download(Download::Done { size_bytes: 9, sha256: "00".repeat(32) }, START);
    let last = published(&effects).pop().unwrap();
    assert_eq!((&last["ota_state"], last["detail"].is_string()), (&json!("failed"), true));
    assert!(!effects.contains(&Effect::Reboot));
    assert_eq!(meter.fw_version(), "1.0.0");
    assert_eq!(published(&meter.on_command(&ota_order(3), START))[0]["result"], "accepted");
}

#[test]
fn status_has_no_counter_and_takes_none() {
    let mut meter = meter();
    let online = json_of(&meter.online(START));
    assert_eq!(online, json!({"v": 2, "device_id": "m-1", "ts": "2026-02-12T10:00:00.000Z", "status": "online"}));
    assert_eq!(json_of(&meter.offline(START))["status"], "offline");
    assert_eq!(live(&mut meter, 1)[0]["seq"], 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_meter_is_reproduced_by_its_seed_and_never_repeats_an_instant(
        seed: u64, line in 0usize..5, speed in 0.1f64..1000.0, cadence in 100u32..5000, send in 1u32..100,
    ) {
        let mut build = build(send, 30);
        (build.seed, build.speed, build.profile) = (seed, speed, Profile::LINES[line]);
        build.config.sampling_cadence_ms = cadence;
        let one = live(&mut Meter::new(build.clone(), START), 2);
        prop_assert_eq!(&one, &live(&mut Meter::new(build.clone(), START), 2));
        build.seed = !seed;
        let mut instants = std::collections::HashSet::new();
        for (index, message) in one.iter().enumerate() {
            prop_assert_eq!(&message["seq"], index);
            let ts = Timestamp::parse_rfc3339(message["ts"].as_str().unwrap()).unwrap();
            for measurement in message["measurements"].as_array().into_iter().flatten() {
                let at = Timestamp::parse_rfc3339(measurement["ts"].as_str().unwrap()).unwrap();
                prop_assert!(at <= ts && at >= START);
                prop_assert!(instants.insert((at, measurement["type"].as_str().unwrap().to_owned())));
            }
        }
    }
}

#[test]
fn a_meter_with_a_key_obeys_signed_commands_only() {
    let key = CommandKey(crate::vault::random_32());
    let mut meter = Meter::new(Build { command_key: Some(key.clone()), ..build(10, 30) }, START);
    let command = |key: Option<&[u8; 32]>| {
        let id = crate::domain::CommandId::random();
        crate::payload::encode_command(id, START, "request_status", &serde_json::Map::new(), key)
    };
    assert!(meter.on_command(&command(None), START).is_empty());
    assert!(meter.on_command(&command(Some(&[1; 32])), START).is_empty());
    assert!(!meter.on_command(&command(Some(&key.0)), START).is_empty());
}
