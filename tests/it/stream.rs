//! `GET /api/stream`: what happens is shown as it happens, to whom it may concern, and nothing is missing without a word.

use std::net::SocketAddr;

use iot_meter::domain::Timestamp;
use serde_json::{Value, json};

use crate::support::sse::{self, Event};
use crate::support::{Client, Connect, Figures, TestApp, eventually, telemetry};

fn http(app: &TestApp) -> SocketAddr {
    app.address("http")
}

fn seq(event: &Event) -> Option<u64> {
    (event.name == "reading").then(|| event.data["seq"].as_u64().unwrap())
}

fn send(meter: &mut Client, app: &TestApp, seqs: std::ops::Range<u32>) {
    for seq in seqs {
        let payload = telemetry("m1", app.at(i64::from(seq)), seq, 700.0);
        meter.publish("iot/m1/telemetry", payload.as_bytes(), 1);
    }
}

/// A datagram of so many samples of two quantities.
fn large(at: Timestamp, seq: u32, samples: i64) -> String {
    let sample = |n: i64| {
        let ts = at.plus_us(n * 1000).to_string();
        [("voltage_dc", 700.0), ("current_dc", 100.0)].map(|(kind, val)| json!({"ts": ts, "type": kind, "val": val}))
    };
    let measurements: Vec<Value> = (0..samples).flat_map(sample).collect();
    let ts = at.to_string();
    json!({"v": 2, "device_id": "m1", "ts": ts, "seq": seq, "msg_type": "telemetry", "measurements": measurements})
        .to_string()
}

#[test]
fn readings_presence_alerts_and_commands_are_shown_as_they_happen() {
    let app = TestApp::open();
    app.register("m1");
    let before = Figures::of(&app.api);
    let mut stream = sse::open(http(&app), "", &[]);
    assert!(stream.head.contains("content-type: text/event-stream\r\n"), "{}", stream.head);
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    send(&mut meter, &app, 0..1);
    let mut seen = Vec::new();
    let mut all = |what: &str, stream: &mut sse::Stream, wanted: &dyn Fn(&Event) -> bool| {
        if let Some(found) = seen.iter().find(|event| wanted(event)) {
            return Event::clone(found);
        }
        seen.extend(stream.until(what, wanted));
        seen.last().unwrap().clone()
    };
    let reading = all("the reading", &mut stream, &|e| e.name == "reading").data;
    assert_eq!((&reading["device_id"], &reading["seq"]), (&json!("m1"), &json!(0)));
    let shown = app.api.get("/api/devices/m1/metrics?start=-1h").expect(200).json();
    assert_eq!(reading["readings"], shown, "as the other call shows them");
    let presence = all("presence", &mut stream, &|e| e.name == "presence").data;
    assert_eq!(presence, app.api.get("/api/devices/m1/status").expect(200).json());
    assert_eq!(presence["connection_status"], "online");
    let alert = app.api.post("/api/devices/m1/alerts", &json!({"message": "look"})).expect(201).json();
    let raised = all("the alert", &mut stream, &|e| e.name == "alert" && e.data["acknowledged"] == false).data;
    assert_eq!(raised, alert);
    app.api.post(&format!("/api/alerts/{}/acknowledge", alert["id"]), &json!({})).expect(200);
    all("its acknowledgement", &mut stream, &|e| e.name == "alert" && e.data["acknowledged"] == true);
    let command = app.api.post("/api/devices/m1/commands", &json!({"cmd": "reboot"}));
    let id = command.json()["cmd_id"].clone();
    let given = all("the command", &mut stream, &|e| e.name == "command" && e.data["cmd_id"] == id).data;
    assert_eq!(given["cmd"], "reboot");
    app.api.delete(&format!("/api/commands/{}", id.as_str().unwrap())).expect(200);
    all("its end", &mut stream, &|e| e.name == "command" && e.data["status"] == "cancelled");
    let after = Figures::of(&app.api);
    for (kind, by) in [("reading", 1.0), ("presence", 1.0), ("alert", 2.0), ("command", 2.0)] {
        after.grown(&before, &format!("stream_events_total{{kind=\"{kind}\"}}"), by);
    }
}

#[test]
fn a_stream_shows_the_kinds_and_devices_it_was_asked_for() {
    let app = TestApp::open();
    for id in ["m1", "m2", "n1"] {
        app.register(id);
    }
    let mut stream = sse::open(http(&app), "?devices=m*&kinds=alerts", &[]);
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    send(&mut meter, &app, 0..1);
    app.settled();
    for id in ["n1", "m2", "m1"] {
        app.api.post(&format!("/api/devices/{id}/alerts"), &json!({"message": id})).expect(201);
    }
    let events = stream.until("the last alert", |event| event.data["message"] == "m1");
    let told: Vec<_> = events.iter().map(|e| (e.name.as_str(), e.data["message"].as_str().unwrap())).collect();
    assert_eq!(told, [("alert", "m2"), ("alert", "m1")]);
    let refused = app.api.get("/api/stream?kinds=gossip&devices=%2F").expect(400).json();
    assert_eq!(refused["errors"].as_array().unwrap().len(), 2, "{refused}");
}

#[test]
fn who_comes_back_gets_what_happened_meanwhile_once() {
    let app = TestApp::open();
    let mut stream = sse::open(http(&app), "?kinds=readings", &[]);
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    send(&mut meter, &app, 0..3);
    let first = stream.next().unwrap();
    assert_eq!(seq(&first), Some(0));
    drop(stream);
    send(&mut meter, &app, 3..6);
    // A copy is no news.
    send(&mut meter, &app, 4..5);
    send(&mut meter, &app, 6..7);
    app.settled();
    let mut back = sse::open(http(&app), "?kinds=readings", &[("Last-Event-ID", &first.id)]);
    let events = back.until("the last one", |event| seq(event) == Some(6));
    assert_eq!(events.iter().filter_map(seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let last = back.last_id.clone();
    let mut stranger = sse::open(http(&app), "?kinds=readings", &[("Last-Event-ID", "0123abcd-7")]);
    let lost = stranger.next().unwrap();
    assert_eq!((lost.name.as_str(), &lost.data), ("lost", &json!({"events": null})));
    drop((back, stranger));
    let mut app = app;
    app.restart();
    let mut restarted = sse::open(http(&app), "?kinds=readings", &[("Last-Event-ID", &last)]);
    assert_eq!(restarted.next().unwrap().name, "lost", "another process does not know what this one has told");
}

#[test]
fn a_limited_key_hears_of_its_own_devices_only_and_no_more_when_it_is_revoked() {
    let app = TestApp::builder().start();
    for id in ["dc-1", "ac-1"] {
        app.register(id);
    }
    let key = json!({"name": "depot", "role": "viewer", "devices": "dc-"});
    let made = app.api.post("/api/keys", &key).expect(201).json();
    let key = made["key"].as_str().unwrap();
    let header = [("X-API-Key", key)];
    let mut stream = sse::open(http(&app), "?devices=*", &header);
    for id in ["ac-1", "dc-1"] {
        app.api.post(&format!("/api/devices/{id}/alerts"), &json!({"message": id})).expect(201);
    }
    assert_eq!(stream.next().unwrap().data["device_id"], "dc-1");
    assert_eq!(sse::ask(http(&app), "?devices=ac-1", &header, 0).0, 403);
    assert_eq!(sse::ask(http(&app), "", &[], 0).0, 401);
    app.api.delete(&format!("/api/keys/{}", made["prefix"].as_str().unwrap())).expect(200);
    assert_eq!(stream.next(), None, "its stream ends");
    assert_eq!(sse::ask(http(&app), "", &header, 0).0, 401);
}

#[test]
fn a_slow_reader_is_told_how_much_it_has_missed_and_holds_up_nobody() {
    const MESSAGES: u32 = 2000;
    let app =
        TestApp::builder().open().set("http.stream_keep_bytes", "1 MiB").set("http.write_timeout_s", "600").start();
    let (status, slow) = sse::ask(http(&app), "?kinds=readings", &[], 64 * 1024);
    assert_eq!(status, 200);
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    for seq in 0..MESSAGES {
        meter.publish("iot/m1/telemetry", large(app.at(i64::from(seq)), seq, 100).as_bytes(), 1);
    }
    app.settled();
    let mut slow = slow.unwrap();
    let (mut shown, mut missed, mut last) = (0, 0, None);
    while last != Some(u64::from(MESSAGES) - 1) {
        let event = slow.next().expect("it goes on");
        if event.name == "lost" {
            missed += event.data["events"].as_u64().unwrap();
            continue;
        }
        let seq = seq(&event).unwrap();
        assert!(last.is_none_or(|last| last < seq), "in order, and once");
        (shown, last) = (shown + 1, Some(seq));
    }
    assert!(missed > 0, "nothing was lost: {shown} were shown");
    // Others than readings are numbered too: m1 came, and is registered.
    let all = shown + missed;
    assert!((u64::from(MESSAGES)..=u64::from(MESSAGES) + 2).contains(&all), "{shown} shown and {missed} missed");
}

#[test]
fn there_are_so_many_streams_and_a_place_is_free_again() {
    let app = TestApp::builder().open().set("http.max_streams", "1").start();
    app.register("m1");
    let stream = sse::open(http(&app), "", &[]);
    let refused = app.api.get("/api/stream").expect(503).json();
    assert!(refused["detail"].as_str().unwrap().contains("http.max_streams"), "{refused}");
    drop(stream);
    eventually("the place is free", || {
        app.api.post("/api/devices/m1/alerts", &json!({})).expect(201);
        sse::ask(http(&app), "", &[], 0).0 == 200
    });
}

#[test]
fn a_stop_ends_streams_as_it_should_and_does_not_wait_for_them() {
    let mut app = TestApp::open();
    app.register("m1");
    let mut streams: Vec<_> = (0..3).map(|_| sse::open(http(&app), "", &[])).collect();
    let reading = std::thread::spawn(move || streams.iter_mut().map(|stream| stream.next()).collect::<Vec<_>>());
    app.restart();
    // One that was cut off by the end of the stop would not have its last chunk.
    assert_eq!(reading.join().unwrap(), [None, None, None]);
}
