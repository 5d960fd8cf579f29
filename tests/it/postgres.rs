//! The whole server on Postgres, and what happens to it when Postgres is stopped, crashes, or is not there at the start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

use iot_meter::domain::Timestamp;

use crate::support::certified::Guarded;
use crate::support::guides::{blocks_of, read};
use crate::support::postgres::Server;
use crate::support::process::{Server as Process, command};
use crate::support::{Api, Client, Connect, Figures, Packet, TestApp, eventually, settled, telemetry};

/// A meter that publishes without a pause until told to stop; gives how many were acknowledged.
fn busy_meter(
    mut meter: Client,
    device: &str,
    base: Timestamp,
    stop: &Arc<AtomicBool>,
) -> (JoinHandle<u32>, Arc<AtomicU32>) {
    let (stop, device, acknowledged) = (Arc::clone(stop), device.to_owned(), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&acknowledged);
    let thread = std::thread::spawn(move || {
        let mut seq = 0;
        while !stop.load(Ordering::Relaxed) {
            let ts = base.plus_us(i64::from(seq) * 1000);
            meter.publish(
                &format!("iot/{device}/telemetry"),
                telemetry(&device, ts, seq, f64::from(seq % 3000)).as_bytes(),
                1,
            );
            seq += 1;
            count.store(seq, Ordering::Relaxed);
        }
        seq
    });
    (thread, acknowledged)
}

fn readiness(api: &Api) -> u16 {
    api.try_send("GET", "/readyz", &[], None).map_or(0, |answer| answer.status)
}

/// How many datagrams of a device are in the database, and how many different ones.
fn stored(server: &Server, url: &str, device: &str) -> (u32, u32) {
    let query = format!("SELECT count(*), count(DISTINCT seq) FROM telemetry WHERE device_id = '{device}'");
    let answer = server.query(url, &query);
    let (all, different) = answer.split_once('|').expect("two columns");
    (all.parse().unwrap(), different.parse().unwrap())
}

#[test]
fn a_database_that_hangs_is_called_not_ready_and_all_other_figures_go_on() {
    let postgres = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // A process of its own: figures are a process's.
    let mut command = command(&data);
    command.env("IOT_METER__DATABASE__URL", postgres.database());
    let server = Process::start_with(&mut command, &data);
    let figure = |name: &str| Figures::of(&server.api).get(name);
    let is_ready = || figure("ready{check=\"database\"}");
    eventually("the database is ready", || is_ready() == Some(1.0));
    postgres.freeze();
    eventually("readiness says that it is not", || readiness(&server.api) == 503);
    eventually("the figures say so", || is_ready() == Some(0.0));
    let uptime = figure("uptime_seconds");
    eventually("the others go on", || figure("uptime_seconds") > uptime);
    postgres.thaw();
    eventually("it is ready again", || is_ready() == Some(1.0) && readiness(&server.api) == 200);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn postgres_stopped_and_crashed_under_load_loses_nothing_and_stores_nothing_twice() {
    let server = Server::start();
    let url = server.database();
    let app = TestApp::builder().open().set("database.url", &url).set("database.connect_timeout_s", "1").start();
    let stop = Arc::new(AtomicBool::new(false));
    let devices = ["outage-1", "outage-2", "outage-3"];
    let meters: Vec<_> =
        devices.iter().map(|device| busy_meter(app.mqtt(&Connect::id(device)).0, device, app.at(0), &stop)).collect();
    let grows = |what: &str| {
        let before: Vec<u32> = meters.iter().map(|(_, count)| count.load(Ordering::Relaxed)).collect();
        eventually(what, || {
            meters.iter().zip(&before).all(|((_, count), before)| count.load(Ordering::Relaxed) > before + 100)
        });
    };
    grows("messages are acknowledged");
    for hard in [false, true, true] {
        if hard {
            server.crash()
        } else {
            server.stop()
        }
        eventually("the server says that it is not ready", || readiness(&app.api) == 503);
        grows("messages are acknowledged while the database is away");
        assert_eq!(app.api.get("/api/devices").status, 503);
        // Also a meter that comes now is let in.
        let (mut late, _) = app.mqtt(&Connect::id("late"));
        late.publish("iot/late/telemetry", telemetry("late", app.at(1), 1, 1.0).as_bytes(), 1);
        server.restart();
        eventually("the server is ready again", || readiness(&app.api) == 200);
        grows("messages are acknowledged afterwards");
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<u32> = meters.into_iter().map(|(thread, _)| thread.join().unwrap()).collect();
    app.settled();
    for (device, acknowledged) in devices.iter().zip(acknowledged) {
        assert_eq!(stored(&server, &url, device), (acknowledged, acknowledged), "{device}");
    }
    assert_eq!(stored(&server, &url, "late"), (1, 1));
}

#[test]
fn a_server_started_before_its_database_waits_and_then_serves() {
    let server = Server::start();
    let url = server.database();
    server.stop();
    let app = TestApp::builder().set("database.url", &url).set("database.connect_timeout_s", "3").start();
    assert_eq!(readiness(&app.api), 503);
    app.api.get("/healthz").expect(200);
    let key = app.data_dir().join("admin.key");
    assert!(!key.exists());
    let ready = app.api.get("/readyz").expect(503).json();
    assert!(ready["checks"]["access"].is_string(), "{ready}");
    // Who somebody is cannot be said yet: not 401.
    app.api.get("/api/devices").expect(503);
    server.restart();
    eventually("the admin key is made", || key.exists());
    eventually("the server is ready", || readiness(&app.api) == 200);
    let api = Api::new(app.address("http"), Some(std::fs::read_to_string(&key).unwrap().trim().to_owned()));
    let made =
        api.post("/api/devices", &serde_json::json!({"device_id": "m1", "device_name": "Meter"})).expect(201).json();
    let token = made["token"].as_str().unwrap();
    let (mut meter, _) = app.mqtt(&Connect::id("m1").login("m1", token));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.at(0), 1, 750.0).as_bytes(), 2);
    settled(&api);
    assert_eq!(stored(&server, &url, "m1"), (1, 1));
    // A meter known from before is let in while the database is away; one with a wrong token is not.
    server.stop();
    let (mut again, _) = app.mqtt(&Connect::id("m1").login("m1", token));
    again.publish("iot/m1/telemetry", telemetry("m1", app.at(1), 2, 750.0).as_bytes(), 2);
    server.restart();
    eventually("the server is ready again", || readiness(&app.api) == 200);
    settled(&api);
    assert_eq!(stored(&server, &url, "m1"), (2, 2));
}

#[test]
fn meters_that_a_node_knows_come_in_when_it_is_started_while_its_database_is_away() {
    let server = Server::start();
    let url = server.database();
    let mut app = TestApp::builder().set("database.url", &url).set("database.connect_timeout_s", "1").start();
    let key = std::fs::read_to_string(app.data_dir().join("admin.key")).unwrap().trim().to_owned();
    let api = |app: &TestApp| Api::new(app.address("http"), Some(key.clone()));
    let tokens = ["stays", "goes", "unseen"].map(|name| {
        let new = serde_json::json!({"device_id": name, "device_name": name});
        api(&app).post("/api/devices", &new).expect(201).json()["token"].as_str().unwrap().to_owned()
    });
    let [stays, goes, unseen] = &tokens;
    let say = |app: &TestApp, meter: &mut Client, device: &str, seq: u32| {
        let payload = telemetry(device, app.at(i64::from(seq)), seq, 750.0);
        meter.publish(&format!("iot/{device}/telemetry"), payload.as_bytes(), 1);
    };
    let (mut meter, _) = app.mqtt(&Connect::id("stays").login("stays", stays).persistent());
    meter.subscribe("iot/stays/command", 2);
    say(&app, &mut meter, "stays", 0);
    meter.disconnect();
    let (mut other, _) = app.mqtt(&Connect::id("goes").login("goes", goes));
    say(&app, &mut other, "goes", 0);
    app.restart_while(|| {
        // By another node, while this one is not there to hear of it.
        let elsewhere = iot_meter::store::open(&url).unwrap();
        let device = iot_meter::domain::DeviceId::parse("goes").unwrap();
        elsewhere.set_device_token(&device, Some([7; 32])).unwrap();
        drop(elsewhere);
        server.stop();
    });
    assert_eq!(readiness(&app.api), 503);
    let (mut meter, has_session) = app.mqtt(&Connect::id("stays").login("stays", stays).persistent());
    assert!(has_session, "what waits for a meter is on the node's own disk");
    say(&app, &mut meter, "stays", 1);
    let (mut other, _) = app.mqtt(&Connect::id("goes").login("goes", goes));
    say(&app, &mut other, "goes", 1);
    for (device, token) in [("stays", "wrong"), ("unseen", &**unseen)] {
        let (_, answer) = Client::try_connect(app.mqtt_address(), &Connect::id(device).login(device, token));
        assert!(!matches!(answer, Some(Packet::ConnAck { code: 0, .. })), "{device}: {answer:?}");
    }
    server.restart();
    eventually("the server is ready", || readiness(&app.api) == 200);
    // Its token was another one already: whoever came in with the old one goes as soon as that is known.
    eventually("it is sent away", || other.receive().is_none());
    say(&app, &mut meter, "stays", 2);
    app.mqtt(&Connect::id("unseen").login("unseen", unseen));
    settled(&api(&app));
    assert_eq!((stored(&server, &url, "stays"), stored(&server, &url, "goes")), ((3, 3), (2, 2)));
}

#[test]
fn a_certificate_is_good_while_the_database_is_away_unless_it_was_revoked() {
    let server = Server::start();
    let app = Guarded::start(&[("database.url", &server.database()), ("database.connect_timeout_s", "1")]);
    let cards = ["stays", "goes"].map(|device| app.enrol(device));
    let [stays, goes] = [0, 1].map(|n| app.client(Some(&cards[n])));
    app.connect(&stays, &Connect::id("stays"));
    let mut other = app.connect(&goes, &Connect::id("goes"));
    app.api.delete(&format!("/api/certificates/{}", cards[1].serial)).expect(200);
    eventually("its connection ends", || other.receive().is_none());
    server.stop();
    app.connect(&stays, &Connect::id("stays")).ping();
    assert!(!matches!(app.log_in(&goes, &Connect::id("goes")).1, Some(Packet::ConnAck { code: 0, .. })));
    server.restart();
}

#[test]
fn a_sealing_key_that_turns_out_to_be_wrong_when_the_database_is_there_ends_the_process() {
    let server = Server::start();
    let url = server.database();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let with_database = || {
        let mut command = command(&data);
        command.env("IOT_METER__DATABASE__URL", &url).env("IOT_METER__DATABASE__CONNECT_TIMEOUT_S", "1");
        command
    };
    let process = Process::start_with(&mut with_database(), &data);
    let api = &process.api;
    api.post("/api/devices", &serde_json::json!({"device_id": "m1", "device_name": "M"})).expect(201);
    api.post("/api/devices/m1/command-key", &serde_json::json!({})).expect(201);
    assert_eq!(process.terminate(), Some(0));
    std::fs::remove_file(data.join("secrets.key")).unwrap();
    server.stop();
    let output = dir.path().join("errors");
    let announced = data.join("run/addresses.json");
    std::fs::remove_file(&announced).unwrap_or_default();
    let mut wrong = with_database()
        .env("IOT_METER__SECRETS__KEY", "ab".repeat(32))
        .stderr(std::fs::File::create(&output).unwrap())
        .spawn()
        .unwrap();
    eventually("it has started", || announced.exists());
    assert!(wrong.try_wait().unwrap().is_none(), "it waits for the database");
    server.restart();
    let mut status = None;
    eventually("it has ended", || {
        status = wrong.try_wait().unwrap();
        status.is_some()
    });
    assert_ne!(status.and_then(|status| status.code()), Some(0));
    let words = std::fs::read_to_string(&output).unwrap();
    assert!(words.contains("secrets.key"), "{words}");
}

#[test]
fn a_process_killed_while_postgres_is_away_stores_everything_when_both_are_back() {
    let server = Server::start();
    let url = server.database();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = || {
        let mut command = command(&data);
        command.env("IOT_METER__DATABASE__URL", &url).env("IOT_METER__DATABASE__CONNECT_TIMEOUT_S", "1");
        Process::start_with(&mut command, &data)
    };
    let process = start();
    let base = iot_meter::domain::Clock::system().now().plus_us(-3_600_000_000);
    let (mut meter, _) = Client::connect(process.mqtt, &Connect::id("killed"));
    let mut publish = |seqs: std::ops::Range<u32>| {
        for seq in seqs {
            let ts = base.plus_us(i64::from(seq) * 1000);
            meter.publish("iot/killed/telemetry", telemetry("killed", ts, seq, 1.0).as_bytes(), 1);
        }
    };
    publish(0..200);
    server.crash();
    publish(200..400);
    process.kill();
    server.restart();
    let process = start();
    settled(&process.api);
    assert_eq!(stored(&server, &url, "killed"), (400, 400));
    assert_eq!(process.terminate(), Some(0));
}

#[test]
fn two_nodes_that_hear_the_same_meters_store_each_message_once() {
    let server = Server::start();
    let url = server.database();
    let nodes = [0, 1].map(|_| TestApp::builder().open().set("database.url", &url).start());
    let base = nodes[0].at(0);
    std::thread::scope(|scope| {
        for node in &nodes {
            for n in 0..4 {
                scope.spawn(move || {
                    let device = format!("both-{n}");
                    let (mut meter, _) = node.mqtt(&Connect::id(&device));
                    for seq in 0..250u32 {
                        let ts = base.plus_us(i64::from(seq) * 1_000);
                        meter.publish(
                            &format!("iot/{device}/telemetry"),
                            telemetry(&device, ts, seq, 1.0).as_bytes(),
                            1,
                        );
                    }
                });
            }
        }
    });
    nodes.iter().for_each(TestApp::settled);
    for n in 0..4 {
        assert_eq!(stored(&server, &url, &format!("both-{n}")), (250, 250));
    }
    let open = server.query(&url, "SELECT count(*) FROM sequence_gaps WHERE filled_at IS NULL");
    assert_eq!(open, "0", "neither misses what the other has");
    let values: BTreeSet<usize> = nodes.iter().map(|node| node.values("both-0", "voltage_dc").len()).collect();
    assert_eq!(values, BTreeSet::from([250]), "both show the same");
}

/// A question with what a macro of Grafana stands for in place of each of its calls.
fn expanded(question: &str, macro_name: &str, with: impl Fn(&[&str]) -> String) -> String {
    let (mut text, call) = (question.to_owned(), format!("{macro_name}("));
    while let Some(at) = text.find(&call) {
        let end = at + text[at..].find(')').expect("the call ends");
        let arguments: Vec<&str> = text[at + call.len()..end].split(',').map(str::trim).collect();
        let replacement = with(&arguments);
        text.replace_range(at..=end, &replacement);
    }
    text
}

/// As Grafana's data source PostgreSQL sends it, for the panel's range and buckets of a minute (its documentation, "Macros").
fn as_grafana_sends_it(question: &str, from: Timestamp, to: Timestamp) -> String {
    let text = question.replace("$__interval", "1m");
    let text = expanded(&text, "$__timeFilter", |arguments| format!("{} BETWEEN '{from}' AND '{to}'", arguments[0]));
    let text = expanded(&text, "$__timeGroupAlias", |arguments| {
        assert_eq!(arguments[1], "1m");
        format!("floor(extract(epoch from {})/60)*60 AS \"time\"", arguments[0])
    });
    assert!(!text.contains("$__"), "a macro that is not known here: {text}");
    text
}

#[test]
fn the_sql_of_the_readme_finds_what_meters_said() {
    let server = Server::start();
    let url = server.database();
    let app = TestApp::builder().open().set("database.url", &url).start();
    // Whole minutes, so that it is known which values fall together.
    let from = Timestamp(app.at(0).0 / 60_000_000 * 60_000_000).plus_us(-3_600_000_000);
    for device in ["dc-meter-007", "train-0042-1", "train-0042-2", "train-00420"] {
        let (mut meter, _) = app.mqtt(&Connect::id(device));
        for seq in 0..6 {
            let at = from.plus_us(i64::from(seq) * 20_000_000);
            let payload = telemetry(device, at, seq, 700.0 + f64::from(seq));
            meter.publish(&format!("iot/{device}/telemetry"), payload.as_bytes(), 1);
        }
    }
    app.settled();
    let blocks = blocks_of("sql", "README.md", &read("README.md"));
    let run: Vec<_> = blocks.iter().filter(|block| block.left_out().is_none()).collect();
    assert_eq!((run.len(), blocks.len()), (2, 3), "a question that this test does not know");
    let answers = run.iter().map(|block| {
        let answer =
            |from, to| server.query(&url, as_grafana_sends_it(&block.text, from, to).trim_end_matches([';', '\n']));
        assert_eq!(answer(from.plus_us(-7_200_000_000), from.plus_us(-1)), "", "{}: outside of the range", block.place);
        let all = answer(from, from.plus_us(3_600_000_000));
        all.lines().map(|line| line.split('|').map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
    });
    let answers: Vec<_> = answers.collect();
    let voltages: Vec<_> = answers[0].iter().map(|row| (row[1].parse::<f64>().unwrap(), row[2].as_str())).collect();
    assert_eq!(voltages, (0..6).map(|seq| (700.0 + f64::from(seq), "100")).collect::<Vec<_>>());
    let kilowatts =
        |row: &Vec<String>| (row[0].parse::<f64>().unwrap() as i64, row[1].clone(), row[2].parse().unwrap());
    let powers: Vec<(i64, String, f64)> = answers[1].iter().map(kilowatts).collect();
    let minute = |n: i64| from.0 / 1_000_000 + n * 60;
    let mut expected = Vec::new();
    for (n, kw) in [(0, 70.1), (1, 70.4)] {
        expected.extend(["train-0042-1", "train-0042-2"].map(|device| (minute(n), device.to_owned(), kw)));
    }
    let mut found = powers.clone();
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    assert_eq!(found, expected, "of the meters of the one train only");
    assert!(powers.is_sorted_by_key(|(time, _, _)| *time));
}
