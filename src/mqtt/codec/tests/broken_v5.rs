//! What MQTT 5 forbids, each with the reason code that tells it.

use super::*;
use Reason::{
    ClientIdentifierNotValid, MalformedPacket, ProtocolError, TopicAliasInvalid, TopicFilterInvalid, TopicNameInvalid,
};
use Sender::{Client, Server};

fn check_from(sender: Sender, what: &str, bytes: &[u8], reason: Reason) {
    let got = decode(Version::V5, sender, bytes);
    assert_eq!(got.as_ref().map_err(Error::reason), Err(reason), "{what}: {got:?}");
}

/// The connection is closed without a word.
fn check_silent(what: &str, bytes: &[u8]) {
    let got = decode(Version::V5, Client, bytes);
    assert_eq!(got.as_ref().map_err(Error::told), Err(None), "{what}: {got:?}");
}

fn check(what: &str, bytes: &[u8], reason: Reason) {
    check_from(Client, what, bytes, reason);
}

#[test]
fn headers_and_data_types() {
    check("type 0", b"\0\0", ProtocolError);
    check("type 0 with flags and a length that does not end", b"\x0a\xc0", ProtocolError);
    check("flags of PUBACK [MQTT-2.1.3-1]", b"\x41\x02\0\x01", MalformedPacket);
    check("flags of PUBREL [MQTT-3.6.1-1]", b"\x60\x02\0\x01", MalformedPacket);
    check("flags of SUBSCRIBE [MQTT-3.8.1-1]", b"\x80\x07\0\x01\0\0\x01a\0", MalformedPacket);
    check("flags of UNSUBSCRIBE [MQTT-3.10.1-1]", b"\xa0\x06\0\x01\0\0\x01a", MalformedPacket);
    check("flags of DISCONNECT [MQTT-3.14.1-1]", b"\xe1\0", MalformedPacket);
    check("flags of AUTH [MQTT-3.15.1-1]", b"\xf1\0", ProtocolError);
    check("flags of CONNACK [MQTT-2.1.3-1]", b"\x21\x03\0\0\0", ProtocolError);
    check_silent("remaining length of five bytes", b"\xc0\x80\x80\x80\x80\x01");
    check("remaining length in two bytes for one [MQTT-1.5.5-1]", b"\xc0\x80\0", MalformedPacket);
    check("remaining length in four bytes for one", b"\x40\x82\x80\x80\0", MalformedPacket);
    check("property length in two bytes for one [MQTT-1.5.5-1]", b"\x30\x05\0\x01a\x80\0", MalformedPacket);
    check("property length of five bytes", b"\x30\x08\0\x01a\x80\x80\x80\x80\x01", MalformedPacket);
    check("property length beyond the packet", b"\x30\x05\0\x01a\x02\x01", MalformedPacket);
    check("property length missing", b"\x30\x03\0\x01a", MalformedPacket);
    check("property identifier in two bytes", b"\x30\x07\0\x01a\x03\x81\0\x01", MalformedPacket);
    check("property beyond the property length", b"\x30\x09\0\x01a\x04\x02\0\0\0\0", MalformedPacket);
    check("not UTF-8 [MQTT-1.5.4-1]", b"\x30\x05\0\x02\xc3\x28\0", MalformedPacket);
    check("a surrogate [MQTT-1.5.4-1]", b"\x30\x06\0\x03\xed\xa0\x80\0", MalformedPacket);
    check("U+0000 [MQTT-1.5.4-2]", b"\x30\x04\0\x01\0\0", MalformedPacket);
    check("U+0000 in a user property", b"\x30\x0b\0\x01a\x07\x26\0\x01\0\0\x01b", MalformedPacket);
    check_silent("a body of PINGREQ", b"\xc0\x01x");
    check_silent("a body of PINGRESP", b"\xd0\x01x");
    check("CONNACK from a client", b"\x20\x03\0\0\0", ProtocolError);
    check("SUBACK from a client", b"\x90\x04\0\x01\0\0", ProtocolError);
    check("UNSUBACK from a client", b"\xb0\x04\0\x01\0\0", ProtocolError);
    check("PINGRESP from a client", b"\xd0\0", ProtocolError);
    check_from(Server, "CONNECT from a server", b"\x10\x0d\0\x04MQTT\x05\0\0\0\0\0\0", ProtocolError);
    check_from(Server, "PINGREQ from a server", b"\xc0\0", ProtocolError);
}

#[test]
fn a_connect() {
    let check = |what: &str, flags: u8, rest: &[u8], reason: Reason| {
        let got = first(&wire(0x10, &[b"\0\x04MQTT\x05", &[flags], b"\0\0", rest]));
        let answer = got.as_ref().err().and_then(ConnectError::answer);
        assert_eq!(answer, Some((Version::V5, reason)), "{what}: {got:?}");
    };
    check("reserved flag [MQTT-3.1.2-3]", 0x01, b"\0\0\0", MalformedPacket);
    check("will QoS without will [MQTT-3.1.2-11]", 0x08, b"\0\0\0", MalformedPacket);
    check("will QoS 3 [MQTT-3.1.2-12]", 0x1c, b"\0\0\0\0\0\x01w\0\0", MalformedPacket);
    check("will retain without will [MQTT-3.1.2-13]", 0x20, b"\0\0\0", MalformedPacket);
    check("will without topic", 0x04, b"\0\0\0\0\0\0\0\0", MalformedPacket);
    check("will topic with a wildcard", 0x04, b"\0\0\0\0\0\x01+\0\0", MalformedPacket);
    check("a client id that is not UTF-8", 0, b"\0\0\x01\xff", ClientIdentifierNotValid);
    check("a client id with U+0000", 0, b"\0\0\x01\0", ClientIdentifierNotValid);
    check("a client id with a control character", 0, b"\0\0\x01\x1f", ClientIdentifierNotValid);
    check("a client id that is cut short", 0, b"\0\0\x02a", MalformedPacket);
    check("bytes behind the end", 0, b"\0\0\0x", MalformedPacket);
    check("no client id [MQTT-3.1.3-3]", 0, b"\0", MalformedPacket);
    check("a property of PUBLISH", 0, b"\x03\x23\0\x01\0\0", ProtocolError);
    check("a property of wills", 0, b"\x05\x18\0\0\0\x01\0\0", ProtocolError);
    check("no property at all", 0, b"\x02\x7f\0\0\0", MalformedPacket);
    check("session expiry twice", 0, b"\x0a\x11\0\0\0\x01\x11\0\0\0\x01\0\0", ProtocolError);
    check("receive maximum 0", 0, b"\x03\x21\0\0\0\0", ProtocolError);
    check("receive maximum twice", 0, b"\x06\x21\0\x01\x21\0\x01\0\0", ProtocolError);
    check("maximum packet size 0", 0, b"\x05\x27\0\0\0\0\0\0", ProtocolError);
    check("maximum packet size twice", 0, b"\x0a\x27\0\0\0\x01\x27\0\0\0\x01\0\0", ProtocolError);
    check("topic alias maximum twice", 0, b"\x06\x22\0\x01\x22\0\x01\0\0", ProtocolError);
    check("response information 2", 0, b"\x02\x19\x02\0\0", ProtocolError);
    check("response information twice", 0, b"\x04\x19\0\x19\0\0\0", ProtocolError);
    check("problem information 2", 0, b"\x02\x17\x02\0\0", ProtocolError);
    check("problem information twice", 0, b"\x04\x17\0\x17\0\0\0", ProtocolError);
    check("authentication method twice", 0, b"\x08\x15\0\x01m\x15\0\x01m\0\0", ProtocolError);
    check("authentication data without method", 0, b"\x04\x16\0\x01d\0\0", ProtocolError);
    check("authentication data twice", 0, b"\x0c\x15\0\x01m\x16\0\x01d\x16\0\x01d\0\0", ProtocolError);
    check("will delay twice", 0x04, b"\0\0\0\x0a\x18\0\0\0\x01\x18\0\0\0\x01\0\x01w\0\0", ProtocolError);
    check("will format 2", 0x04, b"\0\0\0\x02\x01\x02\0\x01w\0\0", ProtocolError);
    check("response topic of a will [MQTT-3.3.2-14]", 0x04, b"\0\0\0\x04\x08\0\x01#\0\x01w\0\0", ProtocolError);
    check("session expiry in a will", 0x04, b"\0\0\0\x05\x11\0\0\0\x01\0\x01w\0\0", ProtocolError);
    check("topic alias in a will", 0x04, b"\0\0\0\x03\x23\0\x01\0\x01w\0\0", ProtocolError);
    let levels = [&b"\0\0\0\0\0\x80"[..], &[b'/'; 128], b"\0\0"].concat();
    let parts = [&b"\x10\x92\x01\0\x04MQTT\x05\x04\0\0"[..], &levels].concat();
    let answer = first(&parts).unwrap_err().answer();
    assert_eq!(answer, Some((Version::V5, TopicNameInvalid)), "a will topic of too many levels");
    let long = first(b"\x10\x8d\0\0\x04MQTT\x05\0\0\0\0\0\0").unwrap_err();
    assert_eq!(long.answer(), Some((Version::V5, MalformedPacket)), "remaining length [MQTT-1.5.5-1]");
}

#[test]
fn a_connect_whose_credentials_are_broken_is_not_answered() {
    let check = |what: &str, flags: u8, rest: &[u8]| {
        let got = first(&wire(0x10, &[b"\0\x04MQTT\x05", &[flags], b"\0\0\0\0\0", rest]));
        assert_eq!(got.as_ref().map_err(ConnectError::answer).err(), Some(None), "{what}: {got:?}");
    };
    check("no user name [MQTT-3.1.2-17]", 0x80, b"");
    check("a user name that is cut short", 0x80, b"\0\x02u");
    check("a user name with a control character", 0x80, b"\0\x02u\x7f");
    check("no password [MQTT-3.1.2-19]", 0x40, b"");
    check("no password behind a user name", 0xc0, b"\0\x01u");
}

#[test]
fn a_publish() {
    check("QoS 3 [MQTT-3.3.1-4]", b"\x36\x06\0\x01a\0\x01\0", MalformedPacket);
    check("DUP at QoS 0 [MQTT-3.3.1-2]", b"\x38\x04\0\x01a\0", MalformedPacket);
    check("packet id 0 [MQTT-2.2.1-3]", b"\x32\x06\0\x01a\0\0\0", ProtocolError);
    check("a wildcard [MQTT-3.3.2-2]", b"\x30\x06\0\x03a/#\0", MalformedPacket);
    check("neither topic nor alias", b"\x30\x03\0\0\0", MalformedPacket);
    check("alias 0 [MQTT-3.3.2-8]", b"\x30\x07\0\x01a\x03\x23\0\0", TopicAliasInvalid);
    check("alias 0 instead of a topic", b"\x30\x06\0\0\x03\x23\0\0", TopicAliasInvalid);
    check("alias twice", b"\x30\x0a\0\x01a\x06\x23\0\x01\x23\0\x01", ProtocolError);
    check("format 2", b"\x30\x06\0\x01a\x02\x01\x02", ProtocolError);
    check("format twice", b"\x30\x08\0\x01a\x04\x01\0\x01\0", ProtocolError);
    check("expiry twice", b"\x30\x0e\0\x01a\x0a\x02\0\0\0\x01\x02\0\0\0\x01", ProtocolError);
    check("content type twice", b"\x30\x0a\0\x01a\x06\x03\0\0\x03\0\0", ProtocolError);
    check("response topic with a wildcard [MQTT-3.3.2-14]", b"\x30\x09\0\x01a\x05\x08\0\x02a+", ProtocolError);
    check("response topic that is empty [MQTT-4.7.3-1]", b"\x30\x07\0\x01a\x03\x08\0\0", ProtocolError);
    check("response topic twice", b"\x30\x0c\0\x01a\x08\x08\0\x01r\x08\0\x01r", ProtocolError);
    check("correlation data twice", b"\x30\x0a\0\x01a\x06\x09\0\0\x09\0\0", ProtocolError);
    check("subscription identifier from a client [MQTT-3.3.4-6]", b"\x30\x06\0\x01a\x02\x0b\x01", ProtocolError);
    check_from(Server, "subscription identifier 0", b"\x30\x06\0\x01a\x02\x0b\0", ProtocolError);
    check("a property of CONNECT", b"\x30\x07\0\x01a\x03\x21\0\x01", ProtocolError);
    check("a property of acknowledgements", b"\x30\x07\0\x01a\x03\x1f\0\0", ProtocolError);
    let levels = [&b"\x30\x83\x01\0\x80"[..], &[b'/'; 128], b"\0"].concat();
    check("more levels than are taken", &levels, TopicNameInvalid);
}

#[test]
fn an_acknowledgement() {
    check("nothing", b"\x40\0", MalformedPacket);
    check("one byte", b"\x40\x01\0", MalformedPacket);
    check("packet id 0", b"\x40\x02\0\0", ProtocolError);
    check("packet id 0 with a reason", b"\x40\x03\0\0\0", ProtocolError);
    check("bytes behind the end", b"\x40\x05\0\x01\0\0x", MalformedPacket);
    check("no such reason [MQTT-3.4.2-1]", b"\x40\x03\0\x01\x7f", ProtocolError);
    check("a reason of servers [MQTT-3.4.2-1]", b"\x40\x03\0\x01\x10", ProtocolError);
    check("a reason of others [MQTT-3.4.2-1]", b"\x40\x03\0\x01\x92", ProtocolError);
    check("a reason of others [MQTT-3.5.2-1]", b"\x50\x03\0\x01\x92", ProtocolError);
    check("a reason of others [MQTT-3.6.2-1]", b"\x62\x03\0\x01\x80", ProtocolError);
    check("a reason of others [MQTT-3.7.2-1]", b"\x70\x03\0\x01\x10", ProtocolError);
    check("reason string twice", b"\x40\x0a\0\x01\0\x06\x1f\0\0\x1f\0\0", ProtocolError);
    check("a property of others", b"\x50\x09\0\x01\0\x05\x11\0\0\0\x01", ProtocolError);
}

#[test]
fn a_subscribe_or_unsubscribe() {
    check("no filter [MQTT-3.8.3-2]", b"\x82\x03\0\x01\0", MalformedPacket);
    check("no filter [MQTT-3.10.3-2]", b"\xa2\x03\0\x01\0", MalformedPacket);
    check("packet id 0", b"\x82\x07\0\0\0\0\x01a\0", MalformedPacket);
    check("no options", b"\x82\x06\0\x01\0\0\x01a", MalformedPacket);
    check("QoS 3", b"\x82\x07\0\x01\0\0\x01a\x03", MalformedPacket);
    check("retain handling 3", b"\x82\x07\0\x01\0\0\x01a\x30", MalformedPacket);
    check("reserved options [MQTT-3.8.3-5]", b"\x82\x07\0\x01\0\0\x01a\x40", MalformedPacket);
    check("reserved options [MQTT-3.8.3-5]", b"\x82\x07\0\x01\0\0\x01a\x80", MalformedPacket);
    check("identifier 0", b"\x82\x09\0\x01\x02\x0b\0\0\x01a\0", MalformedPacket);
    check("identifier twice", b"\x82\x0b\0\x01\x04\x0b\x01\x0b\x01\0\x01a\0", ProtocolError);
    check("identifier of five bytes", b"\x82\x0d\0\x01\x06\x0b\xff\xff\xff\xff\x01\0\x01a\0", MalformedPacket);
    check("identifier in UNSUBSCRIBE", b"\xa2\x08\0\x01\x02\x0b\x01\0\x01a", MalformedPacket);
    check("a reason string", b"\x82\x0a\0\x01\x03\x1f\0\0\0\x01a\0", MalformedPacket);
    check("an empty filter [MQTT-4.7.3-1]", b"\x82\x06\0\x01\0\0\0\0", MalformedPacket);
    check("a bad filter [MQTT-4.7.1-1]", b"\x82\x08\0\x01\0\0\x02a#\0", MalformedPacket);
    check("a bad filter [MQTT-4.7.1-2]", b"\xa2\x07\0\x01\0\0\x02a+", MalformedPacket);
    check("a share without filter [MQTT-4.8.2-2]", b"\x82\x0e\0\x01\0\0\x08$share/g\0", ProtocolError);
    check("a share without name [MQTT-4.8.2-1]", b"\x82\x0f\0\x01\0\0\x09$share//a\0", ProtocolError);
    check("a share with a wildcard [MQTT-4.8.2-2]", b"\x82\x10\0\x01\0\0\x0a$share/+/a\0", ProtocolError);
    check("a share with a bad filter", b"\xa2\x10\0\x01\0\0\x0b$share/g/a#", MalformedPacket);
    check("no local on a share [MQTT-3.8.3-4]", b"\x82\x10\0\x01\0\0\x0a$share/g/a\x04", ProtocolError);
    let levels = [&b"\x82\x86\x01\0\x01\0\0\x80"[..], &[b'/'; 128], b"\0"].concat();
    check("more levels than are taken", &levels, TopicFilterInvalid);
}

#[test]
fn a_disconnect_or_auth() {
    check_silent("a reason of servers [MQTT-3.14.2-1]", b"\xe0\x01\x8d");
    check_from(Server, "a reason of clients [MQTT-3.14.2-1]", b"\xe0\x01\x04", MalformedPacket);
    check_silent("no such reason", b"\xe0\x01\x05");
    check("session expiry twice", b"\xe0\x0c\0\x0a\x11\0\0\0\x01\x11\0\0\0\x01", ProtocolError);
    check_silent("server reference from a client", b"\xe0\x06\0\x04\x1c\0\x01s");
    check("server reference twice", b"\xe0\x0a\0\x08\x1c\0\x01s\x1c\0\x01s", ProtocolError);
    check_from(Server, "session expiry [MQTT-3.14.2-2]", b"\xe0\x07\0\x05\x11\0\0\0\x01", ProtocolError);
    check("a property of others", b"\xe0\x05\0\x03\x21\0\x01", ProtocolError);
    check("bytes behind the end", b"\xe0\x03\0\0x", MalformedPacket);
    check("success from a client [MQTT-3.15.2-1]", b"\xf0\0", ProtocolError);
    check("success with a method from a client", b"\xf0\x06\0\x04\x15\0\x01m", ProtocolError);
    check_from(Server, "re-authenticate from a server", b"\xf0\x06\x19\x04\x15\0\x01m", ProtocolError);
    check("no such reason", b"\xf0\x06\x1a\x04\x15\0\x01m", ProtocolError);
    check("no method", b"\xf0\x02\x18\0", ProtocolError);
    check("no properties", b"\xf0\x01\x18", ProtocolError);
    check("method twice", b"\xf0\x0a\x18\x08\x15\0\x01m\x15\0\x01m", ProtocolError);
    check("bytes behind the end", b"\xf0\x07\x18\x04\x15\0\x01mx", MalformedPacket);
}

#[test]
fn a_packet_of_servers() {
    let check = |what: &str, bytes: &[u8], reason| check_from(Server, what, bytes, reason);
    check("reserved flags [MQTT-3.2.2-1]", b"\x20\x03\x02\0\0", MalformedPacket);
    check("a session behind a refusal [MQTT-3.2.2-6]", b"\x20\x03\x01\x87\0", ProtocolError);
    check("a reason of others [MQTT-3.2.2-8]", b"\x20\x03\0\x8d\0", ProtocolError);
    check("no properties", b"\x20\x02\0\0", MalformedPacket);
    check("bytes behind the end", b"\x20\x04\0\0\0x", MalformedPacket);
    check("maximum QoS 2", b"\x20\x05\0\0\x02\x24\x02", ProtocolError);
    check("retain available 2", b"\x20\x05\0\0\x02\x25\x02", ProtocolError);
    check("wildcards available 2", b"\x20\x05\0\0\x02\x28\x02", ProtocolError);
    check("identifiers available 2", b"\x20\x05\0\0\x02\x29\x02", ProtocolError);
    check("shares available 2", b"\x20\x05\0\0\x02\x2a\x02", ProtocolError);
    check("maximum QoS twice", b"\x20\x07\0\0\x04\x24\0\x24\0", ProtocolError);
    check("receive maximum 0", b"\x20\x06\0\0\x03\x21\0\0", ProtocolError);
    check("a property of CONNECT", b"\x20\x05\0\0\x02\x17\0", ProtocolError);
    check("a reason of others [MQTT-3.9.3-2]", b"\x90\x04\0\x01\0\x11", ProtocolError);
    check("a reason of others [MQTT-3.11.3-2]", b"\xb0\x04\0\x01\0\x01", ProtocolError);
}
