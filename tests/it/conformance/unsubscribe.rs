//! UNSUBSCRIBE (section 3.10).

use super::tables;

tables!(mqtt_3_1_1_unsubscribes_as_specified, mqtt_5_unsubscribes_as_specified: FORM, ANSWER, EFFECT);

const FORM: &str = r##"
45[MQTT-3.10.1-1] flags 0: > A0{0001 % "@"}; gone 81
45[MQTT-3.10.1-1] flags 1: > A1{0001 % "@"}; gone 81
45[MQTT-3.10.1-1] flags 3: > A3{0001 % "@"}; gone 81
45[MQTT-3.10.1-1] flags 4: > A4{0001 % "@"}; gone 81
45[MQTT-3.10.1-1] flags 6: > A6{0001 % "@"}; gone 81
45[MQTT-3.10.1-1] flags 10: > AA{0001 % "@"}; gone 81
4[MQTT-2.3.1-1] 5[MQTT-2.2.1-3] packet id 0: > A2{0000 % "@"}; gone 81
4[MQTT-2.3.1-1] 5[MQTT-2.2.1-3] no packet id: > A200; gone 81
4[MQTT-2.3.1-1] 5[MQTT-2.2.1-3] half a packet id: > A2{01}; gone 81
45[MQTT-3.10.3-2] no filter: > A2{0001 %}; gone 81
5[MQTT-2.2.2-1] no properties: > A2{0001}; gone 81
45[MQTT-3.10.3-1] half the length of a filter: > A2{0001 % 00}; gone 81
45[MQTT-3.10.3-1] a filter longer than the packet: > A2{0001 % 0010 'abc'}; gone 81
45[MQTT-4.7.3-1] an empty filter: > A2{0001 % ""}; gone 81
45[MQTT-4.7.3-1] an empty filter behind a good one: > A2{0001 % "@" ""}; gone 81
"##;

const ANSWER: &str = r##"
4[MQTT-3.10.4-5] 5[MQTT-3.10.4-5] of what was not subscribed: > A2{1234 % "@"}; < B0{1234 (500 11)}; quiet
45[MQTT-3.10.4-4] of what was subscribed: > 82{0001 % "@" 00}; < 90 **; > A2{1234 % "@"}; < B0{1234 (500 00)}
45[MQTT-3.10.4-6] of several at once: > A2{0002 % "@a" "@b"}; < B0{0002 (500 11 11)}
4[MQTT-3.10.4-6] 5[MQTT-3.11.3-1] of some that were and some that were not: > 82{0001 % "@b" 00 "@c" 01}; < 90 **;
    > A2{0002 % "@a" "@b" "@c"}; < B0{0002 (500 11 00 00)}
45[MQTT-3.10.4-5] twice: > 82{0001 % "@" 00}; < 90 **; > A2{0002 % "@"}; < B0{0002 (500 00)}; > A2{0003 % "@"};
    < B0{0003 (500 11)}
5[MQTT-3.10.4-4] a user property is taken: > A2{0001 {26"k""v"} "@"}; < B0{0001 00 11}
"##;

const EFFECT: &str = r##"
45[MQTT-3.10.4-2] nothing more comes: > 82{0001 % "@" 00}; < 90 **; > A2{0002 % "@"}; < B0 **; > 30{"@" % 'x'}; quiet
45[MQTT-3.10.4-2] other filters go on: > 82{0001 % "@a" 00 "@b" 00}; < 90 **; > A2{0002 % "@a"}; < B0 **;
    > 30{"@a" % '1'} 30{"@b" % '2'}; < 30{"@b" % '2'}; quiet
45[MQTT-3.10.4-1] a name is not its filter: > 82{0001 % "@/+" 00}; < 90 **; > A2{0002 % "@/a"}; < B0{0002 (500 11)};
    > 30{"@/a" % 'x'}; < 30{"@/a" % 'x'}
45[MQTT-3.10.4-1] a wildcard does not take names with it: > 82{0001 % "@/a" 00}; < 90 **; > A2{0002 % "@/#"};
    < B0{0002 (500 11)}; > 30{"@/a" % 'x'}; < 30{"@/a" % 'x'}
45[MQTT-3.10.4-1] capital letters differ: > 82{0001 % "@/A" 00}; < 90 **; > A2{0002 % "@/a"}; < B0{0002 (500 11)};
    > 30{"@/A" % 'x'}; < 30{"@/A" % 'x'}
45[MQTT-3.10.4-1] the wildcard filter itself: > 82{0001 % "@/#" 00}; < 90 **; > A2{0002 % "@/#"}; < B0{0002 (500 00)};
    > 30{"@/a" % 'x'}; quiet
45[MQTT-3.10.4-3] a delivery of QoS 1 that has begun is completed: > 82{0001 % "@" 01}; < 90 **; b connect;
    b> 32{"@" 0001 % 'x'}; b< 40 **; < 32{"@" #1 % 'x'}; > A2{0002 % "@"}; < B0 **; > 40{#1}; quiet
45[MQTT-3.10.4-3] a delivery of QoS 2 that has begun is completed: > 82{0001 % "@" 02}; < 90 **; b connect;
    b> 34{"@" 0001 % 'x'}; b< 50 **; b> 62{0001}; b< 70 **; < 34{"@" #1 % 'x'}; > A2{0002 % "@"}; < B0 **; > 50{#1};
    < 62{#1}; > 70{#1}; quiet
45[MQTT-3.10.4-3] and is repeated on the next connection: keep; > 82{0001 % "@" 01}; < 90 **; b connect;
    b> 32{"@" 0001 % 'x'}; b< 40 **; < 32{"@" #1 % 'x'}; > A2{0002 % "@"}; < B0 **; drop; resume; < 3A{"@" #1 % 'x'}
"##;
