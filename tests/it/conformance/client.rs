//! A client for stories: it acknowledges as a good client does, keeps what came, and lets a test look.
//!
//! Invariant: a message is in `messages` when its delivery is complete, at QoS 2 with PUBREL. Every other packet of the
//! server is in `received`, as it came.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::packet::split_properties;
use super::socket::{Came, PATIENCE, Socket, hex, put_varint, varint};
use super::table::Version;

/// How to connect.
#[derive(Clone, Default)]
pub struct Connect<'a> {
    pub id: &'a str,
    /// The opposite of clean.
    pub keep: bool,
    pub keep_alive_s: u16,
    /// Topic, message, its properties; QoS 2 as the public suites have it.
    pub will: Option<(&'a str, &'a [u8], &'a [u8])>,
    /// Version 5.
    pub properties: &'a [u8],
}

impl<'a> Connect<'a> {
    pub fn id(id: &'a str) -> Self {
        Self { id, ..Self::default() }
    }

    pub fn keep(self) -> Self {
        Self { keep: true, ..self }
    }

    pub fn with(self, properties: &'a [u8]) -> Self {
        Self { properties, ..self }
    }

    pub fn will(self, topic: &'a str, message: &'a [u8], properties: &'a [u8]) -> Self {
        Self { will: Some((topic, message, properties)), ..self }
    }

    pub fn keep_alive(self, keep_alive_s: u16) -> Self {
        Self { keep_alive_s, ..self }
    }

    fn packet(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        text(&mut body, b"MQTT");
        let will = if self.will.is_some() { 0x14 } else { 0 };
        body.extend([version.level(), will | u8::from(!self.keep) << 1]);
        body.extend(self.keep_alive_s.to_be_bytes());
        properties(version, &mut body, self.properties);
        text(&mut body, self.id.as_bytes());
        if let Some((topic, message, will_properties)) = self.will {
            properties(version, &mut body, will_properties);
            text(&mut body, topic.as_bytes());
            text(&mut body, message);
        }
        packet(0x10, &body)
    }
}

/// The answer to CONNECT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnAck {
    pub session_present: bool,
    pub code: u8,
    properties: Vec<u8>,
}

impl ConnAck {
    /// A property's value as it is written.
    pub fn property(&self, id: u8) -> Option<Vec<u8>> {
        find(&self.properties, id).pop()
    }
}

/// A message as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Empty where the server used an alias.
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub id: u16,
    pub properties: Vec<u8>,
}

impl Message {
    /// Values of a property, as they are written.
    pub fn property(&self, id: u8) -> Vec<Vec<u8>> {
        find(&self.properties, id)
    }
}

fn find(properties: &[u8], id: u8) -> Vec<Vec<u8>> {
    let all = split_properties(properties).expect("the server sends good properties");
    all.into_iter().filter(|p| p[0] == id).map(|p| p[1..].to_vec()).collect()
}

/// See the module.
pub struct Client {
    pub socket: Socket,
    version: Version,
    next_id: u16,
    /// Does not acknowledge messages while set.
    pub paused: bool,
    pub messages: Vec<Message>,
    /// QoS 2, before PUBREL.
    held: BTreeMap<u16, Message>,
    pub received: Vec<Vec<u8>>,
    /// The server has closed, with the reason of its DISCONNECT if there was one.
    pub ended: Option<Option<u8>>,
    goodbye: Option<u8>,
}

impl Client {
    /// Connects; the server must accept.
    #[track_caller]
    pub fn connect(to: SocketAddr, version: Version, how: &Connect<'_>) -> (Self, ConnAck) {
        let (client, answer) = Self::try_connect(to, version, how);
        let connack = answer.expect("an answer to CONNECT");
        assert_eq!(connack.code, 0, "CONNECT is accepted");
        (client, connack)
    }

    pub fn try_connect(to: SocketAddr, version: Version, how: &Connect<'_>) -> (Self, Option<ConnAck>) {
        let mut this = Self {
            socket: Socket::open(to),
            version,
            next_id: 0,
            paused: false,
            messages: Vec::new(),
            held: BTreeMap::new(),
            received: Vec::new(),
            ended: None,
            goodbye: None,
        };
        this.socket.send(&how.packet(version));
        let connack = match this.socket.receive() {
            Came::Packet(packet) => {
                assert_eq!(packet[0], 0x20, "CONNACK comes first, not {}", hex(&packet));
                let body = body(&packet);
                let properties = if version == Version::V5 { &body[2..] } else { &[0] };
                let (len, at) = varint(properties).expect("a property length");
                let properties = properties[at..at + len].to_vec();
                Some(ConnAck { session_present: body[0] == 1, code: body[1], properties })
            }
            _ => None,
        };
        (this, connack)
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).expect("enough ids for a test");
        self.next_id
    }

    /// Sends a PUBLISH and does not wait; its packet id.
    pub fn send_publish(&mut self, topic: &str, payload: &[u8], qos: u8, retain: bool, with: &[u8]) -> u16 {
        let id = if qos > 0 { self.id() } else { 0 };
        let mut body = Vec::new();
        text(&mut body, topic.as_bytes());
        if qos > 0 {
            body.extend(id.to_be_bytes());
        }
        properties(self.version, &mut body, with);
        body.extend(payload);
        self.socket.send(&packet(0x30 | qos << 1 | u8::from(retain), &body));
        id
    }

    /// Publishes and waits for the last acknowledgement of the QoS.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, retain: bool, with: &[u8]) {
        let id = self.send_publish(topic, payload, qos, retain, with);
        match qos {
            0 => {}
            1 => self.wait_for_answer(0x40, id),
            _ => {
                self.wait_for_answer(0x50, id);
                self.socket.send(&packet(0x62, &id.to_be_bytes()));
                self.wait_for_answer(0x70, id);
            }
        }
    }

    /// Subscribes; the codes of SUBACK.
    #[track_caller]
    pub fn subscribe(&mut self, filters: &[(&str, u8)], with: &[u8]) -> Vec<u8> {
        let id = self.id();
        let mut body = id.to_be_bytes().to_vec();
        properties(self.version, &mut body, with);
        for (filter, options) in filters {
            text(&mut body, filter.as_bytes());
            body.push(*options);
        }
        self.socket.send(&packet(0x82, &body));
        let skip = if self.version == Version::V5 { 3 } else { 2 };
        self.answer(0x90, id)[skip..].to_vec()
    }

    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) {
        let id = self.id();
        let mut body = id.to_be_bytes().to_vec();
        properties(self.version, &mut body, &[]);
        text(&mut body, filter.as_bytes());
        self.socket.send(&packet(0xA2, &body));
        self.wait_for_answer(0xB0, id);
    }

    #[track_caller]
    fn wait_for_answer(&mut self, first: u8, id: u16) {
        self.answer(first, id);
    }

    /// The body of the answer to packet `id`.
    #[track_caller]
    fn answer(&mut self, first: u8, id: u16) -> Vec<u8> {
        let is_it = |packet: &Vec<u8>| packet[0] == first && body(packet).starts_with(&id.to_be_bytes());
        self.until(&format!("an answer {first:02X} to {id}"), |client| client.received.iter().any(is_it));
        let at = self.received.iter().position(is_it).expect("just seen");
        let packet = self.received.remove(at);
        body(&packet).to_vec()
    }

    /// Takes what comes until `condition` holds.
    #[track_caller]
    pub fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(self.ended.is_none(), "closed ({:?}) instead of {what}", self.ended);
            let left = end.saturating_duration_since(Instant::now());
            assert!(self.take_within(left), "never came: {what}; {:?} {:?}", self.messages, self.received);
        }
    }

    /// Waits for so many messages.
    #[track_caller]
    pub fn wait_for_messages(&mut self, count: usize) {
        self.until(&format!("{count} messages"), |client| client.messages.len() >= count);
    }

    #[track_caller]
    pub fn wait_for_end(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.ended.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            assert!(self.take_within(left), "the server does not close");
        }
    }

    /// Everything that others had caused before has come after this: two round trips, see `runner`. And what it made
    /// this client answer has been taken.
    #[track_caller]
    pub fn settle(&mut self) {
        for _ in 0..3 {
            let pings = |client: &Self| client.received.iter().filter(|p| p[0] == 0xD0).count();
            let before = pings(self);
            self.socket.send(&[0xC0, 0]);
            self.until("an answer to a ping", |client| pings(client) > before);
        }
        self.received.retain(|packet| packet[0] != 0xD0);
    }

    /// Says goodbye, with properties in version 5, and waits for the close.
    #[track_caller]
    pub fn disconnect(mut self, with: &[u8]) {
        if with.is_empty() {
            self.socket.send(&[0xE0, 0]);
        } else {
            let mut body = vec![0];
            properties(self.version, &mut body, with);
            self.socket.send(&packet(0xE0, &body));
        }
        self.wait_for_end();
        assert_eq!(self.ended, Some(None), "closed without a word");
    }

    /// Takes one packet; `false` = none came.
    fn take_within(&mut self, time: Duration) -> bool {
        match self.socket.receive_within(time) {
            Came::Silence => return false,
            Came::Closed { .. } => self.ended = Some(self.goodbye),
            Came::Packet(packet) => self.take(packet),
        }
        true
    }

    fn take(&mut self, bytes: Vec<u8>) {
        match bytes[0] >> 4 {
            3 => self.take_publish(&bytes),
            6 => {
                let id = [bytes[2], bytes[3]];
                if let Some(message) = self.held.remove(&u16::from_be_bytes(id)) {
                    self.messages.push(message);
                }
                self.socket.send(&packet(0x70, &id));
            }
            14 => self.goodbye = Some(body(&bytes).first().copied().unwrap_or(0)),
            _ => self.received.push(bytes),
        }
    }

    fn take_publish(&mut self, bytes: &[u8]) {
        let message = self.message(bytes);
        if self.paused {
            return;
        }
        let id = message.id.to_be_bytes();
        match message.qos {
            0 => self.messages.push(message),
            1 => {
                self.messages.push(message);
                self.socket.send(&packet(0x40, &id));
            }
            _ => {
                self.held.insert(message.id, message);
                self.socket.send(&packet(0x50, &id));
            }
        }
    }

    fn message(&self, bytes: &[u8]) -> Message {
        let qos = bytes[0] >> 1 & 3;
        let body = body(bytes);
        let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let mut at = 2 + usize::from(number(0));
        let topic = String::from_utf8(body[2..at].to_vec()).expect("a topic is UTF-8");
        let id = if qos > 0 { number(at) } else { 0 };
        at += if qos > 0 { 2 } else { 0 };
        let mut properties = Vec::new();
        if self.version == Version::V5 {
            let (len, header) = varint(&body[at..]).expect("a property length");
            at += header;
            properties = body[at..at + len].to_vec();
            at += len;
        }
        let (retain, dup) = (bytes[0] & 1 != 0, bytes[0] & 8 != 0);
        Message { topic, payload: body[at..].to_vec(), qos, retain, dup, id, properties }
    }
}

fn body(packet: &[u8]) -> &[u8] {
    let (_, header) = varint(&packet[1..]).expect("a whole packet");
    &packet[1 + header..]
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    put_varint(body.len(), &mut out);
    out.extend(body);
    out
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u16::try_from(bytes.len()).expect("short").to_be_bytes());
    out.extend(bytes);
}

fn properties(version: Version, out: &mut Vec<u8>, properties: &[u8]) {
    if version == Version::V5 {
        put_varint(properties.len(), out);
        out.extend(properties);
    }
}
