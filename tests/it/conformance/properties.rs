//! Properties of PUBLISH on their way through the server, and values no property may have (section 3.3.2.3).

use super::tables;

tables!(mqtt_3_1_1_has_no_properties, mqtt_5_hands_properties_on: HANDED_ON, FAULTY, SIZES);

const HANDED_ON: &str = r##"
5[MQTT-3.3.2-4] payload format indicator 0: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {0100} 'x'};
    b< 30{"@" {0100} 'x'}
5[MQTT-3.3.2-4] payload format indicator 1: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {0101} 'x'};
    b< 30{"@" {0101} 'x'}
5[MQTT-3.3.2-15] response topic: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {08"@/answer"} 'x'};
    b< 30{"@" {08"@/answer"} 'x'}
5[MQTT-3.3.2-16] correlation data of any bytes: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {09[00FF80]} 'x'};
    b< 30{"@" {09[00FF80]} 'x'}
5[MQTT-3.3.2-16] empty correlation data: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {09""} 'x'};
    b< 30{"@" {09""} 'x'}
5[MQTT-3.3.2-17] a user property: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {26"key""value"} 'x'};
    b< 30{"@" {26"key""value"} 'x'}
5[MQTT-3.3.2-18] user properties in their order, one twice: b connect; b> 82{0001 00 "@" 00}; b< 90 **;
    > 30{"@" {26"c""3" 26"a""1" 26"c""3" 26"a""2"} 'x'}; b< 30{"@" {26"c""3" 26"a""1" 26"c""3" 26"a""2"} 'x'}
5[MQTT-3.3.2-17] an empty user property: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {26""""} 'x'};
    b< 30{"@" {26""""} 'x'}
5[MQTT-3.3.2-20] content type: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {03"application/json"} 'x'};
    b< 30{"@" {03"application/json"} 'x'}
5[MQTT-3.3.2-20] an empty content type: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {03""} 'x'};
    b< 30{"@" {03""} 'x'}
5[MQTT-3.3.2-17] all at once: b connect; b> 82{0001 00 "@" 01}; b< 90 **;
    > 32{"@" 0001 {26"a""1" 09"cd" 0101 08"@/r" 26"b""2" 03"text" 02000000FF} 'x'}; < 40{0001};
    b< 32{"@" #1 p{26"a""1" 09"cd" 0101 08"@/r" 26"b""2" 03"text" 02000000FF} 'x'}
5[MQTT-3.3.2-17] at QoS 2: b connect; b> 82{0001 00 "@" 02}; b< 90 **; > 34{"@" 0001 {26"a""1"} 'x'}; < 50{0001}; > 62{0001};
    < 70{0001}; b< 34{"@" #1 {26"a""1"} 'x'}
5[MQTT-3.3.2-17] to each of several subscribers: b connect; b> 82{0001 00 "@" 00}; b< 90 **; c connect; c> 82{0001 {0B07} "@" 00};
    c< 90 **; > 30{"@" {26"a""1"} 'x'}; b< 30{"@" {26"a""1"} 'x'}; c< 30{"@" p{26"a""1" 0B07} 'x'}
4[MQTT-4.5.0-1] what looks like properties is payload: b connect; b> 82{0001 "@" 00}; b< 90 **; > 30{"@" 00 'x'}; b< 30{"@" 00 'x'}
"##;

const FAULTY: &str = r##"
5[MQTT-3.3.2-4] payload format indicator 2: > 30{"@" {0102} 'x'}; gone 82
5[MQTT-3.3.2-14] a response topic with #: > 30{"@" {08"@/#"} 'x'}; gone 82
5[MQTT-3.3.2-14] a response topic with +: > 30{"@" {08"@/+/b"} 'x'}; gone 82
5[MQTT-3.3.4-6] a subscription identifier of a client: > 30{"@" {0B01} 'x'}; gone 82
5[MQTT-3.3.4-6] two subscription identifiers of a client: > 30{"@" {0B01 0B02} 'x'}; gone 82
5[MQTT-3.3.4-6] subscription identifier 0 of a client: > 30{"@" {0B00} 'x'}; gone 82
5[MQTT-1.5.7-1] a user property without its value: > 30{"@" {26"k"} 'x'}; gone 81
5[MQTT-4.13.1-1] a user property longer than the properties: > 30{"@" {26"k" 00FF 'x'} 'x'}; gone 81
5[MQTT-4.13.1-1] half a two-byte number: > 30{"@" {2300} 'x'}; gone 81
5[MQTT-4.13.1-1] three bytes of four: > 30{"@" {02000000} 'x'}; gone 81
5[MQTT-4.13.1-1] properties that end in the middle of the payload's place: > 30{"@" 7F 0101}; gone 81
"##;

const SIZES: &str = r##"
5[MQTT-2.2.2-1] properties of 127 bytes: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {09 t:124} 'x'};
    b< 30{"@" {09 t:124} 'x'}
5[MQTT-2.2.2-1] properties of 128 bytes: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {09 t:125} 'x'};
    b< 30{"@" {09 t:125} 'x'}
5[MQTT-2.2.2-1] properties of 16384 bytes: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {09 t:16381} 'x'};
    b< 30{"@" {09 t:16381} 'x'}
5[MQTT-2.2.2-1] the longest text: b connect; b> 82{0001 00 "@" 00}; b< 90 **; > 30{"@" {26"k" t:65535} 'x'};
    b< 30{"@" {26"k" t:65535} 'x'}
"##;
