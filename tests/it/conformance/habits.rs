//! Where the specification leaves a choice: what other brokers do, to the byte. Clients and other suites rely on it.
//!
//! Acknowledgements are as short as they can be, a DISCONNECT is its reason alone, an unknown packet id is no fault.

use super::tables;

tables!(mqtt_3_1_1_answers_as_others_do, mqtt_5_answers_as_others_do: CONNECT, FRAMES, PUBLISH, ACKNOWLEDGE, SUBSCRIBE);

const CONNECT: &str = r##"
5[MQTT-3.1.4-1] ! bytes behind the end: > 10{"MQTT" 05 02 0000 00 "@" 00}; refused 81
5[MQTT-3.1.4-1] ! receive maximum 0: > 10{"MQTT" 05 02 0000 {210000} "@"}; refused 82
5[MQTT-3.1.4-1] ! maximum packet size 0: > 10{"MQTT" 05 02 0000 {2700000000} "@"}; refused 82
5[MQTT-3.1.4-1] ! problem information 2: > 10{"MQTT" 05 02 0000 {1702} "@"}; refused 82
5[MQTT-3.1.4-1] ! response information 2: > 10{"MQTT" 05 02 0000 {1902} "@"}; refused 82
5[MQTT-3.1.4-1] ! authentication data without a method: > 10{"MQTT" 05 02 0000 {16 [01]} "@"}; refused 82
5[MQTT-3.1.4-1] ! a property of another packet: > 10{"MQTT" 05 02 0000 {0101} "@"}; refused 82
5[MQTT-3.1.4-1] ! a will's property of another packet: > 10{"MQTT" 05 06 0000 00 "@" {210001} "@w" "x"}; refused 82
5[MQTT-3.1.2-24] ! a limit that is smaller than CONNACK: > 10{"MQTT" 05 02 0000 {2700000002} "@"}; gone
5[MQTT-3.1.4-1] ! an unknown property: > 10{"MQTT" 05 02 0000 {0001} "@"}; refused 81
// No limit that is none, nothing that is the default, in this order: those bytes are compared by suites.
5[MQTT-3.2.2-1] ! CONNACK of default settings: > 10{"MQTT" 05 02 003C 00 "@"}; < 20{00 00 {22 000A 27 00040000 21 0400}}
5[MQTT-3.2.2-1] ! CONNACK says what it must, no more: > 10{"MQTT" 05 02 003C 00 "@"}; ok; has 21; has 22; has 27; lacks 11; lacks 12;
    lacks 13; lacks 15; lacks 16; lacks 1A; lacks 1C; lacks 1F; lacks 24; lacks 25; lacks 26; lacks 28; lacks 29; lacks 2A
"##;

const FRAMES: &str = r##"
5[MQTT-4.13.1-1] a server's packet without a body: > F0 00; gone 82
5[MQTT-4.13.1-1] CONNACK: > 20{0000 00}; gone 82
5[MQTT-4.13.1-1] PINGRESP: > D0 00; gone 82
5[MQTT-4.13.1-1] PINGRESP with flags: > D1 00; gone 81
5[MQTT-4.13.1-1] PINGRESP with a body: > D0{00}; gone
5[MQTT-4.13.1-1] PINGREQ with a body: > C0{00}; gone
5[MQTT-4.13.1-1] CONNACK with flags: > 21{0000 00}; gone 82
5[MQTT-4.13.1-1] SUBACK: > 90{0001 00 00}; gone 82
5[MQTT-4.13.1-1] SUBACK with flags: > 91{0001 00 00}; gone 81
5[MQTT-4.13.1-1] UNSUBACK: > B0{0001 00 00}; gone 82
5[MQTT-4.13.1-1] UNSUBACK with flags: > B1{0001 00 00}; gone 81
5[MQTT-4.13.1-1] PINGREQ with flags: > C1 00; gone 81
5[MQTT-3.14.1-1] DISCONNECT with flags: > E1 00; gone 81
5[MQTT-3.14.2-1] DISCONNECT with an error: > E0{81 00}; gone
5[MQTT-3.14.2-1] DISCONNECT that refers to a server: > E0{00 {1C"s"}}; gone
5[MQTT-3.14.2-1] DISCONNECT that refers to two servers: > E0{00 {1C"s" 1C"t"}}; gone 82
5[MQTT-3.1.2-23] DISCONNECT that gives a session an expiry it had not: > E0{00 {11 00000001}}; gone 82
"##;

const PUBLISH: &str = r##"
5[MQTT-3.3.1-4] QoS 3: > 36{"@" 0001 00}; gone 81
5[MQTT-3.3.1-2] DUP at QoS 0: > 38{"@" 00}; gone 81
5[MQTT-3.3.2-2] a wildcard in the topic: > 30{"@/#" 00}; gone 81
5[MQTT-1.5.4-1] a control character in the topic: > 30{[7001] 00}; gone 81
5[MQTT-1.5.4-1] no UTF-8 in the topic: > 30{[C328] 00}; gone 81
5[MQTT-4.13.1-1] a property of another packet: > 30{"@" {11 00000001}}; gone 82
5[MQTT-4.13.1-1] a property of another packet, cut short: > 30{"@" {11 000000}}; gone 81
5[MQTT-4.13.1-1] a property of another packet, then one there is not: > 40{0001 00 {230001 70}}; gone 81
5[MQTT-3.3.2-8] an alias never set: > 30{"" {230001}}; gone 82
5[MQTT-3.3.2-8] alias 0: > 30{"@" {230000}}; gone 94
5[MQTT-3.3.2-9] an alias above the maximum: > 30{"@" {23FFFF}}; gone 94
5[MQTT-2.2.1-3] packet id 0: > 32{"@" 0000 00}; gone 82
5[MQTT-2.2.1-3] packet id 0 at QoS 2: > 34{"@" 0000 00}; gone 82
5[MQTT-3.3.2-4] payload format indicator 2: > 30{"@" {0102}}; gone 82
5[MQTT-3.3.4-6] a client's subscription identifier: > 30{"@" {0B01}}; gone 82
5[MQTT-3.3.4-6] a client's subscription identifier 0: > 30{"@" {0B00}}; gone 82
5[MQTT-3.3.4-6] a client's subscription identifier twice: > 30{"@" {0B01 0B02}}; gone 82
5[MQTT-1.5.5-1] a subscription identifier that does not end: > 30{"@" {0B FFFFFFFF}}; gone 81
5[MQTT-3.3.2-14] a wildcard in the response topic: > 30{"@" {08 "a/#"}}; gone 82
5[MQTT-3.4.2-1] QoS 1 for nobody: > 32{"@" 1234 00 'x'}; < 40 03 1234 10
5[MQTT-3.5.2-1] QoS 2 for nobody: > 34{"@" 1234 00 'x'}; < 50 02 1234; > 62 02 1234; < 70 02 1234
5[MQTT-3.4.2-1] QoS 1 for somebody: > 82{0001 00 "@" 00}; < 90 **; b connect; b> 32{"@" 1234 00 'x'}; b< 40 02 1234; < 30{"@" 00 'x'}
4[MQTT-3.4.4-1] QoS 1 for nobody: > 32{"@" 1234 'x'}; < 40 02 1234
4[MQTT-4.7.2-1] a topic of the server's: > 34{"$test/test" 0001 'x'}; < 50 02 0001
4[MQTT-3.3.5-2] the server's own topic: b connect; b> 82{0001 "$SYS/@" 00}; b< 90 **; > 32{"$SYS/@" 0001 'x'}; < 40 02 0001; b quiet
4[MQTT-3.3.5-2] a topic under $share: > 34{"$share/x/y" 0001 'x'}; < 50 02 0001; > 62 02 0001; < 70 02 0001; quiet
5[MQTT-4.7.2-1] a topic of the server's: > 34{"$SYS/broker/uptime" 0001 00 'x'}; < 50 03 0001 87; quiet
5[MQTT-4.7.2-1] a topic under $share: > 34{"$share/x/y" 0001 00 'x'}; < 50 03 0001 87; quiet
5[MQTT-3.3.2-6] an expiry of 1 s is 1 s at once: > 82{0001 00 "@" 00}; < 90 **; > 30{"@" {02 00000001} 'x'};
    < 30{"@" {02 00000001} 'x'}
4[MQTT-2.3.1-4] the server's packet ids begin with 1: > 82{0001 "@" 02}; < 90 **; b connect; b> 32{"@" 1234 'x'}; b< 40 **;
    < 32{"@" 0001 'x'}; > 40 02 0001; b> 32{"@" 1234 'y'}; b< 40 **; < 32{"@" 0002 'y'}
5[MQTT-2.2.1-4] the server's packet ids begin with 1: > 82{0001 00 "@" 02}; < 90 **; b connect; b> 32{"@" 1234 00 'x'}; b< 40 **;
    < 32{"@" 0001 00 'x'}; > 40 02 0001; b> 32{"@" 1234 00 'y'}; b< 40 **; < 32{"@" 0002 00 'y'}
45[MQTT-4.3.3-2] a message to its own sender comes before PUBCOMP: > 82{0001 % "@" 02}; < 90 **; > 34{"@" 1234 % 'x'}; < 50 02 1234;
    > 62 02 1234; < 34{"@" 0001 % 'x'}; < 70 02 1234
"##;

const ACKNOWLEDGE: &str = r##"
5[MQTT-2.2.1-3] PUBACK with packet id 0: > 40{0000}; gone 82
5[MQTT-2.2.1-3] PUBREC with packet id 0: > 50{0000}; gone 82
5[MQTT-2.2.1-3] PUBREL with packet id 0: > 62{0000}; gone 82
5[MQTT-2.2.1-3] PUBCOMP with packet id 0: > 70{0000}; gone 82
45[MQTT-3.6.4-1] PUBREL of an unknown id: > 62{1234}; < 70 02 1234
45[MQTT-3.5.4-1] PUBREC of an unknown id: > 50{1234}; < 62 02 1234
5[MQTT-3.5.4-1] PUBREC with an error: > 50{1234 80}; quiet
5[MQTT-3.4.2-1] PUBACK with an error: > 40{1234 80}; quiet
5[MQTT-3.6.2-1] PUBREL of a forgotten id: > 62{1234 92}; < 70 02 1234
5[MQTT-3.7.2-1] PUBCOMP of a forgotten id: > 70{1234 92}; quiet
5[MQTT-3.4.2-1] PUBACK with a reason that is none: > 40{1234 FF}; gone 82
5[MQTT-3.5.2-1] PUBREC with a reason that is none: > 50{1234 FF}; gone 82
5[MQTT-3.6.2-1] PUBREL with a reason of PUBREC: > 62{1234 80}; gone 82
5[MQTT-3.7.2-1] PUBCOMP with a reason that is none: > 70{1234 20}; gone 82
5[MQTT-2.1.3-1] PUBACK with flags: > 41{1234}; gone 81
5[MQTT-3.6.1-1] PUBREL without its flags: > 60{1234}; gone 81
5[MQTT-4.13.1-1] half a packet id: > 40{12}; gone 81
5[MQTT-4.13.1-1] PUBREC for QoS 1: > 82{0001 00 "@" 02}; < 90 **; b connect; b> 32{"@" 1234 00 'x'}; b< 40 **;
    < 32{"@" #1 00 'x'}; > 50{#1}; gone 82
5[MQTT-4.13.1-1] PUBACK for QoS 2: > 82{0001 00 "@" 02}; < 90 **; b connect; b> 34{"@" 1234 00 'x'}; b< 50 **; b> 62 02 1234; b< 70 **;
    < 34{"@" #1 00 'x'}; > 40{#1}; gone 82
5[MQTT-4.3.3-5] PUBREC again: > 82{0001 00 "@" 02}; < 90 **; b connect; b> 34{"@" 1234 00 'x'}; b< 50 **; b> 62 02 1234; b< 70 **;
    < 34{"@" #1 00 'x'}; > 50{#1}; < 62{#1}; > 50{#1}; < 62{#1}; > 70{#1}; quiet
"##;

const SUBSCRIBE: &str = r##"
5[MQTT-4.13.1-1] a subscription identifier twice: > 82{0001 {0B01 0B01} "@" 00}; gone 82
5[MQTT-1.5.5-1] a subscription identifier with a needless byte: > 82{0001 {0B 8000} "@" 00}; gone 81
5[MQTT-4.13.1-1] a subscription identifier 0: > 82{0001 {0B00} "@" 00}; gone 81
5[MQTT-2.2.1-3] packet id 0: > 82{0000 00 "@" 00}; gone 81
5[MQTT-2.2.1-3] packet id 0 to end: > A2{0000 00 "@"}; gone 81
5[MQTT-3.8.3-5] QoS 3: > 82{0001 00 "@" 03}; gone 81
5[MQTT-3.8.3-5] retain handling 3: > 82{0001 00 "@" 30}; gone 81
5[MQTT-3.8.3-2] no filter: > 82{0001 00}; gone 81
5[MQTT-3.10.3-2] no filter to end: > A2{0001 00}; gone 81
5[MQTT-3.8.3-5] reserved options: > 82{0001 00 "@" 40}; gone 81
5[MQTT-4.7.3-1] an empty filter: > 82{0001 00 "" 00}; gone 81
5[MQTT-4.7.3-1] an empty filter to end: > A2{0001 00 ""}; gone 81
5[MQTT-4.7.1-1] a wildcard within a level: > 82{0001 00 "a#" 00}; gone 81
5[MQTT-2.1.3-1] SUBSCRIBE without its flags: > 80{0001 00 "@" 00}; gone 81
5[MQTT-2.1.3-1] UNSUBSCRIBE without its flags: > A0{0001 00 "@"}; gone 81
45[MQTT-3.9.3-2] a refused filter, also to a client of version 5: > 82{0001 % "test/nosubscribe" 02}; < 90{0001 % 80}
5[MQTT-3.11.3-2] a filter that was not there: > A2{0001 00 "@"}; < B0{0001 00 11}
5[MQTT-4.8.2-2] a wildcard as the name of a group: > 82{0001 00 "$share/#/p" 00}; gone 81
5[MQTT-4.8.2-2] a + as the name of a group: > 82{0001 00 "$share/+/p" 00}; gone 82
5[MQTT-4.8.2-2] nothing behind the name of a group: > 82{0001 00 "$share/p" 00}; gone 82
5[MQTT-4.8.2-2] an empty filter behind the name of a group: > 82{0001 00 "$share/p/" 00}; gone 82
5[MQTT-3.8.3-4] no local in a group: > 82{0001 00 "$share/g/@" 04}; gone 82
4[MQTT-3.8.4-5] a group of a client of 3.1.1: > 82{0001 "$share/g/@" 01}; < 90{0001 01}
45[MQTT-3.3.1-6] a retained message is deleted, and that is told: > 82{0001 % "@" 00}; < 90 **; > 31{"@" %}; < 30{"@" %}
"##;
