//! An operator's end of a session holds, whatever is under way.

use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;

use super::client::{connect, will};
use super::*;
use crate::broker::auth::Answer;
use crate::mqtt::Reason;
use crate::mqtt::packet::Connect;

/// Says yes some times; each answer needs a permit.
struct Fickle {
    calls: AtomicUsize,
    yeses: usize,
    gate: Semaphore,
}

impl Fickle {
    fn new(yeses: usize, permits: usize) -> Arc<Self> {
        Arc::new(Self { calls: AtomicUsize::new(0), yeses, gate: Semaphore::new(permits) })
    }
}

impl Authenticator for Fickle {
    fn authenticate<'a>(&'a self, _: Credentials<'a>) -> Answer<'a> {
        Box::pin(async move {
            let is_yes = self.calls.fetch_add(1, Ordering::SeqCst) < self.yeses;
            self.gate.acquire().await.unwrap().forget();
            if is_yes { Ok(Identity::Device(device()).into()) } else { Err(Denied::BadCredentials) }
        })
    }
}

fn device() -> DeviceId {
    DeviceId::parse("m1").unwrap()
}

/// A connection that cannot end before the journal goes on, and one that waits for its session.
async fn takeover(bed: &Bed, old: Connect) -> tokio::task::JoinHandle<Result<bool, Reason>> {
    let mut first = Client::open(bed.address).await;
    first.connect_with(old).await.unwrap();
    bed.journal.hold();
    first.publish(publish("iot/m1/telemetry", "a", 1, 1)).await;
    bed.until("taken", |s| s.meter_messages == 1).await;
    let mut second = Client::open(bed.address).await;
    let waiting = tokio::spawn(async move { second.connect_with(connect("m1", false)).await });
    bed.until("taken over", |s| s.closed_taken_over == 1).await;
    waiting
}

#[tokio::test]
async fn a_dismissal_during_a_takeover_ends_the_session_and_silences_its_will() {
    let bed = Bed::open().await;
    let old = Connect { will: Some(will("iot/m1/status", "offline", 1)), ..connect("m1", false) };
    let waiting = takeover(&bed, old).await;
    bed.broker.disconnect(&device());
    bed.journal.release();
    assert_eq!(waiting.await.unwrap(), Ok(false), "a new session");
    assert_eq!(bed.journal.texts(), [("iot/m1/telemetry".to_owned(), "a".to_owned())]);
    assert_eq!(bed.broker.stats().wills_fired, 0);
}

#[tokio::test]
async fn a_credential_that_is_revoked_during_a_takeover_does_not_open() {
    let bed = Bed::guarded(Options::default(), Fickle::new(2, 9)).await;
    let waiting = takeover(&bed, connect("m1", false)).await;
    bed.journal.release();
    assert_eq!(waiting.await.unwrap(), Err(Reason::BadUserNameOrPassword));
    bed.until("nobody is connected", |s| s.connections == 0).await;
}

#[tokio::test]
async fn a_log_in_that_was_judged_before_the_dismissal_is_judged_again() {
    let fickle = Fickle::new(1, 0);
    let bed = Bed::guarded(Options::default(), Arc::clone(&fickle) as Arc<dyn Authenticator>).await;
    let mut client = Client::open(bed.address).await;
    let waiting = tokio::spawn(async move { client.connect_with(connect("m1", true)).await });
    bed.until("asked", |_| fickle.calls.load(Ordering::SeqCst) == 1).await;
    bed.broker.disconnect(&device());
    fickle.gate.add_permits(9);
    assert_eq!(waiting.await.unwrap(), Err(Reason::BadUserNameOrPassword));
    assert_eq!(bed.broker.stats().sessions, 0);
}

#[tokio::test]
async fn a_dismissed_client_leaves_no_will() {
    let bed = Bed::open().await;
    let mut client = Client::open(bed.address).await;
    let will = Some(will("iot/m1/status", "offline", 1));
    client.connect_with(Connect { will, ..connect("m1", false) }).await.unwrap();
    bed.broker.disconnect(&device());
    client.expect_closed().await;
    bed.until("no session", |s| s.sessions == 0 && s.connections == 0).await;
    assert_eq!((bed.journal.stored(), bed.broker.stats().wills_fired), (vec![], 0));
}

/// Takes any password for the token of the device of that name; none for a certificate.
struct ByToken;

impl Authenticator for ByToken {
    fn authenticate<'a>(&'a self, given: Credentials<'a>) -> Answer<'a> {
        let identity = Identity::Device(DeviceId::parse(given.client_id).unwrap());
        let token_sha256 = given.password.map(|token| digest(token[0]));
        Box::pin(std::future::ready(Ok(Admitted { identity, token_sha256 })))
    }
}

fn digest(first: u8) -> [u8; 32] {
    [first; 32]
}

fn by(client_id: &str, token: Option<&'static str>) -> Connect {
    let username = token.map(|_| client_id.into());
    Connect { username, password: token.map(|token| token.into()), ..connect(client_id, false) }
}

#[tokio::test]
async fn another_token_ends_what_was_begun_by_the_old_one_and_nothing_else() {
    let bed = Bed::guarded(Options::default(), Arc::new(ByToken)).await;
    let come = async |how: Connect| {
        let mut client = Client::open(bed.address).await;
        let is_present = client.connect_with(how).await.unwrap();
        (client, is_present)
    };
    let (mut old, _) = come(by("m1", Some("a"))).await;
    let (mut other, _) = come(by("m2", Some("a"))).await;
    bed.broker.disconnect_token(&device(), Some(digest(b'a')));
    old.expect_nothing().await;
    bed.broker.disconnect_token(&device(), Some(digest(b'b')));
    old.expect_closed().await;
    bed.until("gone", |s| s.sessions == 1).await;
    let (mut new, is_present) = come(by("m1", Some("b"))).await;
    assert!(!is_present);
    bed.broker.disconnect_token(&device(), Some(digest(b'b')));
    new.expect_nothing().await;
    bed.broker.disconnect_token(&device(), None);
    new.expect_closed().await;

    // A session counts as begun by whatever its client showed last.
    bed.until("gone", |s| s.sessions == 1).await;
    drop(come(by("m1", Some("b"))).await);
    bed.until("away", |s| s.connections == 1).await;
    let (mut certified, is_present) = come(by("m1", None)).await;
    assert!(is_present);
    bed.broker.disconnect_token(&device(), None);
    certified.expect_nothing().await;
    other.expect_nothing().await;
    drop(certified);
    bed.until("away", |s| s.connections == 1).await;
    drop(come(by("m1", Some("c"))).await);
    bed.until("away", |s| s.connections == 1).await;
    bed.broker.disconnect_token(&device(), Some(digest(b'd')));
    bed.until("the session of who is away", |s| s.sessions == 1).await;
}
