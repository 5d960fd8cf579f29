//! The delivery protocols of QoS 1 and 2 in both directions, and what is sent again (sections 4.3, 4.4).

use super::tables;

tables!(
    mqtt_3_1_1_delivers_at_the_promised_quality, mqtt_5_delivers_at_the_promised_quality:
    FROM_CLIENT, TO_CLIENT, AGAIN, WRONG_STEP
);
tables!(mqtt_3_1_1_reads_acknowledgements, mqtt_5_reads_acknowledgements: FORM, REASONS);

const FROM_CLIENT: &str = r##"
4[MQTT-4.3.3-2] 5[MQTT-4.3.3-11] PUBREL gets PUBCOMP: > 34{"@" 0001 % 'x'}; < 50{0001} | 50{0001 (510)}; > 62{0001};
    < 70{0001}; quiet
4[MQTT-4.3.3-2] 5[MQTT-4.3.3-8] QoS 2 reaches a subscriber once: b connect; b> 82{0001 % "@" 02}; b< 90{0001 % 02};
    > 34{"@" 0001 % 'x'}; < 50{0001}; > 62{0001}; < 70{0001}; b< 34{"@" #1 % 'x'}; b> 50{#1}; b< 62{#1}; b> 70{#1};
    b quiet
4[MQTT-4.3.3-2] 5[MQTT-4.3.3-10] the same id before PUBREL is acknowledged and not delivered again: b connect;
    b> 82{0001 % "@" 00}; b< 90{0001 % 00}; > 34{"@" 0001 % 'x'}; < 50{0001}; > 3C{"@" 0001 % 'x'}; < 50{0001};
    > 62{0001}; < 70{0001}; b< 30{"@" % 'x'}; b quiet
4[MQTT-4.3.3-2] 5[MQTT-4.3.3-12] the same id after PUBCOMP is a new message: b connect; b> 82{0001 % "@" 00};
    b< 90{0001 % 00}; > 34{"@" 0001 % '1'}; < 50{0001}; > 62{0001}; < 70{0001}; > 34{"@" 0001 % '2'}; < 50{0001};
    > 62{0001}; < 70{0001}; b< 30{"@" % '1'}; b< 30{"@" % '2'}
4[MQTT-4.3.2-2] 5[MQTT-4.3.2-5] the same id after PUBACK is a new message, also with DUP: b connect;
    b> 82{0001 % "@" 00}; b< 90{0001 % 00}; > 32{"@" 0001 % '1'}; < 40{0001}; > 3A{"@" 0001 % '2'}; < 40{0001};
    b< 30{"@" % '1'}; b< 30{"@" % '2'}
4[MQTT-4.3.3-2] 5[MQTT-4.3.3-11] PUBREL of an unknown id gets PUBCOMP: > 62{0009}; < 70{0009} | 70{0009 92}; quiet
4[MQTT-4.3.3-2] 5[MQTT-4.3.3-11] PUBREL twice gets PUBCOMP twice: > 34{"@" 0001 % 'x'}; < 50 **; > 62{0001}; < 70{0001};
    > 62{0001}; < 70{0001} | 70{0001 92}
4[MQTT-4.3.3-2] 5[MQTT-4.3.3-10] a PUBREL on the next connection: keep; > 34{"@" 0001 % 'x'}; < 50 **; drop; resume;
    > 62{0001}; < 70{0001}; quiet
4[MQTT-4.3.3-2] 5[MQTT-4.3.3-10] ! a repetition on the next connection is not delivered again: b connect;
    b> 82{0001 % "@" 00}; b< 90{0001 % 00}; keep; > 34{"@" 0001 % 'x'}; < 50{0001}; b< 30{"@" % 'x'}; drop; resume;
    > 3C{"@" 0001 % 'x'}; < 50{0001}; > 62{0001}; < 70{0001}; b quiet
"##;

const TO_CLIENT: &str = r##"
45[MQTT-4.3.2-1] QoS 1 ends with PUBACK: > 82{0001 % "@" 01}; < 90{0001 % 01}; b connect; b> 32{"@" 0001 % 'x'}; b< 40{0001};
    < 32{"@" #1 % 'x'}; > 40{#1}; quiet
4[MQTT-4.3.3-1] 5[MQTT-4.3.3-4] PUBREC gets PUBREL: > 82{0001 % "@" 02}; < 90{0001 % 02}; b connect;
    b> 34{"@" 0001 % 'x'}; b< 50{0001}; b> 62{0001}; b< 70{0001}; < 34{"@" #1 % 'x'}; > 50{#1}; < 62{#1}; > 70{#1}; quiet
4[MQTT-4.3.3-1] 5[MQTT-4.3.3-6] PUBREC again gets PUBREL again, not the message: > 82{0001 % "@" 02}; < 90{0001 % 02};
    b connect; b> 34{"@" 0001 % 'x'}; b< 50{0001}; b> 62{0001}; b< 70{0001}; < 34{"@" #1 % 'x'}; > 50{#1}; < 62{#1};
    > 50{#1}; < 62{#1}; > 70{#1}; quiet
45[MQTT-4.4.0-1] nothing is sent again on a connection that lives: > 82{0001 % "@" 01}; < 90{0001 % 01}; b connect;
    b> 32{"@" 0001 % 'x'}; b< 40{0001}; < 32{"@" #1 % 'x'}; tick; quiet
4[MQTT-4.3.2-1] 5[MQTT-2.2.1-4] PUBACK of an unknown id is passed over: > 40{0009}; quiet
4[MQTT-4.3.3-1] 5[MQTT-2.2.1-4] PUBCOMP of an unknown id is passed over: > 70{0009}; quiet
4[MQTT-4.3.3-1] 5[MQTT-4.3.3-4] PUBREC of an unknown id gets PUBREL: > 50{0009}; < 62{0009} | 62{0009 92}; quiet
5[MQTT-4.3.3-4] PUBREC with an error of an unknown id gets nothing: > 50{0009 80}; quiet
5[MQTT-4.4.0-2] PUBREC with an error ends the delivery: keep; > 82{0001 % "@" 02}; < 90{0001 % 02}; b connect;
    b> 34{"@" 0001 % 'x'}; b< 50{0001}; b> 62{0001}; b< 70{0001}; < 34{"@" #1 % 'x'}; > 50{#1 97}; quiet; drop; resume; quiet
5[MQTT-4.4.0-2] PUBACK with an error ends the delivery: keep; > 82{0001 % "@" 01}; < 90{0001 % 01}; b connect;
    b> 32{"@" 0001 % 'x'}; b< 40{0001}; < 32{"@" #1 % 'x'}; > 40{#1 80}; quiet; drop; resume; quiet
"##;

const AGAIN: &str = r##"
45[MQTT-4.4.0-1] QoS 1 without PUBACK comes again, same id, DUP set: keep; > 82{0001 % "@" 01}; < 90{0001 % 01}; b connect;
    b> 32{"@" 0001 % 'x'}; b< 40{0001}; < 32{"@" #1 % 'x'}; drop; resume; < 3A{"@" #1 % 'x'}; > 40{#1}; quiet
45[MQTT-4.4.0-1] QoS 2 without PUBREC comes again, same id, DUP set: keep; > 82{0001 % "@" 02}; < 90{0001 % 02}; b connect;
    b> 34{"@" 0001 % 'x'}; b< 50 **; b> 62{0001}; b< 70 **; < 34{"@" #1 % 'x'}; drop; resume; < 3C{"@" #1 % 'x'};
    > 50{#1}; < 62{#1}; > 70{#1}; quiet
4[MQTT-4.4.0-1] 5[MQTT-4.3.3-6] after PUBREC only PUBREL comes again: keep; > 82{0001 % "@" 02}; < 90{0001 % 02}; b connect;
    b> 34{"@" 0001 % 'x'}; b< 50 **; b> 62{0001}; b< 70 **; < 34{"@" #1 % 'x'}; > 50{#1}; < 62{#1}; drop; resume;
    < 62{#1}; > 70{#1}; quiet
4[MQTT-4.6.0-1] 5[MQTT-4.6.0-5] what comes again keeps its order: keep; > 82{0001 % "@" 02}; < 90{0001 % 02}; b connect;
    b> 32{"@" 0001 % '1'} 34{"@" 0002 % '2'} 32{"@" 0003 % '3'}; b< 40 **; b< 50 **; b< 40 **; b> 62{0002}; b< 70 **;
    < 32{"@" #1 % '1'}; < 34{"@" #2 % '2'}; < 32{"@" #3 % '3'}; drop; resume;
    < 3A{"@" #1 % '1'}; < 3C{"@" #2 % '2'}; < 3A{"@" #3 % '3'}
45[MQTT-4.4.0-1] what was acknowledged does not come again: keep; > 82{0001 % "@" 01}; < 90{0001 % 01}; b connect;
    b> 32{"@" 0001 % 'x'}; b< 40 **; < 32{"@" #1 % 'x'}; > 40{#1}; quiet; drop; resume; quiet
4[MQTT-3.1.2-6] 5[MQTT-3.1.2-4] a clean start forgets what was not acknowledged: keep; > 82{0001 % "@" 01}; < 90{0001 % 01};
    b connect; b> 32{"@" 0001 % 'x'}; b< 40 **; < 32{"@" #1 % 'x'}; drop; connect; quiet
"##;

const WRONG_STEP: &str = r##"
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] PUBREC for a message of QoS 1: > 82{0001 % "@" 01}; < 90 **; b connect;
    b> 32{"@" 0001 % 'x'}; b< 40 **; < 32{"@" #1 % 'x'}; > 50{#1}; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] PUBCOMP for a message of QoS 1: > 82{0001 % "@" 01}; < 90 **; b connect;
    b> 32{"@" 0001 % 'x'}; b< 40 **; < 32{"@" #1 % 'x'}; > 70{#1}; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] PUBACK for a message of QoS 2: > 82{0001 % "@" 02}; < 90 **; b connect;
    b> 34{"@" 0001 % 'x'}; b< 50 **; b> 62{0001}; b< 70 **; < 34{"@" #1 % 'x'}; > 40{#1}; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] PUBCOMP before PUBREC: > 82{0001 % "@" 02}; < 90 **; b connect;
    b> 34{"@" 0001 % 'x'}; b< 50 **; b> 62{0001}; b< 70 **; < 34{"@" #1 % 'x'}; > 70{#1}; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] PUBACK in place of PUBCOMP: > 82{0001 % "@" 02}; < 90 **; b connect;
    b> 34{"@" 0001 % 'x'}; b< 50 **; b> 62{0001}; b< 70 **; < 34{"@" #1 % 'x'}; > 50{#1}; < 62{#1}; > 40{#1}; gone 82
"##;

const FORM: &str = r##"
4[MQTT-2.2.2-2] 5[MQTT-2.1.3-1] PUBACK with flags 1: > 41{0001}; gone 81
4[MQTT-2.2.2-2] 5[MQTT-2.1.3-1] PUBACK with flags 2: > 42{0001}; gone 81
4[MQTT-2.2.2-2] 5[MQTT-2.1.3-1] PUBREC with flags 4: > 54{0001}; gone 81
4[MQTT-2.2.2-2] 5[MQTT-2.1.3-1] PUBREC with flags 2: > 52{0001}; gone 81
4[MQTT-2.2.2-2] 5[MQTT-2.1.3-1] PUBCOMP with flags 8: > 78{0001}; gone 81
4[MQTT-2.2.2-2] 5[MQTT-2.1.3-1] PUBCOMP with flags 2: > 72{0001}; gone 81
45[MQTT-3.6.1-1] PUBREL with flags 0: > 60{0001}; gone 81
45[MQTT-3.6.1-1] PUBREL with flags 1: > 61{0001}; gone 81
45[MQTT-3.6.1-1] PUBREL with flags 3: > 63{0001}; gone 81
45[MQTT-3.6.1-1] PUBREL with flags 4: > 64{0001}; gone 81
45[MQTT-3.6.1-1] PUBREL with flags 6: > 66{0001}; gone 81
45[MQTT-3.6.1-1] PUBREL with flags 10: > 6A{0001}; gone 81
4[MQTT-2.3.1-6] 5[MQTT-2.2.1-5] PUBACK of packet id 0: > 40{0000}; gone 82
4[MQTT-2.3.1-6] 5[MQTT-2.2.1-5] PUBREC of packet id 0: > 50{0000}; gone 82
4[MQTT-2.3.1-6] 5[MQTT-2.2.1-5] PUBREL of packet id 0: > 62{0000}; gone 82
4[MQTT-2.3.1-6] 5[MQTT-2.2.1-5] PUBCOMP of packet id 0: > 70{0000}; gone 82
4[MQTT-2.3.1-6] 5[MQTT-2.2.1-5] PUBACK without a packet id: > 4000; gone 81
4[MQTT-2.3.1-6] 5[MQTT-2.2.1-5] PUBREC with half a packet id: > 50{01}; gone 81
4[MQTT-2.3.1-6] 5[MQTT-2.2.1-5] PUBREL without a packet id: > 6200; gone 81
4[MQTT-2.3.1-6] 5[MQTT-2.2.1-5] PUBCOMP with half a packet id: > 70{01}; gone 81
4[MQTT-4.8.0-1] PUBACK too long: > 40{0001 00}; gone
4[MQTT-4.8.0-1] PUBREC too long: > 50{0001 00}; gone
4[MQTT-4.8.0-1] PUBREL too long: > 62{0001 00}; gone
4[MQTT-4.8.0-1] PUBCOMP too long: > 70{0001 00}; gone
5[MQTT-4.13.1-1] PUBACK with bytes behind its properties: > 40{0001 00 00 00}; gone 81
5[MQTT-4.13.1-1] PUBREC with bytes behind its properties: > 50{0001 00 00 00}; gone 81
5[MQTT-4.13.1-1] PUBREL with bytes behind its properties: > 62{0001 00 00 00}; gone 81
5[MQTT-4.13.1-1] PUBCOMP with bytes behind its properties: > 70{0001 00 00 00}; gone 81
5[MQTT-4.13.1-1] PUBACK with properties cut short: > 40{0001 00 01}; gone 81
5[MQTT-4.13.1-1] PUBREL with properties cut short: > 62{0001 00 04 26}; gone 81
"##;

const REASONS: &str = r##"
5[MQTT-3.4.2-1] PUBACK with a reason: > 40{0009 00}; quiet
5[MQTT-3.4.2-1] PUBACK with a reason and no properties: > 40{0009 00 00}; quiet
5[MQTT-3.4.2-1] PUBACK with an error, its reason in words and a user property: > 40{0009 97 {1F"full" 26"k""v"}}; quiet
5[MQTT-3.4.2-1] PUBACK with an unknown reason: > 40{0009 FF}; gone 82
5[MQTT-3.4.2-1] PUBACK with a reason of PUBREL: > 40{0009 92}; gone 82
5[MQTT-3.5.2-1] PUBREC with a reason and no properties: > 50{0009 00 00}; < 62{0009} | 62{0009 92}
5[MQTT-3.5.2-1] PUBREC with a reason: > 50{0009 00}; < 62{0009} | 62{0009 92}
5[MQTT-3.5.2-1] PUBREC with an unknown reason: > 50{0009 FF}; gone 82
5[MQTT-3.6.2-1] PUBREL with a reason: > 62{0009 00}; < 70{0009} | 70{0009 92}
5[MQTT-3.6.2-1] PUBREL of a forgotten id: > 62{0009 92}; < 70{0009} | 70{0009 92}
5[MQTT-3.6.2-1] PUBREL with a reason and a user property: > 62{0009 00 {26"key""value"}}; < 70{0009} | 70{0009 92}
5[MQTT-3.6.2-1] PUBREL with an unknown reason: > 62{0009 FF}; gone 82
5[MQTT-3.6.2-1] PUBREL with a reason of PUBACK: > 62{0009 80}; gone 82
5[MQTT-3.7.2-1] PUBCOMP with a reason: > 70{0009 00 00}; quiet
5[MQTT-3.7.2-1] PUBCOMP of a forgotten id: > 70{0009 92}; quiet
5[MQTT-3.7.2-1] PUBCOMP with an unknown reason: > 70{0009 20}; gone 82
5[MQTT-3.7.2-1] PUBCOMP with a reason of PUBACK: > 70{0009 80}; gone 82
4[MQTT-2.3.1-6] an acknowledgement of 3.1.1 has no reason: > 62{0009}; < 70{0009}
"##;
