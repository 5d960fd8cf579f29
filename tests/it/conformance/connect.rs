//! CONNECT: what a server takes, and how it refuses the rest (section 3.1).

use super::tables;

tables!(mqtt_3_1_1_connects_as_specified, mqtt_5_connects_as_specified: FIRST, HEADER, FLAGS, PAYLOAD, CLIENT_ID);

const FIRST: &str = r##"
45[MQTT-3.1.0-1] ! a PUBLISH before CONNECT: > 30{"@" % 'x'}; gone
45[MQTT-3.1.0-1] ! a SUBSCRIBE before CONNECT: > 82{0001 % "@" 00}; gone
45[MQTT-3.1.0-1] ! an UNSUBSCRIBE before CONNECT: > A2{0001 % "@"}; gone
45[MQTT-3.1.0-1] ! a PINGREQ before CONNECT: > C000; gone
45[MQTT-3.1.0-1] ! a DISCONNECT before CONNECT: > E000; gone
45[MQTT-3.1.0-1] ! a PUBACK before CONNECT: > 40{0001}; gone
45[MQTT-3.1.0-1] ! a PUBREL before CONNECT: > 62{0001}; gone
45[MQTT-3.1.0-1] ! a server's CONNACK before CONNECT: > 20{00 00 %}; gone
5[MQTT-3.1.0-1] ! an AUTH before CONNECT: > F0{18 {15"m"}}; gone
4[MQTT-3.1.0-1] 5[MQTT-3.14.0-1] ! no packet of MQTT at all: > 'GET / HTTP/1.1' 0D0A0D0A; gone
45[MQTT-3.1.0-2] a second CONNECT: > 10{"MQTT" lv 02 0000 % "@a"}; gone 82
5[MQTT-3.1.0-2] ! a second CONNECT right behind the first:
    > 10{"MQTT" 05 02 0000 00 "@"} 10{"MQTT" 05 02 0000 00 "@"}; ok; gone 82
45[MQTT-3.2.0-1] ! CONNACK is the first packet, also with a PINGREQ right behind CONNECT:
    > 10{"MQTT" lv 02 0000 % "@"} C000; ok; < D000
4[MQTT-3.1.4-5] ! what follows a refused CONNECT is not processed: b connect; b> 82{0001 "@t" 00}; b< 90{0001 00};
    > 10{"MQTT" 04 00 0000 ""} 30{"@t" 'x'}; refused 02; b quiet
5[MQTT-3.1.4-6] ! what follows a refused CONNECT is not processed: b connect; b> 82{0001 % "@t" 00}; b< 90{0001 % 00};
    > 10{"MQTT" 05 02 0000 {15"m"} "@"} 30{"@t" % 'x'}; refused 8C; b quiet
"##;

const HEADER: &str = r##"
45[MQTT-3.1.2-1] ! a protocol name too short: > 10{"MQT" lv 02 0000 % "@"}; gone
45[MQTT-3.1.2-1] ! a protocol name too long: > 10{"MQTTT" lv 02 0000 % "@"}; gone
45[MQTT-3.1.2-1] ! another protocol name: > 10{"hj" lv 02 0000 % "@"}; gone
45[MQTT-3.1.2-1] ! an empty protocol name: > 10{"" lv 02 0000 % "@"}; gone
45[MQTT-3.1.2-1] ! a protocol name in small letters: > 10{"mqtt" lv 02 0000 % "@"}; gone
4[MQTT-3.1.2-2] ! level 0: > 10{"MQTT" 00 02 0000 "@"}; < 20 03 00 84 00; gone
4[MQTT-3.1.2-2] ! level 2: > 10{"MQTT" 02 02 0000 "@"}; < 20 03 00 84 00; gone
4[MQTT-3.1.2-2] ! level 3: > 10{"MQTT" 03 02 0000 "@"}; < 20 02 00 01; gone
5[MQTT-3.1.2-2] ! level 6: > 10{"MQTT" 06 02 0000 00 "@"}; < 20 03 00 84 00; gone
5[MQTT-3.1.2-2] ! level 6 in the form of version 3.1.1: > 10{"MQTT" 06 00 000A "@"}; < 20 03 00 84 00; gone
// Bit 7 of the level is a bridge's mark; to one the older answer is due, too.
4[MQTT-3.1.2-2] ! a bridge: > 10{"MQTT" 84 02 0000 "@"}; < 20 02 00 01; gone
5[MQTT-3.1.2-2] ! level 255: > 10{"MQTT" FF 02 0000 00 "@"}; < 20 03 00 84 00; gone
// MQTT 3.1: flags of the header and the reserved flag mean nothing, CONNACK does not tell of a session.
4[MQTT-3.1.2-2] ! MQTT 3.1: > 10{"MQIsdp" 03 02 000A "@"}; < 20 02 00 00; quiet
4[MQTT-3.1.2-2] ! MQTT 3.1 with a session: > 14{"MQIsdp" 03 01 000A "@"}; < 20 02 00 00; > E000; gone;
    b> 14{"MQIsdp" 03 01 000A "@"}; b< 20 02 00 00
4[MQTT-3.1.2-2] ! MQTT 3.1 without a client id: > 10{"MQIsdp" 03 02 000A ""}; < 20 02 00 02; gone
4[MQTT-3.1.2-2] ! MQTT 3.1 with another level: > 10{"MQIsdp" 02 02 000A "@"}; < 20 03 00 84 00; gone
4[MQTT-2.2.2-2] ! CONNECT with flags 1: > 11{"MQTT" lv 02 0000 % "@"}; gone
4[MQTT-2.2.2-2] ! CONNECT with flags 2: > 12{"MQTT" lv 02 0000 % "@"}; gone
4[MQTT-2.2.2-2] ! CONNECT with flags 4: > 14{"MQTT" lv 02 0000 % "@"}; gone
4[MQTT-2.2.2-2] ! CONNECT with flags 8: > 18{"MQTT" lv 02 0000 % "@"}; gone
5[MQTT-2.1.3-1] ! CONNECT with flags 1: > 11{"MQTT" lv 02 0000 % "@"}; gone
5[MQTT-2.1.3-1] ! CONNECT with flags 8: > 18{"MQTT" lv 02 0000 % "@"}; gone
45[MQTT-3.1.4-1] ! CONNECT without anything: > 1000; gone
45[MQTT-3.1.4-1] ! CONNECT that ends in the protocol name: > 10{0004 'MQ'}; gone
45[MQTT-3.1.4-1] ! CONNECT that ends behind the protocol name: > 10{"MQTT"}; gone
45[MQTT-3.1.4-1] ! CONNECT that ends behind the level: > 10{"MQTT" lv}; rejected 81
45[MQTT-3.1.4-1] ! CONNECT that ends behind the flags: > 10{"MQTT" lv 02}; rejected 81
45[MQTT-3.1.4-1] ! CONNECT that ends in the keep-alive: > 10{"MQTT" lv 02 00}; rejected 81
5[MQTT-2.2.2-1] ! CONNECT that ends before the properties: > 10{"MQTT" 05 02 0000}; rejected 81
5[MQTT-3.1.4-1] ! properties longer than the packet: > 10{"MQTT" 05 02 0000 24 1900 "@"}; rejected 81
"##;

const FLAGS: &str = r##"
45[MQTT-3.1.2-3] ! the reserved flag: > 10{"MQTT" lv 03 0000 % "@"}; rejected 81
4[MQTT-3.1.2-13] 5[MQTT-3.1.2-11] ! will QoS 1 without a will: > 10{"MQTT" lv 0A 0000 % "@"}; rejected 81
4[MQTT-3.1.2-13] 5[MQTT-3.1.2-11] ! will QoS 2 without a will: > 10{"MQTT" lv 12 0000 % "@"}; rejected 81
4[MQTT-3.1.2-15] 5[MQTT-3.1.2-13] ! will retain without a will: > 10{"MQTT" lv 22 0000 % "@"}; rejected 81
4[MQTT-3.1.2-11] 5[MQTT-3.1.2-11] ! will fields without the will flag:
    > 10{"MQTT" lv 02 0000 % "@" % "@w" "x"}; rejected 81
4[MQTT-3.1.2-14] 5[MQTT-3.1.2-12] ! will QoS 3: > 10{"MQTT" lv 1E 0000 % "@" % "@w" "x"}; rejected 81
45[MQTT-3.1.2-9] ! a will without topic and message: > 10{"MQTT" lv 06 0000 % "@"}; rejected 81
45[MQTT-3.1.2-9] ! a will without message: > 10{"MQTT" lv 06 0000 % "@" % "@w"}; rejected 81
45[MQTT-3.1.2-9] ! a will of QoS 0: > 10{"MQTT" lv 06 0000 % "@" % "@w" "x"}; ok
45[MQTT-3.1.2-9] ! a will of QoS 2, retained: > 10{"MQTT" lv 36 0000 % "@" % "@w" ""}; ok
4[MQTT-3.1.2-18] 5[MQTT-3.1.2-16] ! a user name without its flag: > 10{"MQTT" lv 02 0000 % "@" "u"}; rejected 81
4[MQTT-3.1.2-19] 5[MQTT-3.1.2-17] ! the flag without a user name: > 10{"MQTT" lv 82 0000 % "@"}; gone
4[MQTT-3.1.2-20] 5[MQTT-3.1.2-18] ! a password without its flag: > 10{"MQTT" lv 82 0000 % "@" "u" "p"}; rejected 81
4[MQTT-3.1.2-21] 5[MQTT-3.1.2-19] ! the flag without a password: > 10{"MQTT" lv C2 0000 % "@" "u"}; gone
4[MQTT-3.1.2-22] ! a password without a user name: > 10{"MQTT" 04 42 0000 "@" "p"}; gone
5[MQTT-3.1.2-19] ! a password without a user name: > 10{"MQTT" 05 42 0000 % "@" "p"}; ok
"##;

const PAYLOAD: &str = r##"
45[MQTT-3.1.3-1] ! all fields in their order: > 10{"MQTT" lv C6 0000 % "@" % "@w" "x" "u" "p"}; ok
45[MQTT-3.1.3-1] ! a user name and a password: > 10{"MQTT" lv C2 0000 % "@" "u" "p"}; ok
45[MQTT-3.1.3-1] ! a user name alone: > 10{"MQTT" lv 82 0000 % "@" "u"}; ok
45[MQTT-3.1.3-1] ! an empty user name: > 10{"MQTT" lv 82 0000 % "@" ""}; ok
45[MQTT-3.1.3-1] ! a password of any bytes: > 10{"MQTT" lv C2 0000 % "@" "u" [00FF80C0]}; ok
45[MQTT-3.1.3-1] ! a will message of any bytes: > 10{"MQTT" lv 06 0000 % "@" % "@w" [00FF80C0]}; ok
45[MQTT-3.1.4-1] ! bytes behind the end: > 10{"MQTT" lv 02 0000 % "@" 00}; rejected 81
45[MQTT-3.1.4-1] ! a client id longer than the packet: > 10{"MQTT" lv 02 0000 % 0010 'abc'}; rejected 81
45[MQTT-3.1.4-1] ! a user name longer than the packet: > 10{"MQTT" lv 82 0000 % "@" 0010 'abc'}; gone
45[MQTT-3.1.4-1] ! a password longer than the packet: > 10{"MQTT" lv C2 0000 % "@" "u" FFFF 'abc'}; gone
45[MQTT-3.1.4-1] ! a will topic longer than the packet: > 10{"MQTT" lv 06 0000 % "@" % 0100 'abc'}; rejected 81
"##;

const CLIENT_ID: &str = r##"
45[MQTT-3.1.3-3] ! no client id: > 10{"MQTT" lv 02 0000 %}; rejected 81
45[MQTT-3.1.3-5] ! a client id of one byte: > 10{"MQTT" lv 02 0000 % "Z"}; ok
45[MQTT-3.1.3-5] ! a client id of 23 bytes: > 10{"MQTT" lv 02 0000 % "0123456789abcdefghijklm"}; ok
45[MQTT-3.1.3-5] ! the other letters: > 10{"MQTT" lv 02 0000 % "nopqrstuvwxyzABCDEFGHI"}; ok
45[MQTT-3.1.3-5] ! the rest of the letters: > 10{"MQTT" lv 02 0000 % "JKLMNOPQRSTUVWXYZ"}; ok
45[MQTT-3.1.3-4] ! a longer client id with signs of all kinds: > 10{"MQTT" lv 02 0000 % "é [MQTT-3.1.3-4] +/#$*@ ß"}; ok
4[MQTT-3.1.3-6] ! an empty client id with a clean session: > 10{"MQTT" 04 02 0000 ""}; ok; quiet
4[MQTT-3.1.3-8] ! an empty client id with a kept session: > 10{"MQTT" 04 00 0000 ""}; refused 02
5[MQTT-3.1.3-6] ! an empty client id: > 10{"MQTT" 05 02 0000 % ""}; ok; has 12; quiet
5[MQTT-3.1.3-7] ! an empty client id without clean start: > 10{"MQTT" 05 00 0000 % ""}; ok; has 12; quiet
5[MQTT-3.1.3-7] ! a client id of its own is not assigned another: > 10{"MQTT" 05 02 0000 % "@"}; ok; lacks 12
4[MQTT-3.1.3-9] ! a client id this server rejects: > 10{"MQTT" 04 02 0000 t:300}; refused 02
5[MQTT-3.1.3-8] ! a client id this server rejects: > 10{"MQTT" 05 02 0000 % t:300}; refused 85
"##;
