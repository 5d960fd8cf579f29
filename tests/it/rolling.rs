//! A rolling update as processes: one version stops, the next one starts on the same data, and meters go on sending all the while.
//! (Of several nodes: nodes.rs, with the meters of this file.)

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use iot_meter::domain::Timestamp;

use crate::crash::stored;
use crate::support::process::Server;
use crate::support::{Client, Connect, Packet, an_hour_ago, eventually, mqtt, settled, telemetry};

/// What an update may take: the deadline of a stop, as Kubernetes, compose and systemd allow for.
const GRACE: Duration = Duration::from_secs(25);
/// Messages on their way at once.
const WINDOW: usize = 32;

/// Where meters find servers now, and when they have sent enough.
pub struct World {
    addresses: Mutex<Vec<Option<SocketAddr>>>,
    is_over: AtomicBool,
    /// Messages of each meter.
    acknowledged: Mutex<BTreeMap<&'static str, usize>>,
}

impl World {
    /// With room for so many servers.
    pub fn new(servers: usize) -> Arc<Self> {
        let addresses = Mutex::new(vec![None; servers]);
        Arc::new(Self { addresses, is_over: AtomicBool::new(false), acknowledged: Mutex::default() })
    }

    /// One of the servers is there, or gone.
    pub fn set(&self, server: usize, address: Option<SocketAddr>) {
        self.addresses.lock().unwrap()[server] = address;
    }

    /// Waits until a good many more messages have been acknowledged, of each meter at least one.
    pub fn go_on(&self) {
        let before = self.acknowledged.lock().unwrap().clone();
        eventually("meters are heard", || {
            let now = self.acknowledged.lock().unwrap();
            now.values().sum::<usize>() > before.values().sum::<usize>() + 500
                && now.iter().all(|(m, n)| *n > before[m])
        });
    }

    /// Nothing new is sent; how many messages, and over how many connections, each meter has sent when all are acknowledged.
    pub fn end(&self, meters: Vec<JoinHandle<(u32, usize)>>) -> Vec<(u32, usize)> {
        self.is_over.store(true, Ordering::Relaxed);
        meters.into_iter().map(|meter| meter.join().unwrap()).collect()
    }
}

/// Starts a meter a device, that live until the world is over and everything they have sent is acknowledged. Between two new
/// messages each lets `pace` go by: a server that is to stop in time must be able to store what it has taken.
pub fn meters(
    devices: &'static [&'static str],
    base: Timestamp,
    pace: Duration,
    world: &Arc<World>,
) -> Vec<JoinHandle<(u32, usize)>> {
    devices
        .iter()
        .enumerate()
        .map(|(server, device)| {
            let world = Arc::clone(world);
            world.acknowledged.lock().unwrap().insert(device, 0);
            let meter = Meter { device, base, pace, server, next: 0, waiting: VecDeque::new(), connections: 0 };
            std::thread::spawn(move || meter.live(&world))
        })
        .collect()
}

/// A meter that keeps what is not acknowledged and sends it again, first of all, on its next connection.
struct Meter {
    device: &'static str,
    base: Timestamp,
    pace: Duration,
    /// Which server it tries next.
    server: usize,
    next: u32,
    waiting: VecDeque<u32>,
    connections: usize,
}

impl Meter {
    /// How many messages it has sent, over how many connections.
    fn live(mut self, world: &World) -> (u32, usize) {
        let mut over_since = None;
        while !(world.is_over.load(Ordering::Relaxed) && self.waiting.is_empty()) {
            if world.is_over.load(Ordering::Relaxed) {
                let (since, left) = (*over_since.get_or_insert_with(Instant::now), self.waiting.len());
                assert!(since.elapsed() < Duration::from_secs(120), "{}: {left} unacknowledged", self.device);
            }
            match self.connect(world) {
                Some(client) => self.speak(client, world),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        (self.next, self.connections)
    }

    /// To the next server in turn. `None` = it is not there, or about to go.
    fn connect(&mut self, world: &World) -> Option<Client> {
        let address = {
            let addresses = world.addresses.lock().unwrap();
            let turn = self.server % addresses.len();
            self.server = turn + 1;
            addresses[turn]?
        };
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
                std::thread::sleep(self.pace);
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
                    *world.acknowledged.lock().unwrap().entry(self.device).or_default() += 1;
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

/// Asserts that every message of a device is stored, once.
pub fn all_are_stored_once(server: &Server, device: &str, base: Timestamp, sent: u32) {
    let stored = stored(server, device, base);
    let unique: BTreeSet<i64> = stored.iter().copied().collect();
    assert_eq!(unique.len(), stored.len(), "{device}: something is stored twice");
    let expected: BTreeSet<i64> = (0..i64::from(sent)).collect();
    let lost: Vec<_> = expected.difference(&unique).collect();
    assert!(lost.is_empty(), "{device}: {} acknowledged messages are lost: {lost:?}", lost.len());
}

/// SIGTERM; it must stop in good order and in time.
pub fn stop(server: Server) {
    let began = Instant::now();
    assert_eq!(server.terminate(), Some(0), "the old version does not stop in good order");
    let took = began.elapsed();
    assert!(took < GRACE, "the old version took {took:?} to stop");
}

#[test]
fn four_updates_under_load_lose_no_acknowledged_message_and_store_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (base, world) = (an_hour_ago(), World::new(1));
    let devices = &["rolling-1", "rolling-2", "rolling-3", "rolling-4"];
    let meters = meters(devices, base, Duration::ZERO, &world);
    let updates = 4;
    for _ in 0..updates {
        let server = Server::start(&data);
        world.set(0, Some(server.mqtt));
        world.go_on();
        stop(server);
        world.set(0, None);
    }
    let server = Server::start(&data);
    world.set(0, Some(server.mqtt));
    world.go_on();
    let sent = world.end(meters);
    settled(&server.api);
    for (device, (sent, connections)) in devices.iter().zip(sent) {
        all_are_stored_once(&server, device, base, sent);
        assert!(connections > updates, "{device}: saw no update, {connections} connections");
    }
    assert_eq!(server.terminate(), Some(0));
}
