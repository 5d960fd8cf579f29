//! Commands: from the REST API to the meter and back.

use serde_json::{Value, json};

use crate::support::{Client, Connect, Packet, TestApp};

fn ack(device: &str, cmd_id: &str, ts: String, seq: u32, result: &str) -> String {
    json!({"v": 2, "device_id": device, "ts": ts, "seq": seq, "msg_type": "command_ack", "cmd_id": cmd_id, "result": result})
        .to_string()
}

fn command(app: &TestApp, cmd_id: &str) -> Value {
    app.api.get(&format!("/api/commands/{cmd_id}")).expect(200).json()
}

fn received(meter: &mut Client) -> Value {
    match meter.next_publish() {
        Packet::Publish { payload, .. } => serde_json::from_slice(&payload).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connected_meter_gets_its_command_at_qos_2_and_its_answer_is_the_commands_state() {
    let app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("m1").persistent());
    assert_eq!(meter.subscribe("iot/m1/command", 2), 2);
    app.register("m1");
    app.eventually("the meter is known as connected", || {
        let sent = app.api.post("/api/devices/m1/commands", &json!({"cmd": "request_status"}));
        sent.status == 201
    });
    let first = received(&mut meter);
    assert_eq!((first["cmd"].as_str(), first["v"].as_u64()), (Some("request_status"), Some(2)), "{first}");
    let cmd_id = first["cmd_id"].as_str().unwrap();
    app.eventually("the receipt is written", || command(&app, cmd_id)["status"] == "delivered");
    meter.publish("iot/m1/command/ack", ack("m1", cmd_id, app.at(0).to_string(), 0, "accepted").as_bytes(), 2);
    app.settled();
    assert_eq!(command(&app, cmd_id)["status"], "accepted");
}

#[test]
fn a_command_waits_for_an_offline_meter_also_over_a_restart() {
    let mut app = TestApp::open();
    app.register("m1");
    let sent = app
        .api
        .post("/api/devices/m1/commands", &json!({"cmd": "update_config", "params": {"send_interval_s": 15}}))
        .expect(202)
        .json();
    assert_eq!(sent["status"], "pending");
    let cmd_id = sent["cmd_id"].as_str().unwrap().to_owned();
    app.restart();
    assert_eq!(command(&app, &cmd_id)["status"], "pending");
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    meter.subscribe("iot/m1/command", 2);
    let got = received(&mut meter);
    assert_eq!(got["cmd_id"], cmd_id.as_str());
    assert_eq!(got["params"], json!({"send_interval_s": 15}));
}

#[test]
fn an_acknowledgement_that_overtakes_the_receipt_is_honoured() {
    let app = TestApp::open();
    app.register("m1");
    let sent = app.api.post("/api/devices/m1/commands", &json!({"cmd": "reboot"})).expect(202).json();
    let cmd_id = sent["cmd_id"].as_str().unwrap();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    meter.subscribe("iot/m1/command", 2);
    let id = match meter.inbox.pop().or_else(|| meter.receive()) {
        Some(Packet::Publish { id, qos: 2, .. }) => id,
        other => panic!("{other:?}"),
    };
    meter.publish("iot/m1/command/ack", ack("m1", cmd_id, app.at(0).to_string(), 0, "rejected").as_bytes(), 1);
    app.settled();
    assert_eq!(command(&app, cmd_id)["status"], "rejected");
    meter.send(&crate::support::mqtt::packet(0x50, &id.to_be_bytes()));
    meter.ping();
    assert_eq!(command(&app, cmd_id)["status"], "rejected");
}

#[test]
fn bad_commands_are_refused_by_name_and_a_pending_one_can_be_cancelled() {
    let app = TestApp::open();
    app.register("m1");
    let refused = app.api.post("/api/devices/m1/commands", &json!({"cmd": "explode"})).expect(400).json();
    for valid in ["update_config", "start_ota", "reboot", "factory_reset", "request_status"] {
        assert!(refused["error"].as_str().unwrap().contains(valid), "{refused}");
    }
    let bad = json!({"cmd": "update_config", "params": {"send_interval_s": 0}});
    let refused = app.api.post("/api/devices/m1/commands", &bad).expect(400).json();
    assert!(refused.to_string().contains("send_interval_s"), "{refused}");
    app.api.post("/api/devices/nobody/commands", &json!({"cmd": "reboot"})).expect(404);
    let sent = app.api.post("/api/devices/m1/commands", &json!({"cmd": "reboot"})).expect(202).json();
    let path = format!("/api/commands/{}", sent["cmd_id"].as_str().unwrap());
    let cancelled = app.api.delete(&path);
    assert!(cancelled.status < 300, "{}", cancelled.text());
    assert_eq!(app.api.get(&path).expect(200).json()["status"], "cancelled");
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    meter.subscribe("iot/m1/command", 2);
    meter.ping();
    assert!(meter.inbox.is_empty(), "a cancelled command is not sent: {:?}", meter.inbox);
}

#[test]
fn a_command_is_acknowledged_over_rest_as_well() {
    let app = TestApp::open();
    app.register("m1");
    let sent = app.api.post("/api/devices/m1/commands", &json!({"cmd": "reboot"})).expect(202).json();
    let cmd_id = sent["cmd_id"].as_str().unwrap();
    let path = format!("/api/commands/{cmd_id}/ack");
    app.api.put(&path, &json!({"result": "maybe"})).expect(400);
    app.api.put(&path, &json!({"result": "accepted", "detail": "done by hand"})).expect(200);
    assert_eq!(command(&app, cmd_id)["status"], "accepted");
    app.api.put("/api/commands/00000000-0000-4000-8000-000000000000/ack", &json!({"result": "accepted"})).expect(404);
    let list = app.api.get("/api/devices/m1/commands?status=accepted").expect(200).json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
}
