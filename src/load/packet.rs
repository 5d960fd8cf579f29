//! The few MQTT 3.1.1 packets a load generator needs, as bytes.
//!
//! Does not know: sockets, time. Standard: MQTT 3.1.1, sections in the functions.

use super::options::Qos;

/// PUBREL of a packet id (§3.6).
pub(super) fn pubrel(packet: u16) -> [u8; 4] {
    let [high, low] = packet.to_be_bytes();
    [0x62, 2, high, low]
}

/// PINGREQ (§3.12).
pub(super) const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT (§3.14).
pub(super) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// CONNECT with clean session, user name and perhaps password (§3.1).
pub(super) fn connect(client_id: &str, user: &str, password: Option<&str>, keep_alive_s: u16) -> Vec<u8> {
    let flags = 0x02 | 0x80 | if password.is_some() { 0x40 } else { 0 };
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    body.extend([4, flags]);
    body.extend(keep_alive_s.to_be_bytes());
    for text in [Some(client_id), Some(user), password].into_iter().flatten() {
        put_text(&mut body, text);
    }
    let mut out = vec![0x10];
    put_length(&mut out, body.len());
    out.append(&mut body);
    out
}

/// The beginning of every PUBLISH of a connection; payload follows (§3.3).
pub(super) struct PublishHead {
    bytes: Vec<u8>,
    packet_at: Option<usize>,
}

impl PublishHead {
    /// For payloads of exactly `payload_len` bytes.
    pub(super) fn new(topic: &str, qos: Qos, payload_len: usize) -> Self {
        let has_id = qos != Qos::AtMostOnce;
        let mut bytes = vec![0x30 | (qos.level() << 1)];
        put_length(&mut bytes, 2 + topic.len() + if has_id { 2 } else { 0 } + payload_len);
        put_text(&mut bytes, topic);
        let packet_at = has_id.then_some(bytes.len());
        if has_id {
            bytes.extend([0, 0]);
        }
        Self { bytes, packet_at }
    }

    /// Appends the head to `out`.
    pub(super) fn write(&mut self, packet: u16, is_again: bool, out: &mut Vec<u8>) {
        if let Some(at) = self.packet_at {
            self.bytes[at..at + 2].copy_from_slice(&packet.to_be_bytes());
        }
        let first = out.len();
        out.extend_from_slice(&self.bytes);
        if is_again && self.packet_at.is_some() {
            out[first] |= 0x08;
        }
    }
}

/// A packet from the broker that matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// Return code.
    ConnAck(u8),
    PubAck(u16),
    PubRec(u16),
    PubComp(u16),
    PingResp,
    /// Not expected by a client that subscribes to nothing.
    Unexpected(u8),
}

/// Takes the first packet off `input`: what it is and its length; `None` = more bytes are needed.
pub(super) fn parse(input: &[u8]) -> Option<(Received, usize)> {
    let (&kind, &length) = (input.first()?, input.get(1)?);
    // All packets that may come are shorter than 128 bytes: one length byte.
    let whole = 2 + usize::from(length);
    if length >= 0x80 {
        return Some((Received::Unexpected(kind), input.len()));
    }
    let body = input.get(2..whole)?;
    let id = || body.get(..2).map(|id| u16::from_be_bytes([id[0], id[1]]));
    let received = match (kind, body.len()) {
        (0x20, 2) => Some(Received::ConnAck(body[1])),
        (0x40, 2) => id().map(Received::PubAck),
        (0x50, 2) => id().map(Received::PubRec),
        (0x70, 2) => id().map(Received::PubComp),
        (0xD0, 0) => Some(Received::PingResp),
        _ => None,
    };
    Some((received.unwrap_or(Received::Unexpected(kind)), whole))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // Ids and passwords are shorter than 64 KiB; a longer one is cut, and refused by the broker.
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(len.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
}

/// Remaining length (§2.2.3).
fn put_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_from_the_broker_are_taken_off_one_by_one() {
        let check = |input: &[u8], expected: Option<(Received, usize)>| assert_eq!(parse(input), expected, "{input:?}");
        check(&[0x40, 2, 1, 2, 0x40], Some((Received::PubAck(258), 4)));
        check(&[0x50, 2, 0, 7], Some((Received::PubRec(7), 4)));
        check(&[0x70, 2, 0, 7], Some((Received::PubComp(7), 4)));
        check(&[0x20, 2, 0, 5], Some((Received::ConnAck(5), 4)));
        check(&[0xD0, 0], Some((Received::PingResp, 2)));
        check(&[0x40, 2, 1], None);
        check(&[0x40], None);
        check(&[], None);
        check(&[0x30, 1, 0], Some((Received::Unexpected(0x30), 3)));
        check(&[0x40, 1, 0], Some((Received::Unexpected(0x40), 3)));
    }

    #[test]
    fn a_foreign_codec_reads_what_is_written() {
        use rumqttc::mqttbytes::v4::Packet;
        let read_one = |bytes: &[u8]| Packet::read(&mut bytes::BytesMut::from(bytes), 1 << 20).unwrap();

        let Packet::Connect(connect) = read_one(&connect("load-1", "load-1", Some("pw"), 60)) else { panic!() };
        let login = connect.login.unwrap();
        assert_eq!((&*connect.client_id, &*login.username, &*login.password), ("load-1", "load-1", "pw"));
        assert!(connect.clean_session);

        for (level, is_again) in [(0, false), (1, false), (1, true), (2, true)] {
            let qos = Qos::from_level(level).unwrap();
            let mut out = Vec::new();
            PublishHead::new("iot/a/telemetry", qos, 300).write(if level == 0 { 0 } else { 9 }, is_again, &mut out);
            out.extend(vec![b'x'; 300]);
            let Packet::Publish(publish) = read_one(&out) else { panic!() };
            assert_eq!((&*publish.topic, publish.payload.len(), publish.qos as u8), ("iot/a/telemetry", 300, level));
            assert_eq!((publish.dup, publish.pkid), (is_again, if level == 0 { 0 } else { 9 }));
        }
        assert!(matches!(read_one(&pubrel(3)), Packet::PubRel(release) if release.pkid == 3));
        assert!(matches!(read_one(&PINGREQ), Packet::PingReq));
        assert!(matches!(read_one(&DISCONNECT), Packet::Disconnect));
    }
}
