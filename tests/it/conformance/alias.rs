//! Topic aliases in both directions (section 3.3.2.3.4).

use super::tables;

tables!(mqtt_3_1_1_knows_no_alias, mqtt_5_uses_topic_aliases: OF_CLIENT, OF_SERVER);

const OF_CLIENT: &str = r##"
5[MQTT-3.3.2-12] an alias stands for the topic: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {230001} '1'};
    b< 30{"@" 00 '1'}; > 30{"" {230001} '2'}; b< 30{"@" 00 '2'}
5[MQTT-3.3.2-12] at QoS 1 and 2: b connect; b> 82{0001 00 "@" 02}; b< 90 **; > 32{"@" 0001 {230001} '1'}; < 40{0001};
    b< 32{"@" #1 00 '1'}; > 34{"" 0002 {230001} '2'}; < 50{0002}; > 62{0002}; < 70{0002}; b< 34{"@" #2 00 '2'}
5[MQTT-3.3.2-12] the topic and its alias once more: b connect; b> 82{0001 00 "@" 00}; b< 90 **;
    > 30{"@" {230001} '1'} 30{"@" {230001} '2'}; b< 30{"@" 00 '1'}; b< 30{"@" 00 '2'}
5[MQTT-3.3.2-12] an alias may be given to another topic: b connect; b> 82{0001 00 "@b" 00}; b< 90 **; > 30{"@a" {230001} '1'};
    > 30{"@b" {230001} '2'}; b< 30{"@b" 00 '2'}; > 30{"" {230001} '3'}; b< 30{"@b" 00 '3'}; b quiet
5[MQTT-3.3.2-12] several aliases: b connect; b> 82{0001 00 "@/+" 00}; b< 90 **; > 30{"@/a" {230001} '1'} 30{"@/b" {230002} '2'};
    b< 30{"@/a" 00 '1'}; b< 30{"@/b" 00 '2'}; > 30{"" {230002} '3'} 30{"" {230001} '4'}; b< 30{"@/b" 00 '3'}; b< 30{"@/a" 00 '4'}
5[MQTT-3.3.2-12] beside other properties: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {26"k""v" 230001} '1'};
    b< 30{"@" {26"k""v"} '1'}; > 30{"" {230001 26"k""w"} '2'}; b< 30{"@" {26"k""w"} '2'}
5[MQTT-3.3.2-7] an alias ends with the connection: keep; > 30{"@" {230001} 'x'}; quiet; drop; resume; > 30{"" {230001} 'x'};
    gone 82
5[MQTT-3.3.2-7] an alias is its client's own: > 30{"@" {230001} 'x'}; quiet; b connect; b> 30{"" {230001} 'x'}; b gone 82; quiet
5[MQTT-3.3.2-8] alias 0: > 30{"@" {230000} 'x'}; gone 94
5[MQTT-3.3.2-8] alias 0 at QoS 1: > 32{"@" 0001 {230000} 'x'}; gone 94
5[MQTT-3.3.2-9] an alias larger than the server's maximum: > 30{"@" {23FFFF} 'x'}; gone 94
5[MQTT-3.3.2-12] an alias never given: > 30{"" {230001} 'x'}; gone 82
5[MQTT-3.3.2-12] two aliases: > 30{"@" {230001 230002} 'x'}; gone 82
5[MQTT-3.3.2-1] neither topic nor alias: > 30{"" 00 'x'}; gone 81
5[MQTT-3.3.1-5] a retained message by alias: > 31{"@" {230001} '1'} 33{"" 0001 {230001} '2'}; < 40 **; b connect;
    b> 82{0001 00 "@" 00}; b< 90 **; b< 31{"@" 00 '2'}
4[MQTT-4.7.3-1] an empty topic has no alias to stand for it: > 30{"" 'x'}; gone
"##;

const OF_SERVER: &str = r##"
5[MQTT-3.1.2-27] none to a client that takes none: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" 00 '1'} 30{"@" 00 '2'};
    b< 30{"@" 00 '1'}; b< 30{"@" 00 '2'}
5[MQTT-3.1.2-27] none to a client that takes 0: b> 10{"MQTT" 05 02 0000 {220000} "@b"}; b ok; b> 82{0001 00 "@" 00}; b< 90 **;
    > 30{"@" 00 '1'} 30{"@" 00 '2'}; b< 30{"@" 00 '1'}; b< 30{"@" 00 '2'}
5[MQTT-3.1.2-26] no larger one than the client takes: b> 10{"MQTT" 05 02 0000 {220001} "@b"}; b ok; b> 82{0001 00 "@/+" 00}; b< 90 **;
    > 30{"@/a" 00 '1'}; b< 30{"@/a" 00 '1'} | 30{"@/a" {230001} '1'}; > 30{"@/a" 00 '2'};
    b< 30{"@/a" 00 '2'} | 30{"@/a" {230001} '2'} | 30{"" {230001} '2'}; > 30{"@/b" 00 '3'}; b< 30{"@/b" 00 '3'} | 30{"@/b" {230001} '3'}
5[MQTT-3.3.2-11] a client that takes one is given it: b> 10{"MQTT" 05 02 0000 {220001} "@b"}; b ok; b> 82{0001 00 "@" 01}; b< 90 **;
    > 32{"@" 0001 00 '1'} 32{"@" 0002 00 '2'}; < 40 **; < 40 **; b< 32{"@" #1 {230001} '1'}; b< 32{"" #2 {230001} '2'}
5[MQTT-3.3.2-7] on the next connection it begins with the topic: b> 10{"MQTT" 05 00 0000 {1100000258 220001} "@b"}; b ok;
    b> 82{0001 00 "@" 01}; b< 90 **; > 32{"@" 0001 00 '1'} 32{"@" 0002 00 '2'}; < 40 **; < 40 **; b< 32 **; b< 32 **; b open;
    b> 10{"MQTT" 05 00 0000 {1100000258 220001} "@b"}; b ok present; b< 3A{"@" #1 {230001} '1'} | 3A{"@" #1 00 '1'};
    b< 3A{"@" #2 00 '2'} | 3A{"" #2 {230001} '2'} | 3A{"@" #2 {230001} '2'}
5[MQTT-3.3.2-11] the largest maximum: b> 10{"MQTT" 05 02 0000 {22FFFF} "@b"}; b ok; b> 82{0001 00 "@" 00}; b< 90 **;
    > 30{"@" 00 '1'}; b< 30{"@" 00 '1'} | 30{"@" {23....} '1'}
"##;
