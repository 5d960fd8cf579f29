//! A rolling update as processes: one version stops, the next one starts on the same data, and meters go on sending all the while.

use std::collections::{BTreeSet, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use iot_meter::domain::{Clock, Timestamp};

use crate::crash::stored;
use crate::support::process::Server;
use crate::support::{Client, Connect, Packet, eventually, mqtt, settled, telemetry};

/// What an update may take: the deadline of a stop, as Kubernetes, compose and systemd allow for.
const GRACE: Duration = Duration::from_secs(25);
/// Messages on their way at once.
const WINDOW: usize = 32;

/// Where meters find the server now, and when they have sent enough.
#[derive(Default)]
struct World {
    address: Mutex<Option<SocketAddr>>,
    is_over: AtomicBool,
    acknowledged: AtomicUsize,
}

/// A meter that keeps what is not acknowledged and sends it again, first of all, on its next connection.
struct Meter {
    device: &'static str,
    base: Timestamp,
    next: u32,
    waiting: VecDeque<u32>,
    connections: usize,
}

impl Meter {
    /// Lives until the world is over and everything it has sent is acknowledged; how many messages that were.
    fn live(mut self, world: &World) -> (u32, usize) {
        while !(world.is_over.load(Ordering::Relaxed) && self.waiting.is_empty()) {
            match self.connect(world) {
                Some(client) => self.speak(client, world),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        (self.next, self.connections)
    }

    /// `None` = there is no server, or it is about to go.
    fn connect(&mut self, world: &World) -> Option<Client> {
        let address = (*world.address.lock().unwrap())?;
        let socket = TcpStream::connect(address).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut client = Client::over(socket);
        let answer = client.log_in(&Connect::id(self.device).persistent());
        let is_in = matches!(answer, Some(Packet::ConnAck { code: 0, .. }));
        self.connections += usize::from(is_in);
        is_in.then_some(client)
    }

    /// Until the connection ends.
    fn speak(&mut self, mut client: Client, world: &World) {
        let again: Vec<u8> = self.waiting.iter().flat_map(|seq| self.packet(*seq, true)).collect();
        client.send(&again);
        loop {
            while self.waiting.len() < WINDOW && !world.is_over.load(Ordering::Relaxed) {
                client.send(&self.packet(self.next, false));
                self.waiting.push_back(self.next);
                self.next += 1;
            }
            if self.waiting.is_empty() {
                return;
            }
            match client.receive() {
                Some(Packet::PubAck(id)) => {
                    let at = self.waiting.iter().position(|seq| packet_id(*seq) == id);
                    self.waiting.remove(at.expect("only what was sent is acknowledged"));
                    world.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Some(other) => panic!("{other:?}"),
                None => return,
            }
        }
    }

    fn packet(&self, seq: u32, dup: bool) -> Vec<u8> {
        let ts = self.base.plus_us(i64::from(seq) * 1000);
        let payload = telemetry(self.device, ts, seq, f64::from(seq % 3000));
        mqtt::publish(&format!("iot/{}/telemetry", self.device), payload.as_bytes(), 1, false, dup, packet_id(seq))
    }
}

fn packet_id(seq: u32) -> u16 {
    (seq % 60_000 + 1) as u16
}

#[test]
fn four_updates_under_load_lose_no_acknowledged_message_and_store_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let base = Timestamp(Clock::system().now().0 / 1_000_000 * 1_000_000).plus_us(-3600 * 1_000_000);
    let world = Arc::new(World::default());
    let devices = ["rolling-1", "rolling-2", "rolling-3", "rolling-4"];
    let meters: Vec<JoinHandle<(u32, usize)>> = devices
        .iter()
        .map(|device| {
            let world = Arc::clone(&world);
            let meter = Meter { device, base, next: 0, waiting: VecDeque::new(), connections: 0 };
            std::thread::spawn(move || meter.live(&world))
        })
        .collect();
    let more_is_acknowledged = || {
        let before = world.acknowledged.load(Ordering::Relaxed);
        eventually("meters are heard", || world.acknowledged.load(Ordering::Relaxed) > before + 500);
    };
    let updates = 4;
    for _ in 0..updates {
        let server = Server::start(&data);
        *world.address.lock().unwrap() = Some(server.mqtt);
        more_is_acknowledged();
        let began = Instant::now();
        assert_eq!(server.terminate(), Some(0), "the old version does not stop in good order");
        let took = began.elapsed();
        assert!(took < GRACE, "the old version took {took:?} to stop");
        *world.address.lock().unwrap() = None;
    }
    let server = Server::start(&data);
    *world.address.lock().unwrap() = Some(server.mqtt);
    more_is_acknowledged();
    world.is_over.store(true, Ordering::Relaxed);
    let sent: Vec<(u32, usize)> = meters.into_iter().map(|meter| meter.join().unwrap()).collect();
    settled(&server.api);
    for (device, (sent, connections)) in devices.iter().zip(sent) {
        let stored = stored(&server, device, base);
        let unique: BTreeSet<i64> = stored.iter().copied().collect();
        assert_eq!(unique.len(), stored.len(), "{device}: something is stored twice");
        let expected: BTreeSet<i64> = (0..i64::from(sent)).collect();
        let lost: Vec<_> = expected.difference(&unique).collect();
        assert!(lost.is_empty(), "{device}: {} acknowledged messages are lost: {lost:?}", lost.len());
        assert!(connections > updates, "{device}: saw no update, {connections} connections");
    }
    assert_eq!(server.terminate(), Some(0));
}
