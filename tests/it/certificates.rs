//! Certificates as an attacker and an honest meter meet them, at the real executable: TLS, who is let in, who is thrown
//! out, what the command line and the API do about it.

use std::os::unix::fs::PermissionsExt;

use iot_meter::domain::{Clock, DeviceId};
use iot_meter::pki::{Ca, KeySource, Validity};
use iot_meter::store::{DeviceChange, NewDevice, Outcome};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

use crate::support::certified::{Card, Guarded, card, client, is_resumed, read, shake};
use crate::support::mqtt::tcp;
use crate::support::process::Server;
use crate::support::wrapped::try_web;
use crate::support::{Client, Connect, Packet, TestApp, eventually, settled, telemetry};

const ACCEPTED: Option<Packet> = Some(Packet::ConnAck { session_present: false, code: 0 });

fn refusal(code: u8) -> Option<Packet> {
    Some(Packet::ConnAck { session_present: false, code })
}

/// A certificate of that authority for that device.
fn issued_by(ca: &Ca, device: &str, days_ago: i64, days: u32) -> Card {
    let now = Clock::system().now().plus_us(-days_ago * 86_400_000_000);
    let id = DeviceId::parse(device).unwrap();
    let issued = ca.issue_device(&id, KeySource::New, Validity { now, days }).unwrap();
    Card { serial: issued.facts.serial, certificate: issued.pem, key: issued.key_pem.unwrap() }
}

fn foreign() -> Ca {
    let now = Clock::system().now().plus_us(-30 * 86_400_000_000);
    Ca::make("Foreign CA", Validity { now, days: 3650 }).unwrap().0
}

/// The authority of a server, to sign with behind its back.
fn own(app: &Guarded) -> Ca {
    Ca::load(&app.authority(), &read(&app.data().join("pki"), "ca.key")).unwrap()
}

/// A certificate of the server's own authority that does not say that it is for clients.
fn for_nothing(app: &Guarded) -> Card {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "m1");
    let issuer = KeyPair::from_pem(&read(&app.data().join("pki"), "ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&app.authority(), issuer).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    Card { serial: String::new(), certificate, key: key.serialize_pem() }
}

fn request(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.serialize_request(&key).unwrap().pem().unwrap(), key.serialize_pem())
}

#[test]
fn a_meter_with_a_certificate_needs_no_password_and_is_itself_only() {
    let app = Guarded::start(&[]);
    let m1 = app.client(Some(&app.enrol("m1")));
    app.register("m2");
    let mut meter = app.connect(&m1, &Connect::id("m1"));
    let now = Clock::system().now();
    meter.publish("iot/m1/telemetry", telemetry("m1", now, 0, 750.0).as_bytes(), 2);
    settled(&app.api);
    let latest = app.api.get("/api/devices/m1/latest").expect(200).text();
    assert!(latest.contains("750"), "{latest}");
    assert_eq!(meter.subscribe("iot/m1/command", 2), 2);
    for filter in ["#", "iot/#", "iot/+/command", "iot/m2/command", "iot/m2/telemetry", "$share/g/iot/m2/command"] {
        assert_eq!(meter.subscribe(filter, 1), 0x80, "{filter}");
    }
    assert!(!meter.try_publish("iot/m2/telemetry", b"{}", 1), "another meter's topic closes the connection");

    let answer = |how: &Connect<'_>| app.log_in(&m1, how).1;
    assert_eq!(answer(&Connect::id("m2")), refusal(2), "another device's client id");
    assert_eq!(answer(&Connect::id("m2").login("m2", "x")), refusal(4), "another device's name");
    assert_eq!(answer(&Connect::id("")), refusal(2));
    assert_eq!(answer(&Connect::id("m1").login("m1", "anything")), ACCEPTED, "the password does not matter");
    assert_eq!(answer(&Connect::id("m1").will("iot/m2/status", b"{}", 1, true)), refusal(5), "another's last will");
    assert_eq!(answer(&Connect::id("m1").will("iot/m1/status", b"{}", 1, true)), ACCEPTED);
}

#[test]
fn who_has_no_good_certificate_stays_outside() {
    let app = Guarded::start(&[]);
    let (token, ca) = (app.register("m1"), own(&app));
    let answer = |card: Option<&Card>, how: &Connect<'_>| app.log_in(&app.client(card), how).1;
    let m1 = Connect::id("m1");
    assert_eq!(answer(Some(&issued_by(&foreign(), "m1", 0, 30)), &m1), None, "of another authority");
    assert_eq!(answer(Some(&issued_by(&ca, "m1", 9, 3)), &m1), None, "expired");
    assert_eq!(answer(Some(&issued_by(&ca, "m1", -9, 3)), &m1), None, "not good yet");
    assert_eq!(answer(Some(&issued_by(&ca, "nobody", 0, 3)), &Connect::id("nobody")), refusal(5), "not registered");
    assert_eq!(answer(Some(&issued_by(&ca, "m1", 0, 3)), &m1), ACCEPTED, "the authority has the last word");
    let server = ca.issue_server(&["m1".to_owned()], Validity { now: Clock::system().now(), days: 9 }).unwrap();
    let server = Card { serial: String::new(), certificate: server.pem, key: server.key_pem.unwrap() };
    assert_eq!(answer(Some(&server), &m1), None, "a server's");
    assert_eq!(answer(Some(&for_nothing(&app)), &m1), None, "it does not say what for");
    assert_eq!(answer(None, &m1), refusal(4));
    assert_eq!(answer(None, &m1.clone().login("m1", &token)), ACCEPTED, "its token is good in TLS");
    let disabled = json!({"status": "inactive"});
    app.api.put("/api/devices/m1", &disabled).expect(200);
    assert_eq!(answer(Some(&issued_by(&ca, "m1", 0, 3)), &m1), refusal(5), "disabled");

    let old = client(&app.authority(), None, &[&rustls::version::TLS12]);
    assert!(shake(app.mqtts, &old).is_err() && shake(app.https, &old).is_err(), "TLS 1.2");
    let foreign = client(foreign().pem(), None, crate::support::wrapped::ANY);
    assert!(shake(app.mqtts, &foreign).is_err(), "the client wants another server");
    let metrics = app.api.get("/metrics").expect(200).text();
    for line in ["unknown_ca\"} 1", "expired\"} 2", "bad_certificate\"} 2", "incompatible\"} 1"] {
        let wanted = format!("iot_meter_tls_refused_total{{server=\"mqtt\",reason=\"{line}");
        assert!(metrics.lines().any(|l| l == wanted), "{wanted} is not in {metrics}");
    }
}

#[test]
fn certificates_can_be_asked_of_everybody() {
    let app = Guarded::start(&[("mqtt.require_client_certificate", "true"), ("mqtt.wss_listen", "127.0.0.1:0")]);
    let (token, card) = (app.register("m1"), app.issue("m1"));
    let with_token = Connect::id("m1").login("m1", &token);
    assert_eq!(app.log_in(&app.client(None), &with_token).1, None, "refused in the handshake");
    let mut plain = Client::over(tcp(app.server.mqtt));
    assert_eq!(plain.log_in(&with_token), refusal(5), "nor over the plain listener");
    app.connect(&app.client(Some(&card)), &Connect::id("m1")).ping();
    let wss: serde_json::Value = serde_json::from_str(&read(&app.data(), "run/addresses.json")).unwrap();
    let wss = wss["wss"].as_str().unwrap().parse().unwrap();
    let in_both = try_web(shake(wss, &app.client(Some(&card))).unwrap(), "/mqtt", "mqtt").unwrap();
    assert_eq!(Client::over(in_both).log_in(&Connect::id("m1")), ACCEPTED, "the same over WebSocket");
    app.https(&app.client(None), "GET /healthz", "").unwrap().expect(200);
}

#[test]
fn a_revoked_certificate_ends_its_connection_and_no_other_and_opens_none() {
    let app = Guarded::start(&[]);
    let (first, second) = (app.enrol("m1"), app.issue("m1"));
    let (one, two) = (app.client(Some(&first)), app.client(Some(&second)));
    let mut other = app.connect(&app.client(Some(&app.enrol("m2"))), &Connect::id("m2"));
    let mut meter = app.connect(&one, &Connect::id("m1").persistent());
    meter.ping();
    let path = format!("/api/certificates/{}", first.serial);
    let body = json!({"reason": "stolen"}).to_string().into_bytes();
    let revoked = app.api.send("DELETE", &path, &[("Content-Type", "application/json")], Some(body)).expect(200).json();
    let answered = std::time::Instant::now();
    assert_eq!((&revoked["state"], &revoked["revoke_reason"]), (&json!("revoked"), &json!("stolen")));
    assert_eq!(meter.receive(), None, "thrown out");
    assert!(answered.elapsed().as_millis() < 900, "at once, not at the next look: {:?}", answered.elapsed());
    assert_eq!(app.log_in(&one, &Connect::id("m1")).1, None, "resumed");
    assert_eq!(app.log_in(&app.client(Some(&first)), &Connect::id("m1")).1, None, "and anew");
    app.connect(&two, &Connect::id("m1")).ping();
    other.ping();
    assert_eq!(app.api.delete(&path).expect(200).json()["revoke_reason"], "stolen", "the first word stays");
    app.api.delete("/api/certificates/nonsense").expect(404);
}

#[test]
fn a_revocation_by_the_command_line_is_heard_by_the_running_server() {
    let app = Guarded::start(&[]);
    let (m1, m2) = (app.enrol("m1"), app.enrol("m2"));
    let (one, two) = (app.client(Some(&m1)), app.client(Some(&m2)));
    let (mut first, mut second) = (app.connect(&one, &Connect::id("m1")), app.connect(&two, &Connect::id("m2")));
    app.run_json(&["pki", "revoke", &m1.serial]);
    // What is in the store is refused at once; who is connected, and the handshake, follow within a second.
    let (_, answer) = app.log_in(&one, &Connect::id("m1"));
    assert!(answer.is_none() || answer == refusal(5), "{answer:?}");
    assert_eq!(first.receive(), None, "thrown out");
    assert_eq!(app.run_json(&["pki", "revoke", "--device", "m2"])["revoked"], json!([m2.serial]));
    assert_eq!(second.receive(), None, "thrown out");
    eventually("the handshake refuses", || app.log_in(&app.client(Some(&m2)), &Connect::id("m2")).1.is_none());
    let failed = app.run(&["pki", "revoke", "nonsense"]);
    assert_eq!(failed.status.code(), Some(2));
}

#[test]
fn a_certificate_that_is_not_in_the_register_is_revoked_by_its_serial() {
    let app = Guarded::start(&[]);
    let ca = own(&app);
    let (m1, m2) = (issued_by(&ca, "m1", 0, 30), issued_by(&ca, "m2", 0, 30));
    for device in ["m1", "m2"] {
        app.register(device);
    }
    let (one, two) = (app.client(Some(&m1)), app.client(Some(&m2)));
    let (mut first, mut second) = (app.connect(&one, &Connect::id("m1")), app.connect(&two, &Connect::id("m2")));
    let path = format!("/api/certificates/{}", m1.serial);
    app.api.get(&path).expect(404);
    let limited = app.api.post("/api/keys", &json!({"role": "operator", "devices": "m", "name": "some"})).expect(201);
    let limited = limited.json()["key"].as_str().unwrap().to_owned();
    app.api.with_key(Some(&limited)).delete(&path).expect(403);
    first.ping();

    // As OpenSSL writes it.
    let capitals = m1.serial.to_uppercase();
    let revoked = app.api.delete(&format!("/api/certificates/{capitals}")).expect(200).json();
    let answered = std::time::Instant::now();
    let fields = ["state", "serial", "device_id"].map(|field| revoked[field].clone());
    assert_eq!(fields, [json!("revoked"), json!(m1.serial), json!(null)]);
    assert_eq!(first.receive(), None, "thrown out");
    assert!(answered.elapsed().as_millis() < 900, "at once, not at the next look: {:?}", answered.elapsed());
    assert_eq!(app.log_in(&one, &Connect::id("m1")).1, None, "resumed");
    assert_eq!(app.log_in(&app.client(Some(&m1)), &Connect::id("m1")).1, None, "and anew");
    assert_eq!(app.api.get(&path).expect(200).json()["state"], "revoked");
    let list = app.api.get("/api/certificates/crl").expect(200).text();
    assert!(iot_meter::pki::Crl::read(list.as_bytes()).unwrap()[0].serials.contains(&m1.serial));
    second.ping();

    app.run_json(&["pki", "revoke", &m2.serial]);
    assert_eq!(second.receive(), None, "thrown out");
    eventually("the handshake refuses", || app.log_in(&app.client(Some(&m2)), &Connect::id("m2")).1.is_none());
    assert_eq!(app.run(&["pki", "renew", &m2.serial]).status.code(), Some(1));
}

#[test]
fn a_connection_ends_with_its_certificate() {
    let now = Clock::system().now().to_string();
    let app = TestApp::builder().clock(&now).set("mqtt.tls_listen", "127.0.0.1:0").start();
    app.register("m1");
    let issued = app.api.post("/api/certificates", &json!({"device_id": "m1", "days": 1})).expect(201).json();
    let trusted = read(&app.data_dir().join("pki"), "ca.pem");
    let m1 = client(&trusted, Some(&card(&issued)), crate::support::wrapped::ANY);
    let to = app.address("mqtts");
    let mut meter = Client::over(shake(to, &m1).unwrap());
    assert_eq!(meter.log_in(&Connect::id("m1")), ACCEPTED);
    meter.ping();
    app.pass_s(86_400 + 1);
    assert_eq!(meter.receive(), None, "its time is over");
    assert_eq!(Client::over(shake(to, &m1).unwrap()).log_in(&Connect::id("m1")), None);
    let expired = app.api.get("/api/certificates?device=m1").expect(200).json();
    assert_eq!(expired[0]["state"], "expired");
}

#[test]
fn a_device_that_another_node_disables_is_disconnected_here() {
    let app = TestApp::builder().start();
    let made = app.api.post("/api/devices", &json!({"device_id": "m1", "device_name": "Meter"})).expect(201).json();
    let how = Connect::id("m1").login("m1", made["token"].as_str().unwrap());
    let (mut meter, _) = app.mqtt(&how);
    meter.ping();
    let disabled = DeviceChange { is_active: Some(false), ..DeviceChange::default() };
    app.store().update_device(&DeviceId::parse("m1").unwrap(), &disabled, None, app.now()).unwrap();
    assert_eq!(meter.receive(), None, "thrown out");
}

#[test]
fn a_device_that_another_node_deletes_and_registers_anew_at_once_is_disconnected_here() {
    let app = TestApp::builder().start();
    let new = json!({"device_id": "m1", "device_name": "Meter"});
    let made = app.api.post("/api/devices", &new).expect(201).json();
    let (mut meter, _) = app.mqtt(&Connect::id("m1").login("m1", made["token"].as_str().unwrap()));
    meter.ping();
    let (store, id) = (app.store(), DeviceId::parse("m1").unwrap());
    assert!(store.delete_device(&id, false).unwrap());
    let anew = NewDevice {
        device_id: id,
        device_name: "Another meter".into(),
        device_type: "dc_meter".into(),
        location: None,
        is_active: true,
        metadata: serde_json::Map::new(),
        token_sha256: Some([7; 32]),
    };
    assert!(matches!(store.create_device(&anew, app.now()).unwrap(), Outcome::Done(_)));
    assert_eq!(meter.receive(), None, "it is not the meter that is registered now");
}

#[test]
fn another_token_ends_the_session_of_the_old_one_whoever_has_changed_it() {
    let app = TestApp::builder().start();
    let add = |id: &str| {
        let body = json!({"device_id": id, "device_name": "Meter"});
        app.api.post("/api/devices", &body).expect(201).json()["token"].as_str().unwrap().to_owned()
    };
    let (old, other) = (add("m1"), add("m2"));
    let (mut meter, _) = app.mqtt(&Connect::id("m1").login("m1", &old));
    let (mut marker, _) = app.mqtt(&Connect::id("m2").login("m2", &other));
    meter.ping();
    let set = |id: &str, token: Option<&str>| {
        let digest = token
            .map(|token| sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), token)).into());
        assert!(app.store().set_device_token(&DeviceId::parse(id).unwrap(), digest).unwrap());
    };
    // As another node does it: nobody tells this one but the database.
    set("m1", Some("the new one"));
    assert_eq!(meter.receive(), None, "thrown out");
    let (mut meter, _) = app.mqtt(&Connect::id("m1").login("m1", "the new one"));
    set("m1", Some("the new one"));
    set("m2", None);
    assert_eq!(marker.receive(), None, "what came before it was looked at");
    meter.ping();
    set("m1", None);
    assert_eq!(meter.receive(), None, "thrown out");
}

#[test]
fn an_open_server_does_not_serve_what_a_guarded_one_has_made() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let init = std::process::Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    assert!({ init }.args(["pki", "init", "--data-dir"]).arg(&data).output().unwrap().status.success());
    let mut open = std::process::Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    open.args(["serve", "--open", "--http-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0", "--data-dir"]);
    open.arg(&data).stdout(std::process::Stdio::null());
    let server = Server::start_with(&mut open, &data);
    let announced: serde_json::Value = serde_json::from_str(&read(&data, "run/addresses.json")).unwrap();
    assert_eq!(announced.as_object().unwrap().keys().collect::<Vec<_>>(), ["http", "mqtt"]);
    drop(server);
}

#[test]
fn a_deleted_devices_certificates_are_dead_for_good() {
    let app = Guarded::start(&[]);
    let client = app.client(Some(&app.enrol("m1")));
    let mut meter = app.connect(&client, &Connect::id("m1"));
    app.api.delete("/api/devices/m1").expect(200);
    assert_eq!(meter.receive(), None, "thrown out");
    app.register("m1");
    let (_, answer) = app.log_in(&client, &Connect::id("m1"));
    assert!(answer.is_none() || answer == refusal(5), "who is registered now is somebody else: {answer:?}");
}

#[test]
fn sessions_are_resumed_and_judged_all_the_same() {
    let app = Guarded::start(&[]);
    let (m1, nobody) = (app.client(Some(&app.enrol("m1"))), app.client(None));
    for client in [&m1, &nobody] {
        let how = Connect::id("m1");
        app.log_in(client, &how);
        let stream = shake(app.mqtts, client).unwrap();
        assert!(is_resumed(&stream));
        let code = Client::over(stream).log_in(&how);
        assert_eq!(code, if std::ptr::eq(client, &m1) { ACCEPTED } else { refusal(4) });
    }
    let metrics = app.api.get("/metrics").expect(200).text();
    assert!(
        metrics.contains("iot_meter_tls_handshakes_total{server=\"mqtt\",kind=\"resumed\",version=\"1.3\"} 2"),
        "{metrics}"
    );
}

#[test]
fn a_device_gets_a_certificate_for_its_own_key_and_renews_it_itself() {
    let app = Guarded::start(&[]);
    app.register("m1");
    let post = |body: serde_json::Value| app.api.post("/api/certificates", &body);
    let (csr, key) = request("m1");
    let issued = post(json!({"device_id": "m1", "csr": csr, "days": 9})).expect(201);
    assert_eq!(issued.header("Cache-Control"), Some("no-store"));
    assert!(issued.json()["private_key"].is_null() && issued.json()["chain"] == json!(app.authority()));
    let m1 = app.client(Some(&Card { key: key.clone(), ..card(&issued.json()) }));
    app.connect(&m1, &Connect::id("m1")).ping();

    let other = request("m2").0;
    for (csr, why) in [(other.as_str(), "common name"), ("nonsense", "PKCS #10"), (&csr[..csr.len() / 2], "PKCS #10")] {
        let refused = post(json!({"device_id": "m1", "csr": csr})).expect(422).json();
        assert!(
            refused["errors"][0]["field"] == "csr" && refused["detail"].as_str().unwrap().contains(why),
            "{refused}"
        );
    }
    post(json!({"device_id": "nobody"})).expect(404);
    post(json!({"device_id": "m1", "days": 0})).expect(422);
    post(json!({"device_id": "../m1"})).expect(422);

    let renewed = app.https(&m1, "POST /api/certificates/renew", "{}").unwrap().expect(201).json();
    assert!(renewed["private_key"].is_null());
    assert_ne!(renewed["serial"], issued.json()["serial"]);
    let again = app.client(Some(&Card { key, ..card(&renewed) }));
    app.connect(&again, &Connect::id("m1")).ping();
    let (csr, key) = request("m1");
    let body = json!({"csr": csr}).to_string();
    let renewed = app.https(&again, "POST /api/certificates/renew", &body).unwrap().expect(201).json();
    app.connect(&app.client(Some(&Card { key, ..card(&renewed) })), &Connect::id("m1")).ping();
    let body = json!({"csr": other}).to_string();
    app.https(&again, "POST /api/certificates/renew", &body).unwrap().expect(422);
    app.https(&app.client(None), "POST /api/certificates/renew", "{}").unwrap().expect(401);
    app.api.post("/api/certificates/renew", &json!({})).expect(401);
    let serial = renewed["serial"].as_str().unwrap();
    assert!(app.api.get("/api/certificates?device=m1&expiring_within_days=400").expect(200).text().contains(serial));
    let first = issued.json()["serial"].as_str().unwrap().to_owned();
    app.api.delete(&format!("/api/certificates/{first}")).expect(200);
    let refused = app.https(&m1, "POST /api/certificates/renew", "{}");
    assert!(refused.is_err(), "revoked: {refused:?}");
}

#[test]
fn the_api_is_there_in_tls() {
    let app = Guarded::start(&[]);
    let nobody = app.client(None);
    let answer = app.https(&nobody, "GET /healthz", "").unwrap().expect(200);
    assert!(answer.header("strict-transport-security").is_some_and(|v| v.contains("max-age=")), "{answer:?}");
    app.https(&nobody, "GET /api/devices", "").unwrap().expect(401);
    let card = app.client(Some(&app.enrol("m1")));
    app.https(&card, "GET /api/devices", "").unwrap().expect(401);
    let text = app.api.with_key(None).get("/api/certificates/ca").expect(200).text();
    assert_eq!(text, app.authority(), "the authority is no secret");
    app.api.with_key(None).get("/api/certificates/crl").expect(401);
    assert!(app.api.get("/api/certificates/crl").expect(200).text().starts_with("-----BEGIN X509 CRL-----"));
    let mut silent = tcp(app.https);
    std::io::Write::write_all(&mut silent, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut got = Vec::new();
    let _ = std::io::Read::read_to_end(&mut silent, &mut got);
    assert!(!got.starts_with(b"HTTP"), "plain HTTP gets nothing but an alert");
}

#[test]
fn a_new_bundle_of_authorities_counts_without_dropping_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("bundle.pem");
    let (one, two) = (foreign(), foreign());
    std::fs::write(&bundle, one.pem()).unwrap();
    let (server, files) = crate::support::wrapped::Certificate::new();
    let file = |path: std::path::PathBuf| path.display().to_string();
    let app = Guarded::start(&[
        ("mqtt.tls_client_ca_file", &file(bundle.clone())),
        ("mqtt.tls_cert_file", &file(server.cert_file())),
        ("mqtt.tls_key_file", &file(server.key_file())),
    ]);
    assert!(!app.data().join("pki/ca.pem").exists(), "the external authority is used instead");
    app.register("m1");
    app.register("m2");
    let trusted = iot_meter::pki::pem_of(&files);
    let versions = crate::support::wrapped::ANY;
    let (m1, m2) = (issued_by(&one, "m1", 0, 9), issued_by(&two, "m2", 0, 9));
    let (m1, m2) = (client(&trusted, Some(&m1), versions), client(&trusted, Some(&m2), versions));
    let mut first = app.connect(&m1, &Connect::id("m1"));
    assert_eq!(app.log_in(&m2, &Connect::id("m2")).1, None);
    let refused = app.api.post("/api/certificates", &json!({"device_id": "m1"})).expect(409).text();
    assert!(refused.contains("external"), "{refused}");
    app.api.get("/api/certificates/crl").expect(409);
    assert_eq!(app.api.get("/api/certificates/ca").expect(200).text(), one.pem());

    std::fs::write(&bundle, format!("{}{}", one.pem(), two.pem())).unwrap();
    eventually("the new authority is trusted", || app.log_in(&m2, &Connect::id("m2")).1 == ACCEPTED);
    first.ping();
    std::fs::write(&bundle, two.pem()).unwrap();
    assert_eq!(first.receive(), None, "its authority is trusted no more");
    assert_eq!(app.log_in(&m1, &Connect::id("m1")).1, None);
    app.connect(&m2, &Connect::id("m2")).ping();
}

#[test]
fn the_command_line_issues_lists_and_renews() {
    let app = Guarded::start(&[]);
    app.register("m1");
    let out = app.data().join("out");
    let made = app.run_json(&["pki", "issue", "--device", "m1", "--out", &out.display().to_string(), "--days", "9"]);
    let mode = std::fs::metadata(out.join("m1.key")).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode, made["files"].as_array().unwrap().len()), (0o600, 3));
    let serial = made["serial"].as_str().unwrap();
    let key = read(&out, "m1.key");
    let first = Card { serial: serial.to_owned(), certificate: read(&out, "m1.pem"), key: key.clone() };
    app.connect(&app.client(Some(&first)), &Connect::id("m1")).ping();
    let soon = || app.run_json(&["pki", "list", "--expiring-within-days", "10"]).as_array().unwrap().len();
    assert_eq!(soon(), 1);
    let renewed = app.run_json(&["pki", "renew", serial]);
    let second = Card { key, ..card(&renewed) };
    app.connect(&app.client(Some(&second)), &Connect::id("m1")).ping();
    let (csr, key) = request("m1");
    std::fs::write(out.join("m1.csr"), csr).unwrap();
    let path = out.join("m1.csr").display().to_string();
    let third = app.run_json(&["pki", "issue", "--device", "m1", "--csr", &path]);
    app.connect(&app.client(Some(&Card { key, ..card(&third) })), &Connect::id("m1")).ping();
    let listed = app.run_json(&["pki", "list", "--device", "m1"]);
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(soon(), 0, "it was renewed");
    assert_eq!(app.run(&["pki", "issue", "--device", "nobody"]).status.code(), Some(1));
    assert_eq!(app.run(&["pki", "init"]).status.code(), Some(1), "an authority is not replaced by accident");
    let server = app.run_json(&["pki", "issue", "--server", "--name", "meters.example"]);
    assert!(server["names"].as_array().unwrap().contains(&json!("meters.example")));
    app.run_json(&["pki", "revoke", serial]);
    assert_eq!(app.run(&["pki", "renew", serial]).status.code(), Some(1), "what was revoked is not renewed");
}

#[test]
fn only_keys_of_the_server_and_the_authority_are_on_its_disk() {
    let app = Guarded::start(&[]);
    let card = app.enrol("m1");
    // Behind the head that all such keys have.
    let secret: String = card.key.lines().filter(|line| !line.starts_with("---")).collect();
    for name in ["ca.key", "server.key", "ca.pem", "server.pem"] {
        let mode = std::fs::metadata(app.data().join("pki").join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    let mut dirs = vec![app.data()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                dirs.push(entry.path());
            } else if let Ok(bytes) = std::fs::read(entry.path()) {
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains(&secret[52..88]), "{}", entry.path().display());
            }
        }
    }
}
