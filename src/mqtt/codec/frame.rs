//! The fixed header (section 2.1): where a packet ends, before anything else is known of it.
//!
//! Invariant: nothing is taken from the buffer before the whole packet is there.

use bytes::{Buf, Bytes, BytesMut};

use super::connect::START_OF_V31;
use super::{Error, Version, protocol_error};

/// The packet that stands at the front of a buffer, perhaps not yet whole.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub first: u8,
    pub header_len: usize,
    pub body_len: usize,
    /// Its length is written in as few bytes as it takes.
    is_minimal: bool,
}

impl Frame {
    /// `None` = the header is not whole yet.
    pub fn peek(buf: &[u8]) -> Result<Option<Self>, Error> {
        let Some(&first) = buf.first() else { return Ok(None) };
        check_flags(first)?;
        Self::measure(first, buf)
    }

    /// The same for a CONNECT, whose flags have no meaning in MQTT 3.1.
    pub fn peek_connect(buf: &[u8]) -> Result<Option<Self>, Error> {
        let Some(&first) = buf.first() else { return Ok(None) };
        let Some(frame) = Self::measure(first, buf)? else { return Ok(None) };
        let start = &buf[frame.header_len..];
        let is_v31 = start.iter().zip(START_OF_V31).all(|(a, b)| a == b);
        if is_v31 { Ok(Some(frame)) } else { check_flags(first).map(|()| Some(frame)) }
    }

    fn measure(first: u8, buf: &[u8]) -> Result<Option<Self>, Error> {
        let mut body_len = 0_usize;
        for (i, &byte) in buf[1..].iter().take(4).enumerate() {
            body_len |= usize::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                return Ok(Some(Self { first, header_len: i + 2, body_len, is_minimal: i == 0 || byte != 0 }));
            }
        }
        // Where the packet ends, and what follows it, is not known.
        if buf.len() > 4 { Err(Error::Unanswered("remaining length of more than four bytes")) } else { Ok(None) }
    }

    /// 3.1.1 does not ask for the shortest form.
    pub fn check_length(self, version: Version) -> Result<(), Error> {
        match version {
            Version::V5 if !self.is_minimal => Err(Error::Malformed("remaining length in too many bytes")), // [MQTT-1.5.5-1]
            _ => Ok(()),
        }
    }

    pub fn check_size(self, max: usize) -> Result<(), Error> {
        let size = self.header_len + self.body_len;
        if size > max { Err(Error::TooLarge { size, max }) } else { Ok(()) }
    }

    pub fn is_whole(self, buf: &[u8]) -> bool {
        buf.len() >= self.header_len + self.body_len
    }

    /// Cuts the packet off and gives its body.
    pub fn take(self, buf: &mut BytesMut) -> Bytes {
        let mut body = buf.split_to(self.header_len + self.body_len).freeze();
        body.advance(self.header_len);
        body
    }
}

/// The flags are given for every type but PUBLISH `[MQTT-2.1.3-1]`; `[MQTT-2.2.2-1]`, `[MQTT-2.2.2-2]` (3.1.1).
fn check_flags(first: u8) -> Result<(), Error> {
    let expected = match first >> 4 {
        0 => return Err(protocol_error("reserved packet type")),
        3 => return Ok(()),
        6 | 8 | 10 => 2,
        _ => 0,
    };
    match first >> 4 {
        _ if first & 0x0f == expected => Ok(()),
        2 | 15 => Err(protocol_error("a packet that must not come, with reserved flags")),
        _ => Err(Error::Malformed("reserved flags of the fixed header")),
    }
}
