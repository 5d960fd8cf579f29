//! Receive Maximum and Maximum Packet Size of both sides (sections 3.1.2.11.3, 3.1.2.11.4, 4.9).

use super::client::{Client, Connect};
use super::server::Server;
use super::table::Version;
use super::tables;

tables!(mqtt_3_1_1_bounds_packets, mqtt_5_bounds_packets_and_messages_in_flight: IN_FLIGHT, CLIENTS_SIZE, SERVERS_SIZE);

const IN_FLIGHT: &str = r##"
5[MQTT-3.3.4-9] ! no more than the client takes: > 10{"MQTT" 05 02 0000 {210001} "@"}; ok; > 82{0001 00 "@" 01}; < 90 **; b connect;
    b> 32{"@" 0001 00 '1'} 32{"@" 0002 00 '2'}; b< 40 **; b< 40 **; < 32{"@" #1 00 '1'}; quiet; > 40{#1}; < 32{"@" #2 00 '2'}
5[MQTT-3.3.4-9] ! two of three: > 10{"MQTT" 05 02 0000 {210002} "@"}; ok; > 82{0001 00 "@" 02}; < 90 **; b connect;
    b> 32{"@" 0001 00 '1'} 32{"@" 0002 00 '2'} 32{"@" 0003 00 '3'}; b< 40 **; b< 40 **; b< 40 **; < 32{"@" #1 00 '1'};
    < 32{"@" #2 00 '2'}; quiet; > 40{#2}; < 32{"@" #3 00 '3'}
5[MQTT-4.9.0-2] ! QoS 2 holds its place to the end: > 10{"MQTT" 05 02 0000 {210001} "@"}; ok; > 82{0001 00 "@" 02}; < 90 **;
    b connect; b> 34{"@" 0001 00 '1'} 34{"@" 0002 00 '2'}; b< 50 **; b< 50 **; b> 62{0001} 62{0002}; b< 70 **; b< 70 **;
    < 34{"@" #1 00 '1'}; > 50{#1}; < 62{#1}; quiet; > 70{#1}; < 34{"@" #2 00 '2'}
5[MQTT-4.9.0-2] ! a refusal gives its place back: > 10{"MQTT" 05 02 0000 {210001} "@"}; ok; > 82{0001 00 "@" 02}; < 90 **;
    b connect; b> 34{"@" 0001 00 '1'} 34{"@" 0002 00 '2'}; b< 50 **; b< 50 **; b> 62{0001} 62{0002}; b< 70 **; b< 70 **;
    < 34{"@" #1 00 '1'}; > 50{#1 83}; < 34{"@" #2 00 '2'}
5[MQTT-3.3.4-9] ! QoS 0 is not counted: > 10{"MQTT" 05 02 0000 {210001} "@"}; ok; > 82{0001 00 "@a" 01 "@b" 00}; < 90 **; b connect;
    b> 30{"@b" 00 '1'} 30{"@b" 00 '2'} 32{"@a" 0001 00 '3'}; b< 40 **; < 30{"@b" 00 '1'}; < 30{"@b" 00 '2'}; < 32{"@a" #1 00 '3'}
5[MQTT-3.3.4-10] ! other packets are not held back: > 10{"MQTT" 05 02 0000 {210001} "@"}; ok; > 82{0001 00 "@" 01}; < 90 **; b connect;
    b> 32{"@" 0001 00 '1'} 32{"@" 0002 00 '2'}; b< 40 **; b< 40 **; < 32{"@" #1 00 '1'}; > 82{0003 00 "@c" 00}; < 90{0003 00 00};
    > 34{"@d" 0007 00 'x'}; < 50 **; > 62{0007}; < 70{0007}; > A2{0004 00 "@c"}; < B0{0004 00 00}
5[MQTT-3.3.4-9] ! on the next connection, too: > 10{"MQTT" 05 00 0000 {1100000258 210002} "@a"}; ok; > 82{0001 00 "@" 01}; < 90 **;
    b connect; b> 32{"@" 0001 00 '1'} 32{"@" 0002 00 '2'}; b< 40 **; b< 40 **; < 32{"@" #1 00 '1'}; < 32{"@" #2 00 '2'}; drop; open;
    > 10{"MQTT" 05 00 0000 {1100000258 210001} "@a"}; ok present; < 3A{"@" #1 00 '1'}; quiet; > 40{#1}; < 3A{"@" #2 00 '2'}
5[MQTT-4.9.0-1] ! a maximum of 0 is none: > 10{"MQTT" 05 02 0000 {210000} "@"}; refused 82
5[MQTT-4.9.0-1] ! the largest: > 10{"MQTT" 05 02 0000 {21FFFF} "@"}; ok
"##;

const CLIENTS_SIZE: &str = r##"
5[MQTT-3.1.2-24] ! a message the client cannot take is left out: > 10{"MQTT" 05 02 0000 {2700000028} "@"}; ok; > 82{0001 00 "@" 00}; < 90 **;
    b connect; b> 30{"@" 00 fill:100} 30{"@" 00 'x'}; < 30{"@" 00 'x'}; quiet
5[MQTT-3.1.2-25] ! and counts as delivered: > 10{"MQTT" 05 02 0000 {2700000028 210001} "@"}; ok; > 82{0001 00 "@" 01}; < 90 **;
    b connect; b> 32{"@" 0001 00 fill:100} 32{"@" 0002 00 'x'}; b< 40{0001}; b< 40{0002}; < 32{"@" #1 00 'x'}; > 40{#1}; quiet
5[MQTT-3.1.2-25] ! and does not come on the next connection: > 10{"MQTT" 05 00 0000 {2700000028 1100000258} "@a"}; ok;
    > 82{0001 00 "@" 01}; < 90 **; b connect; b> 32{"@" 0001 00 fill:100}; b< 40{0001}; quiet; bye; resume; quiet
5[MQTT-3.1.2-24] ! others get it: > 10{"MQTT" 05 02 0000 {2700000028} "@"}; ok; > 82{0001 00 "@" 00}; < 90 **; b connect;
    b> 82{0001 00 "@" 00}; b< 90 **; b> 30{"@" 00 fill:100}; b< 30{"@" 00 fill:100}; quiet
5[MQTT-3.1.2-24] ! user properties count, too: > 10{"MQTT" 05 02 0000 {2700000028} "@"}; ok; > 82{0001 00 "@" 00}; < 90 **; b connect;
    b> 30{"@" {26"a-long-key-of-a-property""and-its-long-value"} 'x'} 30{"@" 00 'y'}; < 30{"@" 00 'y'}; quiet
5[MQTT-3.1.2-24] ! a retained message, too: b connect; b> 33{"@" 0001 00 fill:100}; b< 40 **;
    > 10{"MQTT" 05 02 0000 {2700000028} "@"}; ok; > 82{0001 00 "@" 00}; < 90{0001 00 00}; quiet
5[MQTT-3.1.2-24] ! a size of 0 is none: > 10{"MQTT" 05 02 0000 {2700000000} "@"}; refused 82
5[MQTT-3.1.2-24] ! the largest: > 10{"MQTT" 05 02 0000 {27FFFFFFFF} "@"}; ok
"##;

const SERVERS_SIZE: &str = r##"
4[MQTT-4.8.0-1] a packet larger than the server takes: > 30 FFFFFF7F; gone
5[MQTT-3.2.2-15] a packet larger than the server takes: > 30 FFFFFF7F; gone 95
5[MQTT-3.2.2-15] a SUBSCRIBE larger than the server takes: > 82 FFFFFF7F 0001; gone 95
45[MQTT-3.1.4-1] ! a CONNECT larger than the server takes: > 10 FFFFFF7F 0004 'MQTT' lv; rejected 95
"##;

/// [MQTT-3.3.4-7]: the server says how many it takes, takes them, and ends the connection at one more.
#[test]
fn one_message_more_in_flight_than_the_server_takes_ends_the_connection() {
    let server = Server::start();
    let (mut client, connack) = Client::connect(server.address(), Version::V5, &Connect::id("flood"));
    let maximum = connack.property(0x21).expect("the server bounds what is in flight to it");
    let maximum = u16::from_be_bytes([maximum[0], maximum[1]]);
    for _ in 0..maximum {
        client.send_publish("flood", b"x", 2, false, &[]);
    }
    client.settle();
    assert_eq!(client.received.len(), usize::from(maximum), "each has its PUBREC");
    assert!(client.ended.is_none(), "as many as allowed");
    client.send_publish("flood", b"x", 2, false, &[]);
    client.wait_for_end();
    assert_eq!(client.ended, Some(Some(0x93)));
}

/// The same for QoS 1 with acknowledgements in between: the places come back.
#[test]
fn acknowledged_messages_give_their_places_back() {
    let server = Server::start();
    let (mut client, _) = Client::connect(server.address(), Version::V5, &Connect::id("steady"));
    for n in 0..300_u16 {
        client.publish("steady", &n.to_be_bytes(), 1 + u8::from(n % 2 == 0), false, &[]);
    }
    client.settle();
    assert!(client.ended.is_none());
}
