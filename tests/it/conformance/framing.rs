//! The fixed header: packet types, flags, remaining length, and packets that come in pieces (section 2.1).

use super::tables;

tables!(mqtt_3_1_1_frames_packets, mqtt_5_frames_packets: TYPES, LENGTH, PIECES);

const TYPES: &str = r##"
4[MQTT-2.2.2-2] ! type 0 first: > 0000; gone
5[MQTT-3.1.0-1] ! type 0 first: > 0000; gone
4[MQTT-2.2.2-2] ! type 15 first: > F000; gone
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] type 0: > 0000; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] type 0 with flags: > 0800; gone 82
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] type 0 with a body: > 00{00}; gone 82
4[MQTT-4.8.0-1] type 15: > F000; gone
4[MQTT-4.8.0-1] type 15 with flags: > F200; gone
"##;

const LENGTH: &str = r##"
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] a PUBLISH whose length has five bytes: > 30 8080808001; gone
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] a PUBLISH whose length never ends: > 30 FFFFFFFFFFFFFF; gone
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] a SUBSCRIBE whose length has five bytes: > 82 8080808001; gone
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] an UNSUBSCRIBE whose length has five bytes: > A2 8080808001; gone
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] a PUBACK whose length has five bytes: > 40 8080808001; gone
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] a PUBREL whose length has five bytes: > 62 8080808001; gone
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] a PINGREQ whose length has five bytes: > C0 8080808001; gone
4[MQTT-4.8.0-1] 5[MQTT-4.13.1-1] a DISCONNECT whose length has five bytes: > E0 8080808001; gone
45[MQTT-3.1.4-1] ! a CONNECT whose length has five bytes: > 10 FFFFFFFF7F 0004 'MQTT' lv 02 0000; gone
45[MQTT-3.1.4-1] ! a CONNECT whose length is too long for it: > 10 8080808001 0004 'MQTT' lv 02 0000; gone
5[MQTT-1.5.5-1] a PINGREQ whose length has a needless byte: > C0 8000; gone 81
5[MQTT-1.5.5-1] a PUBLISH whose properties have a needless length byte: > 30 07 "@" 8000; gone 81
5[MQTT-1.5.5-1] properties whose length has five bytes: > 30{"@" 8080808000 'x'}; gone 81
"##;

const PIECES: &str = r##"
4[MQTT-7.1.1-1] 5[MQTT-4.2-1] ! a CONNECT byte by byte: > 10 (40F) (510); > 00; > 04; > 'M'; > 'Q'; > 'T'; > 'T'; > lv; > 02; > 00; > 00; > %; > 00; > 03;
    > 'x'; > 'y'; > 'z'; ok; quiet
4[MQTT-7.1.1-1] 5[MQTT-4.2-1] a PUBLISH in pieces: > 32 (408) (509); > 00; > 02; > 'ab'; > 00; > 07; > % 'x'; > 'y'; < 40{0007} | 40{0007 (510)}
4[MQTT-7.1.1-1] 5[MQTT-4.2-1] a PING in pieces between packets: > 30{"@" % 'x'} C0; > 00 C0; > 00; < D000; < D000
4[MQTT-7.1.1-1] 5[MQTT-4.2-1] many packets in one write: > C000 82{0001 % "@" 00} 30{"@" % 'x'} A2{0002 % "@"} C000; < D000; < 90{0001 % 00};
    < 30{"@" % 'x'} | B0{0002 (500 00)}; < B0{0002 (500 00)} | D000
4[MQTT-7.1.1-1] 5[MQTT-4.2-1] ! CONNECT and more in one write:
    > 10{"MQTT" lv 02 0000 % "@z"} 82{0001 % "@" 00} 30{"@" % 'x'}; ok; < 90{0001 % 00}; < 30{"@" % 'x'}
"##;
