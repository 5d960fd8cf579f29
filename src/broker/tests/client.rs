//! A client that says exactly what a test wants and shows exactly what comes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mqtt::codec::Version;
use crate::mqtt::packet::{Connect, ConnectCode, Will};
use crate::mqtt::{Packet, PacketId, Publish, QoS};

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

pub(crate) fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

/// A publish; packet id 0 = none.
pub(crate) fn publish(topic: &str, payload: &str, level: u8, packet_id: u16) -> Publish {
    Publish {
        dup: false,
        retain: false,
        qos: QoS::from_level(level).unwrap(),
        packet_id: PacketId::new(packet_id),
        topic: topic.into(),
        payload: payload.to_owned().into(),
    }
}

pub(crate) fn connect(client_id: &str, clean_session: bool) -> Connect {
    Connect { client_id: client_id.into(), clean_session, keep_alive: 0, will: None, username: None, password: None }
}

pub(crate) fn will(topic: &str, payload: &str, level: u8) -> Will {
    Will {
        topic: topic.into(),
        payload: payload.to_owned().into(),
        qos: QoS::from_level(level).unwrap(),
        retain: false,
    }
}

impl Client {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap() }
    }

    /// Connects and is accepted; whether there was a session.
    pub(crate) async fn connect(&mut self, client_id: &str, clean: bool) -> bool {
        self.connect_with(connect(client_id, clean)).await.unwrap()
    }

    pub(crate) async fn connect_with(&mut self, connect: Connect) -> Result<bool, ConnectCode> {
        self.send(Packet::Connect(Box::new(connect))).await;
        match self.receive().await {
            Some(Packet::ConnAck { session_present, code: ConnectCode::Accepted }) => Ok(session_present),
            Some(Packet::ConnAck { session_present: false, code }) => Err(code),
            other => panic!("not CONNACK: {other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = Vec::new();
        Version::V311.encode(&packet, &mut bytes);
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn publish(&mut self, publish: Publish) {
        self.send(Packet::Publish(publish)).await;
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, level: u8) {
        let qos = QoS::from_level(level).unwrap();
        self.send(Packet::Subscribe { packet_id: id(999), filters: vec![(filter.into(), qos)] }).await;
        self.expect(Packet::SubAck { packet_id: id(999), codes: vec![Some(qos)] }).await;
    }

    /// The next packet; `None` = the connection is closed.
    pub(crate) async fn receive(&mut self) -> Option<Packet> {
        match tokio::time::timeout(PATIENCE, self.read_packet()).await {
            Ok(packet) => packet,
            Err(_) => panic!("nothing comes"),
        }
    }

    pub(crate) async fn expect(&mut self, packet: Packet) {
        assert_eq!(self.receive().await, Some(packet));
    }

    /// The next packet is a publish; its topic, payload, QoS, retain and dup.
    pub(crate) async fn expect_publish(&mut self) -> Publish {
        match self.receive().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("not PUBLISH: {other:?}"),
        }
    }

    /// Nothing has come that the server sent before now. Twice: the first PINGREQ may share its read with an earlier
    /// publish, and its answer goes before what that publish brings.
    pub(crate) async fn expect_nothing(&mut self) {
        for _ in 0..2 {
            self.send(Packet::PingReq).await;
            self.expect(Packet::PingResp).await;
        }
    }

    pub(crate) async fn expect_closed(&mut self) {
        assert_eq!(self.receive().await, None);
    }

    async fn read_packet(&mut self) -> Option<Packet> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(from_server(first, &body))
    }
}

fn from_server(first: u8, body: &[u8]) -> Packet {
    let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match first >> 4 {
        2 => {
            let code = match body[1] {
                0 => ConnectCode::Accepted,
                1 => ConnectCode::UnacceptableProtocolVersion,
                2 => ConnectCode::IdentifierRejected,
                3 => ConnectCode::ServerUnavailable,
                4 => ConnectCode::BadUserNameOrPassword,
                5 => ConnectCode::NotAuthorized,
                other => panic!("code {other}"),
            };
            Packet::ConnAck { session_present: body[0] == 1, code }
        }
        3 => {
            let qos = QoS::from_level((first >> 1) & 3).unwrap();
            let topic_end = 2 + usize::from(number(0));
            let topic = std::str::from_utf8(&body[2..topic_end]).unwrap().into();
            let has_id = qos > QoS::AtMostOnce;
            let packet_id = has_id.then(|| id(number(topic_end)));
            let payload = body[topic_end + if has_id { 2 } else { 0 }..].to_vec().into();
            Packet::Publish(Publish { dup: first & 8 != 0, retain: first & 1 != 0, qos, packet_id, topic, payload })
        }
        4 => Packet::PubAck(id(number(0))),
        5 => Packet::PubRec(id(number(0))),
        6 => Packet::PubRel(id(number(0))),
        7 => Packet::PubComp(id(number(0))),
        9 => {
            Packet::SubAck { packet_id: id(number(0)), codes: body[2..].iter().map(|c| QoS::from_level(*c)).collect() }
        }
        11 => Packet::UnsubAck(id(number(0))),
        13 => Packet::PingResp,
        other => panic!("packet type {other}"),
    }
}
