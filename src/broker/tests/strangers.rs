//! What somebody may send of whom nobody knows yet who it is: a CONNECT, and nothing is waited for that cannot be one.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::connect;
use super::*;
use crate::mqtt::codec::Version;
use crate::mqtt::packet::Ack;
use crate::mqtt::{Packet, Reason};

/// The largest CONNECT of the default options.
const LIMIT: usize = 16 << 10;

#[tokio::test]
async fn a_connect_that_is_too_long_is_refused_before_its_body_comes() {
    let bed = Bed::open().await;
    // The header alone; the connect timeout is far away.
    for header in [&b"\x10\xff\xff\xff\x7f"[..], b"\x10\xfe\x7f\0\x04MQTT\x04"] {
        let mut client = Client::open(bed.address).await;
        client.send_bytes(header).await;
        client.expect_closed().await;
    }
    let mut client = Client::open_v5(bed.address).await;
    client.send_bytes(b"\x10\xff\xff\xff\x7f\0\x04MQTT\x05").await;
    match client.receive().await {
        Some(Packet::ConnAck(refusal)) => assert_eq!(refusal.reason, Reason::PacketTooLarge),
        other => panic!("not CONNACK: {other:?}"),
    }
    client.expect_closed().await;
    // 16 384 bytes with their header: allowed, and waited for.
    let mut client = Client::open(bed.address).await;
    client.send_bytes(b"\x10\xfd\x7f\0\x04MQTT\x04").await;
    let waits = tokio::time::timeout(Duration::from_millis(50), client.stream.read_u8()).await;
    assert!(waits.is_err(), "{waits:?}");
}

#[tokio::test]
async fn a_packet_that_is_too_long_is_refused_before_its_body_comes() {
    let bed = Bed::with(Options { max_packet_size: 1000, ..Options::default() }).await;
    let mut client = Client::open_v5(bed.address).await;
    client.connect("five", true).await;
    client.send_bytes(b"\x30\xe6\x07").await;
    match client.receive().await {
        Some(Packet::Disconnect(told)) => assert_eq!(told.reason, Reason::PacketTooLarge),
        other => panic!("not DISCONNECT: {other:?}"),
    }
    client.expect_closed().await;
    let mut client = bed.client("three").await;
    client.send_bytes(b"\x30\xe6\x07").await;
    client.expect_closed().await;
}

/// A client behind a WebSocket, by hand.
struct Web(TcpStream);

impl Web {
    async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        Self(stream)
    }

    /// The head of a frame with a mask that changes nothing, and as much of its payload as is given.
    async fn frame(&mut self, first: u8, len: usize, payload: &[u8]) {
        let mut bytes = vec![first, 0x80 | 127];
        bytes.extend((len as u64).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        self.0.write_all(&bytes).await.unwrap();
    }

    async fn send(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        Version::V311.encode(packet, &mut bytes);
        self.frame(0x82, bytes.len(), &bytes).await;
    }

    /// The next frame, which must be short: its first byte and its payload.
    async fn receive(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.0.read_u8().await.unwrap();
            let mut payload = vec![0; self.0.read_u8().await.unwrap().into()];
            self.0.read_exact(&mut payload).await.unwrap();
            (first, payload)
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("something comes")
    }

    async fn expect_too_large(mut self, what: &str) {
        assert_eq!(self.receive().await, (0x88, 1009_u16.to_be_bytes().to_vec()), "{what}");
    }
}

#[tokio::test]
async fn a_web_socket_message_before_the_log_in_is_no_longer_than_a_connect_may_be() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let bed = Bed::on(Options::default(), vec![Listener::tcp(socket).in_web_socket()]).await;

    let mut one = Web::open(bed.address).await;
    one.frame(0x82, LIMIT + 1, b"").await;
    one.expect_too_large("a frame, by its head").await;

    let mut many = Web::open(bed.address).await;
    many.frame(0x02, LIMIT / 2, &[0; LIMIT / 2]).await;
    many.frame(0x00, LIMIT / 2, &[0; LIMIT / 2]).await;
    many.frame(0x80, 1, b"x").await;
    many.expect_too_large("a message of three frames").await;

    let mut beside = Web::open(bed.address).await;
    beside.frame(0x02, LIMIT / 2, &[0; LIMIT / 2]).await;
    beside.frame(0x00, LIMIT, &[0; LIMIT / 2 + 1000]).await;
    beside.expect_too_large("half a message and a frame that is not whole").await;

    let mut known = Web::open(bed.address).await;
    known.send(&Packet::Connect(Box::new(connect("m1", true)))).await;
    assert_eq!(known.receive().await, (0x82, b"\x20\x02\0\0".to_vec()));
    let long = "x".repeat(200 << 10);
    known.send(&Packet::Publish(publish("iot/m1/telemetry", &long, 1, 1))).await;
    let mut ack = Vec::new();
    Version::V311.encode(&Packet::PubAck(Ack::ok(id(1))), &mut ack);
    assert_eq!(known.receive().await, (0x82, ack), "a client may send what packets may be");
    known.frame(0x82, (256 << 10) + 1, b"").await;
    known.expect_too_large("more than any message").await;
}
