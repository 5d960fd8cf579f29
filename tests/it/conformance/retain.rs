//! Retained messages (section 3.3.1.3) and the options of version 5 about them (3.8.3.1).

use super::tables;

tables!(mqtt_3_1_1_retains_as_specified, mqtt_5_retains_as_specified: KEPT, CLEARED, AGAIN, OPTIONS, EXPIRY);

const KEPT: &str = r##"
4[MQTT-3.3.1-6] 5[MQTT-3.3.1-5] a new subscriber gets it: > 31{"@" % 'x'}; quiet; b connect; b> 82{0001 % "@" 00};
    b< 90{0001 % 00}; b< 31{"@" % 'x'}; b quiet
4[MQTT-3.3.1-8] 5[MQTT-3.3.1-5] at the QoS it was published with: > 33{"@" 0001 % 'x'}; < 40 **; b connect;
    b> 82{0001 % "@" 02}; b< 90 **; b< 33{"@" #1 % 'x'}; b> 40{#1}; b quiet
4[MQTT-3.8.4-6] 5[MQTT-3.8.4-8] at the granted QoS at most: > 35{"@" 0001 % 'x'}; < 50 **; > 62{0001}; < 70 **; b connect;
    b> 82{0001 % "@" 01}; b< 90 **; b< 33{"@" #1 % 'x'}
4[MQTT-3.3.1-6] 5[MQTT-3.3.1-9] all that a wildcard matches: > 33{"@/a" 0001 % '1'} 33{"@/b" 0002 % '2'}; < 40 **; < 40 **;
    b connect; b> 82{0001 % "@/+" 00}; b< 90 **; b< 31{"@/a" % '1'} | 31{"@/b" % '2'};
    b< 31{"@/a" % '1'} | 31{"@/b" % '2'}; b quiet
4[MQTT-3.3.1-6] 5[MQTT-3.3.1-9] nothing of other topics: > 33{"@/a" 0001 % 'x'}; < 40 **; b connect; b> 82{0001 % "@/b" 00};
    b< 90 **; b quiet
4[MQTT-3.3.1-5] 5[MQTT-3.3.1-5] the newest only: > 33{"@" 0001 % '1'} 33{"@" 0002 % '2'}; < 40 **; < 40 **; b connect;
    b> 82{0001 % "@" 00}; b< 90 **; b< 31{"@" % '2'}; b quiet
4[MQTT-3.3.1-7] 5[MQTT-3.3.1-5] one of QoS 0 takes the place of one of QoS 1: > 33{"@" 0001 % '1'}; < 40 **; > 31{"@" % '2'};
    quiet; b connect; b> 82{0001 % "@" 01}; b< 90 **; b< 31{"@" % '2'}; b quiet
4[MQTT-3.1.2-7] 5[MQTT-3.3.1-5] the publisher's end does not end it: > 33{"@" 0001 % 'x'}; < 40 **; bye; connect; bye;
    b connect; b> 82{0001 % "@" 00}; b< 90 **; b< 31{"@" % 'x'}
4[MQTT-3.3.1-9] 5[MQTT-3.3.1-12] who is subscribed already gets it as any message: b connect; b> 82{0001 % "@" 00}; b< 90 **;
    > 33{"@" 0001 % 'x'}; < 40 **; b< 30{"@" % 'x'}; b quiet
4[MQTT-3.3.1-12] 5[MQTT-3.3.1-8] a message without RETAIN is not kept: > 32{"@" 0001 % 'x'}; < 40 **; b connect;
    b> 82{0001 % "@" 00}; b< 90 **; b quiet
4[MQTT-3.3.1-12] 5[MQTT-3.3.1-8] a message without RETAIN leaves the kept one: > 33{"@" 0001 % '1'} 32{"@" 0002 % '2'};
    < 40 **; < 40 **; b connect; b> 82{0001 % "@" 00}; b< 90 **; b< 31{"@" % '1'}; b quiet
5[MQTT-3.3.2-17] with its properties: > 33{"@" 0001 {26"a""1" 03"text" 0101 08"@r" 090002 'cd' 26"b""2"} 'x'}; < 40 **;
    b connect; b> 82{0001 00 "@" 00}; b< 90 **;
    b< 31{"@" p{0101 03"text" 08"@r" 090002 'cd' 26"a""1" 26"b""2"} 'x'}
"##;

const CLEARED: &str = r##"
4[MQTT-3.3.1-10] 5[MQTT-3.3.1-6] an empty one clears it: > 33{"@" 0001 % 'x'} 33{"@" 0002 %}; < 40 **; < 40 **; b connect;
    b> 82{0001 % "@" 00}; b< 90 **; b quiet
4[MQTT-3.3.1-11] 5[MQTT-3.3.1-7] an empty one is not kept: > 33{"@" 0001 %}; < 40 **; b connect; b> 82{0001 % "@" 00};
    b< 90 **; b quiet
4[MQTT-3.3.1-10] 5[MQTT-3.3.1-6] subscribers see the empty one: b connect; b> 82{0001 % "@" 00}; b< 90 **;
    > 33{"@" 0001 % 'x'} 33{"@" 0002 %}; < 40 **; < 40 **; b< 30{"@" % 'x'}; b< 30{"@" %}; b quiet
4[MQTT-3.3.1-12] 5[MQTT-3.3.1-8] an empty one without RETAIN clears nothing: > 33{"@" 0001 % 'x'} 32{"@" 0002 %}; < 40 **;
    < 40 **; b connect; b> 82{0001 % "@" 00}; b< 90 **; b< 31{"@" % 'x'}
4[MQTT-3.3.1-10] 5[MQTT-3.3.1-6] at QoS 0: > 31{"@" % 'x'} 31{"@" %}; quiet; b connect; b> 82{0001 % "@" 00}; b< 90 **; b quiet
4[MQTT-3.3.1-10] 5[MQTT-3.3.1-6] at QoS 2: > 35{"@" 0001 % 'x'}; < 50 **; > 62{0001}; < 70 **; > 35{"@" 0002 %}; < 50 **;
    > 62{0002}; < 70 **; b connect; b> 82{0001 % "@" 02}; b< 90 **; b quiet
"##;

const AGAIN: &str = r##"
4[MQTT-3.8.4-3] 5[MQTT-3.8.4-4] subscribing again brings it again: > 33{"@" 0001 % 'x'}; < 40 **; > 82{0001 % "@" 00}; < 90 **;
    < 31{"@" % 'x'}; > 82{0002 % "@" 00}; < 90 **; < 31{"@" % 'x'}; quiet
4[MQTT-3.3.1-6] 5[MQTT-3.3.1-9] two filters that match bring it for each, or once: > 33{"@/a" 0001 % 'x'}; < 40 **;
    > 82{0001 % "@/a" 00}; < 90 **; < 31{"@/a" % 'x'}; > 82{0002 % "@/+" 00}; < 90 **; < 31{"@/a" % 'x'}; quiet
"##;

const OPTIONS: &str = r##"
5[MQTT-3.3.1-13] retain as published: b connect; b> 82{0001 00 "@" 08}; b< 90 **; > 31{"@" 00 'x'}; b< 31{"@" 00 'x'}
5[MQTT-3.3.1-13] retain as published at QoS 1: b connect; b> 82{0001 00 "@" 09}; b< 90 **; > 33{"@" 0001 00 'x'};
    < 40{0001}; b< 33{"@" #1 00 'x'}
5[MQTT-3.3.1-13] retain as published of a message that is not: b connect; b> 82{0001 00 "@" 08}; b< 90 **;
    > 30{"@" 00 'x'}; b< 30{"@" 00 'x'}
5[MQTT-3.3.1-13] retain as published of an empty message: b connect; b> 82{0001 00 "@" 08}; b< 90 **; > 31{"@" 00};
    b< 31{"@" 00}
5[MQTT-3.3.1-9] retain handling 0 brings it each time: > 33{"@" 0001 00 'x'}; < 40 **; > 82{0001 00 "@" 00}; < 90 **;
    < 31{"@" 00 'x'}; > 82{0002 00 "@" 00}; < 90 **; < 31{"@" 00 'x'}
5[MQTT-3.3.1-10] retain handling 1 brings it the first time: > 33{"@" 0001 00 'x'}; < 40 **; > 82{0001 00 "@" 10}; < 90 **;
    < 31{"@" 00 'x'}; > 82{0002 00 "@" 10}; < 90 **; quiet
5[MQTT-3.3.1-10] retain handling 1 after an end is the first time again: > 33{"@" 0001 00 'x'}; < 40 **; > 82{0001 00 "@" 10};
    < 90 **; < 31{"@" 00 'x'}; > A2{0002 00 "@"}; < B0 **; > 82{0003 00 "@" 10}; < 90 **; < 31{"@" 00 'x'}
5[MQTT-3.3.1-10] retain handling 1 with another QoS is not new: > 33{"@" 0001 00 'x'}; < 40 **; > 82{0001 00 "@" 10};
    < 90 **; < 31{"@" 00 'x'}; > 82{0002 00 "@" 11}; < 90 **; quiet
5[MQTT-3.3.1-11] retain handling 2 never brings it: > 33{"@" 0001 00 'x'}; < 40 **; > 82{0001 00 "@" 20}; < 90 **; quiet;
    > 82{0002 00 "@" 20}; < 90 **; quiet
5[MQTT-3.3.1-11] retain handling 2 does not keep new messages back: > 82{0001 00 "@" 20}; < 90 **; > 31{"@" 00 'x'};
    < 30{"@" 00 'x'}
5[MQTT-3.3.1-9] RETAIN is set at subscribing whatever retain as published says: > 33{"@" 0001 00 'x'}; < 40 **;
    > 82{0001 00 "@" 08}; < 90 **; < 31{"@" 00 'x'}
"##;

const EXPIRY: &str = r##"
5[MQTT-3.3.2-5] an expired one does not come: > 33{"@" 0001 {0200000001} 'x'}; < 40 **; tick; b connect; b> 82{0001 00 "@" 00};
    b< 90 **; b quiet
5[MQTT-3.3.2-6] one that waited says how long it is still good: > 33{"@" 0001 {0200000064} 'x'}; < 40 **; tick; b connect;
    b> 82{0001 00 "@" 00}; b< 90 **; b< 31{"@" {0200000063} 'x'} | 31{"@" {0200000062} 'x'} | 31{"@" {0200000061} 'x'}
"##;
