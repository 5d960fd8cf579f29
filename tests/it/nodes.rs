//! Several nodes on one Postgres, as processes: who is there, commands and presence over nodes, a node that is killed, a rolling update.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iot_meter::domain::{Clock, Timestamp};
use iot_meter::observe::catalogue::DUTIES;
use rand::Rng;
use serde_json::{Value, json};

use crate::crash::{publish_paced, publish_until, stored};
use crate::rolling::{World, all_are_stored_once, meters, stop};
use crate::support::postgres::Server as Postgres;
use crate::support::process::{Server, command_at};
use crate::support::{
    Client, Connect, Figures, Packet, TestApp, an_hour_ago, eventually, settled, settled_within, sse, telemetry,
};

/// The state of each node by name, as one of them says.
fn states(of: &Server) -> BTreeMap<String, String> {
    let nodes = of.api.get("/api/nodes").expect(200).json();
    let nodes = nodes.as_array().unwrap();
    assert_eq!(nodes.iter().filter(|node| node["is_this"] == true).count(), 1, "{nodes:?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    nodes.iter().map(|node| (text(&node["name"]), text(&node["state"]))).collect()
}

fn are(of: &Server, expected: [(&str, &str); 2]) -> bool {
    states(of) == expected.map(|(name, state)| (name.to_owned(), state.to_owned())).into()
}

/// Whether a node's figures count so many nodes alive, dead and stopped.
fn counts(of: &Server, alive: f64, dead: f64, stopped: f64) -> bool {
    Figures::of(&of.api).are(&[
        ("nodes{state=\"alive\"}", alive),
        ("nodes{state=\"dead\"}", dead),
        ("nodes{state=\"stopped\"}", stopped),
    ])
}

/// How many of these nodes have a duty.
fn who_do(duty: &str, nodes: &[&Server]) -> f64 {
    nodes.iter().map(|node| Figures::of(&node.api).value(&format!("node_duty{{duty=\"{duty}\"}}"))).sum()
}

fn listening(node: &Server) -> Client {
    let (mut meter, _) = Client::connect(node.mqtt, &Connect::id("m1"));
    assert_eq!(meter.subscribe("iot/m1/command", 2), 2);
    meter
}

/// Gives a command over one node; its id.
fn ask(over: &Server) -> String {
    let answer = over.api.post("/api/devices/m1/commands", &json!({"cmd": "request_status"}));
    assert!([201, 202].contains(&answer.status), "{}", answer.text());
    answer.json()["cmd_id"].as_str().unwrap().to_owned()
}

/// The id of the command that comes next.
fn heard(meter: &mut Client) -> String {
    let packet = meter.next_publish();
    meter.acknowledge(&packet);
    let Packet::Publish { payload, .. } = packet else { panic!("{packet:?}") };
    let command: Value = serde_json::from_slice(&payload).unwrap();
    command["cmd_id"].as_str().unwrap().to_owned()
}

#[test]
fn commands_given_to_one_node_reach_a_meter_at_another_and_go_on_when_that_one_is_killed() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let url = postgres.database();
    let [a, b] = ["a", "b"].map(|name| Server::start_node(dir.path(), name, &url));
    eventually("both know both", || [&a, &b].iter().all(|node| are(node, [("a", "alive"), ("b", "alive")])));
    eventually("and their figures", || counts(&a, 2.0, 0.0, 0.0) && counts(&b, 2.0, 0.0, 0.0));
    for duty in DUTIES {
        eventually(duty, || who_do(duty, &[&a, &b]) == 1.0);
    }
    a.api.post("/api/devices", &json!({"device_id": "m1", "device_name": "M"})).expect(201);
    let mut watched = sse::open(a.http, "", &[]);
    let mut meter = listening(&b);
    let at = Clock::system().now();
    meter.publish("iot/m1/telemetry", telemetry("m1", at, 0, 750.0).as_bytes(), 1);
    eventually("the other node knows that it is there", || {
        a.api.get("/api/devices/m1/status").expect(200).json()["connection_status"] == "online"
    });
    watched.until("presence that the other node has seen", |e| {
        e.name == "presence" && e.data["connection_status"] == "online"
    });
    b.api.post("/api/devices/m1/alerts", &json!({"message": "over b"})).expect(201);
    watched.until("an alert that the other node was told", |event| event.data["message"] == "over b");
    drop(watched);
    let first = ask(&a);
    assert_eq!(heard(&mut meter), first);
    eventually("its receipt shows at both", || {
        let path = format!("/api/commands/{first}");
        [&a, &b].iter().all(|node| node.api.get(&path).expect(200).json()["status"] == "delivered")
    });
    b.kill();
    let mut meter = listening(&a);
    let second = ask(&a);
    assert_eq!(heard(&mut meter), second, "and the first is not sent again");
    eventually("the dead one is called so", || are(&a, [("a", "alive"), ("b", "dead")]));
    eventually("and is counted so", || counts(&a, 1.0, 1.0, 0.0));
    // Its connections have gone with it, and with them its locks: whoever asks next has the duty. For retention that is asked
    // every ten minutes, which no test waits for.
    for duty in DUTIES.into_iter().filter(|duty| *duty != "retention") {
        eventually("its duties are the other's", || who_do(duty, &[&a]) == 1.0);
    }
    let b = Server::start_node(dir.path(), "b", &url);
    eventually("it is back", || are(&a, [("a", "alive"), ("b", "alive")]));
    assert_eq!(b.terminate(), Some(0));
    eventually("it is known to have stopped", || are(&a, [("a", "alive"), ("b", "stopped")]));
    eventually("who stopped in good order is not dead", || counts(&a, 1.0, 0.0, 1.0));
    assert_eq!(a.terminate(), Some(0));
}

#[test]
fn a_device_that_one_node_removes_does_not_come_back_by_what_another_one_has_heard() {
    let postgres = Postgres::start();
    let url = postgres.database();
    let start = || TestApp::builder().set("database.url", &url).set("nodes.heartbeat_s", "1").start();
    let (a, b) = (start(), start());
    let key = std::fs::read_to_string(a.data_dir().join("admin.key")).unwrap();
    let apis = [a.api.clone(), b.api.with_key(Some(key.trim()))];
    let know_each_other = |api| Figures::of(api).value("nodes{state=\"alive\"}") == 2.0;
    eventually("both know both", || apis.iter().all(know_each_other));
    let [over_a, over_b] = &apis;
    let says = |id: &'static str| {
        let new = json!({"device_id": id, "device_name": "M", "metadata": {"quarantined": true}});
        let added = over_a.post("/api/devices", &new).expect(201).json();
        let (meter, _) = b.mqtt(&Connect::id(id).login(id, added["token"].as_str().unwrap()));
        std::thread::spawn(move || {
            let (mut next, pause) = (0, Duration::from_millis(20));
            publish_paced(meter, id, &mut next, an_hour_ago(), pause, &AtomicBool::new(false))
        })
    };
    let rows = |id: &str| postgres.query(&url, &format!("SELECT count(*) FROM telemetry WHERE device_id = '{id}'"));
    let (removed, disabled) = (says("m1"), says("m2"));
    eventually("both are heard", || rows("m1") != "0" && rows("m2") != "0");
    over_a.delete("/api/devices/m1?purge=true").expect(200);
    over_a.put("/api/devices/m2", &json!({"status": "inactive"})).expect(200);
    assert!(!removed.join().unwrap().is_empty(), "the other node has let it go");
    let acknowledged = disabled.join().unwrap().len();
    settled(over_b);
    eventually("it is gone, and all that it said", || {
        apis.iter().all(|api| api.get("/api/devices/m1").status == 404) && rows("m1") == "0"
    });
    assert_eq!(over_b.get("/api/devices/m2").expect(200).json()["status"], "inactive", "it is only disabled");
    assert!(rows("m2").parse::<usize>().unwrap() >= acknowledged, "{} of {acknowledged}", rows("m2"));
    over_b.post("/api/devices", &json!({"device_id": "m1", "device_name": "N"})).expect(201);
    let status = over_a.get("/api/devices/m1/status").expect(200).json();
    assert_eq!(status["connection_status"], "unknown", "nothing of the one before: {status}");
}

/// When a node last said that it is there.
fn beat(of: &Server) -> Timestamp {
    let nodes = of.api.get("/api/nodes").expect(200).json();
    let this = nodes.as_array().unwrap().iter().find(|node| node["is_this"] == true).unwrap().clone();
    Timestamp::parse_rfc3339(this["heartbeat_at"].as_str().unwrap()).unwrap()
}

/// Every alert there has been of it, and what it is now.
fn presence(of: &Server) -> (Vec<String>, String) {
    let alerts = of.api.get("/api/devices/m1/alerts").expect(200).json();
    let alerts = alerts.as_array().unwrap().iter().map(|a| a["alert_type"].as_str().unwrap().to_owned()).collect();
    let status = of.api.get("/api/devices/m1/status").expect(200).json();
    (alerts, status["connection_status"].as_str().unwrap().to_owned())
}

#[test]
fn behind_an_outage_no_node_takes_a_meter_offline_that_another_one_has_heard() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let url = postgres.database();
    let [a, b] = ["a", "b"].map(|name| Server::start_node_dead_after(8, dir.path(), name, &url));
    a.api.post("/api/devices", &json!({"device_id": "m1", "device_name": "M"})).expect(201);
    // Ten seconds of silence are its absence.
    let faster = json!({"cmd": "update_config", "params": {"send_interval_s": 1, "hello_interval_s": 5}});
    let sent = a.api.post("/api/devices/m1/commands", &faster).json();
    let path = format!("/api/commands/{}/ack", sent["cmd_id"].as_str().unwrap());
    a.api.put(&path, &json!({"result": "accepted"})).expect(200);
    let clock = Clock::system();
    let (mut meter, _) = Client::connect(a.mqtt, &Connect::id("m1"));
    meter.publish("iot/m1/telemetry", telemetry("m1", clock.now(), 0, 750.0).as_bytes(), 1);
    eventually("both know that it is there", || [&a, &b].iter().all(|node| presence(node).1 == "online"));
    drop(meter);

    postgres.stop();
    let stopped_at = clock.now();
    let stop = Arc::new(AtomicBool::new(false));
    let goes_on = {
        let (stop, clock, to) = (Arc::clone(&stop), clock.clone(), b.mqtt);
        std::thread::spawn(move || {
            let (mut meter, _) = Client::connect(to, &Connect::id("m1"));
            let mut seq = 1;
            while !stop.load(Ordering::Relaxed) {
                meter.publish("iot/m1/telemetry", telemetry("m1", clock.now(), seq, 750.0).as_bytes(), 1);
                seq += 1;
                std::thread::sleep(Duration::from_millis(300));
            }
        })
    };
    eventually("an outage longer than any silence", || clock.now() > stopped_at.plus(Duration::from_secs(14)));
    // The other one is the last to come back: for a moment the database says that nobody hears the meter.
    b.pause();
    postgres.restart();
    eventually("one is back", || a.api.get("/readyz").status == 200);
    let back_at = clock.now();
    eventually("it has looked who is silent", || beat(&a) > back_at.plus(Duration::from_millis(2500)));
    b.resume();
    eventually("it looks again", || beat(&a) > back_at.plus(Duration::from_secs(12)));
    stop.store(true, Ordering::Relaxed);
    goes_on.join().unwrap();
    settled(&b.api);
    for node in [&a, &b] {
        assert_eq!(presence(node), (vec![], "online".to_owned()));
    }
    // That it is judged at all:
    eventually("silence is absence", || presence(&a).1 == "offline");
    assert_eq!(presence(&b).0, ["device_offline"]);
    for node in [a, b] {
        assert_eq!(node.terminate(), Some(0));
    }
}

#[test]
fn the_load_generator_asks_one_node_for_what_another_one_acknowledged_that_was_killed() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let url = postgres.database();
    let [a, b] = ["a", "b"].map(|name| Server::start_node(dir.path(), name, &url));
    let (broker, api) = (format!("mqtt://{}", a.mqtt), format!("http://{}", b.http));
    let load = std::process::Command::new(env!("CARGO_BIN_EXE_iot-meter"))
        .args(["load", "--broker", &broker, "--api", &api, "--output", "json"])
        .args(["--connections", "10", "--rate", "2000", "--duration", "4"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the load runs", || Figures::of(&a.api).value("messages_received_total{kind=\"telemetry\"}") > 1000.0);
    let at = [a.http, a.mqtt].map(|address| address.to_string());
    a.kill();
    let data = dir.path().join("a");
    let mut again = command_at(&data, &at[0], &at[1]);
    again.env("IOT_METER__DATABASE__URL", &url).env("IOT_METER__NODES__NAME", "a");
    let a = Server::start_with(&mut again, &data);
    let done = load.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    let proof = &report["verification"];
    assert_eq!((&proof["missing"], &proof["duplicated"]), (&json!(0), &json!(0)), "{report}");
    assert!(proof["stored"].as_u64() >= report["acknowledged"].as_u64() && done.status.success(), "{report}");
    assert!(report["lost_connections"].as_u64() >= Some(10), "{report}");
    for node in [a, b] {
        assert_eq!(node.terminate(), Some(0));
    }
}

#[test]
fn meters_that_publish_to_both_nodes_lose_and_double_nothing_while_the_nodes_are_killed_in_turn() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let url = postgres.database();
    let base = an_hour_ago();
    let devices = ["n1", "n2"];
    // `NODE_LIFE_S=20` kills one every twenty seconds instead of every moment.
    let life = std::env::var("NODE_LIFE_S").ok().map(|text| Duration::from_secs(text.parse().expect("seconds")));
    let mut next = [[0u32; 2]; 2];
    let mut acknowledged = [BTreeSet::new(), BTreeSet::new()];
    let mut nodes = ["a", "b"].map(|name| Some(Server::start_node(dir.path(), name, &url)));
    let mut round = 0;
    while round < 6 || acknowledged.iter().any(|of| of.len() <= 500) {
        assert!(round < 60, "too little is acknowledged");
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (n, node) in nodes.iter().flatten().enumerate() {
            for (d, device) in devices.into_iter().enumerate() {
                let (meter, _) = Client::connect(node.mqtt, &Connect::id(device));
                let (stop, mut at) = (Arc::clone(&stop), next[n][d]);
                let thread = std::thread::spawn(move || (publish_until(meter, device, &mut at, base, &stop), at));
                threads.push((n, d, thread));
            }
        }
        let victim = round % 2;
        std::thread::sleep(life.unwrap_or_else(|| Duration::from_millis(rand::rng().random_range(50..400))));
        nodes[victim].take().unwrap().kill();
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(1..100)));
        stop.store(true, Ordering::Relaxed);
        for (n, d, thread) in threads {
            let (done, at) = thread.join().unwrap();
            acknowledged[d].extend(done);
            next[n][d] = at;
        }
        nodes[victim] = Some(Server::start_node(dir.path(), ["a", "b"][victim], &url));
        round += 1;
    }
    // Meters that send as fast as they can are ahead of the database all the while.
    let patience = Duration::from_secs(180) + life.unwrap_or_default() * 60;
    nodes.iter().flatten().for_each(|node| settled_within(patience, &node.api));
    for (device, acknowledged) in devices.into_iter().zip(acknowledged) {
        let shown: Vec<_> = nodes.iter().flatten().map(|node| stored(node, device, base)).collect();
        assert_eq!(shown[0], shown[1], "{device}: both show the same");
        let unique: BTreeSet<i64> = shown[0].iter().copied().collect();
        assert_eq!(unique.len(), shown[0].len(), "{device}: something is stored twice");
        let lost: Vec<_> = acknowledged.iter().filter(|seq| !unique.contains(&i64::from(**seq))).collect();
        assert!(lost.is_empty(), "{device}: acknowledged and lost: {lost:?}");
    }
    for node in nodes.into_iter().flatten() {
        assert_eq!(node.terminate(), Some(0));
    }
}

#[test]
fn a_rolling_update_of_three_nodes_under_load_loses_no_acknowledged_message_and_stores_each_once() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let url = postgres.database();
    let names = ["iot-meter-0", "iot-meter-1", "iot-meter-2"];
    let devices = &["rolling-1", "rolling-2", "rolling-3", "rolling-4", "rolling-5", "rolling-6"];
    let (base, world) = (an_hour_ago(), World::new(names.len()));
    let mut nodes = names.map(|name| Some(Server::start_node(dir.path(), name, &url)));
    for (n, node) in nodes.iter().flatten().enumerate() {
        world.set(n, Some(node.mqtt));
    }
    let meters = meters(devices, base, Duration::from_millis(10), &world);
    world.go_on();
    let updates = 2;
    for _ in 0..updates {
        // As a StatefulSet does it: the last first, each ready before the next one goes.
        for n in (0..names.len()).rev() {
            let old = nodes[n].take().unwrap();
            eventually("the node has work to lose", || Figures::of(&old.api).sum("messages_received_total") > 0.0);
            stop(old);
            world.set(n, None);
            // The others do its work.
            world.go_on();
            let new = Server::start_node(dir.path(), names[n], &url);
            world.set(n, Some(new.mqtt));
            nodes[n] = Some(new);
            world.go_on();
        }
    }
    let sent = world.end(meters);
    nodes.iter().flatten().for_each(|node| settled(&node.api));
    for (device, (sent, connections)) in devices.iter().zip(sent) {
        nodes.iter().flatten().for_each(|node| all_are_stored_once(node, device, base, sent));
        assert!(connections > updates, "{device}: saw no update, {connections} connections");
    }
    let alive = names.map(|name| (name.to_owned(), "alive".to_owned())).into();
    eventually("all are alive", || states(nodes[0].as_ref().unwrap()) == alive);
    for node in nodes.into_iter().flatten() {
        assert_eq!(node.terminate(), Some(0));
    }
}
