//! The session alone: what it says to which packet.

use super::*;
use bytes::Bytes;

const PUBCOMP: u8 = 0x70;
const PUBREL: u8 = 0x62;
const PUBREC: u8 = 0x50;
const PUBACK: u8 = 0x40;

struct Bed {
    session: Session,
    out: Vec<u8>,
}

fn greeting(session_present: bool) -> Greeting {
    Greeting { session_present, receive_max: u16::MAX, max_qos: 2, keep_alive: None, has_shared: true }
}

fn parcel(device: &str) -> Parcel {
    let device = DeviceId::parse(device).unwrap();
    Parcel { command: CommandId::random(), device, payload: Bytes::from_static(b"{}") }
}

fn message(qos: u8, id: u16) -> Message {
    Message {
        id,
        qos,
        retain: false,
        dup: false,
        topic: "iot/m1/hello".into(),
        content_type: String::new(),
        payload: Bytes::new(),
        is_too_large: false,
    }
}

impl Bed {
    fn new(version: Version) -> Self {
        let profile = Profile {
            version,
            client_id: "c".into(),
            filter: "$share/g/iot/+/#".into(),
            session_expiry_s: 60,
            keep_alive: 30,
        };
        Self { session: Session::new(profile), out: Vec::new() }
    }

    /// Connected and subscribed, in a session that the broker did not know.
    fn up() -> Self {
        let mut bed = Self::new(Version::V311);
        bed.hear(Packet::ConnAck(greeting(false))).unwrap();
        bed.hear(Packet::SubAck(Ok(2))).unwrap();
        bed.said();
        bed
    }

    fn hear(&mut self, packet: Packet) -> Result<Vec<News>, Fault> {
        let mut news = Vec::new();
        self.session.handle(packet, &mut self.out, &mut news).map(|()| news)
    }

    fn send(&mut self, parcel: &Parcel) -> u16 {
        assert!(self.session.has_room());
        self.session.send(parcel.clone(), &mut self.out);
        self.said();
        self.session.under_way.back().unwrap().id
    }

    /// First byte and packet id of what was said since the last time (every packet here is a short one).
    fn said(&mut self) -> Vec<(u8, u16)> {
        let (mut said, mut rest) = (Vec::new(), &*self.out);
        while let [first, len, body @ ..] = rest {
            let (body, after) = body.split_at(usize::from(*len));
            let id = if *len >= 2 { u16::from_be_bytes([body[0], body[1]]) } else { 0 };
            said.push((*first, id));
            rest = after;
        }
        self.out.clear();
        said
    }
}

#[test]
fn it_subscribes_where_it_has_not_yet_and_where_the_broker_has_forgotten() {
    let mut bed = Bed::new(Version::V5);
    assert_eq!(bed.hear(Packet::ConnAck(greeting(true))), Ok(vec![]));
    assert_eq!(bed.said(), [(0x82, SUBSCRIBE_ID)], "an earlier process may have subscribed to something else");
    assert_eq!(bed.hear(Packet::SubAck(Ok(2))), Ok(vec![News::Up { granted: 2 }]));
    bed.session.disconnected();
    bed.said();
    assert_eq!(bed.hear(Packet::ConnAck(greeting(true))), Ok(vec![News::Up { granted: 2 }]));
    assert_eq!(bed.said(), [], "the subscription is known to stand");
    bed.session.disconnected();
    assert_eq!(bed.hear(Packet::ConnAck(greeting(false))), Ok(vec![]));
    assert_eq!(bed.said(), [(0x82, SUBSCRIBE_ID)]);
}

#[test]
fn a_message_is_acknowledged_when_it_is_confirmed_and_not_before() {
    let mut bed = Bed::up();
    for (qos, answer) in [(0, None), (1, Some((PUBACK, 7))), (2, Some((PUBREC, 7)))] {
        assert_eq!(bed.hear(Packet::Publish(message(qos, 7))), Ok(vec![News::Message(message(qos, 7))]));
        assert_eq!(bed.said(), []);
        bed.session.confirm(qos, 7, &mut bed.out);
        assert_eq!(bed.said(), Vec::from_iter(answer));
    }
    assert_eq!(bed.hear(Packet::PubRel(7)), Ok(vec![]));
    assert_eq!(bed.said(), [(PUBCOMP, 7)]);
}

#[test]
fn a_repetition_within_a_connection_is_one_message() {
    let mut bed = Bed::up();
    bed.hear(Packet::Publish(message(2, 7))).unwrap();
    let again = Message { dup: true, ..message(2, 7) };
    assert_eq!(bed.hear(Packet::Publish(again.clone())), Ok(vec![]));
    assert_eq!(bed.said(), [], "the first is not confirmed");
    bed.session.confirm(2, 7, &mut bed.out);
    bed.said();
    assert_eq!(bed.hear(Packet::Publish(again)), Ok(vec![]));
    assert_eq!(bed.said(), [(PUBREC, 7)]);
    bed.hear(Packet::PubRel(7)).unwrap();
    bed.said();
    assert_eq!(bed.hear(Packet::Publish(message(2, 7))).unwrap().len(), 1, "a new message of that id");
}

#[test]
fn a_release_is_answered_also_when_it_is_for_an_id_of_an_earlier_connection() {
    let mut bed = Bed::up();
    assert_eq!(bed.hear(Packet::PubRel(999)), Ok(vec![]));
    assert_eq!(bed.said(), [(PUBCOMP, 999)]);
}

#[test]
fn a_message_that_was_not_confirmed_comes_again_with_the_next_connection() {
    let mut bed = Bed::up();
    bed.hear(Packet::Publish(message(2, 7))).unwrap();
    bed.session.disconnected();
    bed.hear(Packet::ConnAck(greeting(true))).unwrap();
    assert_eq!(bed.hear(Packet::Publish(message(2, 7))).unwrap().len(), 1);
}

#[test]
fn a_command_is_delivered_when_it_is_acknowledged_to_the_end() {
    let mut bed = Bed::up();
    let parcel = parcel("m1");
    let id = bed.send(&parcel);
    assert_eq!(bed.hear(Packet::PubComp(id)), Ok(vec![]), "out of turn");
    assert_eq!(bed.hear(Packet::PubRec(id, Verdict::Taken)), Ok(vec![]));
    assert_eq!(bed.said(), [(PUBREL, id)]);
    assert_eq!(bed.hear(Packet::PubComp(id)), Ok(vec![News::Delivered(parcel.command)]));
    assert_eq!(bed.hear(Packet::PubComp(id)), Ok(vec![]));
}

#[test]
fn a_command_that_nobody_gets_is_not_delivered() {
    let undelivered = |parcel: &Parcel, why: &str| News::Undelivered {
        command: parcel.command,
        device: parcel.device.clone(),
        why: why.into(),
    };
    let mut bed = Bed::up();
    let first = parcel("m1");
    let id = bed.send(&first);
    bed.hear(Packet::PubRec(id, Verdict::NobodyThere)).unwrap();
    assert_eq!(bed.said(), [(PUBREL, id)], "it was taken all the same");
    assert_eq!(bed.hear(Packet::PubComp(id)), Ok(vec![undelivered(&first, "nobody is subscribed to it")]));
    let second = parcel("m2");
    let id = bed.send(&second);
    let refused = bed.hear(Packet::PubRec(id, Verdict::Refused("NotAuthorized".into())));
    assert_eq!(refused, Ok(vec![undelivered(&second, "NotAuthorized")]));
    assert_eq!(bed.said(), [], "there is nothing to release");
}

#[test]
fn a_broker_without_qos_2_gets_commands_at_qos_1() {
    let mut bed = Bed::new(Version::V5);
    bed.hear(Packet::ConnAck(Greeting { max_qos: 1, ..greeting(false) })).unwrap();
    bed.hear(Packet::SubAck(Ok(1))).unwrap();
    bed.said();
    let parcel = parcel("m1");
    bed.session.send(parcel.clone(), &mut bed.out);
    assert_eq!(bed.out[0], 0x32);
    assert_eq!(bed.hear(Packet::PubAck(1, Verdict::Taken)), Ok(vec![News::Delivered(parcel.command)]));
}

#[test]
fn no_more_commands_are_under_way_than_the_broker_takes() {
    let mut bed = Bed::new(Version::V5);
    bed.hear(Packet::ConnAck(Greeting { receive_max: 2, ..greeting(false) })).unwrap();
    assert!(!bed.session.has_room(), "not subscribed");
    bed.hear(Packet::SubAck(Ok(2))).unwrap();
    bed.send(&parcel("m1"));
    let id = bed.send(&parcel("m2"));
    assert!(!bed.session.has_room());
    bed.hear(Packet::PubRec(id, Verdict::Taken)).unwrap();
    assert!(!bed.session.has_room());
    bed.hear(Packet::PubComp(id)).unwrap();
    assert!(bed.session.has_room());
}

#[test]
fn ids_that_the_broker_may_know_are_released_before_they_are_used() {
    let mut bed = Bed::new(Version::V311);
    bed.hear(Packet::ConnAck(greeting(true))).unwrap();
    bed.said();
    bed.hear(Packet::SubAck(Ok(2))).unwrap();
    let all: Vec<_> = (1..=COMMAND_IDS).map(|id| (PUBREL, id)).chain([(0xC0, 0)]).collect();
    assert_eq!(bed.said(), all, "an earlier process may have used any of them");
    assert!(!bed.session.has_room());
    bed.hear(Packet::PubComp(5)).unwrap();
    assert_eq!(bed.send(&parcel("m1")), 5, "the only one that is free");
    assert!(!bed.session.has_room());
    bed.hear(Packet::PingResp).unwrap();
    assert!(bed.session.has_room(), "what is not answered before the ping never will be");
    assert_eq!(bed.send(&parcel("m1")), 6);
    bed.session.disconnected();
    assert_eq!(bed.session.leftover, BTreeSet::from([5, 6]));
    bed.hear(Packet::ConnAck(greeting(true))).unwrap();
    assert_eq!(bed.said(), [(PUBREL, 5), (PUBREL, 6), (0xC0, 0)]);
    bed.session.disconnected();
    bed.hear(Packet::ConnAck(greeting(true))).unwrap();
    assert_eq!(bed.said(), [], "a broker that ends the connection over them is not asked again");
}

#[test]
fn what_the_broker_refuses_ends_the_connection_with_its_words() {
    let check = |packets: Vec<Packet>, expected: &str| {
        let mut bed = Bed::new(Version::V5);
        let end = packets.into_iter().find_map(|packet| bed.hear(packet).err());
        assert_eq!(end.map(|e| e.to_string()).as_deref(), Some(expected));
    };
    check(vec![Packet::Refused("NotAuthorized".into())], "it refuses the connection: NotAuthorized");
    check(vec![Packet::PingResp], "it answered out of turn");
    check(vec![Packet::ConnAck(greeting(false)), Packet::ConnAck(greeting(false))], "it answered out of turn");
    let not_shared = Greeting { has_shared: false, ..greeting(false) };
    check(vec![Packet::ConnAck(not_shared)], "it has no shared subscriptions: set a `filter` without $share");
    let refused = Packet::SubAck(Err("NotAuthorized".into()));
    check(vec![Packet::ConnAck(greeting(false)), refused], "it refuses the subscription: NotAuthorized");
    check(vec![Packet::Disconnect("x".into())], "it said goodbye: x");
}
