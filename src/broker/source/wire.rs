//! The packets of both protocol versions as one set: what is said, and how it is written.
//!
//! Of `rumqttc` only its packets are used. Its event loop would not do: it forgets received QoS 2 ids with the connection
//! and then calls the broker's PUBREL unsolicited, for ever; its acknowledgements wait behind publishes; and a future of
//! it that is dropped loses what it was writing. Pure; knows no session. What is read, `read` has.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use rumqttc::mqttbytes::{QoS, v4};
use rumqttc::v5::mqttbytes::v5;

use super::Version;

/// What a broker says.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Packet {
    ConnAck(Greeting),
    /// The broker does not take the connection; why.
    Refused(String),
    Publish(Message),
    PubAck(u16, Verdict),
    PubRec(u16, Verdict),
    PubRel(u16),
    PubComp(u16),
    /// The granted QoS, or why there is none.
    SubAck(Result<u8, String>),
    PingResp,
    /// The broker says goodbye; why.
    Disconnect(String),
}

/// What a broker that takes the connection says of itself; what it leaves out is as the protocol has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Greeting {
    pub(super) session_present: bool,
    /// Publishes it takes at a time.
    pub(super) receive_max: u16,
    pub(super) max_qos: u8,
    /// Seconds, where it wants others than were asked for.
    pub(super) keep_alive: Option<u16>,
    pub(super) has_shared: bool,
}

/// A publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Message {
    /// 0 at QoS 0.
    pub(super) id: u16,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) dup: bool,
    /// Empty where it was not UTF-8.
    pub(super) topic: ByteString,
    pub(super) content_type: String,
    pub(super) payload: Bytes,
    /// It was over the limit, and has no payload any more.
    pub(super) is_too_large: bool,
}

/// What became of our publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Taken,
    /// Taken, and nobody is subscribed to it.
    NobodyThere,
    Refused(String),
}

/// The bytes are no packet, or none that belongs here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it sent something that is not MQTT: {0}")]
pub(super) struct Malformed(pub(super) String);

/// A CONNECT's content.
pub(super) struct Hello<'a> {
    pub(super) client_id: &'a str,
    pub(super) login: Option<(&'a str, &'a str)>,
    pub(super) keep_alive: u16,
    pub(super) session_expiry_s: u32,
    pub(super) receive_max: u16,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP: alike in both versions where nothing is wrong `[MQTT 5, 3.4.2.1]`.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Ack {
    Acknowledged = 0x40,
    Received = 0x50,
    Released = 0x62,
    Complete = 0x70,
}

/// Writes an acknowledgement.
pub(super) fn ack(kind: Ack, id: u16, out: &mut Vec<u8>) {
    let [high, low] = id.to_be_bytes();
    out.extend([kind as u8, 2, high, low]);
}

/// Writes PINGREQ.
pub(super) fn ping(out: &mut Vec<u8>) {
    out.extend([0xC0, 0]);
}

/// Writes DISCONNECT; the session stays for as long as CONNECT said.
pub(super) fn disconnect(out: &mut Vec<u8>) {
    out.extend([0xE0, 0]);
}

impl Version {
    /// Writes CONNECT, for a session that stays.
    pub(super) fn connect(self, hello: &Hello<'_>, out: &mut Vec<u8>) {
        let mut bytes = BytesMut::new();
        let written = match self {
            Self::V311 => {
                let mut connect = v4::Connect::new(hello.client_id);
                connect.keep_alive = hello.keep_alive;
                connect.clean_session = false;
                connect.login = hello.login.map(|(user, password)| v4::Login::new(user, password));
                connect.write(&mut bytes).is_ok()
            }
            Self::V5 => {
                let properties = v5::ConnectProperties {
                    session_expiry_interval: Some(hello.session_expiry_s),
                    receive_maximum: Some(hello.receive_max),
                    ..v5::ConnectProperties::new()
                };
                let connect = v5::Connect {
                    keep_alive: hello.keep_alive,
                    client_id: hello.client_id.to_owned(),
                    clean_start: false,
                    properties: Some(properties),
                };
                let login = hello.login.map(|(user, password)| v5::Login::new(user, password));
                connect.write(&None, &login, &mut bytes).is_ok()
            }
        };
        debug_assert!(written, "a CONNECT is never too long");
        out.extend_from_slice(&bytes);
    }

    /// Writes SUBSCRIBE at QoS 2. Version 5: retained messages only where the subscription is new, and not what we publish
    /// ourselves (which a shared subscription may not ask for `[MQTT 5, 3.8.3.1]`).
    pub(super) fn subscribe(self, id: u16, filter: &str, out: &mut Vec<u8>) {
        let mut bytes = BytesMut::new();
        let written = match self {
            Self::V311 => {
                let mut subscribe = v4::Subscribe::new(filter, QoS::ExactlyOnce);
                subscribe.pkid = id;
                subscribe.write(&mut bytes).is_ok()
            }
            Self::V5 => {
                let mut wanted = v5::Filter::new(filter, rumqttc::v5::mqttbytes::QoS::ExactlyOnce);
                wanted.retain_forward_rule = v5::RetainForwardRule::OnNewSubscribe;
                wanted.nolocal = !filter.starts_with("$share/");
                let mut subscribe = v5::Subscribe::new(wanted, None);
                subscribe.pkid = id;
                subscribe.write(&mut bytes).is_ok()
            }
        };
        debug_assert!(written, "a SUBSCRIBE of one filter is never too long");
        out.extend_from_slice(&bytes);
    }

    /// Writes PUBLISH, not retained. The head is alike but for the empty properties of version 5.
    pub(super) fn publish(self, id: u16, qos: u8, topic: &str, payload: &[u8], out: &mut Vec<u8>) {
        let properties = usize::from(self == Self::V5);
        let id_len = if qos > 0 { 2 } else { 0 };
        let mut rest = 2 + topic.len() + id_len + properties + payload.len();
        out.push(0x30 | qos << 1);
        loop {
            let digit = (rest % 128) as u8;
            rest /= 128;
            out.push(digit | if rest > 0 { 0x80 } else { 0 });
            if rest == 0 {
                break;
            }
        }
        out.extend((topic.len() as u16).to_be_bytes());
        out.extend(topic.as_bytes());
        out.extend(&id.to_be_bytes()[..id_len]);
        out.extend(&[0][..properties]);
        out.extend(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(login: Option<(&'static str, &'static str)>) -> Hello<'static> {
        Hello { client_id: "iot-meter-1", login, keep_alive: 30, session_expiry_s: 600, receive_max: 64 }
    }

    #[test]
    fn a_connect_asks_for_a_session_that_stays() {
        let mut out = Vec::new();
        Version::V311.connect(&hello(Some(("me", "secret"))), &mut out);
        let read = v4::Packet::read(&mut BytesMut::from(&*out), 1000).unwrap();
        let v4::Packet::Connect(connect) = read else { panic!("{read:?}") };
        assert!(!connect.clean_session && connect.client_id == "iot-meter-1" && connect.keep_alive == 30);
        assert_eq!(connect.login, Some(v4::Login::new("me", "secret")));
        out.clear();
        Version::V5.connect(&hello(None), &mut out);
        let read = v5::Packet::read(&mut BytesMut::from(&*out), None).unwrap();
        let v5::Packet::Connect(connect, None, None) = read else { panic!("{read:?}") };
        let properties = connect.properties.unwrap();
        assert!(!connect.clean_start);
        assert_eq!((properties.session_expiry_interval, properties.receive_maximum), (Some(600), Some(64)));
    }

    #[test]
    fn what_is_published_is_what_another_codec_reads() {
        for (qos, len) in [(0, 0), (1, 100), (2, 200), (2, 20_000)] {
            let payload = vec![b'x'; len];
            let mut out = Vec::new();
            Version::V311.publish(7, qos, "iot/é/command", &payload, &mut out);
            let read = v4::Packet::read(&mut BytesMut::from(&*out), 100_000).unwrap();
            let v4::Packet::Publish(p) = read else { panic!("{read:?}") };
            let id = if qos > 0 { 7 } else { 0 };
            assert_eq!((p.topic.as_str(), p.qos as u8, p.pkid, p.payload.len()), ("iot/é/command", qos, id, len));
            out.clear();
            Version::V5.publish(7, qos, "iot/é/command", &payload, &mut out);
            let read = v5::Packet::read(&mut BytesMut::from(&*out), None).unwrap();
            let v5::Packet::Publish(p) = read else { panic!("{read:?}") };
            assert_eq!((&*p.topic, p.qos as u8, p.pkid, p.payload.len()), ("iot/é/command".as_bytes(), qos, id, len));
        }
    }

    #[test]
    fn a_subscription_is_for_qos_2_and_repeats_no_retained_messages() {
        let mut out = Vec::new();
        Version::V5.subscribe(9, "$share/g/iot/+/#", &mut out);
        let read = v5::Packet::read(&mut BytesMut::from(&*out), None).unwrap();
        let v5::Packet::Subscribe(s) = read else { panic!("{read:?}") };
        let filter = &s.filters[0];
        assert_eq!((s.pkid, filter.path.as_str(), filter.qos as u8), (9, "$share/g/iot/+/#", 2));
        assert_eq!((&filter.retain_forward_rule, filter.nolocal), (&v5::RetainForwardRule::OnNewSubscribe, false));
        out.clear();
        Version::V311.subscribe(9, "iot/+/#", &mut out);
        let read = v4::Packet::read(&mut BytesMut::from(&*out), 1000).unwrap();
        let v4::Packet::Subscribe(s) = read else { panic!("{read:?}") };
        assert_eq!((s.pkid, s.filters[0].path.as_str(), s.filters[0].qos), (9, "iot/+/#", QoS::ExactlyOnce));
    }
}
