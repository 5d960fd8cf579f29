//! A small MQTT 3.1.1 client over a plain socket: it does what the test says, also what a good client would not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a server sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet {
    ConnAck { session_present: bool, code: u8 },
    Publish { topic: String, payload: Vec<u8>, qos: u8, retain: bool, dup: bool, id: u16 },
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16),
    PingResp,
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct Connect<'a> {
    pub client_id: &'a str,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub login: Option<(&'a str, &'a str)>,
    /// topic, payload, QoS, retain
    pub will: Option<(&'a str, &'a [u8], u8, bool)>,
}

impl<'a> Connect<'a> {
    pub fn id(client_id: &'a str) -> Self {
        Self { client_id, clean: true, keep_alive_s: 0, login: None, will: None }
    }

    pub fn persistent(self) -> Self {
        Self { clean: false, ..self }
    }

    pub fn login(self, user: &'a str, password: &'a str) -> Self {
        Self { login: Some((user, password)), ..self }
    }

    pub fn will(self, topic: &'a str, payload: &'a [u8], qos: u8, retain: bool) -> Self {
        Self { will: Some((topic, payload, qos, retain)), ..self }
    }
}

/// What a client may speak through: TCP, or something around it.
pub trait Socket: Read + Write + Send {}

impl<S: Read + Write + Send> Socket for S {}

/// A connected client.
pub struct Client {
    socket: Box<dyn Socket>,
    buffer: Vec<u8>,
    next_id: u16,
    /// Publishes that arrived while something else was awaited.
    pub inbox: Vec<Packet>,
}

/// A socket with the patience of a test.
pub fn tcp(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).expect("the MQTT listener accepts");
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend(bytes);
}

/// A whole packet: first byte, remaining length, body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut rest = body.len();
    loop {
        let digit = (rest % 128) as u8;
        rest /= 128;
        out.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

/// A PUBLISH packet.
pub fn publish(topic: &str, payload: &[u8], qos: u8, retain: bool, dup: bool, id: u16) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic.as_bytes());
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(payload);
    packet(0x30 | u8::from(dup) << 3 | qos << 1 | u8::from(retain), &body)
}

impl Client {
    /// Opens a socket and sends nothing.
    pub fn socket(to: SocketAddr) -> Self {
        Self::over(tcp(to))
    }

    /// On a socket that is open.
    pub fn over(socket: impl Socket + 'static) -> Self {
        Self { socket: Box::new(socket), buffer: Vec::new(), next_id: 0, inbox: Vec::new() }
    }

    /// Connects and returns the server's answer with the client.
    pub fn try_connect(to: SocketAddr, how: &Connect<'_>) -> (Self, Option<Packet>) {
        let mut client = Self::socket(to);
        let answer = client.log_in(how);
        (client, answer)
    }

    /// Sends CONNECT; the server's answer.
    pub fn log_in(&mut self, how: &Connect<'_>) -> Option<Packet> {
        let mut body = Vec::new();
        text(&mut body, b"MQTT");
        let mut flags = u8::from(how.clean) << 1;
        if let Some((_, _, qos, retain)) = how.will {
            flags |= 0x04 | qos << 3 | u8::from(retain) << 5;
        }
        if how.login.is_some() {
            flags |= 0xC0;
        }
        body.extend([4, flags]);
        body.extend(how.keep_alive_s.to_be_bytes());
        text(&mut body, how.client_id.as_bytes());
        if let Some((topic, payload, _, _)) = how.will {
            text(&mut body, topic.as_bytes());
            text(&mut body, payload);
        }
        if let Some((user, password)) = how.login {
            text(&mut body, user.as_bytes());
            text(&mut body, password.as_bytes());
        }
        self.send(&packet(0x10, &body));
        self.receive()
    }

    /// Connects; the server must accept. Also says whether it had a session.
    pub fn connect(to: SocketAddr, how: &Connect<'_>) -> (Self, bool) {
        match Self::try_connect(to, how) {
            (client, Some(Packet::ConnAck { session_present, code: 0 })) => (client, session_present),
            (_, other) => panic!("{how:?} was answered by {other:?}"),
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        // A closed connection shows at the next receive.
        let _ = self.socket.write_all(bytes).and_then(|()| self.socket.flush());
    }

    /// A packet id not used before by this client.
    pub fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// The next packet; `None` = the server closed the connection.
    pub fn receive(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, used)) = decode(&self.buffer) {
                self.buffer.drain(..used);
                return Some(packet);
            }
            let mut chunk = [0; 65536];
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // The last two: TLS was ended by an alert, or without a word.
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::ConnectionReset
                            | ErrorKind::BrokenPipe
                            | ErrorKind::InvalidData
                            | ErrorKind::UnexpectedEof
                    ) =>
                {
                    return None;
                }
                Err(e) => panic!("nothing was received within 20 s: {e}"),
            }
        }
    }

    /// The next packet that is not a publish; publishes go to the inbox (and are acknowledged).
    pub fn answer(&mut self) -> Option<Packet> {
        loop {
            match self.receive() {
                Some(p @ Packet::Publish { .. }) => {
                    self.acknowledge(&p);
                    self.inbox.push(p);
                }
                Some(Packet::PubRel(id)) => self.send(&packet(0x70, &id.to_be_bytes())),
                other => return other,
            }
        }
    }

    /// Sends what the publish's QoS demands.
    pub fn acknowledge(&mut self, publish: &Packet) {
        match publish {
            Packet::Publish { qos: 1, id, .. } => self.send(&packet(0x40, &id.to_be_bytes())),
            Packet::Publish { qos: 2, id, .. } => self.send(&packet(0x50, &id.to_be_bytes())),
            _ => {}
        }
    }

    /// The next publish, fully acknowledged up to its QoS.
    pub fn next_publish(&mut self) -> Packet {
        if !self.inbox.is_empty() {
            return self.inbox.remove(0);
        }
        loop {
            match self.receive() {
                Some(p @ Packet::Publish { .. }) => {
                    self.acknowledge(&p);
                    if let Packet::Publish { qos: 2, id, .. } = p {
                        self.release(id);
                    }
                    return p;
                }
                Some(Packet::PubRel(id)) => self.send(&packet(0x70, &id.to_be_bytes())),
                Some(_) => {}
                None => panic!("the server closed the connection instead of sending a publish"),
            }
        }
    }

    /// Waits for the release of a QoS 2 publish and completes it; what comes in between goes to the inbox.
    fn release(&mut self, id: u16) {
        loop {
            match self.receive() {
                Some(Packet::PubRel(got)) => {
                    self.send(&packet(0x70, &got.to_be_bytes()));
                    if got == id {
                        return;
                    }
                }
                Some(other @ Packet::Publish { .. }) => {
                    self.acknowledge(&other);
                    self.inbox.push(other);
                }
                other => panic!("the release of {id} was expected, not {other:?}"),
            }
        }
    }

    /// Publishes and waits until the server has acknowledged to the end.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: u8) {
        assert!(self.try_publish(topic, payload, qos), "the server closed the connection instead of acknowledging");
    }

    /// Publishes and waits for the acknowledgement; `false` = the connection was closed instead.
    pub fn try_publish(&mut self, topic: &str, payload: &[u8], qos: u8) -> bool {
        let id = self.id();
        self.send(&publish(topic, payload, qos, false, false, id));
        match qos {
            0 => true,
            1 => self.answer() == Some(Packet::PubAck(id)),
            _ => {
                if self.answer() != Some(Packet::PubRec(id)) {
                    return false;
                }
                self.send(&packet(0x62, &id.to_be_bytes()));
                self.answer() == Some(Packet::PubComp(id))
            }
        }
    }

    /// Subscribes; the granted QoS or 0x80.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        let id = self.id();
        let mut body = id.to_be_bytes().to_vec();
        text(&mut body, filter.as_bytes());
        body.push(qos);
        self.send(&packet(0x82, &body));
        match self.answer() {
            Some(Packet::SubAck(got, codes)) if got == id && codes.len() == 1 => codes[0],
            other => panic!("SUBSCRIBE was answered by {other:?}"),
        }
    }

    /// A round trip: everything sent before has been read by the server.
    pub fn ping(&mut self) {
        self.send(&packet(0xC0, &[]));
        assert_eq!(self.answer(), Some(Packet::PingResp));
    }

    /// Leaves in good order.
    pub fn disconnect(mut self) {
        self.send(&packet(0xE0, &[]));
        while self.receive().is_some() {}
    }
}

fn decode(bytes: &[u8]) -> Option<(Packet, usize)> {
    let (mut length, mut at) = (0usize, 1);
    loop {
        let digit = *bytes.get(at)?;
        length |= usize::from(digit & 0x7F) << (7 * (at - 1));
        at += 1;
        if digit & 0x80 == 0 {
            break;
        }
    }
    let body = bytes.get(at..at + length)?;
    let id = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let packet = match bytes[0] >> 4 {
        2 => Packet::ConnAck { session_present: body[0] & 1 == 1, code: body[1] },
        3 => {
            let qos = bytes[0] >> 1 & 3;
            let topic_end = 2 + usize::from(id(0));
            let payload_at = topic_end + if qos > 0 { 2 } else { 0 };
            Packet::Publish {
                topic: String::from_utf8(body[2..topic_end].to_vec()).unwrap(),
                payload: body[payload_at..].to_vec(),
                qos,
                retain: bytes[0] & 1 == 1,
                dup: bytes[0] & 8 == 8,
                id: if qos > 0 { id(topic_end) } else { 0 },
            }
        }
        4 => Packet::PubAck(id(0)),
        5 => Packet::PubRec(id(0)),
        6 => Packet::PubRel(id(0)),
        7 => Packet::PubComp(id(0)),
        9 => Packet::SubAck(id(0), body[2..].to_vec()),
        11 => Packet::UnsubAck(id(0)),
        13 => Packet::PingResp,
        other => panic!("the server sent a packet of type {other}"),
    };
    Some((packet, at + length))
}
