//! The fixed header (section 2.1): where a packet ends, before anything else is known of it.
//!
//! Invariant: nothing is taken from the buffer before the whole packet is there.

use bytes::{Buf, Bytes, BytesMut};

use super::{Error, Version};

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
        let mut body_len = 0_usize;
        for (i, &byte) in buf[1..].iter().take(4).enumerate() {
            body_len |= usize::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                return Ok(Some(Self { first, header_len: i + 2, body_len, is_minimal: i == 0 || byte != 0 }));
            }
        }
        if buf.len() > 4 { Err(Error::Malformed("remaining length of more than four bytes")) } else { Ok(None) }
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
        0 => return Err(Error::Malformed("reserved packet type")),
        3 => return Ok(()),
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if first & 0x0f == expected { Ok(()) } else { Err(Error::Malformed("reserved flags of the fixed header")) }
}
