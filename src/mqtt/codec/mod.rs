//! Bytes ⇄ packets, by protocol version; the version is chosen by each CONNECT.
//!
//! Invariants: no input panics; a packet larger than the limit is refused as soon as its length has been read, and
//! memory is taken for bytes that came, never for a length that was declared; what is not exactly as the specification
//! says is [`Error::Malformed`].
//!
//! The 3.1.1 codec is our own because the public one we looked at (`rmqtt-codec` 0.3) accepts what must close the
//! connection (reserved bits of the requested QoS, bytes behind the end of CONNECT and PINGREQ, a password without a
//! user name, DUP at QoS 0, U+0000), cannot tell the refusals of CONNECT apart from garbage early enough to answer,
//! reserves the declared length up front and boxes every PUBLISH. Version 5 will be another file here.

mod decode;
mod encode;

use bytes::{Buf, Bytes, BytesMut};

use super::packet::{Connect, ConnectCode, Packet};

/// A protocol version this codec speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The specification is broken; close the connection without an answer `[MQTT-4.8.0-1]`.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// The packet is larger than allowed.
    #[error("packet of {size} bytes, the limit is {max}")]
    TooLarge {
        /// Whole packet in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A CONNECT that is understood and refused: answer with this code, then close.
    #[error("connect refused: {0:?}")]
    Refused(ConnectCode),
}

/// Takes a connection's first packet from the front of `buf`; `None` = more bytes are needed. Anything but CONNECT is
/// malformed `[MQTT-3.1.0-1]`, known from its first byte.
pub fn decode_connect(buf: &mut BytesMut, max_size: usize) -> Result<Option<(Version, Connect)>, Error> {
    match buf.first() {
        None => return Ok(None),
        Some(0x10) => {}
        Some(_) => return Err(Error::Malformed("the first packet is not CONNECT")),
    }
    let Some(frame) = Frame::peek(buf, max_size)? else { return Ok(None) };
    decode::connect(frame.take(buf)).map(Some)
}

impl Version {
    /// Takes the next packet of a client from the front of `buf`; `None` = more bytes are needed.
    pub fn decode(self, buf: &mut BytesMut, max_size: usize) -> Result<Option<Packet>, Error> {
        let Some(frame) = Frame::peek(buf, max_size)? else { return Ok(None) };
        match self {
            Self::V311 => decode::packet(frame, buf).map(Some),
        }
    }

    /// Appends a packet's bytes to `out`.
    pub fn encode(self, packet: &Packet, out: &mut Vec<u8>) {
        match self {
            Self::V311 => encode::packet(packet, out),
        }
    }
}

/// A whole packet that stands at the front of a buffer.
#[derive(Clone, Copy)]
struct Frame {
    first: u8,
    header_len: usize,
    body_len: usize,
}

impl Frame {
    fn peek(buf: &[u8], max_size: usize) -> Result<Option<Self>, Error> {
        let Some(&first) = buf.first() else { return Ok(None) };
        check_flags(first)?;
        let mut body_len = 0_usize;
        for (i, &byte) in buf[1..].iter().take(4).enumerate() {
            body_len |= usize::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                let header_len = i + 2;
                let size = header_len + body_len;
                if size > max_size {
                    return Err(Error::TooLarge { size, max: max_size });
                }
                return Ok((buf.len() >= size).then_some(Self { first, header_len, body_len }));
            }
        }
        if buf.len() > 4 { Err(Error::Malformed("remaining length of more than four bytes")) } else { Ok(None) }
    }

    /// Cuts the packet off and gives its body.
    fn take(self, buf: &mut BytesMut) -> Bytes {
        let mut body = buf.split_to(self.header_len + self.body_len).freeze();
        body.advance(self.header_len);
        body
    }
}

/// The flags of the fixed header are given for every type but PUBLISH `[MQTT-2.2.2-1]`, `[MQTT-2.2.2-2]`.
fn check_flags(first: u8) -> Result<(), Error> {
    let expected = match first >> 4 {
        0 | 15 => return Err(Error::Malformed("reserved packet type")),
        3 => return Ok(()),
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if first & 0x0f == expected { Ok(()) } else { Err(Error::Malformed("reserved flags of the fixed header")) }
}

#[cfg(test)]
mod tests;
