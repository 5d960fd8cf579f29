//! Whether one topic filter covers another: whatever the other matches, it matches too.
//!
//! Invariant: exact for valid filters, both ways: what is said to be covered is, and what is covered is said to be. (Names
//! are any texts, so a literal level never stands for `+`.)

/// Whether every topic that `inner` matches is matched by `outer`. A leading wildcard covers nothing that begins with `$`
/// `[MQTT-4.7.2-1]`.
pub fn covers(outer: &str, inner: &str) -> bool {
    if outer.starts_with(['+', '#']) && inner.starts_with('$') {
        return false;
    }
    // No topic is empty, so what stands before these `#` is always followed by something.
    let inner = match inner {
        "#" => "+/#",
        "/#" => "/+/#",
        other => other,
    };
    let (mut outers, mut inners) = (outer.split('/'), inner.split('/'));
    loop {
        match (outers.next(), inners.next()) {
            (Some("#"), _) => return true,
            (_, Some("#")) => return false,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(other)) if level == other => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::topic::{is_valid_filter, is_valid_name, matches};

    #[test]
    fn a_filter_covers_its_parts_and_nothing_else() {
        let check = |outer: &str, inner: &str, expected| assert_eq!(covers(outer, inner), expected, "{outer} {inner}");
        check("iot/+/telemetry", "iot/m1/telemetry", true);
        check("iot/+/telemetry", "iot/+/telemetry", true);
        check("iot/m1/telemetry", "iot/+/telemetry", false);
        check("iot/+/telemetry", "iot/#", false);
        check("iot/#", "iot/+/telemetry", true);
        check("iot/#", "iot", true);
        check("iot/+", "iot/#", false);
        check("iot/+/#", "iot/#", false);
        check("+/#", "#", true);
        check("+/+/#", "#", false);
        check("/+/#", "/#", true);
        check("+/+/#", "/#", true);
        check("#", "$SYS/#", false);
        check("+/x", "$SYS/x", false);
        check("$SYS/#", "$SYS/broker/+", true);
        check("a", "a/#", false);
    }

    /// Every topic of up to four levels that two filters of these letters could tell apart.
    fn topics() -> Vec<String> {
        let letters = ["a", "b", "", "$", "other"];
        let mut all: Vec<String> = letters.map(str::to_owned).to_vec();
        let mut longest = all.clone();
        for _ in 0..3 {
            longest = longest.iter().flat_map(|t| letters.map(|l| format!("{t}/{l}"))).collect();
            all.extend(longest.iter().cloned());
        }
        all.retain(|topic| is_valid_name(topic));
        all
    }

    proptest! {
        #[test]
        fn covering_agrees_with_matching(outer in "([ab+$]?/){0,2}([ab+#$]?)", inner in "([ab+$]?/){0,2}([ab+#$]?)") {
            prop_assume!(is_valid_filter(&outer) && is_valid_filter(&inner));
            let by_topics = topics().iter().all(|topic| !matches(&inner, topic) || matches(&outer, topic));
            prop_assert_eq!(covers(&outer, &inner), by_topics, "{} {}", outer, inner);
        }

        #[test]
        fn what_is_covered_is_matched(outer in "([a-c+]/){0,4}[a-c+#]", inner in "([a-c+]/){0,4}[a-c+#]", name in "([a-c]/){0,5}[a-c]") {
            prop_assert!(!(covers(&outer, &inner) && matches(&inner, &name)) || matches(&outer, &name));
        }

        #[test]
        fn no_text_makes_it_panic(a in any::<String>(), b in any::<String>()) {
            let _ = covers(&a, &b);
        }
    }
}
