//! PUBLISH: its form, its acknowledgement, and that it arrives as it was sent (section 3.3).

use super::tables;

tables!(mqtt_3_1_1_publishes_as_specified, mqtt_5_publishes_as_specified: FORM, ANSWER, DELIVERY, BETWEEN_VERSIONS);

const FORM: &str = r##"
45[MQTT-3.3.1-4] QoS 3: > 36{"@" % 'x'}; gone 81
45[MQTT-3.3.1-4] QoS 3 with a packet id: > 36{"@" 0001 % 'x'}; gone 81
45[MQTT-3.3.1-4] QoS 3, DUP and RETAIN: > 3F{"@" 0001 % 'x'}; gone 81
45[MQTT-3.3.1-2] DUP at QoS 0: > 38{"@" % 'x'}; gone 81
45[MQTT-3.3.1-2] DUP at QoS 0, retained: > 39{"@" % 'x'}; gone 81
4[MQTT-2.3.1-1] 5[MQTT-2.2.1-3] packet id 0 at QoS 1: > 32{"@" 0000 % 'x'}; gone 82
4[MQTT-2.3.1-1] 5[MQTT-2.2.1-3] packet id 0 at QoS 2: > 34{"@" 0000 % 'x'}; gone 82
4[MQTT-2.3.1-1] 5[MQTT-2.2.1-3] no packet id at QoS 1: > 32{"@"}; gone 81
4[MQTT-2.3.1-1] 5[MQTT-2.2.1-3] half a packet id at QoS 2: > 34{"@" 00}; gone 81
45[MQTT-3.3.2-1] no topic: > 3000; gone 81
45[MQTT-3.3.2-1] half the length of a topic: > 30{00}; gone 81
45[MQTT-3.3.2-1] a topic longer than the packet: > 30{0010 'abc'}; gone 81
5[MQTT-2.2.2-1] no properties at QoS 0: > 30{"@"}; gone 81
5[MQTT-2.2.2-1] properties longer than the packet: > 30{"@" 20 01}; gone 81
45[MQTT-3.3.2-2] a topic with +: > 30{"@/+" % 'x'}; gone 81
45[MQTT-3.3.2-2] a topic with #: > 30{"@/#" % 'x'}; gone 81
45[MQTT-3.3.2-2] a topic with + within a level: > 30{"@a+b" % 'x'}; gone 81
45[MQTT-3.3.2-2] a topic with # within a level: > 32{"@a#" 0001 % 'x'}; gone 81
4[MQTT-4.7.3-1] 5[MQTT-3.3.2-1] an empty topic: > 30{"" % 'x'}; gone 81
4[MQTT-4.7.3-1] 5[MQTT-3.3.2-1] an empty topic at QoS 1: > 32{"" 0001 % 'x'}; gone 81
"##;

const ANSWER: &str = r##"
4[MQTT-3.3.4-1] 5[MQTT-3.3.4-1] QoS 0 is not acknowledged: > 30{"@" % 'x'}; quiet
4[MQTT-3.3.4-1] 5[MQTT-3.3.4-1] QoS 1 gets PUBACK: > 32{"@" 1234 % 'x'}; < 40{1234} | 40{1234 (510)}
4[MQTT-3.3.4-1] 5[MQTT-3.3.4-1] QoS 2 gets PUBREC: > 34{"@" 1234 % 'x'}; < 50{1234} | 50{1234 (510)}
4[MQTT-2.3.1-6] 5[MQTT-2.2.1-5] the largest packet id: > 32{"@" FFFF % 'x'}; < 40{FFFF} | 40{FFFF (510)}
45[MQTT-3.3.1-1] DUP on the first time at QoS 1: > 3A{"@" 1234 % 'x'}; < 40{1234} | 40{1234 (510)}
45[MQTT-3.3.1-1] DUP on the first time at QoS 2: > 3C{"@" 1234 % 'x'}; < 50{1234} | 50{1234 (510)}
45[MQTT-3.3.4-1] an empty message: > 32{"@" 0001 %}; < 40{0001} | 40{0001 (510)}
45[MQTT-3.3.4-1] with a subscriber PUBACK says so: b connect; b> 82{0001 % "@" 00}; b< 90{0001 % 00};
    > 32{"@" 0001 % 'x'}; < 40{0001}; b< 30{"@" % 'x'}
4[MQTT-4.6.0-2] 5[MQTT-4.3.2-4] several in one write are acknowledged in their order:
    > 32{"@" 0003 % 'x'} 34{"@" 0001 % 'x'} 32{"@" 0002 % 'x'} 30{"@" % 'x'};
    < 40{0003} | 40{0003 (510)}; < 50{0001} | 50{0001 (510)}; < 40{0002} | 40{0002 (510)}; quiet
4[MQTT-3.3.5-2] 5[MQTT-3.3.4-1] a topic of $ is acknowledged: > 32{"$@/x" 0001 % 'x'}; < 40{0001} | 40 03 0001 ..
"##;

const DELIVERY: &str = r##"
45[MQTT-3.3.2-3] to a subscriber of just this topic: b connect; b> 82{0001 % "@/a" 00}; b< 90{0001 % 00};
    > 30{"@/a" % 'one'}; b< 30{"@/a" % 'one'}
45[MQTT-3.3.2-3] not to one of another topic: b connect; b> 82{0001 % "@/b" 00}; b< 90{0001 % 00};
    > 32{"@/a" 0001 % 'x'}; < 40 **; b quiet
45[MQTT-4.5.0-1] to the publisher itself: > 82{0001 % "@" 00}; < 90{0001 % 00}; > 30{"@" % 'x'}; < 30{"@" % 'x'}
45[MQTT-4.5.0-1] to all subscribers: b connect; b> 82{0001 % "@" 00}; b< 90{0001 % 00}; c connect;
    c> 82{0001 % "@" 01}; c< 90{0001 % 01}; > 32{"@" 0001 % 'x'}; < 40{0001}; b< 30{"@" % 'x'}; c< 32{"@" #1 % 'x'}
45[MQTT-4.5.0-1] an empty message arrives, too: b connect; b> 82{0001 % "@" 00}; b< 90{0001 % 00}; > 30{"@" %};
    b< 30{"@" %}
45[MQTT-4.5.0-1] any bytes arrive as they were: b connect; b> 82{0001 % "@" 00}; b< 90{0001 % 00};
    > 30{"@" % 00FF80C3280A}; b< 30{"@" % 00FF80C3280A}
45[MQTT-4.5.0-1] a large message arrives whole: b connect; b> 82{0001 % "@" 01}; b< 90{0001 % 01};
    > 32{"@" 0001 % fill:200000}; < 40{0001}; b< 32{"@" #1 % fill:200000}
45[MQTT-3.3.1-3] DUP is not handed on: b connect; b> 82{0001 % "@" 01}; b< 90{0001 % 01};
    > 3A{"@" 0001 % 'x'}; < 40{0001}; b< 32{"@" #1 % 'x'}
4[MQTT-4.6.0-6] 5[MQTT-4.6.0-5] messages of QoS 1 keep their order: b connect; b> 82{0001 % "@" 01}; b< 90{0001 % 01};
    > 32{"@" 0001 % '1'} 32{"@" 0002 % '2'} 32{"@" 0003 % '3'}; < 40{0001}; < 40{0002}; < 40{0003};
    b< 32{"@" #1 % '1'}; b< 32{"@" #2 % '2'}; b< 32{"@" #3 % '3'}
4[MQTT-4.6.0-6] 5[MQTT-4.6.0-5] messages of QoS 0 keep their order: b connect; b> 82{0001 % "@" 00}; b< 90{0001 % 00};
    > 30{"@" % '1'} 30{"@" % '2'} 30{"@" % '3'}; b< 30{"@" % '1'}; b< 30{"@" % '2'}; b< 30{"@" % '3'}
4[MQTT-4.6.0-6] 5[MQTT-4.6.0-5] messages of QoS 2 keep their order: b connect; b> 82{0001 % "@" 02}; b< 90{0001 % 02};
    > 34{"@" 0001 % '1'} 34{"@" 0002 % '2'}; < 50{0001}; < 50{0002}; > 62{0001} 62{0002}; < 70{0001}; < 70{0002};
    b< 34{"@" #1 % '1'}; b< 34{"@" #2 % '2'}
4[MQTT-2.3.1-4] 5[MQTT-2.2.1-4] the server's first packet id is 1: b connect; b> 82{0001 % "@" 01}; b< 90{0001 % 01};
    > 32{"@" 0001 % 'x'}; < 40{0001}; b< 32{"@" 0001 % 'x'}
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] what came before a fault is published: b connect; b> 82{0001 % "@" 00};
    b< 90{0001 % 00}; > 30{"@" % 'x'} C1 00; gone 81; b< 30{"@" % 'x'}
"##;

const BETWEEN_VERSIONS: &str = r##"
4[MQTT-4.5.0-1] a message of 3.1.1 reaches version 5: b> 10{"MQTT" 05 02 0000 00 "@b"}; b< 20 **;
    b> 82{0001 00 "@" 01}; b< 90{0001 00 01}; > 32{"@" 0001 'x'}; < 40{0001}; b< 32{"@" #1 00 'x'}
5[MQTT-4.5.0-1] a message of 5 reaches version 3.1.1 without its properties: b> 10{"MQTT" 04 02 0000 "@b"}; b< 20 02 0000;
    b> 82{0001 "@" 02}; b< 90{0001 02}; > 32{"@" 0001 {0101 03"text" 26"k""v" 0200000064} 'x'}; < 40{0001};
    b< 32{"@" #1 'x'}
5[MQTT-3.3.1-5] a retained message of 5 reaches version 3.1.1: > 33{"@" 0001 {26"k""v"} 'x'}; < 40 **;
    b> 10{"MQTT" 04 02 0000 "@b"}; b< 20 02 0000; b> 82{0001 "@" 00}; b< 90{0001 00}; b< 31{"@" 'x'}
"##;
