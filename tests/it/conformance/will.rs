//! The last will (sections 3.1.2.5, 3.1.3.2).

use super::tables;

tables!(mqtt_3_1_1_publishes_wills, mqtt_5_publishes_wills: PUBLISHED, NOT_PUBLISHED, FAULTY, DELAYED, PROPERTIES);

const PUBLISHED: &str = r##"
45[MQTT-3.1.2-8] ! when the client vanishes: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" lv 06 0000 % "@" % "@w" "gone"}; ok; drop; b< 30{"@w" % 'gone'}; b quiet
45[MQTT-3.1.2-8] ! when a fault closes the connection: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" lv 06 0000 % "@" % "@w" "gone"}; ok; > C100; gone 81; b< 30{"@w" % 'gone'}
4[MQTT-3.1.2-24] 5[MQTT-3.1.2-22] ! when the client is silent: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" lv 06 0001 % "@" % "@w" "gone"}; ok; b< 30{"@w" % 'gone'}; gone 8D
45[MQTT-3.1.2-8] ! when its id is taken over with a clean start: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" lv 06 0000 % "@" % "@w" "gone"}; ok; c> 10{"MQTT" lv 02 0000 % "@"}; c ok; gone 8E; b< 30{"@w" % 'gone'}
45[MQTT-3.1.2-9] ! at QoS 1: b connect; b> 82{0001 % "@w" 02}; b< 90 **; > 10{"MQTT" lv 0E 0000 % "@" % "@w" "gone"}; ok; drop;
    b< 32{"@w" #1 % 'gone'}
45[MQTT-3.1.2-9] ! at QoS 2: b connect; b> 82{0001 % "@w" 02}; b< 90 **; > 10{"MQTT" lv 16 0000 % "@" % "@w" "gone"}; ok; drop;
    b< 34{"@w" #1 % 'gone'}
45[MQTT-3.1.2-9] ! at QoS 0 whatever is granted: b connect; b> 82{0001 % "@w" 02}; b< 90 **;
    > 10{"MQTT" lv 06 0000 % "@" % "@w" "gone"}; ok; drop; b< 30{"@w" % 'gone'}
4[MQTT-3.1.2-17] 5[MQTT-3.1.2-15] ! retained: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" lv 26 0000 % "@" % "@w" "gone"}; ok; drop; b< 30{"@w" % 'gone'}; c connect; c> 82{0001 % "@w" 00}; c< 90 **;
    c< 31{"@w" % 'gone'}
4[MQTT-3.1.2-16] 5[MQTT-3.1.2-14] ! not retained: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" lv 06 0000 % "@" % "@w" "gone"}; ok; drop; b< 30{"@w" % 'gone'}; c connect; c> 82{0001 % "@w" 00}; c< 90 **; c quiet
45[MQTT-3.1.2-9] ! empty: b connect; b> 82{0001 % "@w" 00}; b< 90 **; > 10{"MQTT" lv 06 0000 % "@" % "@w" ""}; ok; drop;
    b< 30{"@w" %}
45[MQTT-3.1.2-9] ! of any bytes: b connect; b> 82{0001 % "@w" 00}; b< 90 **; > 10{"MQTT" lv 06 0000 % "@" % "@w" [00FF80]}; ok;
    drop; b< 30{"@w" % 00FF80}
45[MQTT-3.1.2-7] ! of a kept session: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" lv 04 0000 (5{1100000258}) "@" % "@w" "gone"}; ok; drop; b< 30{"@w" % 'gone'}
5[MQTT-3.1.2-8] ! DISCONNECT that asks for it: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 06 0000 % "@" % "@w" "gone"}; ok; > E0{04}; gone; b< 30{"@w" % 'gone'}
5[MQTT-3.1.2-8] ! DISCONNECT with an error: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 06 0000 % "@" % "@w" "gone"}; ok; > E0{80}; gone; b< 30{"@w" % 'gone'}
"##;

const NOT_PUBLISHED: &str = r##"
4[MQTT-3.14.4-3] 5[MQTT-3.14.4-3] ! after DISCONNECT: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" lv 06 0000 % "@" % "@w" "gone"}; ok; bye; b quiet
5[MQTT-3.14.4-3] ! after DISCONNECT with reason 0 written out: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 06 0000 % "@" % "@w" "gone"}; ok; > E0{00 00}; gone; b quiet
45[MQTT-3.1.2-12] a client without a will: b connect; b> 82{0001 % "@/#" 00}; b< 90 **; drop; tick; b quiet
45[MQTT-3.1.2-10] ! a second time: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" lv 04 0000 (5{1100000258}) "@a" % "@w" "gone"}; ok; drop; b< 30{"@w" % 'gone'}; resume; drop; tick; b quiet
45[MQTT-3.1.2-10] ! one that was taken back by a connection without it: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" lv 04 0000 (5{1100000258}) "@a" % "@w" "gone"}; ok; bye; resume; drop; tick; b quiet
4[MQTT-3.1.2-8] ! of a refused CONNECT: b connect; b> 82{0001 "@w" 00}; b< 90 **;
    > 10{"MQTT" 04 04 0000 "" "@w" "gone"}; refused 02; b quiet
5[MQTT-3.1.2-7] ! of a refused CONNECT: b connect; b> 82{0001 % "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 06 0000 {15"m"} "@" % "@w" "gone"}; refused 8C; b quiet
"##;

const FAULTY: &str = r##"
4[MQTT-4.7.3-1] 5[MQTT-4.7.3-1] ! an empty topic: > 10{"MQTT" lv 06 0000 % "@" % "" "x"}; rejected 81
4[MQTT-3.3.2-2] 5[MQTT-3.3.2-2] ! a topic with +: > 10{"MQTT" lv 06 0000 % "@" % "@/+" "x"}; rejected 81
4[MQTT-3.3.2-2] 5[MQTT-3.3.2-2] ! a topic with #: > 10{"MQTT" lv 06 0000 % "@" % "@/#" "x"}; rejected 81
5[MQTT-2.2.2-1] ! no properties: > 10{"MQTT" 05 06 0000 % "@" "@w" "x"}; rejected 81
"##;

const DELAYED: &str = r##"
5[MQTT-3.1.2-8] ! a delay is waited for: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 04 0000 {1100000258} "@a" {1800000003} "@w" "gone"}; ok; drop; b quiet; b< 30{"@w" 00 'gone'}
5[MQTT-3.1.3-9] ! who is back before it has passed leaves none: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 04 0000 {1100000258} "@a" {1800000002} "@w" "gone"}; ok; drop; resume; tick; tick; b quiet
5[MQTT-3.1.2-8] ! the end of the session comes first: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 04 0000 {1100000001} "@a" {1800000E10} "@w" "gone"}; ok; drop; b< 30{"@w" 00 'gone'}
5[MQTT-3.1.2-8] ! a session without an interval ends at once: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 06 0000 % "@a" {1800000E10} "@w" "gone"}; ok; drop; b< 30{"@w" 00 'gone'}
5[MQTT-3.1.2-8] ! a clean start of the next connection ends the session: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 04 0000 {1100000258} "@a" {1800000E10} "@w" "gone"}; ok; drop; connect; b< 30{"@w" 00 'gone'}
5[MQTT-3.1.3-9] ! taken over without a clean start: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 04 0000 {1100000258} "@a" {1800000001} "@w" "gone"}; ok;
    c> 10{"MQTT" 05 00 0000 {1100000258} "@a"}; c ok present; gone 8E; tick; tick; b quiet
5[MQTT-3.14.4-3] ! DISCONNECT takes a delayed one back: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 04 0000 {1100000258} "@a" {1800000001} "@w" "gone"}; ok; bye; tick; tick; b quiet
5[MQTT-3.1.2-8] ! a delay of 0 is none: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 04 0000 {1100000258} "@a" {1800000000} "@w" "gone"}; ok; drop; b< 30{"@w" 00 'gone'}
"##;

const PROPERTIES: &str = r##"
5[MQTT-3.1.3-10] ! user properties in their order: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 06 0000 % "@" {26"b""2" 26"a""1" 26"b""1"} "@w" "x"}; ok; drop;
    b< 30{"@w" {26"b""2" 26"a""1" 26"b""1"} 'x'}
5[MQTT-3.3.2-20] ! the others unaltered: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 06 0000 % "@" {0101 03"text" 08"@r" 09"cd"} "@w" "x"}; ok; drop;
    b< 30{"@w" p{0101 03"text" 08"@r" 09"cd"} 'x'}
5[MQTT-3.3.2-6] ! the delay is not handed on, the expiry is: b connect; b> 82{0001 00 "@w" 00}; b< 90 **;
    > 10{"MQTT" 05 06 0000 % "@" {1800000000 0200000064} "@w" "x"}; ok; drop; b< 30{"@w" {0200000064} 'x'}
5[MQTT-3.3.2-14] ! a response topic with a wildcard: > 10{"MQTT" 05 06 0000 % "@" {08"@/#"} "@w" "x"}; rejected 82
"##;
