//! Every property in every packet a client may send: allowed, twice, cut short, out of place; and every number that is no
//! property (section 2.2.2.2, table 2-4).
//!
//! A property that is not of this packet makes it malformed (0x81, section 2.2.2.2); other brokers call that a protocol
//! error (0x82) but in SUBSCRIBE and UNSUBSCRIBE, their suites expect it, and so do we. A value that is cut short is
//! malformed, whatever the property; a number that is none, too.

use super::packet::{Kind, property_kind};
use super::runner::Run;
use super::server::Server;
use super::table::Version;

/// A packet with a place for properties.
struct Carrier {
    name: &'static str,
    /// A row's steps up to the reaction; `@@` stands for the properties.
    packet: &'static str,
    /// The reaction when all is well.
    good: &'static str,
    /// The reaction to a fault, up to the reason.
    bad: &'static str,
    /// What a client may put there.
    allowed: &'static [u8],
}

impl Carrier {
    /// The reason for a property that is not of this packet.
    fn out_of_place(&self) -> &'static str {
        if self.name.ends_with("SUBSCRIBE") { "81" } else { "82" }
    }
}

const CARRIERS: &[Carrier] = &[
    Carrier {
        name: "! CONNECT",
        packet: "> 10{\"MQTT\" 05 02 0000 {@@} \"@\"}",
        good: "ok",
        bad: "rejected",
        allowed: &[0x11, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
    },
    Carrier {
        name: "! a will",
        packet: "> 10{\"MQTT\" 05 06 0000 00 \"@\" {@@} \"@w\" \"x\"}",
        good: "ok",
        bad: "rejected",
        allowed: &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
    },
    Carrier {
        name: "PUBLISH",
        packet: "> 32{\"@\" 0001 {@@} 'payload'}",
        good: "< 40{0001} | 40{0001 10}",
        bad: "gone",
        allowed: &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26],
    },
    Carrier { name: "PUBACK", packet: "> 40{0009 00 {@@}}", good: "quiet", ..ACKNOWLEDGEMENT },
    Carrier { name: "PUBREC", packet: "> 50{0009 00 {@@}}", good: "< 62{0009} | 62{0009 92}", ..ACKNOWLEDGEMENT },
    Carrier { name: "PUBREL", packet: "> 62{0009 00 {@@}}", good: "< 70{0009} | 70{0009 92}", ..ACKNOWLEDGEMENT },
    Carrier { name: "PUBCOMP", packet: "> 70{0009 00 {@@}}", good: "quiet", ..ACKNOWLEDGEMENT },
    Carrier {
        name: "SUBSCRIBE",
        packet: "> 82{0001 {@@} \"@\" 00}",
        good: "< 90{0001 00 00}",
        bad: "gone",
        allowed: &[0x0B, 0x26],
    },
    Carrier {
        name: "UNSUBSCRIBE",
        packet: "> A2{0001 {@@} \"@\"}",
        good: "< B0{0001 00 11}",
        bad: "gone",
        allowed: &[0x26],
    },
    Carrier { name: "DISCONNECT", packet: "> E0{00 {@@}}", good: "gone", bad: "gone", allowed: &[0x11, 0x1F, 0x26] },
];

const ACKNOWLEDGEMENT: Carrier = Carrier { name: "", packet: "", good: "", bad: "gone", allowed: &[0x1F, 0x26] };

/// A server reference is a server's word, yet not every server minds it in a client's DISCONNECT; an authentication
/// method is refused for another reason.
const ELSEWHERE: &[(&str, u8)] = &[("DISCONNECT", 0x1C), ("! CONNECT", 0x15), ("! CONNECT", 0x16)];

fn properties() -> impl Iterator<Item = (u8, Kind)> {
    (0..0x80).filter_map(|id| property_kind(id).map(|kind| (id, kind)))
}

/// A value that is allowed wherever the property is.
fn value(id: u8, kind: Kind) -> &'static str {
    match (id, kind) {
        (0x11, _) => "00000000",
        (0x27, _) => "00000100",
        (_, Kind::Byte | Kind::Varint) => "01",
        (_, Kind::TwoBytes) => "0001",
        (_, Kind::FourBytes) => "00000001",
        (_, Kind::Text) => "\"p\"",
        (_, Kind::Pair) => "\"p\"\"q\"",
    }
}

fn run(rows: impl Fn(&Carrier) -> Vec<(String, String, String)>) {
    let server = Server::start();
    let mut run = Run::new(server.address());
    for carrier in CARRIERS {
        for (name, properties, reaction) in rows(carrier) {
            let packet = carrier.packet.replace("@@", &properties);
            let row = format!("5[MQTT-4.13.1-1] {} with {name}: {packet}; {reaction}", carrier.name);
            run.table(Version::V5, &row);
        }
    }
    run.finish();
}

#[test]
fn a_property_is_taken_where_it_belongs_and_refused_elsewhere() {
    run(|carrier| {
        let row = |(id, kind): (u8, Kind)| {
            let reaction = if carrier.allowed.contains(&id) {
                carrier.good.to_owned()
            } else {
                format!("{} {}", carrier.bad, carrier.out_of_place())
            };
            (format!("property {id:02X}"), format!("{id:02X}{}", value(id, kind)), reaction)
        };
        properties().filter(|(id, _)| !ELSEWHERE.contains(&(carrier.name, *id))).map(row).collect()
    });
}

/// Section 2.2.2.2: more than once is a protocol error, but for user properties.
#[test]
fn a_property_comes_once_but_for_user_properties() {
    run(|carrier| {
        let row = |(id, kind): (u8, Kind)| {
            let reaction = if kind == Kind::Pair { carrier.good.to_owned() } else { format!("{} 82", carrier.bad) };
            let twice = format!("{id:02X}{value} {id:02X}{value}", value = value(id, kind));
            (format!("property {id:02X} twice"), twice, reaction)
        };
        properties().filter(|(id, _)| carrier.allowed.contains(id)).map(row).collect()
    });
}

#[test]
fn a_property_cut_short_is_malformed_wherever_it_stands() {
    run(|carrier| {
        let row = |(id, _): (u8, Kind)| {
            (format!("only the id of {id:02X}"), format!("{id:02X}"), format!("{} 81", carrier.bad))
        };
        properties().map(row).collect()
    });
}

#[test]
fn a_number_that_is_no_property_is_malformed() {
    let unknown = (0..0x80_u8).filter(|id| property_kind(*id).is_none()).map(|id| format!("{id:02X}"));
    let longer = ["8001", "FF7F", "808001", "FFFF7F", "80808001", "FFFFFF7F", "8080808001"].map(str::to_owned);
    let numbers: Vec<String> = unknown.chain(longer).collect();
    run(|carrier| {
        let row =
            |number: &String| (format!("property {number}"), format!("{number}01"), format!("{} 81", carrier.bad));
        numbers.iter().map(row).collect()
    });
}
