//! The real executable under `kill -9`, a torn tail, a full disk, a second process.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iot_meter::domain::{Clock, Timestamp};
use rand::Rng;

use crate::support::process::{Server, command};
use crate::support::{Client, Connect, Packet, an_hour_ago, eventually, mqtt, settled, telemetry};

/// Publishes without a pause until told to stop, and notes what was acknowledged to the end.
pub fn publish_until(meter: Client, device: &str, next: &mut u32, base: Timestamp, stop: &AtomicBool) -> Vec<u32> {
    publish_paced(meter, device, next, base, Duration::ZERO, stop)
}

/// The same with a pause after every 32 messages: where all of it has to be stored, and a slow machine must not have more to
/// do for that than a fast one.
pub fn publish_paced(
    mut meter: Client,
    device: &str,
    next: &mut u32,
    base: Timestamp,
    pause: Duration,
    stop: &AtomicBool,
) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(pause);
        // A window of 32, QoS 1 and 2 in turn: acknowledgements come in order of the publishes.
        let first = *next;
        let mut bytes = Vec::new();
        for seq in first..first + 32 {
            let ts = base.plus_us(i64::from(seq) * 1000);
            let payload = telemetry(device, ts, seq, f64::from(seq % 3000));
            bytes.extend(mqtt::publish(
                &format!("iot/{device}/telemetry"),
                payload.as_bytes(),
                1,
                false,
                false,
                (seq % 60_000 + 1) as u16,
            ));
        }
        meter.send(&bytes);
        *next = first + 32;
        for seq in first..first + 32 {
            match meter.receive() {
                Some(Packet::PubAck(id)) => {
                    assert_eq!(id, (seq % 60_000 + 1) as u16);
                    acknowledged.push(seq);
                }
                Some(other) => panic!("{other:?}"),
                None => return acknowledged,
            }
        }
    }
    acknowledged
}

/// The sequence numbers stored, by the time of the sample.
pub fn stored(server: &Server, device: &str, base: Timestamp) -> Vec<i64> {
    let path = format!("/api/devices/{device}/metrics?start=-2h&metric=voltage_dc&format=ndjson");
    let text = server.api.get(&path).expect(200).text();
    let time = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        Timestamp::parse_rfc3339(row["time"].as_str().unwrap()).unwrap()
    };
    text.lines().map(|line| (time(line).0 - base.0) / 1000).collect()
}

#[test]
fn every_acknowledged_message_is_stored_exactly_once_after_ten_kills_at_random_moments() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let base = an_hour_ago();
    let devices = ["crash-1", "crash-2", "crash-3"];
    let acknowledged: Vec<Arc<Mutex<Vec<u32>>>> = devices.iter().map(|_| Arc::default()).collect();
    let mut next = [0u32; 3];
    let mut kills = 0;
    while kills < 10 || acknowledged.iter().any(|of| of.lock().unwrap().len() <= 100) {
        assert!(kills < 60, "too little is acknowledged");
        let server = Server::start(&data);
        let stop = Arc::new(AtomicBool::new(false));
        let to = server.mqtt;
        let meters: Vec<_> = devices
            .iter()
            .zip(next)
            .zip(&acknowledged)
            .map(|((device, mut next), acknowledged)| {
                let (stop, acknowledged, device) = (Arc::clone(&stop), Arc::clone(acknowledged), (*device).to_owned());
                // Before the moment begins: the kill is to hit publishes, not log-ins.
                let (meter, _) = Client::connect(to, &Connect::id(&device).persistent());
                std::thread::spawn(move || {
                    let done = publish_until(meter, &device, &mut next, base, &stop);
                    acknowledged.lock().unwrap().extend(done);
                    next
                })
            })
            .collect();
        // The moment is random; that enough was acknowledged in all is not left to chance.
        let moment = rand::rng().random_range(1..200);
        std::thread::sleep(Duration::from_millis(moment));
        server.kill();
        stop.store(true, Ordering::Relaxed);
        for (slot, meter) in next.iter_mut().zip(meters) {
            *slot = meter.join().unwrap();
        }
        kills += 1;
    }
    let server = Server::start(&data);
    settled(&server.api);
    for (device, acknowledged) in devices.iter().zip(&acknowledged) {
        let acknowledged = acknowledged.lock().unwrap();
        let stored = stored(&server, device, base);
        let unique: BTreeSet<i64> = stored.iter().copied().collect();
        assert_eq!(unique.len(), stored.len(), "{device}: something is stored twice");
        let lost: Vec<_> = acknowledged.iter().filter(|seq| !unique.contains(&i64::from(**seq))).collect();
        assert!(lost.is_empty(), "{device}: {} acknowledged messages are lost: {lost:?}", lost.len());
    }
    assert_eq!(server.terminate(), Some(0));
}

fn last_segment(data: &Path) -> std::path::PathBuf {
    let mut segments: Vec<_> = std::fs::read_dir(data.join("journal"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "journal"))
        .collect();
    segments.sort();
    segments.pop().expect("the journal has a segment")
}

#[test]
fn a_torn_tail_is_cut_and_everything_before_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let base = Clock::system().now().plus_us(-60_000_000);
    let server = Server::start(&data);
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("torn"));
    for seq in 0..10 {
        let ts = base.plus_us(i64::from(seq) * 1_000_000);
        meter.publish("iot/torn/telemetry", telemetry("torn", ts, seq, f64::from(seq)).as_bytes(), 2);
    }
    server.kill();
    let mut segment = std::fs::OpenOptions::new().append(true).open(last_segment(&data)).unwrap();
    segment.write_all(&[0x17; 333]).unwrap();
    drop(segment);
    let server = Server::start(&data);
    settled(&server.api);
    let rows = server.api.get("/api/devices/torn/metrics?start=-1h&metric=voltage_dc").expect(200).json();
    assert_eq!(rows.as_array().unwrap().len(), 10, "{rows}");
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("torn"));
    meter.publish("iot/torn/telemetry", telemetry("torn", base.plus_us(10_000_000), 10, 10.0).as_bytes(), 2);
    settled(&server.api);
    let rows = server.api.get("/api/devices/torn/metrics?start=-1h&metric=voltage_dc").expect(200).json();
    assert_eq!(rows.as_array().unwrap().len(), 11, "{rows}");
}

#[test]
fn a_second_process_on_the_same_data_directory_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data);
    let second = command(&data).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use by another iot-meter process"), "{said}");
    assert!(server.is_running());
    server.api.get("/healthz").expect(200);
    assert_eq!(server.terminate(), Some(0));
}

/// A command of root's.
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", program]);
    sudo
}

/// A small file system of its own, unmounted at the end.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let done = as_root("mount").args(["-t", "tmpfs", "-o", "size=24m,mode=1777", "tmpfs"]).arg(dir.path()).status();
        assert!(done.unwrap().success(), "this test mounts a tmpfs: run it as root, or with sudo without a password");
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = as_root("umount").args(["-l"]).arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_stops_acknowledgements_and_loses_nothing_acknowledged() {
    let disk = SmallDisk::mount();
    let data = disk.0.path().join("data");
    let base = an_hour_ago();
    let server = Server::start(&data);
    let ballast = disk.0.path().join("ballast");
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = {
        let (to, stop) = (server.mqtt, Arc::clone(&stop));
        let (meter, _) = Client::connect(to, &Connect::id("full").persistent());
        std::thread::spawn(move || publish_until(meter, "full", &mut 0, base, &stop))
    };
    // Fill what the messages leave, until nothing fits any more.
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[7; 65536]).and_then(|()| file.sync_all()).is_ok() {}
    drop(file);
    eventually("the server says that it is not ready", || {
        server.api.try_send("GET", "/readyz", &[], None).is_ok_and(|answer| answer.status == 503)
    });
    std::fs::remove_file(&ballast).unwrap();
    eventually("the server recovers by itself", || {
        server.api.try_send("GET", "/readyz", &[], None).is_ok_and(|answer| answer.status == 200)
    });
    stop.store(true, Ordering::Relaxed);
    let acknowledged = acknowledged.join().unwrap();
    assert!(!acknowledged.is_empty());
    settled(&server.api);
    let rows = stored(&server, "full", base);
    let unique: BTreeSet<i64> = rows.iter().copied().collect();
    assert_eq!(unique.len(), rows.len(), "something is stored twice");
    let lost: Vec<_> = acknowledged.iter().filter(|seq| !unique.contains(&i64::from(**seq))).collect();
    assert!(lost.is_empty(), "{} acknowledged messages are lost: {lost:?}", lost.len());
}
