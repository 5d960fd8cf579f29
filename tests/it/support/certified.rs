//! The real executable with authentication on, and clients in TLS that trust its authority and may have a certificate.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};
use serde_json::Value;

use super::http::{Answer, Api};
use super::mqtt::{Client, Connect, Packet, tcp};
use super::process::Server;
use super::wrapped::{ANY, Tls};

/// A server with its data directory.
pub struct Guarded {
    pub server: Server,
    /// With the admin key.
    pub api: Api,
    pub mqtts: SocketAddr,
    pub http: SocketAddr,
    pub https: SocketAddr,
    dir: tempfile::TempDir,
}

/// A certificate with its key, PEM.
#[derive(Clone, Debug)]
pub struct Card {
    pub serial: String,
    pub certificate: String,
    pub key: String,
}

impl Guarded {
    pub fn start(set: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
        command.arg("serve").arg("--data-dir").arg(&data).current_dir(dir.path());
        for listen in ["--http-listen", "--https-listen", "--mqtt-listen", "--mqtts-listen"] {
            command.args([listen, "127.0.0.1:0"]);
        }
        for (key, value) in [("mqtt.tls_reload_s", "1"), ("log.level", "warn")].iter().chain(set) {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let server = Server::start_with(&mut command, &data);
        let announced: Value =
            serde_json::from_slice(&std::fs::read(data.join("run/addresses.json")).unwrap()).unwrap();
        let address = |name: &str| announced[name].as_str().unwrap().parse().unwrap();
        let key = std::fs::read_to_string(data.join("admin.key")).unwrap();
        let api = server.api.with_key(Some(key.trim()));
        let [mqtts, http, https] = ["mqtts", "http", "https"].map(address);
        Self { api, mqtts, http, https, server, dir }
    }

    /// Runs a subcommand on the same data directory.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
        command.args(args).arg("--data-dir").arg(self.data()).current_dir(self.dir.path()).output().unwrap()
    }

    /// The same; it must succeed, and answers in JSON.
    pub fn run_json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--output", "json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Its authority, PEM.
    pub fn authority(&self) -> String {
        std::fs::read_to_string(self.data().join("pki/ca.pem")).unwrap()
    }

    /// Registers a device; its token.
    pub fn register(&self, device: &str) -> String {
        let body = serde_json::json!({"device_id": device, "device_name": device});
        self.api.post("/api/devices", &body).expect(201).json()["token"].as_str().unwrap().to_owned()
    }

    /// Registers a device and gives it a certificate.
    pub fn enrol(&self, device: &str) -> Card {
        self.register(device);
        self.issue(device)
    }

    /// Gives a device a certificate.
    pub fn issue(&self, device: &str) -> Card {
        let body = serde_json::json!({"device_id": device});
        card(&self.api.post("/api/certificates", &body).expect(201).json())
    }

    /// A client's side of TLS.
    pub fn client(&self, card: Option<&Card>) -> Arc<ClientConfig> {
        client(&self.authority(), card, ANY)
    }

    /// Connects and logs in; the server's answer.
    pub fn log_in(&self, client: &Arc<ClientConfig>, how: &Connect<'_>) -> (Option<Client>, Option<Packet>) {
        match shake(self.mqtts, client) {
            Ok(stream) => {
                let mut client = Client::over(stream);
                let answer = client.log_in(how);
                (Some(client), answer)
            }
            Err(_) => (None, None),
        }
    }

    /// Connects and is let in.
    pub fn connect(&self, client: &Arc<ClientConfig>, how: &Connect<'_>) -> Client {
        match self.log_in(client, how) {
            (Some(client), Some(Packet::ConnAck { code: 0, .. })) => client,
            (_, other) => panic!("{how:?} was answered by {other:?}"),
        }
    }

    /// A request over HTTPS.
    pub fn https(&self, client: &Arc<ClientConfig>, head: &str, body: &str) -> io::Result<Answer> {
        https(self.https, client, head, body)
    }
}

/// The certificate and key of an answer.
pub fn card(issued: &Value) -> Card {
    let text = |name: &str| issued[name].as_str().unwrap_or_default().to_owned();
    Card { serial: text("serial"), certificate: text("certificate"), key: text("private_key") }
}

/// A client that trusts this authority; it remembers tickets.
pub fn client(
    authority: &str,
    card: Option<&Card>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match card {
        None => builder.with_no_client_auth(),
        Some(card) => {
            let chain = CertificateDer::pem_slice_iter(card.certificate.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(card.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// The client's side of a handshake. That the server takes the client's certificate shows only later (RFC 8446).
pub fn shake(to: SocketAddr, client: &Arc<ClientConfig>) -> io::Result<Tls> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(client), name).unwrap(), tcp(to));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Whether the handshake was resumed.
pub fn is_resumed(stream: &Tls) -> bool {
    stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
}

fn https(to: SocketAddr, client: &Arc<ClientConfig>, head: &str, body: &str) -> io::Result<Answer> {
    let mut stream = shake(to, client)?;
    let length = body.len();
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut all = Vec::new();
    if let Err(error) = stream.read_to_end(&mut all)
        && all.is_empty()
    {
        return Err(error);
    }
    let text = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|s| s.parse().ok()).unwrap();
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    Ok(Answer { status, headers, body: body.as_bytes().to_vec() })
}

/// Reads a file of a directory.
pub fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}
