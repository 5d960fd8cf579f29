//! The adapter against a real WebSocket client and against hand-made bytes, over a pipe.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tungstenite::protocol::Role;

use super::*;

const LIMIT: usize = 1000;

/// Nothing changes with the log-in: that is tested with the broker.
const SIZES: Sizes = Sizes { stranger: LIMIT, client: LIMIT };

fn head(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

const GOOD: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\n";

/// A WebSocket and the peer's end of the pipe, the handshake done.
async fn open(pipe: usize) -> (WebSocket<DuplexStream>, DuplexStream) {
    let (ours, mut peer) = duplex(pipe.max(1024));
    peer.write_all(head("/mqtt", GOOD).as_bytes()).await.unwrap();
    let socket = accept(ours, SIZES).await.expect("a good handshake");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(peer.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    // The value of RFC 6455 section 1.3.
    for line in ["http/1.1 101", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=", "sec-websocket-protocol: mqtt\r"]
    {
        assert!(answer.contains(line), "{line:?} is not in {answer}");
    }
    (socket, peer)
}

/// A client's frame, masked with a mask that changes nothing where it is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u8::try_from(payload.len()) {
        Ok(len @ 0..126) => bytes.push(0x80 | len),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

/// What the server sends to the end, as first bytes and payloads of its (short) frames.
async fn frames(mut peer: DuplexStream) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).await.unwrap();
    let mut found = Vec::new();
    while let [first, len, rest @ ..] = &bytes[..] {
        let (payload, rest) = rest.split_at(usize::from(*len));
        found.push((*first, payload.to_vec()));
        bytes = rest.to_vec();
    }
    found
}

#[tokio::test]
async fn packets_may_share_a_message_or_span_several() {
    let (mut socket, mut peer) = open(0).await;
    let mut bytes = frame(0x82, b"one two ");
    bytes.extend(frame(0x02, b"th")); // a message in three frames, a ping between them
    bytes.extend(frame(0x89, b"ping"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x80, b"ree"));
    bytes.extend(frame(0x82, b""));
    bytes.extend(frame(0x82, b" four"));
    bytes.extend(frame(0x88, &1000_u16.to_be_bytes()));
    peer.write_all(&bytes).await.unwrap();
    let mut read = String::new();
    socket.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "one two three four");
    drop(socket);
    assert_eq!(frames(peer).await, [(0x8A, b"ping".to_vec()), (0x88, 1000_u16.to_be_bytes().to_vec())]);
}

#[tokio::test]
async fn what_is_no_binary_message_of_the_right_size_ends_the_connection_with_its_code() {
    let check = async |name: &str, bytes: &[u8], code: u16| {
        let (mut socket, mut peer) = open(4096).await;
        peer.write_all(bytes).await.unwrap();
        let error = socket.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name}");
        drop(socket);
        assert_eq!(frames(peer).await, [(0x88, code.to_be_bytes().to_vec())], "{name}");
    };
    check("text", &frame(0x81, b"hello"), 1003).await;
    check("text that is not UTF-8", &frame(0x81, b"\xC3\x28"), 1007).await;
    check("too large by its header", &frame(0x82, &[0; LIMIT + 1])[..8], 1009).await;
    let two = [frame(0x02, &[0; LIMIT]), frame(0x80, &[0])].concat();
    check("too large in fragments", &two, 1009).await;
    check("not masked", b"\x82\x01x", 1002).await;
    check("a reserved bit", &frame(0xC2, b"x"), 1002).await;
    check("a reserved opcode", &frame(0x83, b"x"), 1002).await;
    check("a fragmented ping", &frame(0x09, b"x"), 1002).await;
    check("a continuation of nothing", &frame(0x80, b"x"), 1002).await;
}

#[tokio::test]
async fn a_message_of_the_largest_size_passes() {
    let (mut socket, mut peer) = open(4096).await;
    peer.write_all(&frame(0x82, &[7; LIMIT])).await.unwrap();
    let mut read = [0; LIMIT];
    socket.read_exact(&mut read).await.unwrap();
    assert_eq!(read, [7; LIMIT]);
}

#[tokio::test]
async fn what_is_written_arrives_through_a_pipe_that_is_often_full() {
    let (mut socket, peer) = open(1024).await;
    let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        socket.write_all(&sent).await.unwrap();
        socket.flush().await.unwrap();
        socket.shutdown().await.unwrap();
    });
    let mut client = Reader { protocol: WebSocketContext::new(Role::Client, None), stream: peer };
    assert!(client.read_all().await == expected);
    writer.await.unwrap();
}

/// A client that only reads.
struct Reader {
    protocol: WebSocketContext,
    stream: DuplexStream,
}

impl Reader {
    /// All binary messages up to the close frame.
    async fn read_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let message = std::future::poll_fn(|cx| {
                match self.protocol.read(&mut Bridge { stream: &mut self.stream, cx, budget: &mut usize::MAX.clone() })
                {
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                    other => Poll::Ready(other.unwrap()),
                }
            });
            match message.await {
                Message::Binary(bytes) => all.extend(bytes),
                Message::Close(Some(frame)) => {
                    assert_eq!(frame.code, CloseCode::Normal);
                    return all;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn who_wants_something_else_is_told_what_is_wrong() {
    let check = async |name: &str, request: &str, status: &str, says: &str| {
        let (ours, mut peer) = duplex(64 << 10);
        peer.write_all(request.as_bytes()).await.unwrap();
        assert!(accept(ours, SIZES).await.is_none(), "{name}");
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(says), "{name}: {answer}");
    };
    check("another path", &head("/chat", GOOD), "404", "at /mqtt").await;
    check("no subprotocol", &head("/mqtt", "Sec-WebSocket-Version: 13\r\n"), "400", "subprotocol").await;
    let other = head("/", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqttx\r\n");
    check("another subprotocol", &other, "400", "subprotocol").await;
    let old = head("/mqtt", "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Protocol: mqtt\r\n");
    check("another version", &old, "426", "sec-websocket-version: 13").await;
    check("a browser's visit", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "426", "upgrade: websocket").await;
    check("a post", "POST /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", "400", "handshake").await;
    check("no HTTP", "\x10\x0e\0\x04MQTT\r\n\r\n", "400", "handshake").await;
    check("a long head", &head("/mqtt", &format!("Cookie: {}\r\n", "x".repeat(MAX))), "431", "too long").await;
}

const MAX: usize = 17 << 10;

#[tokio::test]
async fn a_handshake_may_come_byte_by_byte_with_the_first_message_behind_it() {
    let (ours, mut peer) = duplex(1);
    let client = tokio::spawn(async move {
        peer.write_all(head("/?x=1", GOOD).as_bytes()).await.unwrap();
        let mut answer = [0; 17];
        peer.read_exact(&mut answer).await.unwrap();
        peer
    });
    let accepting = accept(ours, SIZES);
    let (socket, peer) = tokio::join!(accepting, async {
        let mut peer = client.await.unwrap();
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\n") {
            rest.push(peer.read_u8().await.unwrap());
        }
        peer
    });
    drop(peer);
    assert!(socket.is_some());

    let (ours, mut peer) = duplex(4096);
    peer.write_all(&[head("/mqtt", GOOD).as_bytes(), &frame(0x82, b"early")].concat()).await.unwrap();
    let mut socket = accept(ours, SIZES).await.unwrap();
    let mut read = [0; 5];
    socket.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"early");
}

#[test]
fn whatever_a_client_sends_is_read_to_an_end() {
    use proptest::prelude::*;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = prop_oneof![Just(0x82_u8), Just(0x02), Just(0x80), Just(0x00), Just(0x89), Just(0x88), any::<u8>()];
    let frames = proptest::collection::vec((first, proptest::collection::vec(any::<u8>(), 0..300)), 0..8);
    let garbage = proptest::collection::vec(any::<u8>(), 0..40);
    proptest!(|(frames in frames, garbage in garbage)| {
        runtime.block_on(async {
            let (mut socket, mut peer) = open(64 << 10).await;
            let mut bytes: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
            bytes.extend(garbage);
            peer.write_all(&bytes).await.unwrap();
            peer.shutdown().await.unwrap();
            // An end or an error, and never more than was sent.
            let mut read = Vec::new();
            let _ = socket.read_to_end(&mut read).await;
            prop_assert!(read.len() <= bytes.len());
            Ok(())
        })?;
    });
}
