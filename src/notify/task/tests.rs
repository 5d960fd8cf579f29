//! The sender against a GitHub that wants it to wait.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::*;
use crate::store::{self, OutboxFilter, Page};

/// 2026-02-12T10:00:00Z.
const NOW: Timestamp = Timestamp(1_770_890_400_000_000);

fn at(second: i64) -> Timestamp {
    NOW.plus_us(second * 1_000_000)
}

/// A GitHub that knows no issue, and wants not to be asked a second time before `reset`.
fn github(reset: Timestamp) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        let limit = format!("X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: {}\r\n", reset.0 / 1_000_000);
        write!(socket, "HTTP/1.1 200 OK\r\nConnection: close\r\n{limit}Content-Length: 2\r\n\r\n[]").unwrap();
    });
    url
}

#[tokio::test]
async fn a_notice_that_has_to_wait_for_a_limit_is_let_go_and_no_other_node_sends_it_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = store::open(&format!("sqlite://{}", dir.path().join("a.db").display())).unwrap();
    let clock = Clock::manual(NOW);
    let desk = Desk::open(Arc::clone(&store), dir.path(), clock.clone(), false).unwrap();
    let alert = r#"{"status": "firing", "fingerprint": "ab", "startsAt": "2026-02-12T10:00:00Z"}"#;
    desk.accept(vec![Alert::of_json(alert).unwrap()]).await.unwrap();
    let options = Options {
        repository: "a/b".into(),
        api_url: github(at(400)),
        token: Some(Zeroizing::new("x".into())),
        node: "n1".into(),
    };
    let mut sender = Sender {
        desk,
        options,
        client: Some(Client::new(LIMITS)),
        clock: clock.clone(),
        board: Board::new(clock),
        tracer: Tracer::default(),
        pace: Pace::default(),
        unsettled: None,
    };
    let (_stopper, stop) = watch::channel(false);
    let work = tokio::time::timeout(Duration::from_secs(30), sender.work(&stop));
    work.await.expect("the sender waits with the notice in its hands").unwrap();
    let row = &store.outbox(&OutboxFilter::default(), Page::offset(0, 9)).unwrap().items[0];
    assert_eq!((row.state, row.attempts, row.next_attempt_at), (OutboxState::Pending, 0, at(400)));
    let claim = |second: i64| store.claim_notice("n2", at(second), at(second + 300)).unwrap();
    assert_eq!(claim(399), None);
    assert!(claim(400).is_some());
}
