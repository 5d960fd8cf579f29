//! Texts: what is not UTF-8 is refused wherever a text may stand, what is passes unaltered (sections 1.5.3 of 3.1.1,
//! 1.5.4 of 5).

use super::runner::Run;
use super::server::Server;
use super::table::Version;
use super::tables;

tables!(mqtt_3_1_1_takes_texts_as_they_are, mqtt_5_takes_texts_as_they_are: GOOD);

const GOOD: &str = r##"
4[MQTT-1.5.3-1] 5[MQTT-1.5.4-1] U+2A6D4 of the specification's example: > 32{[41F0AA9B94] 0001 % 'x'}; < 40 **
4[MQTT-1.5.3-1] 5[MQTT-1.5.4-1] the last below the surrogates: > 32{[ED9FBF] 0001 % 'x'}; < 40 **
4[MQTT-1.5.3-1] 5[MQTT-1.5.4-1] the first above the surrogates: > 32{[EE8080] 0001 % 'x'}; < 40 **
4[MQTT-1.5.3-3] 5[MQTT-1.5.4-3] U+FEFF is not stripped off: > 82{0001 % [EFBBBF2F61] 00}; < 90 **; > 30{[EFBBBF2F61] % 'x'};
    < 30{[EFBBBF2F61] % 'x'}
4[MQTT-1.5.3-3] 5[MQTT-1.5.4-3] U+FEFF makes another topic: > 82{0001 % "@/b" 00}; < 90 **; > 30{"﻿@/b" % 'x'}; quiet
4[MQTT-1.5.3-3] 5[MQTT-1.5.4-3] U+FEFF inside: > 82{0001 % "@/﻿c" 00}; < 90 **; > 30{"@/﻿c" % 'x'}; < 30{"@/﻿c" % 'x'}
4[MQTT-1.5.3-3] ! U+FEFF in a client id: > 10{"MQTT" 04 02 0000 "﻿@"}; ok; b> 10{"MQTT" 04 02 0000 "@"}; b ok; quiet
5[MQTT-1.5.4-3] ! U+FEFF in a client id: > 10{"MQTT" 05 02 0000 % "﻿@"}; ok; b> 10{"MQTT" 05 02 0000 % "@"}; b ok; quiet
"##;

/// What no text may contain, and the statement that forbids it in either version.
const NOT_UTF8: &[(&str, &str)] = &[
    ("U+0000", "746F700000"),
    ("U+0000 alone", "00"),
    ("U+D800", "746FEDA080"),
    ("U+DFFF", "746FEDBFBF"),
    ("a pair of surrogates", "EDA081EDB080"),
    ("a lead byte alone", "746FC3"),
    ("a lead byte before a letter", "74C328"),
    ("a continuation byte alone", "7480"),
    ("a slash in two bytes", "74C0AF"),
    ("U+0000 in two bytes", "74C080"),
    ("three of four bytes", "74F09F98"),
    ("beyond U+10FFFF", "74F4908080"),
    ("FE", "74FE"),
    ("FF", "74FF"),
];

/// Control characters. A receiver may treat them as malformed (section 1.5.4 of 5); other brokers do, and their suites
/// expect it.
const CONTROL: &[(&str, &str)] =
    &[("U+0001", "746F700170"), ("U+001F", "746F701F70"), ("U+007F", "746F707F70"), ("U+009F", "746FC29F70")];

/// Where a text stands: name, packets with `@@` in its place, how the connection ends. After CONNECT where it has one.
const PLACES: &[(&str, &str, &str)] = &[
    ("client id", "! X: > 10{\"MQTT\" lv 02 0000 % @@}", "rejected 85"),
    ("user name", "! X: > 10{\"MQTT\" lv 82 0000 % \"@\" @@}", "gone"),
    ("will topic", "! X: > 10{\"MQTT\" lv 06 0000 % \"@\" % @@ \"x\"}", "rejected 81"),
    ("protocol name", "! X: > 10{@@ lv 02 0000 % \"@\"}", "gone"),
    ("topic", "X: > 30{@@ % 'x'}", "gone 81"),
    ("topic at QoS 1", "X: > 32{@@ 0001 % 'x'}", "gone 81"),
    ("filter", "X: > 82{0001 % @@ 00}", "gone 81"),
    ("second filter", "X: > 82{0001 % \"@\" 00 @@ 00}", "gone 81"),
    ("filter to end", "X: > A2{0001 % @@}", "gone 81"),
];

/// The same for the properties of version 5.
const PROPERTIES: &[(&str, &str, &str)] = &[
    ("response topic", "X: > 30{\"@\" {08 @@} 'x'}", "gone 81"),
    ("content type", "X: > 30{\"@\" {03 @@} 'x'}", "gone 81"),
    ("user property's name", "X: > 30{\"@\" {26 @@ \"v\"} 'x'}", "gone 81"),
    ("user property's value", "X: > 30{\"@\" {26 \"k\" @@} 'x'}", "gone 81"),
    ("user property of SUBSCRIBE", "X: > 82{0001 {26 \"k\" @@} \"@\" 00}", "gone 81"),
    ("reason in words", "X: > 40{0009 00 {1F @@}}", "gone 81"),
    ("reason of DISCONNECT in words", "X: > E0{00 {1F @@}}", "gone 81"),
    ("authentication method", "! X: > 10{\"MQTT\" 05 02 0000 {15 @@} \"@\"}", "rejected 81"),
    ("user property of CONNECT", "! X: > 10{\"MQTT\" 05 02 0000 {26 @@ \"v\"} \"@\"}", "rejected 81"),
    ("will's content type", "! X: > 10{\"MQTT\" 05 06 0000 % \"@\" {03 @@} \"@w\" \"x\"}", "rejected 81"),
];

type Place = (&'static str, &'static str, &'static str);

fn rows(versions: &str, places: &[Place], texts: &[(&str, &str)]) -> String {
    let mut table = String::new();
    for (place, packets, end) in places {
        for (what, hex) in texts {
            let number = if what.contains("U+0000") { 2 } else { 1 };
            let statement = format!("4[MQTT-1.5.3-{number}] 5[MQTT-1.5.4-{number}]");
            let statement = if versions == "5" { &statement[statement.len() - 15..] } else { &statement };
            let (before, after) = packets.split_once("X:").expect("a name's place");
            let packets = after.replace("@@", &format!("[{hex}]"));
            table.push_str(&format!("{statement} {before}{what} in a {place}:{packets}; {end}\n"));
        }
    }
    table
}

fn check(version: Version, table: &str) {
    let server = Server::start();
    let mut run = Run::new(server.address());
    run.table(version, table);
    run.finish();
}

#[test]
fn mqtt_3_1_1_refuses_what_is_not_utf_8() {
    check(Version::V311, &rows("45", PLACES, NOT_UTF8));
}

#[test]
fn mqtt_5_refuses_what_is_not_utf_8() {
    check(Version::V5, &rows("45", PLACES, NOT_UTF8));
}

#[test]
fn mqtt_5_refuses_what_is_not_utf_8_in_properties() {
    check(Version::V5, &rows("5", PROPERTIES, NOT_UTF8));
}

#[test]
fn mqtt_3_1_1_refuses_control_characters() {
    check(Version::V311, &rows("45", PLACES, CONTROL));
}

#[test]
fn mqtt_5_refuses_control_characters() {
    check(Version::V5, &rows("45", PLACES, CONTROL));
}
