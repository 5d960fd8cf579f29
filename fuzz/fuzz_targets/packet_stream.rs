//! Arbitrary bytes as the stream of a connection, in pieces.
//!
//! The first byte says how: bit 0 the version, bit 1 whether the stream begins with a CONNECT (which then says the
//! version), bit 2 who sends, the other five the size of a piece. Whatever comes: nothing panics, how the stream was cut
//! changes nothing, waiting for more bytes takes none away, and what has been decoded encodes to bytes that decode to the
//! same again.
#![no_main]

use std::fmt::Debug;

use iot_meter_fuzz::mqtt::Packet;
use iot_meter_fuzz::mqtt::codec::{Error, Version, decode_connect};
use libfuzzer_sys::fuzz_target;

use bytes::BytesMut;

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
/// Small, so that the limit is met.
const MAX_SIZE: usize = 600;

fuzz_target!(|data: &[u8]| {
    let Some((&how, stream)) = data.split_first() else { return };
    let version = VERSIONS[usize::from(how & 1) % VERSIONS.len()];
    let begins = how & 2 != 0;
    let decode = if how & 4 == 0 { Version::decode } else { Version::decode_server };
    let in_pieces = read(version, decode, begins, stream.chunks(usize::from(how >> 3) + 1));
    let at_once = read(version, decode, begins, std::iter::once(stream));
    assert_eq!(in_pieces, at_once, "the pieces made a difference");
    in_pieces.packets.iter().for_each(|(version, packet)| comes_back(*version, decode, packet));
});

/// All that was made of a stream.
#[derive(PartialEq, Debug)]
struct Seen {
    packets: Vec<(Version, Packet)>,
    /// In words: the two decoders have errors of their own.
    error: Option<String>,
    /// Bytes of a packet that has not come whole.
    left: usize,
}

type Decode = fn(Version, &mut BytesMut, usize) -> Result<Option<Packet>, Error>;

fn read<'a>(mut version: Version, decode: Decode, mut begins: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let mut seen = Seen { packets: Vec::new(), error: None, left: 0 };
    let mut buf = BytesMut::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            let before = buf.len();
            let next = if begins { first(&mut buf) } else { next(version, decode, &mut buf) };
            match next {
                Ok(Some((of, packet))) => {
                    assert!(buf.len() < before, "a packet of no bytes: {packet:?}");
                    (version, begins) = (of, false);
                    seen.packets.push((of, packet));
                }
                Ok(None) => {
                    assert_eq!(buf.len(), before, "bytes were taken while waiting for more");
                    assert!(before < MAX_SIZE, "a packet within the limit was not taken");
                    break;
                }
                Err(error) => {
                    seen.error = Some(error);
                    return seen;
                }
            }
        }
    }
    seen.left = buf.len();
    seen
}

type Next = Result<Option<(Version, Packet)>, String>;

fn first(buf: &mut BytesMut) -> Next {
    let first = decode_connect(buf, MAX_SIZE).map_err(in_words)?;
    Ok(first.map(|(version, connect)| (version, Packet::Connect(Box::new(connect)))))
}

fn next(version: Version, decode: Decode, buf: &mut BytesMut) -> Next {
    Ok(decode(version, buf, MAX_SIZE).map_err(in_words)?.map(|packet| (version, packet)))
}

fn in_words(error: impl Debug) -> String {
    format!("{error:?}")
}

fn comes_back(version: Version, decode: Decode, packet: &Packet) {
    // A CONNECT never comes from a server, and of an AUTH only its reason is kept.
    if matches!(packet, Packet::Auth(_)) {
        return;
    }
    let decode = if matches!(packet, Packet::Connect(_)) { Version::decode } else { decode };
    let mut bytes = Vec::new();
    version.encode(packet, &mut bytes);
    let mut buf = BytesMut::from(&bytes[..]);
    let again = decode(version, &mut buf, usize::MAX);
    assert!(matches!(&again, Ok(Some(again)) if again == packet), "{packet:?} came back as {again:?}");
    if let Packet::Publish(publish) = packet {
        assert_eq!(version.publish_len(publish), bytes.len());
    }
    assert!(buf.is_empty(), "{} bytes too many for {packet:?}", buf.len());
}
