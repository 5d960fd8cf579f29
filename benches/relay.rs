//! From a client through the broker to its subscribers: messages delivered a second, beside `mosquitto` (a process of its
//! own, where it is installed) and `rumqttd` (in this process), with one load client, on topics that no meter has.
//!
//! `cargo bench --bench relay [-- seconds]`: seconds of one measurement; without, the whole takes less than two minutes.
//! Rounds alternate between the brokers; the ratio of the medians is the result. The client is one thread on the same
//! machine: where it is busy all the time, it is what is measured. A subscriber that cannot keep up loses QoS 0 messages,
//! so the publisher never is more than [`WINDOW`] messages ahead of the slowest: nothing may be lost, at any of them.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use iot_meter::config::{self, Settings};
use iot_meter::domain::Clock;
use iot_meter::serve::{self, Running, Start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::sleep;

const PAYLOAD: usize = 200;
const ROUNDS: usize = 3;
/// Messages that the slowest subscriber has not got yet.
const WINDOW: u64 = 500;
/// QoS 1: messages that the broker has not acknowledged yet.
const UNACKNOWLEDGED: u64 = 100;
/// Packets encoded beforehand, with ids from 1.
const RING: u16 = 1000;
const WARM_UP: Duration = Duration::from_millis(250);

struct Scenario {
    name: &'static str,
    qos: u8,
    /// Publishers, each on a topic of its own.
    publishers: usize,
    /// Of each topic.
    subscribers: usize,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "QoS 0, 1 to 1", qos: 0, publishers: 1, subscribers: 1 },
    Scenario { name: "QoS 0, 5 times 1 to 1", qos: 0, publishers: 5, subscribers: 1 },
    Scenario { name: "QoS 0, 1 to 20", qos: 0, publishers: 1, subscribers: 20 },
    Scenario { name: "QoS 1, 1 to 1", qos: 1, publishers: 1, subscribers: 1 },
];

/// A running broker.
struct Target {
    name: &'static str,
    address: SocketAddr,
    /// Set where it is not in this process.
    process: Option<Process>,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(2.5);
    let time = Duration::from_secs_f64(seconds);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let running = runtime.block_on(start_ours(&dir.path().join("data")))?;
    let mut targets = vec![Target { name: "iot-meter", address: running.addresses().mqtt, process: None }];
    targets.extend(start_mosquitto(dir.path())?);
    targets.push(start_rumqttd()?);
    if !targets.iter().any(|t| t.name == "mosquitto") {
        println!("mosquitto is not installed");
    }
    for scenario in &SCENARIOS {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            for target in &targets {
                rounds.push(
                    round(target, scenario, time).with_context(|| format!("{}: {}", scenario.name, target.name))?,
                );
            }
        }
        report(scenario, &targets, &rounds);
    }
    runtime.block_on(running.stop())
}

fn report(scenario: &Scenario, targets: &[Target], rounds: &[Round]) {
    let of = |at: usize, what: fn(&Round) -> f64| median(rounds.iter().skip(at).step_by(targets.len()).map(what));
    let ours = of(0, |r| r.rate);
    for (at, target) in targets.iter().enumerate() {
        let name = if at == 0 { scenario.name } else { "" };
        let rate = of(at, |r| r.rate);
        let lost: i64 = rounds.iter().skip(at).step_by(targets.len()).map(|r| r.lost).sum();
        println!(
            "{name:<22} {:<10} {rate:>8.0}/s delivered  {:>5.2} us CPU each  client busy {:>3.0} %  {}  {}",
            target.name,
            of(at, |r| r.cpu_us),
            of(at, |r| r.client) * 100.0,
            if lost == 0 { "nothing lost".to_owned() } else { format!("{lost} LOST") },
            if at == 0 { String::new() } else { format!("ours/theirs {:.2}", ours / rate) },
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn start_ours(data: &Path) -> anyhow::Result<Running> {
    let settings = settings(data)?;
    serve::start(Start { settings, open: true, clock: Clock::system(), demo: 0 }).await
}

fn settings(data: &Path) -> anyhow::Result<Settings> {
    let flag = |key: &str, value: String| config::Flag { flag: key.to_owned(), key: key.to_owned(), value };
    let flags = vec![
        flag("data_dir", data.display().to_string()),
        flag("http.listen", "127.0.0.1:0".into()),
        flag("mqtt.listen", "127.0.0.1:0".into()),
    ];
    let sources = config::Sources { flags, working_dir: std::env::current_dir()?, ..config::Sources::default() };
    Ok(config::load(&sources)?.settings)
}

fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn start_mosquitto(dir: &Path) -> anyhow::Result<Option<Target>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let Some(executable) = places.map(|p| p.join("mosquitto")).find(|p| p.is_file()) else { return Ok(None) };
    let address = free_port()?;
    let config = dir.join("mosquitto.conf");
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\nsys_interval 0\n\
         max_inflight_messages 0\nmax_queued_messages 0\n",
        address.port()
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(executable);
    let child =
        command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let target = Target { name: "mosquitto", address, process: Some(Process(child)) };
    wait_for(address)?;
    Ok(Some(target))
}

/// It cannot be stopped and ends with this process.
fn start_rumqttd() -> anyhow::Result<Target> {
    let address = free_port()?;
    let connections = rumqttd::ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 1 << 20,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: false,
    };
    let server = rumqttd::ServerSettings {
        name: "v4".to_owned(),
        listen: address,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    let router = rumqttd::RouterConfig {
        max_connections: 1000,
        max_outgoing_packet_count: 200,
        max_segment_size: 10 << 20,
        max_segment_count: 2,
        ..rumqttd::RouterConfig::default()
    };
    let v4 = Some(HashMap::from([("v4".to_owned(), server)]));
    let mut broker = rumqttd::Broker::new(rumqttd::Config { router, v4, ..rumqttd::Config::default() });
    std::thread::spawn(move || drop(broker.start()));
    wait_for(address)?;
    Ok(Target { name: "rumqttd", address, process: None })
}

fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(5);
    while std::net::TcpStream::connect(address).is_err() {
        ensure!(Instant::now() < until, "nobody listens at {address}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// One measurement.
struct Round {
    /// Deliveries a second.
    rate: f64,
    /// Of the broker, for one delivery.
    cpu_us: f64,
    /// Share of the time in which the client's thread ran.
    client: f64,
    lost: i64,
}

fn round(target: &Target, scenario: &Scenario, time: Duration) -> anyhow::Result<Round> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, measure(target, scenario, time))
}

async fn measure(target: &Target, scenario: &Scenario, time: Duration) -> anyhow::Result<Round> {
    let mut lanes = Vec::new();
    for number in 0..scenario.publishers {
        lanes.push(Lane::open(target.address, number, scenario).await?);
    }
    sleep(WARM_UP).await;
    let started = Instant::now();
    let (delivered, broker, client) = (delivered(&lanes), broker_cpu(target), client_cpu());
    sleep(time).await;
    let elapsed = started.elapsed().as_secs_f64();
    let delivered = (self::delivered(&lanes) - delivered) as f64;
    let (broker, client) = (broker_cpu(target) - broker, client_cpu() - client);
    lanes.iter().for_each(|lane| lane.is_over.set(true));
    let expected: u64 = lanes.iter().map(|lane| lane.sent.get() * scenario.subscribers as u64).sum();
    let patience = Instant::now() + Duration::from_secs(2);
    while self::delivered(&lanes) < expected && Instant::now() < patience {
        sleep(Duration::from_millis(5)).await;
    }
    ensure!(delivered > 0.0, "nothing was delivered");
    Ok(Round {
        rate: delivered / elapsed,
        cpu_us: broker * 1e6 / delivered,
        client: client / elapsed,
        lost: expected as i64 - self::delivered(&lanes) as i64,
    })
}

fn delivered(lanes: &[Rc<Lane>]) -> u64 {
    lanes.iter().flat_map(|lane| &lane.received).map(Cell::get).sum()
}

/// Seconds of processor time; not a number where there is no Linux.
fn broker_cpu(target: &Target) -> f64 {
    match &target.process {
        Some(process) => process_cpu(&process.0.id().to_string()),
        None => process_cpu("self") - client_cpu(),
    }
}

fn process_cpu(pid: &str) -> f64 {
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields = stat.rsplit_once(')')?.1.split_whitespace();
        Some(fields.skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum::<f64>())
    };
    ticks().map_or(f64::NAN, |ticks| ticks / 100.0)
}

/// Of the calling thread.
fn client_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = stat.split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
    ns.map_or(f64::NAN, |ns| ns / 1e9)
}

/// A publisher and its subscribers.
struct Lane {
    qos: u8,
    sent: Cell<u64>,
    acknowledged: Cell<u64>,
    /// By each subscriber.
    received: Vec<Cell<u64>>,
    /// The publisher has more room.
    room: Notify,
    is_over: Cell<bool>,
}

impl Lane {
    async fn open(address: SocketAddr, number: usize, scenario: &Scenario) -> anyhow::Result<Rc<Self>> {
        let lane = Rc::new(Self {
            qos: scenario.qos,
            sent: Cell::default(),
            acknowledged: Cell::default(),
            received: vec![Cell::default(); scenario.subscribers],
            room: Notify::new(),
            is_over: Cell::new(false),
        });
        let topic = format!("bench/x{number}");
        for at in 0..scenario.subscribers {
            let (mut reader, mut writer) = connect(address, &format!("s{number}-{at}")).await?;
            let mut packet = vec![0x82, topic.len() as u8 + 5, 0, 1, 0, topic.len() as u8];
            packet.extend(topic.as_bytes());
            packet.push(lane.qos);
            writer.write_all(&packet).await?;
            let mut answer = [0; 5];
            reader.read_exact(&mut answer).await?;
            ensure!(answer == [0x90, 3, 0, 1, lane.qos], "SUBACK {answer:?}");
            tokio::task::spawn_local(Rc::clone(&lane).receive(at, reader, writer));
        }
        let (reader, writer) = connect(address, &format!("p{number}")).await?;
        tokio::task::spawn_local(Rc::clone(&lane).hear_acks(reader));
        tokio::task::spawn_local(Rc::clone(&lane).publish(packets(&topic, lane.qos), writer));
        Ok(lane)
    }

    /// How many messages may be sent now, and how many could be if nothing were on the way.
    fn credit(&self) -> (u64, u64) {
        let sent = self.sent.get();
        let slowest = self.received.iter().map(Cell::get).min().unwrap_or(sent);
        let room = WINDOW.saturating_sub(sent - slowest);
        if self.qos == 0 {
            return (room, WINDOW);
        }
        (room.min(UNACKNOWLEDGED.saturating_sub(sent - self.acknowledged.get())), UNACKNOWLEDGED)
    }

    /// In batches: a quarter of the window at least.
    async fn publish(self: Rc<Self>, packets: Vec<u8>, mut writer: OwnedWriteHalf) -> std::io::Result<()> {
        let (ring, mut at) = (u64::from(RING), 0);
        let len = packets.len() / usize::from(RING);
        while !self.is_over.get() {
            let (room, window) = self.credit();
            if room < window / 4 {
                self.room.notified().await;
                continue;
            }
            let count = room.min(ring - at);
            self.sent.set(self.sent.get() + count);
            writer.write_all(&packets[at as usize * len..][..count as usize * len]).await?;
            at = (at + count) % ring;
        }
        std::future::pending().await // the connection is kept until all is delivered
    }

    async fn hear_acks(self: Rc<Self>, reader: OwnedReadHalf) -> std::io::Result<()> {
        each_read(reader, async |packets| {
            let acks = Packets(packets).filter(|packet| packet[0] == 0x40).count();
            self.acknowledged.set(self.acknowledged.get() + acks as u64);
            self.room.notify_one();
            Ok(())
        })
        .await
    }

    async fn receive(
        self: Rc<Self>,
        at: usize,
        reader: OwnedReadHalf,
        mut writer: OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let mut acks = Vec::new();
        each_read(reader, async |packets| {
            let mut count = 0;
            for packet in Packets(packets).filter(|packet| packet[0] >> 4 == 3) {
                count += 1;
                if self.qos == 1 {
                    let id = packet.len() - PAYLOAD - 2;
                    acks.extend([0x40, 2, packet[id], packet[id + 1]]);
                }
            }
            self.received[at].set(self.received[at].get() + count);
            self.room.notify_one();
            if !acks.is_empty() {
                writer.write_all(&acks).await?;
                acks.clear();
            }
            Ok(())
        })
        .await
    }
}

/// Calls `heard` with whole packets, as many as a read has completed.
async fn each_read(
    mut reader: OwnedReadHalf,
    mut heard: impl AsyncFnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(128 << 10);
    while reader.read_buf(&mut buffer).await? > 0 {
        let whole = Packets(&buffer).map(<[u8]>::len).sum();
        heard(&buffer[..whole]).await?;
        buffer.drain(..whole);
    }
    Ok(())
}

/// The whole packets at the front.
struct Packets<'a>(&'a [u8]);

impl<'a> Iterator for Packets<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (mut length, mut at) = (0, 1);
        loop {
            let digit = usize::from(*self.0.get(at)?);
            length |= (digit & 0x7F) << (7 * (at - 1));
            at += 1;
            if digit & 0x80 == 0 {
                break;
            }
        }
        let (packet, rest) = self.0.split_at_checked(at + length)?;
        self.0 = rest;
        Some(packet)
    }
}

/// [`RING`] packets of one length.
fn packets(topic: &str, qos: u8) -> Vec<u8> {
    let mut packets = Vec::new();
    for id in 1..=RING {
        let id = if qos == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
        let length = 2 + topic.len() + id.len() + PAYLOAD;
        packets.extend([0x30 | qos << 1, (length & 0x7F | 0x80) as u8, (length >> 7) as u8, 0, topic.len() as u8]);
        packets.extend(topic.as_bytes());
        packets.extend(id);
        packets.extend([b'x'; PAYLOAD]);
    }
    packets
}

/// MQTT 3.1.1, clean session, a keep-alive longer than a round.
async fn connect(address: SocketAddr, client_id: &str) -> anyhow::Result<(OwnedReadHalf, OwnedWriteHalf)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut packet = vec![0x10, client_id.len() as u8 + 12];
    packet.extend(b"\0\x04MQTT\x04\x02\x02\x58\0");
    packet.push(client_id.len() as u8);
    packet.extend(client_id.as_bytes());
    stream.write_all(&packet).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    ensure!(answer == [0x20, 2, 0, 0], "CONNACK {answer:?}");
    Ok(stream.into_split())
}
