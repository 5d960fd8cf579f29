//! DISCONNECT from either side (section 3.14), and packets only servers send.

use super::packet::{Ids, Packet};
use super::server::Server;
use super::socket::{Came, Socket, hex};
use super::table::Version;
use super::tables;

tables!(mqtt_3_1_1_says_goodbye, mqtt_5_says_goodbye: GOODBYE, REASONS, PROPERTIES, OF_SERVERS);

const GOODBYE: &str = r##"
4[MQTT-3.14.4-2] 5[MQTT-3.14.4-2] closes without a word: > E000; gone
4[MQTT-2.2.2-2] 5[MQTT-3.14.1-1] flags 1: > E100; gone 81
4[MQTT-2.2.2-2] 5[MQTT-3.14.1-1] flags 2: > E200; gone 81
4[MQTT-2.2.2-2] 5[MQTT-3.14.1-1] flags 4: > E400; gone 81
4[MQTT-2.2.2-2] 5[MQTT-3.14.1-1] flags 8: > E800; gone 81
4[MQTT-3.14.1-1] a body: > E0{00}; gone
4[MQTT-3.14.4-1] 5[MQTT-3.14.4-1] what follows is not read: b connect; b> 82{0001 % "@" 00}; b< 90 **; > E000 30{"@" % 'x'}; gone;
    b quiet
4[MQTT-3.14.4-1] 5[MQTT-3.14.4-1] what came before is done: b connect; b> 82{0001 % "@" 00}; b< 90 **; > 30{"@" % 'x'} E000; gone;
    b< 30{"@" % 'x'}
"##;

const REASONS: &str = r##"
5[MQTT-3.14.2-1] normal: > E0{00}; gone
5[MQTT-3.14.2-1] normal, no properties: > E0{00 00}; gone
5[MQTT-3.14.2-1] with will: > E0{04}; gone
5[MQTT-3.14.2-1] unspecified error: > E0{80}; gone
5[MQTT-3.14.2-1] malformed packet: > E0{81}; gone
5[MQTT-3.14.2-1] protocol error: > E0{82 00}; gone
5[MQTT-3.14.2-1] implementation specific error: > E0{83}; gone
5[MQTT-3.14.2-1] topic name invalid: > E0{90}; gone
5[MQTT-3.14.2-1] receive maximum exceeded: > E0{93}; gone
5[MQTT-3.14.2-1] topic alias invalid: > E0{94}; gone
5[MQTT-3.14.2-1] packet too large: > E0{95}; gone
5[MQTT-3.14.2-1] message rate too high: > E0{96}; gone
5[MQTT-3.14.2-1] quota exceeded: > E0{97}; gone
5[MQTT-3.14.2-1] administrative action: > E0{98}; gone
5[MQTT-3.14.2-1] payload format invalid: > E0{99}; gone
5[MQTT-3.14.2-1] a reason only servers give: > E0{8B}; gone
5[MQTT-3.14.2-1] a reason nobody gives: > E0{05}; gone
"##;

const PROPERTIES: &str = r##"
5[MQTT-3.14.2-3] its reason in words: > E0{00 {1F"done"}}; gone
5[MQTT-3.14.2-4] user properties: > E0{00 {26"k""v" 26"k""w"}}; gone
5[MQTT-3.14.2-2] a session expiry: > E0{00 {1100000000}}; gone
5[MQTT-4.13.1-1] two session expiries: > E0{00 {1100000000 1100000000}}; gone 82
5[MQTT-4.13.1-1] properties cut short: > E0{00 {1100}}; gone 81
5[MQTT-4.13.1-1] properties longer than the packet: > E0{00 05 1100}; gone 81
5[MQTT-4.13.1-1] bytes behind the properties: > E0{00 00 00}; gone 81
"##;

const OF_SERVERS: &str = r##"
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] CONNACK: > 20{00 00 %}; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] CONNACK without a body: > 2000; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] CONNACK with flags: > 21{00 00 %}; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] SUBACK: > 90{0001 % 00}; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] SUBACK without a body: > 9000; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] SUBACK with flags: > 92{0001 % 00}; gone 81
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] UNSUBACK: > B0{0001 (5 00 00)}; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] UNSUBACK without a body: > B000; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] UNSUBACK with flags: > B2{0001 (5 00 00)}; gone 81
"##;

/// Section 3.14.2.1, reason 0x8B. What the server promises beyond the specification: nobody is cut off without a word.
#[test]
fn a_server_that_stops_says_so_to_version_5() {
    let mut server = Server::start();
    let open = |version, name: &str| {
        let mut socket = Socket::open(server.address());
        socket.send(&Packet::parse("10{\"MQTT\" lv 02 0000 % \"@\"}", version, name).bytes(&Ids::new()));
        assert!(matches!(socket.receive(), Came::Packet(packet) if packet[0] == 0x20), "CONNACK");
        socket
    };
    let (mut old, mut new) = (open(Version::V311, "old"), open(Version::V5, "new"));
    server.stop();
    assert_eq!(old.receive(), Came::Closed { left: vec![] });
    match new.receive() {
        Came::Packet(packet) => assert_eq!(hex(&packet), "E0 01 8B"),
        other => panic!("instead of DISCONNECT: {other:?}"),
    }
    assert_eq!(new.receive(), Came::Closed { left: vec![] });
}
