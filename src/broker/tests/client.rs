//! A client that says exactly what a test wants and shows exactly what comes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mqtt::codec::Version;
use crate::mqtt::packet::{ConnAck, Connect, Filter, NEVER, SubscribeOptions, SubscriptionId, Will};
use crate::mqtt::{Packet, PacketId, Publish, QoS, Reason};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    version: Version,
    input: BytesMut,
}

pub(crate) fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

/// A publish; packet id 0 = none.
pub(crate) fn publish(topic: &str, payload: &str, level: u8, packet_id: u16) -> Publish {
    Publish {
        qos: QoS::from_level(level).unwrap(),
        packet_id: PacketId::new(packet_id),
        topic: topic.into(),
        payload: payload.to_owned().into(),
        ..Publish::default()
    }
}

/// A CONNECT of 3.1.1.
pub(crate) fn connect(client_id: &str, clean_session: bool) -> Connect {
    let session_expiry_s = if clean_session { 0 } else { NEVER };
    Connect { client_id: client_id.into(), clean_start: clean_session, session_expiry_s, ..Connect::default() }
}

pub(crate) fn will(topic: &str, payload: &str, level: u8) -> Will {
    Will {
        topic: topic.into(),
        payload: payload.to_owned().into(),
        qos: QoS::from_level(level).unwrap(),
        ..Will::default()
    }
}

impl Client {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream, version: Version::V311, input: BytesMut::new() }
    }

    /// A connection that speaks version 5.
    pub(crate) async fn open_v5(address: SocketAddr) -> Self {
        Self { version: Version::V5, ..Self::open(address).await }
    }

    /// Connects and is accepted; whether there was a session.
    pub(crate) async fn connect(&mut self, client_id: &str, clean: bool) -> bool {
        self.connect_with(connect(client_id, clean)).await.unwrap()
    }

    pub(crate) async fn connect_with(&mut self, connect: Connect) -> Result<bool, Reason> {
        self.greet(connect).await.map(|greeting| greeting.session_present)
    }

    /// Connects; the whole answer.
    pub(crate) async fn greet(&mut self, connect: Connect) -> Result<ConnAck, Reason> {
        self.send(Packet::Connect(Box::new(connect))).await;
        match self.receive().await {
            Some(Packet::ConnAck(greeting)) if greeting.reason == Reason::Success => Ok(*greeting),
            Some(Packet::ConnAck(refusal)) if !refusal.session_present => Err(refusal.reason),
            other => panic!("not CONNACK: {other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = Vec::new();
        self.version.encode(&packet, &mut bytes);
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn publish(&mut self, publish: Publish) {
        self.send(Packet::Publish(publish)).await;
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, level: u8) {
        let options = SubscribeOptions { qos: QoS::from_level(level).unwrap(), ..SubscribeOptions::default() };
        assert_eq!(self.subscribe_with(filter, options, None).await, Reason::granted(options.qos));
    }

    /// Subscribes; the answer.
    pub(crate) async fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscribeOptions,
        id: Option<SubscriptionId>,
    ) -> Reason {
        let filters = vec![Filter { filter: filter.into(), options }];
        self.send(Packet::Subscribe { packet_id: super::id(999), filters, id }).await;
        match self.receive().await {
            Some(Packet::SubAck { packet_id, reasons, .. }) if packet_id == super::id(999) => reasons[0],
            other => panic!("not SUBACK: {other:?}"),
        }
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
        loop {
            let decoded = self.version.decode_server(&mut self.input, 1 << 28).expect("a packet");
            if decoded.is_some() {
                return decoded;
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
    }
}
