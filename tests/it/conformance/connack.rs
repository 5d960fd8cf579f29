//! What CONNACK tells a client of version 5 (section 3.2), and enhanced authentication, which is not there (4.12).

use super::runner::Run;
use super::server::Server;
use super::table::Version;
use super::tables;

tables!(mqtt_3_1_1_gets_the_short_connack, mqtt_5_is_told_the_servers_limits: CONNACK, AUTHENTICATION);

const CONNACK: &str = r##"
4[MQTT-3.2.0-1] ! four bytes: > 10{"MQTT" 04 02 FFFF "@"}; < 20 02 00 00
5[MQTT-3.2.2-2] ! accepted with clean start: > 10{"MQTT" 05 02 0000 % "@"}; ok
5[MQTT-3.2.2-3] ! accepted without a session: > 10{"MQTT" 05 00 0000 % "@"}; ok
5[MQTT-3.2.2-9] ! all QoS are there: > 10{"MQTT" 05 02 0000 % "@"}; ok; lacks 24
5[MQTT-3.2.2-15] ! the largest packet: > 10{"MQTT" 05 02 0000 % "@"}; ok; has 27
5[MQTT-3.2.2-17] ! topic aliases of the client: > 10{"MQTT" 05 02 0000 % "@"}; ok; has 22
5[MQTT-3.3.4-7] ! messages in flight: > 10{"MQTT" 05 02 0000 % "@"}; ok; has 21
5[MQTT-3.2.2-22] ! the client's keep-alive holds: > 10{"MQTT" 05 02 003C % "@"}; ok; lacks 13
5[MQTT-3.2.2-22] ! no keep-alive holds: > 10{"MQTT" 05 02 0000 % "@"}; ok; lacks 13
5[MQTT-3.1.2-23] ! a session expiry the server keeps is not repeated:
    > 10{"MQTT" 05 00 0000 {11 0000003C} "@"}; ok; lacks 11
5[MQTT-3.1.2-23] ! a session expiry without end is cut to a day: > 10{"MQTT" 05 00 0000 {11 FFFFFFFF} "@"}; ok;
    is 11 00015180
5[MQTT-3.1.2-28] ! response information not asked for: > 10{"MQTT" 05 02 0000 {1900} "@"}; ok; lacks 1A
5[MQTT-3.1.2-28] ! response information asked for, which the server need not have: > 10{"MQTT" 05 02 0000 {1901} "@"}; ok; lacks 1A
5[MQTT-3.1.2-29] ! problem information not wanted: > 10{"MQTT" 05 02 0000 {1700} "@"}; ok; > 32{"@" 0001 % 'x'};
    < 40{0001 10}; > 82{0002 % "test/nosubscribe" 00}; < 90{0002 % 80}
5[MQTT-3.1.2-24] ! a CONNACK the client cannot take is not sent: > 10{"MQTT" 05 02 0000 {27 00000002} "@"}; gone
"##;

const AUTHENTICATION: &str = r##"
5[MQTT-4.12.0-1] ! an unknown authentication method: > 10{"MQTT" 05 02 0000 {15"unsupported"} "@"}; refused 8C
5[MQTT-4.12.0-1] ! an unknown authentication method with data: > 10{"MQTT" 05 02 0000 {15"m" 16"d"} "@"}; refused 8C
5[MQTT-4.12.0-1] ! an empty authentication method: > 10{"MQTT" 05 02 0000 {15""} "@"}; refused 8C
5[MQTT-4.12.0-6] ! no method asked for, none sent: > 10{"MQTT" 05 02 0000 % "@"}; ok; lacks 15; lacks 16
5[MQTT-4.12.0-7] an AUTH without a method in CONNECT: > F000; gone 82
5[MQTT-4.12.0-7] an AUTH that continues: > F0{18 {15"m"}}; gone 82
5[MQTT-4.12.1-1] an AUTH that asks for re-authentication: > F0{19 {15"m"}}; gone 82
5[MQTT-3.15.1-1] an AUTH with reserved flags: > F100; gone 82
5[MQTT-3.15.1-1] an AUTH with another reserved flag: > F800; gone 82
4[MQTT-4.8.0-1] the packet type of AUTH is not there: > F000; gone
"##;

#[test]
fn a_keep_alive_longer_than_the_servers_is_cut_and_told() {
    const CUT: &str = r##"
5[MQTT-3.2.2-21] ! longer: > 10{"MQTT" 05 02 0078 % "@"}; ok; is 13 003C
5[MQTT-3.2.2-21] ! the longest: > 10{"MQTT" 05 02 FFFF % "@"}; ok; is 13 003C
5[MQTT-3.2.2-21] ! none: > 10{"MQTT" 05 02 0000 % "@"}; ok; is 13 003C
5[MQTT-3.2.2-22] ! as long: > 10{"MQTT" 05 02 003C % "@"}; ok; lacks 13
5[MQTT-3.2.2-22] ! shorter: > 10{"MQTT" 05 02 000A % "@"}; ok; lacks 13
4[MQTT-3.2.0-1] ! version 3.1.1 cannot be told: > 10{"MQTT" 04 02 0078 "@"}; < 20 02 00 00
"##;
    let server = Server::with(&[("mqtt.max_keepalive", "60")]);
    let mut run = Run::new(server.address());
    run.table(Version::V5, CUT);
    run.table(Version::V311, CUT);
    run.finish();
}
