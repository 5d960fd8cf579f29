//! SUBSCRIBE and what a subscription then brings (section 3.8).

use super::tables;

tables!(
    mqtt_3_1_1_subscribes_as_specified, mqtt_5_subscribes_as_specified:
    FORM, FILTERS, ANSWER, QOS, OVERLAP, OPTIONS, IDENTIFIERS
);

const FORM: &str = r##"
45[MQTT-3.8.1-1] flags 0: > 80{0001 % "@" 00}; gone 81
45[MQTT-3.8.1-1] flags 1: > 81{0001 % "@" 00}; gone 81
45[MQTT-3.8.1-1] flags 3: > 83{0001 % "@" 00}; gone 81
45[MQTT-3.8.1-1] flags 4: > 84{0001 % "@" 00}; gone 81
45[MQTT-3.8.1-1] flags 6: > 86{0001 % "@" 00}; gone 81
45[MQTT-3.8.1-1] flags 10: > 8A{0001 % "@" 00}; gone 81
4[MQTT-2.3.1-1] 5[MQTT-2.2.1-3] packet id 0: > 82{0000 % "@" 00}; gone 81
4[MQTT-2.3.1-1] 5[MQTT-2.2.1-3] no packet id: > 8200; gone 81
4[MQTT-2.3.1-1] 5[MQTT-2.2.1-3] half a packet id: > 82{01}; gone 81
4[MQTT-3.8.3-3] 5[MQTT-3.8.3-2] no filter: > 82{0001 %}; gone 81
5[MQTT-2.2.2-1] no properties: > 82{0001}; gone 81
45[MQTT-3.8.3-1] half the length of a filter: > 82{0001 % 00}; gone 81
45[MQTT-3.8.3-1] a filter longer than the packet: > 82{0001 % 0010 'abc'}; gone 81
4[MQTT-3.8.3-3] 5[MQTT-3.8.3-2] a filter without its options: > 82{0001 % "@"}; gone 81
4[MQTT-3.8.3-3] 5[MQTT-3.8.3-2] a second filter without its options: > 82{0001 % "@" 00 "@b"}; gone 81
4[MQTT-3-8.3-4] 5[MQTT-3.8.3-5] a byte behind the last filter: > 82{0001 % "@" 00 00}; gone 81
4[MQTT-3-8.3-4] 5[MQTT-3.8.3-5] QoS 3: > 82{0001 % "@" 03}; gone 81
4[MQTT-3-8.3-4] no local is reserved: > 82{0001 "@" 04}; gone
4[MQTT-3-8.3-4] retain as published is reserved: > 82{0001 "@" 08}; gone
4[MQTT-3-8.3-4] retain handling is reserved: > 82{0001 "@" 10}; gone
4[MQTT-3-8.3-4] bit 5 is reserved: > 82{0001 "@" 20}; gone
4[MQTT-3-8.3-4] bit 6 is reserved: > 82{0001 "@" 40}; gone
4[MQTT-3-8.3-4] bit 7 is reserved: > 82{0001 "@" 80}; gone
5[MQTT-3.8.3-5] retain handling 3: > 82{0001 00 "@" 30}; gone 81
5[MQTT-3.8.3-5] bit 6 is reserved: > 82{0001 00 "@" 40}; gone 81
5[MQTT-3.8.3-5] bit 7 is reserved: > 82{0001 00 "@" 80}; gone 81
5[MQTT-3.8.3-5] the upper half set: > 82{0001 00 "@" F0}; gone 81
5[MQTT-3.8.3-5] a good filter does not save a bad one: > 82{0001 00 "@" 01 "@b" C0}; gone 81
"##;

const FILTERS: &str = r##"
45[MQTT-4.7.3-1] an empty filter: > 82{0001 % "" 00}; gone 81
45[MQTT-4.7.3-1] an empty filter in front of a good one: > 82{0001 % "" 00 "@" 00}; gone 81
45[MQTT-4.7.3-1] an empty filter behind a good one: > 82{0001 % "@" 00 "" 00}; gone 81
4[MQTT-4.7.1-2] 5[MQTT-4.7.1-1] # in the middle: > 82{0001 % "@/#/b" 00}; gone 81
4[MQTT-4.7.1-2] 5[MQTT-4.7.1-1] # behind other characters: > 82{0001 % "@/b#" 00}; gone 81
4[MQTT-4.7.1-2] 5[MQTT-4.7.1-1] # in front of other characters: > 82{0001 % "@/#b" 00}; gone 81
4[MQTT-4.7.1-2] 5[MQTT-4.7.1-1] ##: > 82{0001 % "@/##" 00}; gone 81
4[MQTT-4.7.1-2] 5[MQTT-4.7.1-1] # and a slash: > 82{0001 % "@/#/" 00}; gone 81
4[MQTT-4.7.1-3] 5[MQTT-4.7.1-2] + behind other characters: > 82{0001 % "@/b+" 00}; gone 81
4[MQTT-4.7.1-3] 5[MQTT-4.7.1-2] + in front of other characters: > 82{0001 % "@/+b/c" 00}; gone 81
4[MQTT-4.7.1-3] 5[MQTT-4.7.1-2] + and # in one level: > 82{0001 % "@/+#" 00}; gone 81
45[MQTT-4.7.3-1] a filter of slashes: > 82{0001 % "///" 00}; < 90{0001 % 00}
45[MQTT-4.7.3-3] a long filter: > 82{0001 % t:1000 00}; < 90{0001 % 00}
45[MQTT-4.7.3-3] the longest filter: > 82{0001 % t:65535 00}; < 90{0001 % 00} | 90{0001 % 80} | 90{0001 % 8F}
"##;

const ANSWER: &str = r##"
45[MQTT-3.8.4-1] SUBACK for QoS 0: > 82{0001 % "@" 00}; < 90{0001 % 00}; quiet
4[MQTT-3.8.4-5] 5[MQTT-3.8.4-7] SUBACK for QoS 1: > 82{0001 % "@" 01}; < 90{0001 % 01}
4[MQTT-3.8.4-5] 5[MQTT-3.8.4-7] SUBACK for QoS 2: > 82{0001 % "@" 02}; < 90{0001 % 02}
45[MQTT-3.8.4-2] the largest packet id: > 82{FFFF % "@" 00}; < 90{FFFF % 00}
4[MQTT-3.9.3-1] 5[MQTT-3.9.3-1] one code a filter, in their order: > 82{0007 % "@a" 02 "@b" 00 "@c" 01}; < 90{0007 % 02 00 01}
4[MQTT-3.8.4-4] 5[MQTT-3.8.4-5] several filters are as good as several packets: > 82{0001 % "@a" 00 "@b" 00};
    < 90{0001 % 00 00}; > 30{"@a" % '1'} 30{"@b" % '2'} 30{"@c" % '3'}; < 30{"@a" % '1'}; < 30{"@b" % '2'}; quiet
4[MQTT-3.8.4-5] a refused filter: > 82{0001 "test/nosubscribe" 02}; < 90{0001 80}; quiet
5[MQTT-3.8.4-7] a refused filter: > 82{0001 00 "test/nosubscribe" 02}; < 90{0001 00 80} | 90{0001 00 87} | 90{0001 00 8F}; quiet
4[MQTT-3.9.3-1] a refused filter among others: > 82{0001 "@" 01 "test/nosubscribe" 02 "@b" 02}; < 90{0001 01 80 02}
5[MQTT-3.9.3-1] a refused filter among others: > 82{0001 00 "@" 01 "test/nosubscribe" 02 "@b" 02};
    < 90{0001 00 01 80 02} | 90{0001 00 01 87 02} | 90{0001 00 01 8F 02}
4[MQTT-3.8.4-5] a refused filter brings nothing: > 82{0001 "test/nosubscribe" 02}; < 90{0001 80};
    > 32{"test/nosubscribe" 0001 'x'}; < 40{0001}; quiet
45[MQTT-3.8.4-3] the same filter again replaces it: > 82{0001 % "@" 02}; < 90{0001 % 02}; > 82{0002 % "@" 00}; < 90{0002 % 00};
    > 32{"@" 0001 % 'x'}; < 30 ** | 40{0001}; < 30{"@" % 'x'} | 40{0001}; quiet
45[MQTT-3.8.4-3] the same filter twice in a packet, the last counts: b connect; b> 82{0001 % "@" 00 "@" 01};
    b< 90{0001 % 00 01}; > 32{"@" 0001 % 'x'}; < 40{0001}; b< 32{"@" #1 % 'x'}; b quiet
"##;

const QOS: &str = r##"
4[MQTT-3.8.4-6] 5[MQTT-3.8.4-8] published 0, granted 0: b connect; b> 82{0001 % "@" 00}; b< 90 **; > 30{"@" % 'x'};
    b< 30{"@" % 'x'}
4[MQTT-3.8.4-6] 5[MQTT-3.8.4-8] published 0, granted 1: b connect; b> 82{0001 % "@" 01}; b< 90 **; > 30{"@" % 'x'};
    b< 30{"@" % 'x'}
4[MQTT-3.8.4-6] 5[MQTT-3.8.4-8] published 0, granted 2: b connect; b> 82{0001 % "@" 02}; b< 90 **; > 30{"@" % 'x'};
    b< 30{"@" % 'x'}
4[MQTT-3.8.4-6] 5[MQTT-3.8.4-8] published 1, granted 0: b connect; b> 82{0001 % "@" 00}; b< 90 **; > 32{"@" 0001 % 'x'};
    < 40 **; b< 30{"@" % 'x'}; b quiet
4[MQTT-3.8.4-6] 5[MQTT-3.8.4-8] published 1, granted 1: b connect; b> 82{0001 % "@" 01}; b< 90 **; > 32{"@" 0001 % 'x'};
    < 40 **; b< 32{"@" #1 % 'x'}
4[MQTT-3.8.4-6] 5[MQTT-3.8.4-8] published 1, granted 2: b connect; b> 82{0001 % "@" 02}; b< 90 **; > 32{"@" 0001 % 'x'};
    < 40 **; b< 32{"@" #1 % 'x'}
4[MQTT-3.8.4-6] 5[MQTT-3.8.4-8] published 2, granted 0: b connect; b> 82{0001 % "@" 00}; b< 90 **; > 34{"@" 0001 % 'x'};
    < 50 **; > 62{0001}; < 70 **; b< 30{"@" % 'x'}; b quiet
4[MQTT-3.8.4-6] 5[MQTT-3.8.4-8] published 2, granted 1: b connect; b> 82{0001 % "@" 01}; b< 90 **; > 34{"@" 0001 % 'x'};
    < 50 **; > 62{0001}; < 70 **; b< 32{"@" #1 % 'x'}
4[MQTT-3.8.4-6] 5[MQTT-3.8.4-8] published 2, granted 2: b connect; b> 82{0001 % "@" 02}; b< 90 **; > 34{"@" 0001 % 'x'};
    < 50 **; > 62{0001}; < 70 **; b< 34{"@" #1 % 'x'}
"##;

const OVERLAP: &str = r##"
4[MQTT-3.3.5-1] 5[MQTT-3.3.4-2] one copy at the highest QoS: b connect; b> 82{0001 % "@/#" 02 "@/+" 01 "@/c" 00};
    b< 90{0001 % 02 01 00}; > 34{"@/c" 0001 % 'x'}; < 50 **; > 62{0001}; < 70 **; b< 34{"@/c" #1 % 'x'}; b quiet
4[MQTT-3.3.5-1] 5[MQTT-3.3.4-2] one copy at the highest QoS, the weaker filter last: b connect;
    b> 82{0001 % "@/+" 01 "@/#" 00}; b< 90{0001 % 01 00}; > 34{"@/c" 0001 % 'x'}; < 50 **; > 62{0001}; < 70 **;
    b< 32{"@/c" #1 % 'x'}; b quiet
4[MQTT-3.3.5-1] 5[MQTT-3.3.4-2] one copy of QoS 0: b connect; b> 82{0001 % "@/#" 01 "@/+" 01}; b< 90 **; > 30{"@/c" % 'x'};
    b< 30{"@/c" % 'x'}; b quiet
"##;

const OPTIONS: &str = r##"
5[MQTT-3.8.3-3] no local keeps the own messages back: > 82{0001 00 "@" 04}; < 90{0001 00 00}; > 30{"@" 00 'x'}; quiet
5[MQTT-3.8.3-3] no local keeps the own messages back at QoS 1: > 82{0001 00 "@" 05}; < 90{0001 00 01}; > 32{"@" 0001 00 'x'};
    < 40{0001} | 40{0001 10}; quiet
5[MQTT-3.8.3-3] no local lets the messages of others through: > 82{0001 00 "@" 05}; < 90{0001 00 01}; b connect;
    b> 32{"@" 0001 00 'x'}; b< 40{0001}; < 32{"@" #1 00 'x'}
5[MQTT-3.8.3-3] no local of one filter does not bind another: > 82{0001 00 "@/a" 04 "@/+" 00}; < 90{0001 00 00 00};
    > 30{"@/a" 00 'x'}; < 30{"@/a" 00 'x'}; quiet
5[MQTT-3.8.4-3] subscribing again takes no local back: > 82{0001 00 "@" 04}; < 90 **; > 82{0002 00 "@" 00}; < 90 **;
    > 30{"@" 00 'x'}; < 30{"@" 00 'x'}
5[MQTT-3.8.3-5] all options at once: > 82{0001 00 "@" 2E}; < 90{0001 00 02}
5[MQTT-3.8.4-1] a user property is taken: > 82{0001 {26"k""v" 26"k""w"} "@" 00}; < 90{0001 00 00}
"##;

const IDENTIFIERS: &str = r##"
5[MQTT-3.3.4-3] the identifier comes with the message: > 82{0001 {0B01} "@" 00}; < 90{0001 00 00}; > 30{"@" 00 'x'};
    < 30{"@" {0B01} 'x'}
5[MQTT-3.3.4-3] the largest identifier: > 82{0001 {0B v:268435455} "@" 01}; < 90 **; b connect; b> 32{"@" 0001 00 'x'}; b< 40 **;
    < 32{"@" #1 {0B v:268435455} 'x'}
5[MQTT-3.3.4-3] one identifier for all filters of a packet: > 82{0001 {0B07} "@a" 00 "@b" 00}; < 90 **; > 30{"@b" 00 'x'};
    < 30{"@b" {0B07} 'x'}
5[MQTT-3.3.4-4] all identifiers of overlapping filters: b connect; b> 82{0001 {0B02} "@/a" 00}; b< 90 **;
    b> 82{0002 {0B v:300} "@/#" 00}; b< 90 **; > 30{"@/a" 00 'x'}; b< 30{"@/a" p{0B02 0B v:300} 'x'}; b quiet
5[MQTT-3.3.4-4] only of filters that have one: b connect; b> 82{0001 {0B02} "@/a" 00}; b< 90 **; b> 82{0002 00 "@/#" 00};
    b< 90 **; > 30{"@/a" 00 'x'}; b< 30{"@/a" {0B02} 'x'}; b quiet
5[MQTT-3.3.4-4] only of filters that match: b connect; b> 82{0001 {0B02} "@/a" 00}; b< 90 **; b> 82{0002 {0B03} "@/b" 00};
    b< 90 **; > 30{"@/b" 00 'x'}; b< 30{"@/b" {0B03} 'x'}; b quiet
5[MQTT-3.8.4-3] subscribing again without one takes it away: > 82{0001 {0B01} "@" 00}; < 90 **; > 82{0002 00 "@" 00}; < 90 **;
    > 30{"@" 00 'x'}; < 30{"@" 00 'x'}
5[MQTT-3.8.4-3] subscribing again with another replaces it: > 82{0001 {0B01} "@" 00}; < 90 **; > 82{0002 {0B02} "@" 00}; < 90 **;
    > 30{"@" 00 'x'}; < 30{"@" {0B02} 'x'}
5[MQTT-3.3.4-3] beside the publisher's properties: b connect; b> 82{0001 {0B05} "@" 00}; b< 90 **;
    > 30{"@" {26"k""v" 03"text"} 'x'}; b< 30{"@" p{0B05 03"text" 26"k""v"} 'x'}
5[MQTT-3.3.4-3] with a retained message: > 33{"@" 0001 00 'x'}; < 40 **; > 82{0001 {0B09} "@" 00}; < 90 **;
    < 31{"@" {0B09} 'x'}
5[MQTT-3.8.4-1] identifier 0: > 82{0001 {0B00} "@" 00}; gone 81
5[MQTT-3.8.4-1] two identifiers: > 82{0001 {0B01 0B02} "@" 00}; gone 82
5[MQTT-1.5.5-1] an identifier written with a needless byte: > 82{0001 {0B8000} "@" 00}; gone 81
5[MQTT-1.5.5-1] an identifier of five bytes: > 82{0001 {0B8080808001} "@" 00}; gone 81
"##;
