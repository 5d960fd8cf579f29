//! A connection without a network: what it hands on, what it holds back, what it says by itself.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::measure::{Chunks, Measure};
use super::talk::clear;
use super::*;

const BARE: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const LONG: Duration = Duration::from_secs(60);

impl Outgoing for DuplexStream {
    fn sent(&self) -> u64 {
        0
    }
}

fn wire(room: usize, stalled: Duration) -> (Wire<DuplexStream>, DuplexStream) {
    let (socket, client) = duplex(room);
    (Wire::new(socket, Patience { idle: LONG, stalled, farewell: LONG }, None), client)
}

/// Writes and flushes; what the client gets.
async fn send(wire: &mut Wire<DuplexStream>, client: &mut DuplexStream, bytes: &[u8]) -> Vec<u8> {
    wire.write_all(bytes).await.unwrap();
    wire.flush().await.unwrap();
    let mut got = vec![0; 4096];
    let length = client.read(&mut got).await.unwrap();
    got.truncate(length);
    got
}

/// What the library reads now, and whether it has to wait then.
async fn read(wire: &mut Wire<DuplexStream>) -> Vec<u8> {
    let mut got = Vec::new();
    let all = std::future::poll_fn(|cx| {
        let mut bytes = vec![0; 32 * 1024];
        let mut buf = ReadBuf::new(&mut bytes);
        while let Poll::Ready(read) = Pin::new(&mut *wire).poll_read(cx, &mut buf) {
            read.unwrap();
            assert!(!buf.filled().is_empty(), "the end of what the client sends");
            got.extend_from_slice(buf.filled());
            buf.clear();
        }
        Poll::Ready(())
    });
    all.await;
    got
}

#[tokio::test]
async fn only_what_goes_out_between_requests_is_the_librarys() {
    let (mut wire, mut client) = wire(4096, LONG);
    let answering = wire.talk().arrive(false, true);
    wire.talk().begin(Measure::NONE);
    assert_eq!(send(&mut wire, &mut client, BARE).await, BARE, "part of a handler's body");
    drop(answering);
    wire.flush().await.unwrap();
    let answer = String::from_utf8(send(&mut wire, &mut client, BARE).await).unwrap();
    assert!(answer.contains("\r\ndate: now\r\n") && answer.ends_with('}'), "{answer}");
    let answering = wire.talk().arrive(false, true);
    wire.talk().begin(Measure::NONE);
    drop(answering);
    assert_eq!(send(&mut wire, &mut client, BARE).await, BARE, "the end of a body that is not flushed");
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_the_whole_answer() {
    let (mut wire, mut client) = wire(16, LONG);
    let writer = async move {
        wire.write_all(BARE).await.unwrap();
        wire.shutdown().await.unwrap();
    };
    let mut got = String::new();
    let (read, ()) = tokio::join!(client.read_to_string(&mut got), writer);
    read.unwrap();
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{got}");
    assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{got}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up() {
    let (mut wire, _client) = wire(16, Duration::from_millis(20));
    let talk = wire.talk();
    let _answering = talk.arrive(false, true);
    talk.begin(Measure::NONE);
    let error = wire.write_all(BARE).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn requests_that_wait_are_handed_on_one_by_one_each_behind_the_answer_to_the_last() {
    let (mut wire, mut client) = wire(4096, LONG);
    let talk = wire.talk();
    client.write_all(&GET.repeat(3)).await.unwrap();
    for n in 0..3 {
        assert_eq!(read(&mut wire).await, GET, "{n}");
        let answering = talk.arrive(false, true);
        clear(&talk).await;
        talk.begin(Measure::NONE);
        assert!(read(&mut wire).await.is_empty(), "nothing while it is answered: {n}");
        assert!(!talk.answered(), "{n}");
        drop(answering);
        assert!(read(&mut wire).await.is_empty(), "nor before the answer has gone: {n}");
        send(&mut wire, &mut client, b"answer").await;
    }
    assert!(read(&mut wire).await.is_empty());
}

#[tokio::test]
async fn of_a_body_so_much_is_read_as_is_asked_for_and_nothing_behind_it() {
    let (mut wire, mut client) = wire(1 << 20, LONG);
    let talk = wire.talk();
    let check = async |wire: &mut Wire<DuplexStream>,
                       client: &mut DuplexStream,
                       body: Measure,
                       bytes: &[u8],
                       pieces: &[usize]| {
        client.write_all(&[GET, bytes, GET].concat()).await.unwrap();
        assert_eq!(read(wire).await, GET, "{body:?}");
        let answering = talk.arrive(false, true);
        talk.begin(body);
        for (n, piece) in pieces.iter().enumerate() {
            assert_eq!(read(wire).await.len(), *piece, "{body:?} {n}");
            assert!(read(wire).await.is_empty(), "not asked for: {body:?} {n}");
            talk.ask();
        }
        answering
    };
    let answering =
        check(&mut wire, &mut client, Measure::Sized(20_000), &[b'x'; 20_000], &[16 * 1024, 20_000 - 16 * 1024, 0])
            .await;
    assert!(!talk.answered(), "it has come to its end");
    drop(answering);
    send(&mut wire, &mut client, b"answer").await;
    assert_eq!(read(&mut wire).await, GET, "the next request");
    drop(talk.arrive(false, true));

    let chunked = [b"4e20\r\n".as_slice(), &[b'x'; 20_000], b"\r\n0\r\n\r\n"].concat();
    let (measure, pieces) = (Measure::Chunked(Chunks::default()), [16 * 1024, chunked.len() - 16 * 1024, 0]);
    drop(check(&mut wire, &mut client, measure, &chunked, &pieces).await);
    send(&mut wire, &mut client, b"answer").await;
    assert_eq!(read(&mut wire).await, GET, "the next request");
    drop(talk.arrive(false, true));

    let answering = check(&mut wire, &mut client, measure, &chunked, &pieces[..1]).await;
    assert!(talk.answered(), "an answer before the end is the last one");
    drop(answering);
    send(&mut wire, &mut client, b"answer").await;
    assert_eq!(wire.read(&mut [0; 64]).await.unwrap(), 0, "what follows is nobody's");
}

#[tokio::test]
async fn an_answer_before_the_end_of_its_request_is_not_taken_back_by_the_close() {
    let (mut wire, mut client) = wire(64, LONG);
    let talk = wire.talk();
    let answering = talk.arrive(false, true);
    talk.begin(Measure::Sized(100_000));
    assert!(talk.answered());
    drop(answering);
    let server = async {
        wire.write_all(b"no").await.unwrap();
        wire.flush().await.unwrap();
        wire.shutdown().await.unwrap();
    };
    let sends = async {
        client.write_all(&[b'x'; 100_000]).await.unwrap();
        let mut got = [0; 2];
        client.read_exact(&mut got).await.unwrap();
        client.shutdown().await.unwrap();
        got
    };
    let ((), got) = tokio::join!(server, sends);
    assert_eq!(&got, b"no");
}

#[tokio::test]
async fn continue_is_said_when_the_body_is_asked_for_and_not_before() {
    let check = async |understands: bool, asks: bool, expected: &[u8]| {
        let (mut wire, mut client) = wire(4096, LONG);
        let talk = wire.talk();
        client.write_all(GET).await.unwrap();
        assert_eq!(read(&mut wire).await, GET);
        // The library says it behind whatever it has still to say.
        let answering = talk.arrive(true, understands);
        wire.write_all(&[b"the last answer", CONTINUE].concat()).await.unwrap();
        wire.flush().await.unwrap();
        clear(&talk).await;
        talk.begin(Measure::Sized(9));
        if asks {
            talk.ask();
        }
        wire.flush().await.unwrap();
        wire.write_all(b" and this").await.unwrap();
        drop((answering, wire));
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        let found = String::from_utf8_lossy(&got).into_owned();
        assert_eq!(got, [b"the last answer", expected, b" and this"].concat(), "{understands} {asks} {found}");
    };
    check(true, true, CONTINUE).await;
    check(true, false, b"").await;
    check(false, true, b"").await;
}
