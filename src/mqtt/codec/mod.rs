//! Bytes ⇄ packets, by protocol version; the version is chosen by each CONNECT.
//!
//! Invariants: no input panics; a packet larger than the limit is refused as soon as its length has been read, and
//! memory is taken for bytes that came, never for a length that was declared; what is not exactly as the specification
//! says is an [`Error`], with the reason code that tells it.
//!
//! The codec is our own because the public one we looked at (`rmqtt-codec` 0.3) accepts what must close the connection
//! (reserved bits of the requested QoS, bytes behind the end of CONNECT and PINGREQ, a password without a user name,
//! DUP at QoS 0, U+0000), cannot tell the refusals of CONNECT apart from garbage early enough to answer, reserves the
//! declared length up front and boxes every PUBLISH.
//!
//! 3.1.1 and 5 are read and written by the same code: what version 5 adds stands behind one `if` where it belongs.
//! Statement numbers are those of MQTT 5.0; those of 3.1.1 are marked so. Which packets may come when is the session's
//! matter, not known here.

mod connect;
mod decode;
mod encode;
mod frame;
mod properties;
mod read;
mod reasons;
mod server;
mod subscribe;
mod write;

use bytes::BytesMut;

use self::frame::Frame;
use super::packet::{Connect, Packet, Publish, Reason};

/// A protocol version this codec speaks. MQTT 3.1, level 3 of `MQIsdp`, differs in its CONNECT alone: from there on it is
/// 3.1.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The bytes cannot be read as a packet.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// The packet can be read, and what it says is forbidden.
    #[error("forbidden packet: {1} ({0:?})")]
    Protocol(Reason, &'static str),
    /// It is answered by closing alone, in either version; which faults these are is as other servers have it.
    #[error("malformed packet: {0}")]
    Unanswered(&'static str),
    /// The packet is larger than allowed.
    #[error("packet of {size} bytes, the limit is {max}")]
    TooLarge {
        /// Whole packet in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A CONNECT that is understood and refused.
    #[error("connect refused: {0:?}")]
    Refused(Reason),
}

impl Error {
    /// What to tell the peer before closing (section 4.13), if anything; 3.1.1 has no words for it.
    pub const fn told(&self) -> Option<Reason> {
        match self {
            Self::Unanswered(_) => None,
            other => Some(other.reason()),
        }
    }

    /// What it is.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Malformed(_) | Self::Unanswered(_) => Reason::MalformedPacket,
            Self::Protocol(reason, _) | Self::Refused(reason) => *reason,
            Self::TooLarge { .. } => Reason::PacketTooLarge,
        }
    }
}

/// Why a connection's first packet is not a CONNECT to go on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{error}")]
pub struct ConnectError {
    /// The version whose form an answer has; `None` = not known, nothing can be said.
    pub version: Option<Version>,
    /// What is wrong.
    pub error: Error,
}

impl ConnectError {
    /// The CONNACK to send before closing, as version and reason. `None` = close without a word: the peer does not
    /// speak MQTT, or broke the rules of 3.1.1 `[MQTT-3.1.4-1]` (3.1.1).
    pub fn answer(&self) -> Option<(Version, Reason)> {
        let is_told = matches!(self.error, Error::Refused(_));
        let version = self.version.filter(|v| is_told || *v == Version::V5)?;
        Some((version, self.error.told()?))
    }
}

/// Who has sent a packet: some are for one direction only, some differ by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sender {
    Client,
    Server,
}

/// A rule is broken that has no reason code of its own.
const fn protocol_error(what: &'static str) -> Error {
    Error::Protocol(Reason::ProtocolError, what)
}

/// Takes a connection's first packet from the front of `buf`; `None` = more bytes are needed. Anything but CONNECT is
/// refused `[MQTT-3.1.0-1]`, known from its first byte.
pub fn decode_connect(buf: &mut BytesMut, max_size: usize) -> Result<Option<(Version, Connect)>, ConnectError> {
    let unknown = |error| ConnectError { version: None, error };
    match buf.first() {
        None => return Ok(None),
        Some(first) if first >> 4 == 1 => {}
        Some(_) => return Err(unknown(Error::Malformed("the first packet is not CONNECT"))),
    }
    let Some(frame) = Frame::peek_connect(buf).map_err(unknown)? else { return Ok(None) };
    if let Err(error) = frame.check_size(max_size) {
        // Nothing more is awaited, also not what would tell whether its sender understands an answer.
        let version = buf[frame.header_len..].starts_with(connect::START_OF_V5).then_some(Version::V5);
        return Err(ConnectError { version, error });
    }
    if !frame.is_whole(buf) {
        return Ok(None);
    }
    let (version, connect) = connect::connect(frame.take(buf))?;
    frame.check_length(version).map_err(|error| ConnectError { version: Some(version), error })?;
    Ok(Some((version, connect)))
}

impl Version {
    /// Takes the next packet of a client from the front of `buf`; `None` = more bytes are needed.
    pub fn decode(self, buf: &mut BytesMut, max_size: usize) -> Result<Option<Packet>, Error> {
        self.next(Sender::Client, buf, max_size)
    }

    /// Takes the next packet of a server from the front of `buf`; `None` = more bytes are needed.
    pub fn decode_server(self, buf: &mut BytesMut, max_size: usize) -> Result<Option<Packet>, Error> {
        self.next(Sender::Server, buf, max_size)
    }

    fn next(self, sender: Sender, buf: &mut BytesMut, max_size: usize) -> Result<Option<Packet>, Error> {
        let Some(frame) = Frame::peek(buf)? else { return Ok(None) };
        frame.check_length(self)?;
        frame.check_size(max_size)?;
        if frame.is_whole(buf) { decode::packet(self, sender, frame, buf).map(Some) } else { Ok(None) }
    }

    /// Appends a packet's bytes to `out`. What a version has no form for is left out: properties in 3.1.1, and AUTH as a
    /// whole. A DISCONNECT is that of a client in 3.1.1, where servers have none.
    pub fn encode(self, packet: &Packet, out: &mut Vec<u8>) {
        encode::packet(self, packet, out);
    }

    /// How many bytes [`Self::encode`] appends for a PUBLISH.
    pub fn publish_len(self, publish: &Publish) -> usize {
        encode::publish_len(self, publish)
    }
}

#[cfg(test)]
mod tests;
