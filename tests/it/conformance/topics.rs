//! Topic names and filters: what matches what (section 4.7).

use super::runner::Run;
use super::server::Server;
use super::table::Version;
use super::tables;

tables!(mqtt_3_1_1_takes_any_topic, mqtt_5_takes_any_topic: NAMES);

const NAMES: &str = r##"
45[MQTT-4.7.3-4] a topic with spaces: > 82{0001 % "@ a b/ c" 00}; < 90 **; > 30{"@ a b/ c" % 'x'}; < 30{"@ a b/ c" % 'x'}
45[MQTT-4.7.3-4] capital letters differ: > 82{0001 % "@/Accounts" 00}; < 90 **; > 30{"@/ACCOUNTS" % 'x'}; quiet
45[MQTT-4.7.3-4] letters that look alike differ: > 82{0001 % "@/Å" 00}; < 90 **; > 30{"@/Å" % 'x'}; quiet
45[MQTT-4.7.3-4] signs outside of ASCII: > 82{0001 % "@/é/𪛔/日" 00}; < 90 **; > 30{"@/é/𪛔/日" % 'x'}; < 30{"@/é/𪛔/日" % 'x'}
45[MQTT-4.7.3-4] a slash at the end makes another topic: > 82{0001 % "@/a" 00}; < 90 **; > 30{"@/a/" % 'x'}; quiet
45[MQTT-4.7.3-4] a slash in front makes another topic: > 82{0001 % "@/a" 00}; < 90 **; > 30{"/@/a" % 'x'}; quiet
45[MQTT-4.7.3-3] a long topic: > 82{0001 % t:1000 00}; < 90 **; > 30{t:1000 % 'x'}; < 30{t:1000 % 'x'}
5[MQTT-4.7.3-3] the longest topic: > 32{t:65535 0001 % 'x'}; < 40{0001} | 40{0001 10} | 40{0001 90}
45[MQTT-4.7.3-1] a topic of one character: > 32{"z" 0001 % 'x'}; < 40 **
45[MQTT-4.7.3-1] a topic of a slash: > 82{0001 % "/" 00}; < 90 **; > 30{"/" % 'x'}; < 30{"/" % 'x'}
45[MQTT-4.7.2-1] # does not match $: > 82{0001 % "#" 00}; < 90 **; > 32{"$@/x" 0001 % 'x'}; < 40 **; quiet
45[MQTT-4.7.2-1] + does not match $: > 82{0001 % "+/@x" 00}; < 90 **; > 32{"$y/@x" 0001 % 'x'}; < 40 **; quiet
45[MQTT-4.7.2-1] $ is matched by its name: > 82{0001 % "$@/+" 00}; < 90 **; > 32{"$@/x" 0001 % 'x'};
    < 30{"$@/x" % 'x'} | 40 **; < 30{"$@/x" % 'x'} | 40 **; quiet
45[MQTT-4.7.2-1] $ is matched by # behind it: > 82{0001 % "$@/#" 00}; < 90 **; > 30{"$@/x/y" % 'x'}; < 30{"$@/x/y" % 'x'}
"##;

/// Filter, name, whether they match: the examples of section 4.7 and their neighbours. A leading wildcard stands alone
/// in a topic tree of its own.
const MATCHES: &[(&str, &str, bool)] = &[
    ("@/tennis/player1/#", "@/tennis/player1", true),
    ("@/tennis/player1/#", "@/tennis/player1/ranking", true),
    ("@/tennis/player1/#", "@/tennis/player1/score/wimbledon", true),
    ("@/tennis/player1/#", "@/tennis/player2", false),
    ("@/tennis/player1/#", "@/tennis/player10", false),
    ("@/#", "@", true),
    ("@/#", "@/", true),
    ("@/#", "@s", false),
    ("@/+", "@", false),
    ("@/+", "@/", true),
    ("@/+", "@/a", true),
    ("@/+", "@/a/", false),
    ("@/+/player1", "@/tennis/player1", true),
    ("@/+/player1", "@//player1", true),
    ("@/+/player1", "@/a/b/player1", false),
    ("@/+/+", "@/a/b", true),
    ("@/+/+", "@/a", false),
    ("@/+/+", "@//", true),
    ("@/+/#", "@/a", true),
    ("@/+/#", "@/a/b/c", true),
    ("@/+/#", "@", false),
    ("/@", "/@", true),
    ("/@", "@", false),
    ("/+", "/@", true),
    ("+/@", "/@", true),
    ("+/@", "a/@", true),
    ("+/@", "@", false),
    ("+/@/#", "a/@", true),
    ("+/@/#", "a/@/b", true),
    ("+/+/@", "a/b/@", true),
    ("@/a", "@/a", true),
    ("@/a", "@/b", false),
    ("@/a//b", "@/a//b", true),
    ("@/a//b", "@/a/b", false),
    ("@/a/+/b", "@/a//b", true),
];

/// [MQTT-4.7.1-2], [MQTT-4.7.1-3] of 3.1.1; [MQTT-4.7.1-1], [MQTT-4.7.1-2] of 5; [MQTT-3.3.2-3] of both.
#[test]
fn a_filter_matches_exactly_the_names_it_describes() {
    let row = |&(filter, name, matches): &(&str, &str, bool)| {
        let end = if matches { format!("< 30{{\"{name}\" % 'x'}}; quiet") } else { "quiet".into() };
        let verb = if matches { "matches" } else { "does not match" };
        format!(
            "45[MQTT-3.3.2-3] {filter} {verb} {name}: > 82{{0001 % \"{filter}\" 00}}; < 90{{0001 % 00}}; \
             > 30{{\"{name}\" % 'x'}}; {end}\n"
        )
    };
    let table: String = MATCHES.iter().map(row).collect();
    let server = Server::start();
    let mut run = Run::new(server.address());
    run.table(Version::V311, &table);
    run.table(Version::V5, &table);
    run.finish();
}
