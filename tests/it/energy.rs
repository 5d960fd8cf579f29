//! Energy through the whole server: what a meter publishes comes back as intervals.

use iot_meter::domain::Timestamp;
use serde_json::{Value, json};

use crate::support::{Api, Client, Connect, TestApp};

const START: &str = "2026-02-12T10:00:00Z";
/// Samples of a datagram.
const CHUNK: usize = 50;

/// A server whose clock stands two hours after [`START`].
fn app() -> TestApp {
    TestApp::builder().open().clock("2026-02-12T12:00:00Z").start()
}

/// Publishes samples (time, [(type, value)]) in datagrams stamped with their last sample.
fn publish(meter: &mut Client, device: &str, first_seq: u32, samples: &[(Timestamp, Vec<(&str, f64)>)]) {
    for (seq, chunk) in (first_seq..).zip(samples.chunks(CHUNK)) {
        let of = |(ts, values): &(Timestamp, Vec<(&str, f64)>)| {
            let ts = ts.to_string();
            let one = |(name, value): &(&str, f64)| json!({"ts": ts, "type": name, "val": value});
            values.iter().map(one).collect::<Vec<_>>()
        };
        let measurements: Vec<Value> = chunk.iter().flat_map(of).collect();
        let ts = chunk.last().unwrap().0.to_string();
        let message = json!({"v": 2, "device_id": device, "ts": ts, "seq": seq, "msg_type": "telemetry",
            "measurements": measurements});
        meter.publish(&format!("iot/{device}/telemetry"), message.to_string().as_bytes(), 1);
    }
}

/// Samples a second apart, `from_s` to `to_s` seconds after [`START`], of so much direct current at 750 V.
fn dc(from_s: i64, to_s: i64, amperes: f64) -> Vec<(Timestamp, Vec<(&'static str, f64)>)> {
    let at = |s| time(START).plus_us(s * 1_000_000);
    (from_s..=to_s).map(|s| (at(s), vec![("voltage_dc", 750.0), ("current_dc", amperes)])).collect()
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn energy(api: &Api, device: &str, query: &str) -> Vec<Value> {
    let answer = api.get(&format!("/api/devices/{device}/energy?{query}")).expect(200).json();
    answer.as_array().unwrap().clone()
}

fn number(of: &Value, name: &str) -> f64 {
    of[name].as_f64().unwrap_or_else(|| panic!("no {name} in {of}"))
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

#[test]
fn every_vector_comes_back_as_its_intervals() {
    let app = app();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors/energy.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(cases.len() >= 7, "the vectors have shrunk");
    for (n, case) in cases.iter().enumerate() {
        let device = format!("vector-{n}");
        let (mut meter, _) = app.mqtt(&Connect::id(&device));
        let sample = |s: &Value| {
            let values = vec![("voltage_dc", number(s, "voltage_dc")), ("current_dc", number(s, "current_dc"))];
            (time(s["ts"].as_str().unwrap()), values)
        };
        let samples: Vec<_> = case["samples"].as_array().unwrap().iter().map(sample).collect();
        publish(&mut meter, &device, 0, &samples);
        app.settled();
        let expected = case["intervals"].as_array().unwrap();
        let stop = time(expected.last().unwrap()["start"].as_str().unwrap()).plus_us(1_000_000);
        let got = energy(&app.api, &device, &format!("start={}&stop={stop}", expected[0]["start"].as_str().unwrap()));
        assert_eq!(got.len(), expected.len(), "{case} {got:?}");
        for (got, expected) in got.iter().zip(expected) {
            for name in ["import_wh", "export_wh", "coverage"] {
                assert!(is_near(number(got, name), number(expected, name)), "{name}: {got} is not {expected}");
            }
            assert_eq!(time(got["start"].as_str().unwrap()), time(expected["start"].as_str().unwrap()));
            let is_valid = number(expected, "coverage") >= 0.99;
            assert_eq!(got["quality"] == "valid", is_valid, "{got}");
        }
    }
}

#[test]
fn late_data_heal_an_interval() {
    let app = app();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let before = dc(0, 99, 100.0);
    let after = dc(200, 300, 100.0);
    publish(&mut meter, "m1", 0, &before);
    publish(&mut meter, "m1", 10, &after);
    app.settled();
    let query = format!("start={START}&stop=2026-02-12T10:05:00Z");
    let got = energy(&app.api, "m1", &query);
    assert_eq!((got.len(), &got[0]["quality"], &got[0]["doubts"]), (1, &json!("uncertain"), &json!(["incomplete"])));
    assert!(is_near(number(&got[0], "import_wh"), 199.0 * 75_000.0 / 3600.0), "nothing across the hole: {got:?}");
    publish(&mut meter, "m1", 4, &dc(100, 199, 100.0));
    app.settled();
    let got = energy(&app.api, "m1", &query);
    assert_eq!((&got[0]["quality"], got[0].get("doubts")), (&json!("valid"), None));
    assert!(is_near(number(&got[0], "import_wh"), 6250.0) && number(&got[0], "coverage") == 1.0, "{got:?}");
}

#[test]
fn what_is_fed_back_has_a_register_of_its_own_under_direct_and_alternating_current() {
    let app = app();
    let (mut meter, _) = app.mqtt(&Connect::id("dc"));
    let samples: Vec<_> = [dc(0, 60, 100.0), dc(61, 120, -100.0)].concat();
    publish(&mut meter, "dc", 0, &samples);
    let (mut meter, _) = app.mqtt(&Connect::id("ac"));
    let at = |s: i64| time(START).plus_us(s * 1_000_000);
    let ac = |s: i64, pf: f64| (at(s), vec![("voltage_ac", 15_000.0), ("current_ac", 100.0), ("pf", pf)]);
    let samples: Vec<_> = (0..=60).map(|s| ac(s, 0.6)).chain((63..=120).map(|s| ac(s, -0.6))).collect();
    publish(&mut meter, "ac", 0, &samples);
    app.settled();
    let query = format!("start={START}&stop=2026-02-12T10:02:00Z&period=1m");
    let got = energy(&app.api, "dc", &query);
    // Through zero in the middle of the 61st second.
    let ws = |seconds: f64| 75_000.0 * seconds / 3600.0;
    assert!(is_near(number(&got[0], "import_wh"), ws(60.0)) && number(&got[0], "export_wh") == 0.0, "{got:?}");
    assert!(is_near(number(&got[1], "import_wh"), ws(0.25)) && is_near(number(&got[1], "export_wh"), ws(59.25)));
    assert!(is_near(number(&got[1], "apparent_vah"), ws(60.0)) && number(&got[1], "reactive_varh") == 0.0, "{got:?}");
    let got = energy(&app.api, "ac", &query);
    assert!(is_near(number(&got[0], "import_wh"), 900_000.0 / 60.0), "{got:?}");
    assert!(is_near(number(&got[0], "reactive_varh"), 1_200_000.0 / 60.0), "{got:?}");
    assert!(is_near(number(&got[1], "apparent_vah"), 1_500_000.0 / 60.0), "{got:?}");
    assert!(number(&got[1], "export_wh") > 900_000.0 * 57.0 / 3600.0, "{got:?}");
    assert_eq!(got[1]["quality"], "valid");
}

#[test]
fn intervals_are_whole_and_begin_at_midnight_utc_and_those_without_data_say_so() {
    let app = TestApp::builder().open().clock("2026-03-29T12:00:00Z").start();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let midnight = time("2026-03-29T00:00:00Z");
    let at = |s: i64| midnight.plus_us(s * 1_000_000);
    let samples: Vec<_> = (-60..=120).map(|s| (at(s), vec![("voltage_dc", 3600.0), ("current_dc", 100.0)])).collect();
    publish(&mut meter, "m1", 0, &samples);
    app.settled();
    let days = energy(&app.api, "m1", "start=2026-03-28T10:00:00Z&stop=2026-03-29T03:30:00Z&period=1d");
    let ends: Vec<_> = days.iter().map(|d| (d["start"].as_str().unwrap(), d["end"].as_str().unwrap())).collect();
    // The clocks of half of Europe are put forward in this night.
    let expected = [("2026-03-28T00:00:00Z", "2026-03-29T00:00:00Z"), ("2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z")];
    assert_eq!(ends, expected);
    assert_eq!((number(&days[0], "import_wh"), number(&days[1], "import_wh")), (6000.0, 12_000.0));
    let minutes = energy(&app.api, "m1", "start=2026-03-28T23:58:30Z&stop=2026-03-29T00:02:30Z&period=1m");
    let short: Vec<_> = minutes.iter().map(|m| (number(m, "import_wh"), m["quality"].as_str().unwrap())).collect();
    let valid = (6000.0, "valid");
    assert_eq!(short, [(0.0, "missing"), valid, valid, valid, (0.0, "missing")]);
    let csv = app.api.get("/api/devices/m1/energy?start=2026-03-29T00:00:00Z&stop=2026-03-29T00:05:00Z&format=csv");
    let csv = csv.expect(200).text();
    assert_eq!(csv.lines().count(), 2, "{csv}");
    assert!(csv.contains("2026-03-29T00:00:00Z,2026-03-29T00:05:00Z,12000.0,0.0,12000.0,0.0,0.4,uncertain,incomplete"));
    let refused = app.api.get("/api/devices/m1/energy?period=7m&format=parquet").expect(400).json();
    let fields: Vec<_> = refused["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["period", "format"]);
    app.api.get("/api/devices/nobody/energy").expect(404);
}

#[test]
fn a_flagged_value_or_a_clock_that_is_ahead_makes_an_interval_uncertain() {
    let app = app();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let mut samples = dc(0, 600, 100.0);
    samples[30].1[0].1 = 5000.0;
    publish(&mut meter, "m1", 0, &samples);
    // The server's clock stands at 12:00:00: these come from its future.
    publish(&mut meter, "m1", 100, &dc(7200, 7260, 100.0));
    app.settled();
    let got = energy(&app.api, "m1", &format!("start={START}&stop=2026-02-12T10:10:00Z"));
    assert_eq!((&got[0]["quality"], &got[0]["doubts"]), (&json!("uncertain"), &json!(["out_of_range"])));
    assert_eq!((&got[1]["quality"], got[1].get("doubts")), (&json!("valid"), None));
    let got = energy(&app.api, "m1", "start=2026-02-12T12:00:00Z&stop=2026-02-12T12:01:00Z&period=1m");
    assert_eq!((&got[0]["quality"], &got[0]["doubts"]), (&json!("uncertain"), &json!(["clock_off"])));
}

#[test]
fn the_fleet_is_added_up_by_device_type_location_and_time() {
    let app = app();
    for (id, kind, location) in
        [("a", "tram", json!("north")), ("b", "tram", Value::Null), ("c", "metro", json!("north"))]
    {
        let body = json!({"device_id": id, "device_name": id, "device_type": kind, "location": location});
        app.api.post("/api/devices", &body).expect(201);
        if id != "c" {
            let (mut meter, _) = app.mqtt(&Connect::id(id));
            publish(&mut meter, id, 0, &dc(0, 300, if id == "a" { 100.0 } else { -50.0 }));
        }
    }
    app.settled();
    let range = format!("start={START}&stop=2026-02-12T10:10:00Z");
    let get = |query: &str| app.api.get(&format!("/api/energy?{range}&{query}")).expect(200).json();
    let all = get("");
    assert_eq!(
        all,
        json!([{"devices": 3, "start": START, "end": "2026-02-12T10:10:00Z", "import_wh": 6250.0, "export_wh": 3125.0,
            "apparent_vah": 9375.0, "reactive_varh": 0.0, "coverage": 600.0 / 1800.0, "quality": "uncertain",
            "doubts": ["incomplete"]}])
    );
    let short = |answer: &Value, name: &str| -> Vec<(Value, u64, f64, f64)> {
        let rows = answer.as_array().unwrap().iter();
        let row = |r: &Value| {
            (r[name].clone(), r["devices"].as_u64().unwrap(), number(r, "import_wh"), number(r, "export_wh"))
        };
        rows.map(row).collect()
    };
    let by_device = get("group_by=device");
    let expected = [(json!("a"), 1, 6250.0, 0.0), (json!("b"), 1, 0.0, 3125.0), (json!("c"), 1, 0.0, 0.0)];
    assert_eq!(short(&by_device, "device_id"), expected);
    assert_eq!(by_device[2]["quality"], "missing");
    let by_type = get("group_by=type");
    assert_eq!(short(&by_type, "device_type"), [(json!("metro"), 1, 0.0, 0.0), (json!("tram"), 2, 6250.0, 3125.0)]);
    let by_location = get("group_by=location");
    let expected = [(Value::Null, 1, 0.0, 3125.0), (json!("north"), 2, 6250.0, 0.0)];
    assert_eq!(short(&by_location, "location"), expected);
    let by_period = get("group_by=period,type&type=tram&period=5m");
    let expected = [(json!(START), 2, 6250.0, 3125.0), (json!("2026-02-12T10:05:00Z"), 2, 0.0, 0.0)];
    assert_eq!(short(&by_period, "start"), expected);
    let some = get("device=a,c");
    assert_eq!(short(&some, "x"), [(Value::Null, 2, 6250.0, 0.0)]);
    app.api.get("/api/energy?device=nobody").expect(404);
    let refused = app.api.get("/api/energy?group_by=colour&period=1h").expect(400).json();
    assert_eq!(refused["errors"].as_array().unwrap().len(), 2, "{refused}");
}

#[test]
fn a_key_limited_to_some_devices_adds_up_those_and_sees_no_other() {
    let app = TestApp::builder().clock("2026-02-12T12:00:00Z").start();
    for (id, amperes) in [("dc-1", 100.0), ("ac-1", 200.0)] {
        let made = app.api.post("/api/devices", &json!({"device_id": id, "device_name": id})).expect(201).json();
        let token = made["token"].as_str().unwrap().to_owned();
        let (mut meter, _) = app.mqtt(&Connect::id(id).login(id, &token));
        publish(&mut meter, id, 0, &dc(0, 300, amperes));
    }
    app.settled();
    let body = json!({"name": "some", "role": "viewer", "devices": "dc-"});
    let key = app.api.post("/api/keys", &body).expect(201).json();
    let limited = app.api.with_key(Some(key["key"].as_str().unwrap_or_else(|| panic!("{key}"))));
    let range = format!("start={START}&stop=2026-02-12T10:05:00Z");
    let sum = limited.get(&format!("/api/energy?{range}")).expect(200).json();
    assert_eq!((&sum[0]["devices"], number(&sum[0], "import_wh")), (&json!(1), 6250.0));
    let all = app.api.get(&format!("/api/energy?{range}")).expect(200).json();
    assert_eq!((&all[0]["devices"], number(&all[0], "import_wh")), (&json!(2), 18_750.0));
    limited.get(&format!("/api/energy?{range}&device=ac-1")).expect(403);
    limited.get(&format!("/api/devices/ac-1/energy?{range}")).expect(403);
    assert_eq!(energy(&limited, "dc-1", &range).len(), 1);
}

/// The value of a series on the metrics page.
fn counted(api: &Api, series: &str) -> f64 {
    let page = api.get("/metrics").expect(200).text();
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
}

#[test]
fn hours_that_are_kept_give_the_same_answers_and_late_data_change_them_at_once() {
    let app = TestApp::builder().open().clock("2026-02-14T10:05:00Z").start();
    app.register("m1");
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    // Two days and a bit, a sample each 20 s, over every border of an hour but two.
    let sample = |n: i64| {
        let at = time("2026-02-12T09:30:00Z").plus_us(n * 20_000_000);
        (at, vec![("voltage_dc", 750.0 + (n % 7) as f64 / 3.0), ("current_dc", 100.0 - ((n * 13) % 170) as f64)])
    };
    let all: Vec<_> = (0..48 * 180).map(sample).collect();
    let (late, at_once): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(n, _)| (4000..4050).contains(n));
    let plain = |some: Vec<(usize, _)>| some.into_iter().map(|(_, sample)| sample).collect::<Vec<_>>();
    publish(&mut meter, "m1", 0, &plain(at_once));
    app.settled();
    let range = "start=2026-02-12T08:10:00Z&stop=2026-02-14T10:00:00Z";
    let ask = || {
        let of_device = ["1m", "5m", "15m", "1h", "1d"]
            .map(|period| app.api.get(&format!("/api/devices/m1/energy?{range}&period={period}")).expect(200).text());
        let of_fleet = ["", "&group_by=period&period=1d"]
            .map(|by| app.api.get(&format!("/api/energy?{range}{by}")).expect(200).text());
        [of_device.to_vec(), of_fleet.to_vec()].concat()
    };
    let id = iot_meter::domain::DeviceId::parse("m1").unwrap();
    let is_kept = || {
        let (from, to) = (time("2026-02-12T00:00:00Z"), time("2026-02-15T00:00:00Z"));
        let page = app.store().rollups(&id, 3600, Some(&["=energy".to_owned()]), from, to).unwrap();
        page.dirty.is_empty() && page.rolled_until == time("2026-02-14T10:00:00Z") && page.rows.len() == 3
    };
    let before = ask();
    app.eventually("its hours are kept", is_kept);
    let (computed, read) =
        (r#"iot_meter_energy_parts_computed_total{reason="late"}"#, "iot_meter_energy_parts_read_total");
    let (late_before, read_before) = (counted(&app.api, computed), counted(&app.api, read));
    assert_eq!(ask(), before, "to the bit");
    // Seven answers of 49 hours each with something in them.
    assert!(counted(&app.api, read) >= read_before + 7.0 * 48.0);
    publish(&mut meter, "m1", 10_000, &plain(late));
    app.settled();
    let healed = ask();
    assert_ne!(healed, before);
    app.eventually("its hours are kept again", is_kept);
    assert!(counted(&app.api, computed) >= late_before + 1.0);
    assert_eq!(ask(), healed, "to the bit");
}
