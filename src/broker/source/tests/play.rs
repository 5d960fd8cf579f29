//! The stage of these tests: our broker with one source, and the other broker's part, played by hand.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, crypto::ring};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::super::{Address, Options, TASKS, Version};
use crate::audit;
use crate::broker::tests::{Client, FakeJournal};
use crate::broker::{Broker, OpenAuthenticator, StartParts, intake::Intake};
use crate::domain::{Clock, Timestamp};
use crate::observe::{Board, TaskState};

const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing has to come to be nothing.
const SILENCE: Duration = Duration::from_millis(50);

/// See the module.
pub(super) struct Stage {
    pub(super) broker: Broker,
    pub(super) journal: Arc<FakeJournal>,
    pub(super) listener: Mutex<Option<TcpListener>>,
    own: std::net::SocketAddr,
    board: Board,
}

/// The other broker's end of a connection.
pub(super) struct Peer(TcpStream);

/// A PUBLISH of version 3.1.1.
pub(super) fn publish(topic: &str, payload: &[u8], qos: u8, id: u16) -> Vec<u8> {
    let mut out = Vec::new();
    Version::V311.publish(id, qos, topic, payload, &mut out);
    out
}

/// An acknowledgement.
pub(super) fn ack(first: u8, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![first, 2, high, low]
}

/// An authority (PEM), and a server with a certificate of it for that name.
pub(super) fn certificates(name: &str) -> (String, Arc<ServerConfig>) {
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = builder.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap();
    (authority.pem(), Arc::new(config))
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("mqtt://{}", listener.local_addr().unwrap());
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own_address = own.local_addr().unwrap();
        let journal = Arc::new(FakeJournal::default());
        let clock = Clock::manual(Timestamp(1_000_000));
        let intake = Arc::clone(&journal) as Arc<dyn Intake>;
        let authenticator = Arc::new(OpenAuthenticator);
        let own = vec![crate::broker::Listener::tcp(own)];
        let parts = StartParts {
            intake,
            authenticator,
            clock: clock.clone(),
            store: None,
            audit: audit::Log::silent(),
            revocations: Default::default(),
            tracer: Default::default(),
        };
        let broker = Broker::start_with(Default::default(), parts, own).await.unwrap();
        let board = Board::new(clock);
        let mut options = Options {
            number: 0,
            address: Address::parse(&address).unwrap(),
            filter: "iot/+/#".into(),
            client_id: "tester".into(),
            username: "me".into(),
            password: None,
            version: Version::V311,
            session_expiry_s: 60,
            keep_alive_s: 30,
            ca_file: None,
            max_devices: 100,
            max_packet_bytes: 256 << 10,
            connect_timeout: PATIENCE,
        };
        change(&mut options);
        tokio::spawn(broker.source(options, board.clone()));
        Self { broker, journal, listener: Mutex::new(Some(listener)), own: own_address, board }
    }

    /// The next connection, before it has said anything.
    pub(super) async fn accept_socket(&self) -> Peer {
        let listener = self.listener.lock().await;
        let accepted = tokio::time::timeout(PATIENCE, listener.as_ref().unwrap().accept()).await;
        Peer(accepted.expect("it connects").unwrap().0)
    }

    /// The next connection, in TLS.
    pub(super) async fn accept_tls(&self, config: &Arc<ServerConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let Peer(socket) = self.accept_socket().await;
        TlsAcceptor::from(Arc::clone(config)).accept(socket).await
    }

    /// The next connection, subscribed, in a session that is new.
    pub(super) async fn accept(&self) -> Peer {
        let mut peer = self.accept_socket().await;
        let connect = peer.next().await;
        assert_eq!((connect[0], connect[9] & 2), (0x10, 0), "a session that stays");
        peer.send(&[0x20, 2, 0, 0]).await;
        let subscribe = peer.next().await;
        assert_eq!((subscribe[0], &subscribe[6..13], subscribe[13]), (0x82, &b"iot/+/#"[..], 2));
        peer.send(&[0x90, 3, subscribe[2], subscribe[3], 2]).await;
        self.until("it is up", || self.state() == Some(TaskState::Running)).await;
        peer
    }

    /// The next connection, in the session of before.
    pub(super) async fn accept_again(&self) -> Peer {
        let mut peer = self.accept_socket().await;
        assert_eq!(peer.next().await[0], 0x10);
        peer.send(&[0x20, 2, 1, 0]).await;
        self.until("it is up", || self.state() == Some(TaskState::Running)).await;
        peer
    }

    /// A client of our own broker.
    pub(super) async fn client(&self, client_id: &str) -> Client {
        let mut client = Client::open(self.own).await;
        client.connect(client_id, true).await;
        client
    }

    pub(super) fn state(&self) -> Option<TaskState> {
        self.board.tasks().get(TASKS[0]).map(|entry| entry.state.clone())
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.state().and_then(|state| state.reason().map(str::to_owned))
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let reached = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("never: {what}; {:?}", self.state());
        }
    }
}

impl Peer {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next packet.
    pub(super) async fn next(&mut self) -> Vec<u8> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("a packet comes")
    }

    async fn read(&mut self) -> Vec<u8> {
        let (mut packet, mut len) = (vec![self.0.read_u8().await.unwrap()], 0);
        for place in 0.. {
            let byte = self.0.read_u8().await.unwrap();
            packet.push(byte);
            len |= usize::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).await.unwrap();
        packet.extend(body);
        packet
    }

    /// Nothing comes.
    pub(super) async fn nothing(&mut self) {
        let came = tokio::time::timeout(SILENCE, self.read()).await;
        assert!(came.is_err(), "this came: {came:?}");
    }
}
