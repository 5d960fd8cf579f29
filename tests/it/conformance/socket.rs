//! A TCP connection that speaks in packets: sends bytes as they are, cuts what comes at packet borders.
//!
//! Invariant: a packet is handed out exactly as it came. Knows the fixed header and no more.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Came {
    /// A whole packet.
    Packet(Vec<u8>),
    /// The other side has closed; what is left is no whole packet.
    Closed { left: Vec<u8> },
    /// Nothing within the time.
    Silence,
}

/// See the module.
pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Socket {
    pub fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("the MQTT listener accepts");
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// A closed connection shows at the next receive.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn receive(&mut self) -> Came {
        self.receive_within(PATIENCE)
    }

    pub fn receive_within(&mut self, time: Duration) -> Came {
        let end = std::time::Instant::now() + time;
        loop {
            if let Some(len) = packet_len(&self.buffer) {
                return Came::Packet(self.buffer.drain(..len).collect());
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Came::Silence;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Came::Closed { left: std::mem::take(&mut self.buffer) },
                Ok(n) => self.buffer.extend(&chunk[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Came::Closed { left: std::mem::take(&mut self.buffer) },
            }
        }
    }
}

/// Length of the first packet, when it is whole. A fifth length byte ends the number: the packet is garbage anyway.
fn packet_len(bytes: &[u8]) -> Option<usize> {
    let (body, header) = varint(bytes.get(1..)?)?;
    let len = 1 + header + body;
    (bytes.len() >= len).then_some(len)
}

/// A variable byte integer at the front of `bytes`, and its own length.
pub fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// Writes a variable byte integer.
pub fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    loop {
        let byte = (value % 128) as u8;
        value /= 128;
        out.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}

/// Bytes as hexadecimal text, for messages.
pub fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let text: Vec<String> = bytes.iter().take(SHOWN).map(|b| format!("{b:02X}")).collect();
    let more = if bytes.len() > SHOWN { format!(" … ({} bytes)", bytes.len()) } else { String::new() };
    format!("{}{more}", text.join(" "))
}
