//! Log-in and permissions as seen from the wire.

use super::client::{connect, will};
use super::*;
use crate::broker::auth::Answer;
use crate::mqtt::Reason;
use crate::mqtt::packet::Connect;
use crate::mqtt::packet::{Ack, Filter, SubscribeOptions};
use crate::mqtt::{Packet, QoS};

/// User name = client id = device; the password is `secret`.
struct Password;

impl Authenticator for Password {
    fn authenticate<'a>(&'a self, given: Credentials<'a>) -> Answer<'a> {
        Box::pin(async move {
            let device = given.username.and_then(DeviceId::parse).ok_or(Denied::BadCredentials)?;
            match given.password {
                Some(b"secret") if given.client_id == device.as_str() => Ok(Identity::Device(device).into()),
                Some(b"secret") => Err(Denied::ClientId),
                Some(b"inactive") => Err(Denied::NotAuthorized),
                Some(b"down") => Err(Denied::Unavailable),
                _ => Err(Denied::BadCredentials),
            }
        })
    }
}

async fn bed() -> Bed {
    Bed::guarded(Options::default(), Arc::new(Password)).await
}

fn login(client_id: &str, username: &str, password: &str) -> Connect {
    Connect { username: Some(username.into()), password: Some(password.to_owned().into()), ..connect(client_id, true) }
}

async fn meter(bed: &Bed) -> Client {
    let mut client = Client::open(bed.address).await;
    client.connect_with(login("m1", "m1", "secret")).await.unwrap();
    client
}

#[tokio::test]
async fn who_is_not_let_in_is_told_the_code() {
    let bed = bed().await;
    let check = async |connect: Connect, expected: Result<bool, Reason>| {
        let mut client = Client::open(bed.address).await;
        let what = format!("{connect:?}");
        assert_eq!(client.connect_with(connect).await, expected, "{what}");
        if expected.is_err() {
            client.expect_closed().await;
        }
    };
    check(login("m1", "m1", "secret"), Ok(false)).await;
    check(login("m1", "m1", "wrong"), Err(Reason::BadUserNameOrPassword)).await;
    check(connect("m1", true), Err(Reason::BadUserNameOrPassword)).await;
    check(login("m2", "m1", "secret"), Err(Reason::ClientIdentifierNotValid)).await;
    check(login("m1", "m1", "inactive"), Err(Reason::NotAuthorized)).await;
    check(login("m1", "m1", "down"), Err(Reason::ServerUnavailable)).await;
    let foreign = Some(will("iot/m2/status", "offline", 1));
    check(Connect { will: foreign, ..login("m1", "m1", "secret") }, Err(Reason::NotAuthorized)).await;
    let own = Some(will("iot/m1/status", "offline", 1));
    check(Connect { will: own, ..login("m1", "m1", "secret") }, Ok(false)).await;
    let stats = bed.broker.stats();
    assert_eq!((stats.refused_credentials, stats.refused_not_authorized), (2, 2));
    assert_eq!((stats.refused_client_id, stats.refused_unavailable), (1, 1));
}

#[tokio::test]
async fn a_publish_that_is_not_allowed_closes_the_connection_and_is_not_stored() {
    let bed = bed().await;
    for topic in ["iot/m2/telemetry", "iot/m1/command", "chat"] {
        let mut client = meter(&bed).await;
        client.publish(publish("iot/m1/telemetry", "mine", 1, 1)).await;
        client.expect(Packet::PubAck(Ack::ok(id(1)))).await;
        client.publish(publish(topic, "not mine", 1, 2)).await;
        client.expect_closed().await;
    }
    assert_eq!(bed.broker.stats().closed_not_allowed, 3);
    let stored = bed.journal.stored();
    assert_eq!(stored.len(), 3);
    assert!(stored.iter().all(|s| s.payload == b"mine" && s.identity == "m1"));
}

#[tokio::test]
async fn a_subscription_that_is_not_allowed_gets_0x80_beside_those_that_are() {
    let bed = bed().await;
    let mut client = meter(&bed).await;
    let filters = ["iot/m1/command", "iot/+/command", "#", "iot/m2/command"];
    let filters = filters
        .map(|f| Filter {
            filter: f.into(),
            options: SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() },
        })
        .to_vec();
    client.send(Packet::Subscribe { packet_id: id(1), filters, id: None }).await;
    let refused = Reason::Unspecified; // 3.1.1 knows one refusal
    let reasons = vec![Reason::GrantedQoS2, refused, refused, refused];
    client.expect(Packet::SubAck { packet_id: id(1), reasons, reason_string: None }).await;
    assert_eq!(bed.broker.stats().subscriptions, 1);
}
