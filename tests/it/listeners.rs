//! The broker's other listeners through the whole server: WebSocket, TLS, and what is not let in.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tungstenite::Message;

use crate::support::mqtt::tcp;
use crate::support::process::{self, Server};
use crate::support::wrapped::{ANY, Certificate, tls, try_web, web};
use crate::support::{Client, Connect, Packet, TestApp, eventually, telemetry};

/// Open to everybody, with every listener there is.
fn app(certificate: &Certificate) -> TestApp {
    TestApp::builder()
        .open()
        .set("mqtt.ws_listen", "127.0.0.1:0")
        .set("mqtt.tls_listen", "127.0.0.1:0")
        .set("mqtt.wss_listen", "127.0.0.1:0")
        .set("mqtt.tls_cert_file", &certificate.cert_file().display().to_string())
        .set("mqtt.tls_key_file", &certificate.key_file().display().to_string())
        .set("mqtt.tls_reload_s", "1")
        .start()
}

fn log_in(mut client: Client, id: &str) -> Client {
    assert_eq!(client.log_in(&Connect::id(id)), Some(Packet::ConnAck { session_present: false, code: 0 }));
    client
}

#[test]
fn meters_and_subscribers_meet_whatever_they_came_through() {
    let (certificate, trusted) = Certificate::new();
    let app = app(&certificate);
    let in_tls = || tls(app.address("mqtts"), &trusted, ANY).unwrap();
    let in_both = || try_web(tls(app.address("wss"), &trusted, ANY).unwrap(), "/mqtt", "mqtt").unwrap();
    let mut watchers = [
        log_in(Client::socket(app.address("mqtt")), "w1"),
        log_in(Client::over(web(app.address("ws"))), "w2"),
        log_in(Client::over(in_tls()), "w3"),
        log_in(Client::over(in_both()), "w4"),
    ];
    for watcher in &mut watchers {
        assert_eq!(watcher.subscribe("iot/+/telemetry", 1), 1);
    }
    let meters = [
        log_in(Client::socket(app.address("mqtt")), "m1"),
        log_in(Client::over(web(app.address("ws"))), "m2"),
        log_in(Client::over(in_tls()), "m3"),
        log_in(Client::over(in_both()), "m4"),
    ];
    for (n, mut meter) in meters.into_iter().enumerate() {
        let id = format!("m{}", n + 1);
        // Larger than any buffer on its way.
        let payload = telemetry(&id, app.at(0), 0, 750.0) + &" ".repeat(200_000);
        meter.publish(&format!("iot/{id}/telemetry"), payload.as_bytes(), 2);
        for watcher in &mut watchers {
            match watcher.next_publish() {
                Packet::Publish { topic, payload: got, .. } => {
                    assert_eq!(topic, format!("iot/{id}/telemetry"));
                    assert!(got == payload.as_bytes());
                }
                other => panic!("{other:?}"),
            }
        }
        meter.disconnect();
    }
    app.settled();
    for id in ["m1", "m2", "m3", "m4"] {
        assert_eq!(app.values(id, "voltage_dc"), [750.0]);
    }
    let announced = app.announced();
    assert_eq!(announced.as_object().unwrap().keys().collect::<Vec<_>>(), ["http", "mqtt", "mqtts", "ws", "wss"]);
}

#[test]
fn what_is_no_mqtt_over_web_socket_is_refused_and_harms_nobody() {
    let app = TestApp::builder().open().set("mqtt.ws_listen", "127.0.0.1:0").start();
    let to = app.address("ws");
    let mut good = log_in(Client::over(web(to)), "good");
    let refused = |path, protocol| try_web(tcp(to), path, protocol).err();
    assert_eq!(refused("/mqtt", "chat"), Some(400));
    assert_eq!(refused("/elsewhere", "mqtt"), Some(404));
    assert_eq!(refused("/", "chat, mqtt"), None);

    let mut text = web(to);
    text.socket.send(Message::Text("hello".into())).unwrap();
    assert_eq!(text.closed_with(), Some(1003), "unsupported data");
    let mut large = web(to);
    // The server need not have taken it all when it ends the connection.
    let _ = large.socket.send(Message::Binary(vec![0; (256 << 10) + 1].into()));
    assert!(matches!(large.closed_with(), Some(1009) | None), "too big");
    let mut no_mqtt = web(to);
    no_mqtt.socket.send(Message::Binary(b"GET / HTTP/1.1\r\n\r\n".as_slice().into())).unwrap();
    assert_eq!(no_mqtt.closed_with(), Some(1000), "the server ends it");
    let mut polite = web(to);
    polite.socket.send(Message::Ping(b"there?".as_slice().into())).unwrap();
    assert_eq!(polite.socket.read().unwrap(), Message::Pong(b"there?".as_slice().into()));
    polite.socket.close(None).unwrap();
    assert!(matches!(polite.socket.read(), Ok(Message::Close(_))), "the close is answered");
    good.ping();
}

#[test]
fn tls_1_2_is_refused_by_default() {
    let (certificate, trusted) = Certificate::new();
    let app = app(&certificate);
    let to = app.address("mqtts");
    let stream = tls(to, &trusted, ANY).unwrap();
    assert_eq!(stream.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert!(tls(to, &trusted, &[&rustls::version::TLS12]).is_err());
    log_in(Client::over(stream), "c").ping();
}

#[test]
fn a_replaced_certificate_is_seen_by_the_next_handshake_and_the_old_connection_lives() {
    let (certificate, first) = Certificate::new();
    let app = app(&certificate);
    let to = app.address("mqtts");
    let mut old = log_in(Client::over(tls(to, &first, ANY).unwrap()), "old");
    let second = certificate.replace();
    eventually("the new certificate is in use", || tls(to, &second, ANY).is_ok());
    assert!(tls(to, &first, ANY).is_err());
    old.ping();

    std::fs::write(certificate.cert_file(), "no certificate").unwrap();
    let bad = "iot_meter_mqtt_tls_reloads_total{result=\"bad\"} ";
    eventually("the bad file is noticed", || {
        let page = app.api.get("/metrics").expect(200).text();
        page.lines().filter_map(|line| line.strip_prefix(bad)).any(|count| count != "0")
    });
    log_in(Client::over(tls(to, &second, ANY).unwrap()), "new").ping();
    old.ping();
}

#[test]
fn a_certificate_that_is_no_good_is_a_fault_of_the_configuration() {
    let (certificate, _) = Certificate::new();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("x.toml");
    let check = |cert: &str, key: &str, says: &[&str]| {
        let text = format!("[mqtt]\ntls_listen = \"127.0.0.1:0\"\ntls_cert_file = {cert:?}\ntls_key_file = {key:?}\n");
        std::fs::write(&config, text).unwrap();
        for command in ["serve", "check-config"] {
            let output = Command::new(env!("CARGO_BIN_EXE_iot-meter"))
                .args([command, "--config"])
                .arg(&config)
                .args(["--data-dir"])
                .arg(dir.path().join("data"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(78), "{said}");
            assert!(says.iter().all(|part| said.contains(part)), "{says:?} is not all in {said}");
        }
    };
    let (cert, key) = (certificate.cert_file().display().to_string(), certificate.key_file().display().to_string());
    check(&cert, "", &["mqtt.tls_key_file", "x.toml:4"]);
    check("/no/such.pem", &key, &["mqtt.tls_cert_file", "/no/such.pem", "x.toml:3"]);
    check(&key, &key, &["mqtt.tls_cert_file", "no certificate"]);
    check(&cert, &cert, &["mqtt.tls_key_file", "no private key"]);
    assert!(!dir.path().join("data").exists(), "nothing was begun");
}

/// Where a demo listens for MQTT in TLS.
fn mqtts_of(data: &Path) -> Option<SocketAddr> {
    let announced: Value = serde_json::from_slice(&std::fs::read(data.join("run/addresses.json")).unwrap()).unwrap();
    announced.get("mqtts").map(|address| address.as_str().unwrap().parse().unwrap())
}

#[test]
fn an_open_demo_speaks_tls_too_by_an_authority_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start_with(&mut process::demo(&data, 1, "127.0.0.1:0"), &data);
    let authority = CertificateDer::from_pem_file(data.join("pki/ca.pem")).unwrap();
    let mut watcher = log_in(Client::over(tls(mqtts_of(&data).unwrap(), &authority, ANY).unwrap()), "watcher");
    assert_eq!(watcher.subscribe("iot/+/telemetry", 1), 1);
    match watcher.next_publish() {
        Packet::Publish { topic, .. } => assert_eq!(topic, "iot/demo-dc750-0001/telemetry"),
        other => panic!("{other:?}"),
    }
    for of in ["server", "ca"] {
        let left = format!("iot_meter_certificate_expiry_seconds{{of=\"{of}\"}} ");
        eventually("the time left is told", || {
            let page = server.api.get("/metrics").expect(200).text();
            page.lines().filter_map(|line| line.strip_prefix(&left)).any(|left| left.parse::<f64>().unwrap() > 86_400.0)
        });
    }
}

#[test]
fn a_demo_starts_without_tls_where_somebody_has_its_port() {
    // By this, or by whoever has it already.
    let taken = TcpListener::bind("127.0.0.1:8883");
    assert!(taken.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::AddrInUse), "{taken:?}");
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start_with(&mut process::demo(&data, 1, "auto"), &data);
    assert_eq!(mqtts_of(&data), None);
    eventually("the meter has measured", || server.api.get("/api/devices/demo-dc750-0001/latest").status == 200);
}

#[test]
fn connections_beyond_the_limit_of_an_address_are_refused_and_counted() {
    let app = TestApp::builder()
        .open()
        .set("mqtt.max_connections_per_address", "3")
        .set("mqtt.ws_listen", "127.0.0.1:0")
        .start();
    let inside: Vec<_> = (0..3).map(|n| app.mqtt(&Connect::id(&format!("c{n}"))).0).collect();
    let (_, answer) = Client::try_connect(app.mqtt_address(), &Connect::id("c3"));
    assert_eq!(answer, None, "closed at once");
    let counted = "iot_meter_mqtt_refused_total{reason=\"address_limit\"} 1";
    eventually("it is counted", || app.api.get("/metrics").expect(200).text().lines().any(|line| line == counted));
    for mut client in inside {
        client.ping();
        client.disconnect();
    }
    eventually("there is room again", || Client::try_connect(app.mqtt_address(), &Connect::id("c4")).1.is_some());
}
