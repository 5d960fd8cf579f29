//! Sessions: kept, resumed, discarded, taken over, expired (sections 3.1.2.4, 3.1.2.11.2, 3.1.4, 4.1).

use super::tables;

tables!(mqtt_3_1_1_keeps_sessions, mqtt_5_keeps_sessions: PRESENT, QUEUED, TAKEN_OVER, EXPIRY, MESSAGE_EXPIRY);

const PRESENT: &str = r##"
4[MQTT-3.2.2-3] 5[MQTT-3.2.2-3] a new session is not present: keep
4[MQTT-3.2.2-2] 5[MQTT-3.2.2-3] a kept session is present: keep; bye; resume
4[MQTT-3.2.2-2] 5[MQTT-3.2.2-3] also when the client vanished: keep; drop; resume
4[MQTT-3.2.2-1] 5[MQTT-3.2.2-2] with a clean start it is not: keep; bye; connect
4[MQTT-3.1.2-6] 5[MQTT-3.1.2-4] a clean start ends it: keep; bye; connect; bye; keep
4[MQTT-3.1.2-6] 5[MQTT-3.1.2-23] a clean session is not kept: connect; bye; keep
4[MQTT-3.1.2-4] 5[MQTT-3.1.2-5] subscriptions are kept: keep; > 82{0001 % "@" 00}; < 90 **; bye; resume; > 30{"@" % 'x'};
    < 30{"@" % 'x'}
4[MQTT-3.1.2-4] 5[MQTT-3.1.2-5] their QoS is kept: keep; > 82{0001 % "@" 02}; < 90 **; bye; resume; b connect;
    b> 34{"@" 0001 % 'x'}; b< 50 **; b> 62{0001}; b< 70 **; < 34{"@" #1 % 'x'}
4[MQTT-3.1.2-6] 5[MQTT-3.1.2-4] a clean start forgets subscriptions: keep; > 82{0001 % "@" 00}; < 90 **; bye; connect;
    > 30{"@" % 'x'}; quiet
4[MQTT-3.1.2-4] 5[MQTT-3.1.2-5] an end of a subscription is kept, too: keep; > 82{0001 % "@" 00}; < 90 **;
    > A2{0002 % "@"}; < B0 **; bye; resume; > 30{"@" % 'x'}; quiet
5[MQTT-3.1.2-5] options and identifier are kept: keep; > 82{0001 {0B07} "@" 0C}; < 90 **; bye; resume;
    > 31{"@" 00 'own'}; quiet; b connect; b> 31{"@" 00 'x'}; < 31{"@" {0B07} 'x'}
45[MQTT-3.1.3-2] sessions of other clients are others: keep; b keep; bye; b bye; resume; b resume
"##;

const QUEUED: &str = r##"
45[MQTT-3.1.2-5] QoS 1 waits: keep; > 82{0001 % "@" 01}; < 90 **; bye; b connect; b> 32{"@" 0001 % 'x'}; b< 40{0001};
    resume; < 32{"@" #1 % 'x'}; > 40{#1}; quiet
45[MQTT-3.1.2-5] QoS 2 waits: keep; > 82{0001 % "@" 02}; < 90 **; bye; b connect; b> 34{"@" 0001 % 'x'}; b< 50{0001};
    b> 62{0001}; b< 70 **; resume; < 34{"@" #1 % 'x'}; > 50{#1}; < 62{#1}; > 70{#1}; quiet
45[MQTT-3.1.2-5] several wait in their order: keep; > 82{0001 % "@" 01}; < 90 **; bye; b connect;
    b> 32{"@" 0001 % '1'} 32{"@" 0002 % '2'} 32{"@" 0003 % '3'}; b< 40 **; b< 40 **; b< 40 **; resume;
    < 32{"@" #1 % '1'}; < 32{"@" #2 % '2'}; < 32{"@" #3 % '3'}
4[MQTT-3.1.2-6] 5[MQTT-3.1.2-4] a clean start forgets what waits: keep; > 82{0001 % "@" 01}; < 90 **; bye; b connect;
    b> 32{"@" 0001 % 'x'}; b< 40{0001}; connect; quiet; bye; keep; quiet
4[MQTT-4.4.0-1] 5[MQTT-4.4.0-1] what was sent and not acknowledged comes before what waits: keep; > 82{0001 % "@" 01};
    < 90 **; b connect; b> 32{"@" 0001 % '1'}; b< 40 **; < 32{"@" #1 % '1'}; drop; b> 32{"@" 0002 % '2'}; b< 40 **;
    resume; < 3A{"@" #1 % '1'}; < 32{"@" #2 % '2'} | 3A{"@" #2 % '2'}
5[MQTT-3.3.2-17] properties wait, too: keep; > 82{0001 00 "@" 01}; < 90 **; bye; b connect;
    b> 32{"@" 0001 {26"a""1" 03"text"} 'x'}; b< 40{0001}; resume; < 32{"@" #1 p{26"a""1" 03"text"} 'x'}
"##;

const TAKEN_OVER: &str = r##"
4[MQTT-3.1.4-2] 5[MQTT-3.1.4-3] the second client of an id throws the first out: b> 10{"MQTT" lv 02 0000 % "@a"}; b ok;
    gone 8E; b quiet
4[MQTT-3.1.4-2] 5[MQTT-3.1.4-3] the session goes with it: keep; > 82{0001 % "@" 00}; < 90 **;
    b> 10{"MQTT" lv 00 0000 (5{11 00000258}) "@a"}; b ok present; gone 8E; b> 30{"@" % 'x'}; b< 30{"@" % 'x'}
4[MQTT-3.1.4-2] 5[MQTT-3.1.4-3] what was in flight is sent again to the new one: keep; > 82{0001 % "@" 01}; < 90 **;
    c connect; c> 32{"@" 0001 % 'x'}; c< 40 **; < 32{"@" #1 % 'x'}; b> 10{"MQTT" lv 00 0000 (5{11 00000258}) "@a"};
    b ok present; b< 3A{"@" #1 % 'x'}; gone 8E
4[MQTT-3.1.2-6] 5[MQTT-3.1.4-4] with a clean start the session does not: keep; > 82{0001 % "@" 00}; < 90 **;
    b> 10{"MQTT" lv 02 0000 % "@a"}; b ok; gone 8E; b> 30{"@" % 'x'}; b quiet
4[MQTT-3.1.4-2] 5[MQTT-3.1.4-3] three times: b> 10{"MQTT" lv 02 0000 % "@a"}; b ok; gone 8E;
    c> 10{"MQTT" lv 02 0000 % "@a"}; c ok; b gone 8E; d> 10{"MQTT" lv 02 0000 % "@a"}; d ok; c gone 8E; d quiet
4[MQTT-3.1.4-2] 5[MQTT-3.1.4-3] ids that differ in a letter's size are two: b> 10{"MQTT" lv 02 0000 % "@A"}; b ok; quiet; b quiet
"##;

const EXPIRY: &str = r##"
5[MQTT-3.1.2-23] without an interval it ends with the connection: open;
    > 10{"MQTT" 05 00 0000 00 "@s"}; ok; > 82{0001 00 "@" 01}; < 90 **; bye; open; > 10{"MQTT" 05 00 0000 00 "@s"}; ok
5[MQTT-3.1.2-23] with the interval 0 it ends with the connection: open; > 10{"MQTT" 05 00 0000 {1100000000} "@s"}; ok; drop; open;
    > 10{"MQTT" 05 00 0000 {1100000000} "@s"}; ok
5[MQTT-3.1.2-23] a clean start with an interval is kept: open; > 10{"MQTT" 05 02 0000 {1100000258} "@s"}; ok; bye; open;
    > 10{"MQTT" 05 00 0000 {1100000258} "@s"}; ok present
5[MQTT-4.1.0-2] after the interval it is gone: open; > 10{"MQTT" 05 00 0000 {1100000001} "@s"}; ok; bye; tick; open;
    > 10{"MQTT" 05 00 0000 {1100000001} "@s"}; ok
5[MQTT-4.1.0-1] while the client is there it does not expire: open; > 10{"MQTT" 05 00 0000 {1100000001} "@s"}; ok; tick;
    > 82{0001 00 "@" 00}; < 90 **; bye; open; > 10{"MQTT" 05 00 0000 {1100000258} "@s"}; ok present
5[MQTT-3.1.2-23] the longest interval: open; > 10{"MQTT" 05 00 0000 {11FFFFFFFF} "@s"}; ok; bye; tick; open;
    > 10{"MQTT" 05 00 0000 {11FFFFFFFF} "@s"}; ok present
5[MQTT-3.1.2-23] DISCONNECT ends it: open; > 10{"MQTT" 05 00 0000 {1100000258} "@s"}; ok; > E0{00 {1100000000}}; gone; open;
    > 10{"MQTT" 05 00 0000 {1100000258} "@s"}; ok
5[MQTT-3.1.2-23] DISCONNECT lengthens it: open; > 10{"MQTT" 05 00 0000 {1100000001} "@s"}; ok; > E0{00 {1100000258}}; gone; tick;
    open; > 10{"MQTT" 05 00 0000 {1100000001} "@s"}; ok present
5[MQTT-3.1.2-23] DISCONNECT shortens it: open; > 10{"MQTT" 05 00 0000 {1100000258} "@s"}; ok; > E0{00 {1100000001}}; gone; tick;
    open; > 10{"MQTT" 05 00 0000 {1100000258} "@s"}; ok
5[MQTT-3.1.2-23] DISCONNECT cannot keep what was not to be kept: open; > 10{"MQTT" 05 02 0000 {1100000000} "@s"}; ok;
    > E0{00 {1100000001}}; gone 82
5[MQTT-3.1.2-23] nor where CONNECT said nothing: > E0{00 {1100000001}}; gone 82
"##;

const MESSAGE_EXPIRY: &str = r##"
5[MQTT-3.3.2-5] a message that expired while it waited does not come: keep; > 82{0001 00 "@" 01}; < 90 **; bye; b connect;
    b> 32{"@" 0001 {0200000001} '1'} 32{"@" 0002 {0200000064} '2'}; b< 40 **; b< 40 **; tick; resume;
    < 32{"@" #1 {0200000063} '2'} | 32{"@" #1 {0200000062} '2'} | 32{"@" #1 {0200000061} '2'}; > 40{#1}; quiet
5[MQTT-3.3.2-6] at once its interval is as it was: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {0200000001} 'x'};
    b< 30{"@" {0200000001} 'x'}
5[MQTT-3.3.2-6] the longest interval is as it was: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {02FFFFFFFF} 'x'};
    b< 30{"@" {02FFFFFFFF} 'x'}
5[MQTT-4.3.3-7] what has been sent at QoS 2 does not expire: keep; > 82{0001 00 "@" 02}; < 90 **; b connect;
    b> 34{"@" 0001 {0200000001} 'x'}; b< 50 **; b> 62{0001}; b< 70 **; < 34{"@" #1 {0200000001} 'x'}; drop; tick; resume;
    < 3C{"@" #1 {02........} 'x'} | 3C{"@" #1 00 'x'}; > 50{#1}; < 62{#1}
"##;
