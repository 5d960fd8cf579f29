//! Shared subscriptions (section 4.8.2).

use super::client::{Client, Connect};
use super::server::Server;
use super::table::Version;
use super::tables;

tables!(mqtt_3_1_1_may_share_subscriptions, mqtt_5_shares_subscriptions: NAMES, DELIVERY);

const NAMES: &str = r##"
5[MQTT-4.8.2-1] a shared filter: > 82{0001 00 "$share/g/@" 01}; < 90{0001 00 01}
5[MQTT-4.8.2-1] a shared filter with wildcards: > 82{0001 00 "$share/g/@/+/#" 02}; < 90{0001 00 02}
5[MQTT-4.8.2-1] no name: > 82{0001 00 "$share//@" 00}; gone 82
5[MQTT-4.8.2-2] nothing behind the name: > 82{0001 00 "$share/g" 00}; gone 82
5[MQTT-4.8.2-2] an empty filter behind the name: > 82{0001 00 "$share/g/" 00}; gone 82
5[MQTT-4.8.2-2] a name with +: > 82{0001 00 "$share/+/@" 00}; gone 82
5[MQTT-4.8.2-2] a name with #: > 82{0001 00 "$share/#/@" 00}; gone 81
5[MQTT-4.8.2-2] a name with + inside: > 82{0001 00 "$share/a+b/@" 00}; gone 81
5[MQTT-4.7.1-1] a bad filter behind the name: > 82{0001 00 "$share/g/@#" 00}; gone 81
5[MQTT-3.8.3-4] no local: > 82{0001 00 "$share/g/@" 04}; gone 82
5[MQTT-3.10.4-4] its end: > 82{0001 00 "$share/g/@" 00}; < 90 **; > A2{0002 00 "$share/g/@"}; < B0{0002 00 00};
    > 30{"@" 00 'x'}; quiet
5[MQTT-3.10.4-1] its end is not that of the plain filter: > 82{0001 00 "$share/g/@" 00}; < 90 **; > A2{0002 00 "@"};
    < B0{0002 00 11}; > 30{"@" 00 'x'}; < 30{"@" 00 'x'}
4[MQTT-3.8.4-5] version 3.1.1 gets an answer, too: > 82{0001 "$share/g/@" 01 "@" 00}; < 90 04 0001 ..00; > A2{0002 "@"};
    < B0{0002}; quiet
"##;

const DELIVERY: &str = r##"
5[MQTT-4.8.2-1] a group of one gets everything: > 82{0001 00 "$share/g/@" 00}; < 90 **; b connect; b> 30{"@" 00 '1'} 30{"@" 00 '2'};
    < 30{"@" 00 '1'}; < 30{"@" 00 '2'}; quiet
5[MQTT-4.8.2-1] each group gets a copy: > 82{0001 00 "$share/g/@" 00}; < 90 **; b connect; b> 82{0001 00 "$share/h/@" 00}; b< 90 **;
    c connect; c> 30{"@" 00 'x'}; < 30{"@" 00 'x'}; b< 30{"@" 00 'x'}; quiet; b quiet
5[MQTT-4.8.2-1] beside a plain subscriber: > 82{0001 00 "$share/g/@" 00}; < 90 **; b connect; b> 82{0001 00 "@" 00}; b< 90 **;
    c connect; c> 30{"@" 00 'x'}; < 30{"@" 00 'x'}; b< 30{"@" 00 'x'}; quiet; b quiet
5[MQTT-4.8.2-3] the granted QoS holds: > 82{0001 00 "$share/g/@" 01}; < 90 **; b connect; b> 34{"@" 0001 00 'x'}; b< 50 **;
    b> 62{0001}; b< 70 **; < 32{"@" #1 00 'x'}
5[MQTT-4.8.2-3] the published QoS holds: > 82{0001 00 "$share/g/@" 02}; < 90 **; b connect; b> 30{"@" 00 'x'}; < 30{"@" 00 'x'}
5[MQTT-3.3.1-9] no retained messages at subscribing: > 33{"@" 0001 00 'x'}; < 40 **; > 82{0001 00 "$share/g/@" 00}; < 90 **; quiet
5[MQTT-3.3.4-3] its identifier comes with the message: > 82{0001 {0B05} "$share/g/@" 00}; < 90 **; b connect; b> 30{"@" 00 'x'};
    < 30{"@" {0B05} 'x'}
5[MQTT-4.8.2-4] what was sent to a client is completed with it: keep; > 82{0001 00 "$share/g/@" 02}; < 90 **; c connect;
    c> 34{"@" 0001 00 'x'}; c< 50 **; c> 62{0001}; c< 70 **; < 34{"@" #1 00 'x'}; b connect;
    b> 82{0001 00 "$share/g/@" 02}; b< 90 **; drop; resume; < 3C{"@" #1 00 'x'}; > 50{#1}; < 62{#1}; > 70{#1}; b quiet
5[MQTT-4.8.2-5] what was sent at QoS 2 goes to nobody else when its session ends: b connect; b> 82{0001 00 "$share/g/@" 02}; b< 90 **;
    > 34{"@" 0001 00 '1'}; < 50 **; > 62 02 0001; < 70 **; b< 34{"@" #1 00 '1'}; b bye; c connect;
    c> 82{0001 00 "$share/g/@" 02}; c< 90 **; c quiet; > 30{"@" 00 '2'}; c< 30{"@" 00 '2'}
5[MQTT-4.8.2-6] a message that is refused goes to nobody else: > 82{0001 00 "$share/g/@" 01}; < 90 **; c connect;
    c> 32{"@" 0001 00 'x'}; c< 40 **; < 32{"@" #1 00 'x'}; b connect; b> 82{0001 00 "$share/g/@" 01}; b< 90 **;
    > 40{#1 83}; quiet; b quiet
5[MQTT-4.8.2-1] when all but one have left, that one gets everything: > 82{0001 00 "$share/g/@" 00}; < 90 **; b connect;
    b> 82{0001 00 "$share/g/@" 00}; b< 90 **; b> A2{0002 00 "$share/g/@"}; b< B0 **; c connect;
    c> 30{"@" 00 '1'} 30{"@" 00 '2'}; < 30{"@" 00 '1'}; < 30{"@" 00 '2'}; b quiet
"##;

/// Section 4.8.2: each message goes to one of the group; which one is the server's choice.
#[test]
fn a_group_shares_the_messages_and_gets_each_once() {
    const COUNT: usize = 30;
    let server = Server::start();
    let member = |name: &str| {
        let (mut client, _) = Client::connect(server.address(), Version::V5, &Connect::id(name));
        assert_eq!(client.subscribe(&[("$share/group/work", 1)], &[]), [1]);
        client
    };
    let mut members = [member("one"), member("two"), member("three")];
    let (mut publisher, _) = Client::connect(server.address(), Version::V5, &Connect::id("publisher"));
    for n in 0..COUNT {
        publisher.publish("work", n.to_string().as_bytes(), 1, false, &[]);
    }
    let mut got: Vec<usize> = Vec::new();
    for member in &mut members {
        member.settle();
        assert!(!member.messages.is_empty(), "each of the group has its part");
        got.extend(member.messages.iter().map(|m| String::from_utf8_lossy(&m.payload).parse::<usize>().unwrap()));
    }
    got.sort_unstable();
    assert_eq!(got, (0..COUNT).collect::<Vec<_>>());
}
