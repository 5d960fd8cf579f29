//! PINGREQ, and clients that fall silent (sections 3.1.2.10, 3.12).

use std::time::{Duration, Instant};

use super::packet::{Ids, Packet};
use super::server::Server;
use super::socket::{Came, Socket};
use super::table::Version;
use super::tables;

tables!(mqtt_3_1_1_answers_pings_and_minds_silence, mqtt_5_answers_pings_and_minds_silence: PING, SILENCE);

const PING: &str = r##"
45[MQTT-3.12.4-1] PINGREQ gets PINGRESP: > C000; < D000
45[MQTT-3.12.4-1] each of several: > C000 C000 C000; < D000; < D000; < D000; quiet
4[MQTT-2.2.2-2] 5[MQTT-2.1.3-1] PINGREQ with flags 1: > C100; gone 81
4[MQTT-2.2.2-2] 5[MQTT-2.1.3-1] PINGREQ with flags 2: > C200; gone 81
4[MQTT-2.2.2-2] 5[MQTT-2.1.3-1] PINGREQ with flags 4: > C400; gone 81
4[MQTT-2.2.2-2] 5[MQTT-2.1.3-1] PINGREQ with flags 8: > C800; gone 81
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] PINGREQ with a body: > C0{00}; gone
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] a server's PINGRESP: > D000; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] a server's PINGRESP with a body: > D0{00}; gone
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] a server's PINGRESP with flags: > D100; gone 81
"##;

const SILENCE: &str = r##"
4[MQTT-3.1.2-24] 5[MQTT-3.1.2-22] ! a silent client is thrown out: > 10{"MQTT" lv 02 0001 % "@"}; ok; gone 8D
4[MQTT-3.1.2-24] 5[MQTT-3.1.2-22] ! also while messages are sent to it: > 10{"MQTT" lv 02 0001 % "@"}; ok;
    > 82{0001 % "@" 00}; < 90 **; b connect; b> 30{"@" % 'x'}; < 30{"@" % 'x'}; gone 8D
4[MQTT-3.1.2-24] 5[MQTT-3.1.2-22] ! also with half a packet sent: > 10{"MQTT" lv 02 0001 % "@"}; ok; > 30 10 00; gone 8D
4[MQTT-3.1.2-24] 5[MQTT-3.1.2-22] ! a longer promise is not broken yet: > 10{"MQTT" lv 02 0005 % "@"}; ok; tick; quiet
4[MQTT-3.1.2-24] 5[MQTT-3.1.2-22] no keep-alive, no end: tick; tick; quiet
"##;

fn connect(address: std::net::SocketAddr, version: Version, name: &str, keep_alive_s: u16) -> Socket {
    let mut socket = Socket::open(address);
    let text = format!("10{{\"MQTT\" lv 02 {keep_alive_s:04X} % \"@\"}}");
    socket.send(&Packet::parse(&text, version, name).bytes(&Ids::new()));
    assert!(matches!(socket.receive(), Came::Packet(packet) if packet[0] == 0x20), "CONNACK");
    socket
}

/// [MQTT-3.1.2-24] of 3.1.1, [MQTT-3.1.2-22] of 5: one and a half times the keep-alive, not before.
#[test]
fn a_client_has_half_as_much_again_as_it_promised() {
    let server = Server::start();
    for version in [Version::V311, Version::V5] {
        let start = Instant::now();
        let mut socket = connect(server.address(), version, "half", 1);
        let came = socket.receive_within(Duration::from_secs(10));
        let elapsed = start.elapsed();
        assert!(!matches!(came, Came::Silence), "{version:?} thrown out");
        assert!(elapsed >= Duration::from_millis(1400), "{version:?} thrown out after {elapsed:?}");
    }
}

#[test]
fn any_packet_shows_that_a_client_is_there() {
    let server = Server::start();
    let mut clients = Vec::new();
    for (kind, packet) in [("ping", "C000"), ("publish", "30{\"@\" % 'x'}"), ("puback", "40{0009}")] {
        for version in [Version::V311, Version::V5] {
            let name = format!("{kind}{version:?}");
            let packet = Packet::parse(packet, version, &name).bytes(&Ids::new());
            clients.push((connect(server.address(), version, &name, 3), packet, name));
        }
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        for (socket, packet, name) in &mut clients {
            socket.send(packet);
            let came = socket.receive_within(Duration::from_millis(100));
            assert!(!matches!(came, Came::Closed { .. }), "{name} thrown out after {:?}", start.elapsed());
        }
    }
}
