//! The data types of the wire (section 1.5), read from the front of a packet's body.
//!
//! Invariant: what is read is a slice of the input; nothing is copied, and no length is believed.

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use super::{Error, Version, protocol_error};
use crate::mqtt::packet::{PacketId, Reason};
use crate::mqtt::topic;

/// What is left of a packet.
pub(super) struct Body(Bytes);

impl Body {
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of the rest.
    pub fn into_rest(self) -> Bytes {
        self.0
    }

    pub fn end(&self) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { Err(Error::Malformed("bytes behind the end")) }
    }

    pub fn u8(&mut self) -> Result<u8, Error> {
        self.0.try_get_u8().map_err(|_| CUT_SHORT)
    }

    pub fn u16(&mut self) -> Result<u16, Error> {
        self.0.try_get_u16().map_err(|_| CUT_SHORT)
    }

    pub fn u32(&mut self) -> Result<u32, Error> {
        self.0.try_get_u32().map_err(|_| CUT_SHORT)
    }

    /// A variable byte integer: four bytes at most (section 1.5.5), and no more than it takes `[MQTT-1.5.5-1]`.
    pub fn varint(&mut self) -> Result<u32, Error> {
        let mut value = 0;
        for i in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                let is_minimal = i == 0 || byte != 0;
                return if is_minimal { Ok(value) } else { Err(Error::Malformed("a number in too many bytes")) };
            }
        }
        Err(Error::Malformed("a number of more than four bytes"))
    }

    /// As many bytes as a variable byte integer says, as a body of their own.
    pub fn part(&mut self) -> Result<Self, Error> {
        let len = self.varint()? as usize;
        self.split(len).map(Self)
    }

    /// Not 0 `[MQTT-2.2.1-3]`; `[MQTT-2.3.1-1]` (3.1.1).
    pub fn packet_id(&mut self) -> Result<PacketId, Error> {
        PacketId::new(self.u16()?).ok_or(PACKET_ID_0)
    }

    pub fn binary(&mut self) -> Result<Bytes, Error> {
        let len = usize::from(self.u16()?);
        self.split(len)
    }

    /// UTF-8 without surrogates `[MQTT-1.5.4-1]` and without U+0000 `[MQTT-1.5.4-2]`; a U+FEFF stays where it is
    /// `[MQTT-1.5.4-3]`. In 3.1.1 these are `[MQTT-1.5.3-1]` to `[MQTT-1.5.3-3]`.
    pub fn text(&mut self) -> Result<ByteString, Error> {
        let text = ByteString::try_from(self.binary()?).map_err(|_| Error::Malformed("text that is not UTF-8"))?;
        if text.as_bytes().contains(&0) { Err(Error::Malformed("U+0000 in a text")) } else { Ok(text) }
    }

    /// A text that names something, for machines and in logs: control characters, which the specification lets a receiver
    /// refuse (section 1.5.4), are refused.
    pub fn name(&mut self) -> Result<ByteString, Error> {
        let text = self.text()?;
        // U+0080 to U+009F are C2 80 to C2 9F.
        let is_control =
            |pair: &[u8]| pair[0] < 0x20 || pair[0] == 0x7f || pair[0] == 0xc2 && pair.get(1) < Some(&0xa0);
        let bytes = text.as_bytes();
        let has_control = (0..bytes.len()).any(|at| is_control(&bytes[at..]));
        if has_control { Err(Error::Malformed("control character in a name")) } else { Ok(text) }
    }

    pub fn filter(&mut self, version: Version) -> Result<ByteString, Error> {
        let filter = self.name()?;
        let is_valid = match version {
            Version::V311 => topic::is_valid_filter,
            Version::V5 => topic::is_valid_subscription,
        };
        match is_valid(&filter) {
            true => Ok(filter),
            false if version == Version::V5 && topic::is_valid_filter(&filter) => {
                Err(protocol_error("shared subscription")) // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
            }
            false if topic::has_few_levels(&filter) => Err(Error::Malformed("topic filter")),
            false => Err(Error::Protocol(Reason::TopicFilterInvalid, "more levels of a filter than are taken")),
        }
    }

    fn split(&mut self, len: usize) -> Result<Bytes, Error> {
        if self.0.len() < len { Err(CUT_SHORT) } else { Ok(self.0.split_to(len)) }
    }
}

/// `[MQTT-3.3.2-2]`, `[MQTT-4.7.3-1]`.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    match topic::is_valid_name(name) {
        true => Ok(()),
        false if topic::has_few_levels(name) => Err(Error::Malformed("topic name")),
        false => Err(Error::Protocol(Reason::TopicNameInvalid, "more levels of a topic than are taken")),
    }
}

pub(super) const PACKET_ID_0: Error = protocol_error("packet id 0");

pub(super) const CUT_SHORT: Error = Error::Malformed("shorter than it says");
