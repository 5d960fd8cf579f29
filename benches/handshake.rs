//! TLS handshakes of the real executable beside those of bare rustls, and what an idle connection in TLS takes.
//!
//! Clients and server share the machine, so the rates are what both together do; beside them stands the processor time of
//! the server alone. A handshake is: TCP, TLS with a client certificate, CONNECT, CONNACK, the end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use iot_meter::domain::{Clock, DeviceId};
use iot_meter::pki::{Ca, Issued, KeySource, Validity};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

const CLIENTS: usize = 4;
const RUN: Duration = Duration::from_secs(5);
const IDLE: usize = 2000;
/// Ticks of the processor time in /proc.
const TICKS_PER_S: f64 = 100.0;

type Tls = StreamOwned<ClientConnection, TcpStream>;

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    run(&data, &["pki", "init"]);
    let read = |name: &str| std::fs::read_to_string(data.join("pki").join(name)).expect("was made");
    let ca = Ca::load(&read("ca.pem"), &read("ca.key")).expect("is an authority");
    let validity = Validity { now: Clock::system().now(), days: 9 };
    let id = DeviceId::parse("bench").expect("is an id");
    let card = ca.issue_device(&id, KeySource::New, validity).expect("is issued");

    println!("handshakes with a client certificate, {CLIENTS} clients at once, clients and server on one machine:");
    for (name, resumes) in [("full", false), ("resumed", true)] {
        let client = client(&ca, &card, resumes);
        let limit = bare(&ca, &read("server.pem"), &read("server.key"), &client);
        let server = start(&data);
        let before = cpu_s(server.child.id());
        let rate = rate(server.address, &client, &connect());
        let used = cpu_s(server.child.id()) - before;
        let cost = used / (rate * RUN.as_secs_f64());
        println!(
            "  {name:8} {rate:7.0}/s   bare rustls {limit:7.0}/s   server alone {:5.0} us each = {:6.0}/s on two cores",
            cost * 1e6,
            2.0 / cost
        );
    }
    idle(&data, &client(&ca, &card, false));
}

fn run(data: &Path, args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    let status = command.args(args).arg("--data-dir").arg(data).stdout(Stdio::null()).status().expect("starts");
    assert!(status.success(), "{args:?}");
}

fn start(data: &Path) -> Server {
    let announced = data.join("run/addresses.json");
    let _ = std::fs::remove_file(&announced);
    let file = |name: &str| data.join("pki").join(name).display().to_string();
    let child = Command::new(env!("CARGO_BIN_EXE_iot-meter"))
        .args(["serve", "--open", "--http-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"])
        .args(["--mqtts-listen", "127.0.0.1:0", "--set", "mqtt.connect_per_s=0"])
        .args(["--set", "mqtt.address_connect_per_s=0", "--set", "log.level=error"])
        .arg(format!("--set=mqtt.tls_cert_file={}", file("server.pem")))
        .arg(format!("--set=mqtt.tls_key_file={}", file("server.key")))
        .arg("--data-dir")
        .arg(data)
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    // From here on it ends with its owner, whatever happens.
    let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
    loop {
        let found = std::fs::read(&announced).ok().and_then(|b| serde_json::from_slice::<serde_json::Value>(&b).ok());
        if let Some(found) = found {
            server.address = found["mqtts"].as_str().and_then(|a| a.parse().ok()).expect("is announced");
            return server;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn client(ca: &Ca, card: &Issued, resumes: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).expect("is PEM")).expect("is an authority");
    let key = card.key_pem.as_ref().expect("was made here");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks it")
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(card.pem.as_bytes()).expect("is PEM")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("is PEM"),
        )
        .expect("belong together");
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Arc::new(config)
}

/// A CONNECT with an empty client id: the server chooses one.
fn connect() -> Vec<u8> {
    b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0".to_vec()
}

/// Opens a connection and hears the server's first word.
fn open(to: SocketAddr, client: &Arc<ClientConfig>, hello: &[u8]) -> Tls {
    let socket = TcpStream::connect(to).expect("is accepted");
    socket.set_nodelay(true).expect("is a socket");
    let name = ServerName::try_from("localhost").expect("is a name");
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(client), name).expect("is good"), socket);
    stream.write_all(hello).expect("is taken");
    stream.read_exact(&mut [0; 4]).expect("is answered");
    stream
}

/// Connections opened and closed a second.
fn rate(to: SocketAddr, client: &Arc<ClientConfig>, hello: &[u8]) -> f64 {
    drop(open(to, client, hello)); // a ticket for the first of all
    let (count, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    drop(open(to, client, hello));
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(RUN);
        is_over.store(true, Ordering::Relaxed);
    });
    count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// The same with nothing but the library: a thread a connection slot.
fn bare(ca: &Ca, cert: &str, key: &str, client: &Arc<ClientConfig>) -> f64 {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).expect("is PEM")).expect("is an authority");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<Vec<_>, _>>().expect("are PEM");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks it")
        .with_client_cert_verifier(verifier.build().expect("is good"))
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("is PEM"))
        .expect("belong together");
    config.ticketer = ring::Ticketer::new().expect("there is randomness");
    config.send_tls13_tickets = 1;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("is free");
    let address = listener.local_addr().expect("is bound");
    for _ in 0..CLIENTS {
        let (listener, config) = (listener.try_clone().expect("is a socket"), Arc::clone(&config));
        // They end with the process.
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let connection = ServerConnection::new(Arc::clone(&config)).expect("is good");
                let mut stream = StreamOwned::new(connection, socket);
                if stream.read_exact(&mut [0; 4]).is_ok() {
                    let _ = stream.write_all(b"fine").and_then(|()| stream.flush());
                }
            }
        });
    }
    rate(address, client, b"good")
}

/// What a connected client in TLS takes while it says nothing.
fn idle(data: &Path, client: &Arc<ClientConfig>) {
    let server = start(data);
    drop(open(server.address, client, &connect()));
    let before = resident_kib(server.child.id());
    let held: Vec<Tls> = (0..IDLE).map(|_| open(server.address, client, &connect())).collect();
    std::thread::sleep(Duration::from_secs(2));
    let after = resident_kib(server.child.id());
    println!(
        "{} idle connections in TLS with a certificate: {:.1} KiB each (limit 40)",
        held.len(),
        (after - before) / IDLE as f64
    );
}

fn resident_kib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("is running");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("is told");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("is a number")
}

/// Processor time so far, all threads.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("is running");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("has a name").split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<f64>().expect("is a number");
    (ticks(11) + ticks(12)) / TICKS_PER_S
}
