//! Topic names and filters: which are valid, and which filter matches which name (section 4.7).
//!
//! Invariant: matching is defined for valid arguments only; invalid ones never panic, they just do not match sensibly.

/// The longest name or filter in bytes: a UTF-8 string of the wire has a two-byte length `[MQTT-4.7.3-3]`.
pub const MAX_LEN: usize = 65_535;

/// Levels beyond which a name or filter is refused: a bound on the work and the memory of one subscription.
pub const MAX_LEVELS: usize = 128;

/// Whether a PUBLISH may carry this name: not empty `[MQTT-4.7.3-1]`, no U+0000 `[MQTT-4.7.3-2]`, no wildcards
/// `[MQTT-3.3.2-2]`.
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_LEN
        && !name.bytes().any(|b| matches!(b, 0 | b'+' | b'#'))
        && has_few_levels(name)
}

/// Whether a SUBSCRIBE may carry this filter: `#` only as the whole last level `[MQTT-4.7.1-2]`, `+` only as a whole
/// level `[MQTT-4.7.1-3]`.
pub fn is_valid_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.len() > MAX_LEN || filter.bytes().any(|b| b == 0) || !has_few_levels(filter) {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        match level {
            "#" if is_last => {}
            "+" => {}
            _ if level.bytes().any(|b| matches!(b, b'+' | b'#')) => return false,
            _ => {}
        }
    }
    true
}

/// What a filter of a shared subscription begins with.
pub const SHARE: &str = "$share/";

/// Group and filter of a shared subscription, `$share/group/filter` (MQTT 5 section 4.8.2). `None` = it is not shared,
/// or not rightly: the group has at least one character `[MQTT-4.8.2-1]` and no `/`, `+` or `#`, a filter follows
/// `[MQTT-4.8.2-2]`.
pub fn split_share(filter: &str) -> Option<(&str, &str)> {
    let (group, filter) = filter.strip_prefix(SHARE)?.split_once('/')?;
    (!group.is_empty() && !has_wildcard(group) && !filter.is_empty()).then_some((group, filter))
}

/// Whether a SUBSCRIBE of MQTT 5 may carry this filter, shared or not. To 3.1.1 a filter that begins with `$share/` is
/// like any other.
pub fn is_valid_subscription(filter: &str) -> bool {
    match split_share(filter) {
        Some((group, shared)) => filter.len() <= MAX_LEN && !group.contains('\0') && is_valid_filter(shared),
        None => !filter.starts_with(SHARE) && is_valid_filter(filter),
    }
}

/// Whether a filter has a wildcard.
pub fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|b| matches!(b, b'+' | b'#'))
}

/// Whether `filter` matches `name`. `sport/#` matches `sport` too; a leading wildcard does not match a name that starts
/// with `$` `[MQTT-4.7.2-1]`.
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    let mut filters = filter.split('/');
    loop {
        match (filters.next(), names.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(part)) if level == part => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether a name or filter is within [`MAX_LEVELS`].
pub fn has_few_levels(text: &str) -> bool {
    text.bytes().filter(|&b| b == b'/').count() < MAX_LEVELS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_hold_no_wildcard_no_nul_and_are_not_empty() {
        let check = |name: &str, expected| assert_eq!(is_valid_name(name), expected, "{name:?}");
        check("iot/m1/telemetry", true);
        check("/", true);
        check("é/x", true);
        check("a b", true);
        check("$SYS/x", true);
        check("", false);
        check("a/+", false);
        check("a/b#", false);
        check("a\0b", false);
        check(&"/".repeat(MAX_LEVELS - 1), true);
        check(&"/".repeat(MAX_LEVELS), false);
        check(&"a".repeat(MAX_LEN + 1), false);
    }

    #[test]
    fn wildcards_of_a_filter_stand_alone_and_hash_stands_last() {
        let check = |filter: &str, expected| assert_eq!(is_valid_filter(filter), expected, "{filter:?}");
        check("#", true);
        check("+", true);
        check("+/tennis/#", true);
        check("sport/+/player1", true);
        check("/", true);
        check("/+", true);
        check("sport+", false);
        check("sport/tennis#", false);
        check("sport/#/ranking", false);
        check("##", false);
        check("", false);
        check("a\0", false);
    }

    #[test]
    fn the_examples_of_section_4_7_match_as_written_there() {
        let check = |filter: &str, name: &str, expected| {
            assert_eq!(matches(filter, name), expected, "{filter:?} {name:?}");
        };
        check("sport/tennis/player1/#", "sport/tennis/player1", true);
        check("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true);
        check("sport/#", "sport", true);
        check("sport/#", "sports", false);
        check("sport/tennis/+", "sport/tennis/player1", true);
        check("sport/tennis/+", "sport/tennis/player1/ranking", false);
        check("sport/+", "sport", false);
        check("sport/+", "sport/", true);
        check("+/+", "/finance", true);
        check("/+", "/finance", true);
        check("+", "/finance", false);
        check("#", "$SYS/monitor", false);
        check("+/monitor/Clients", "$SYS/monitor/Clients", false);
        check("$SYS/#", "$SYS/monitor", true);
        check("$SYS/monitor/+", "$SYS/monitor/Clients", true);
        check("ACCOUNTS", "Accounts", false);
    }

    #[test]
    fn a_shared_subscription_has_a_group_and_a_filter() {
        let check = |filter: &str, expected: Option<(&str, &str)>| {
            assert_eq!(split_share(filter), expected, "{filter:?}");
            assert_eq!(is_valid_subscription(filter), expected.is_some_and(|(_, f)| is_valid_filter(f)), "{filter:?}");
        };
        check("$share/g/a", Some(("g", "a")));
        check("$share/g/a/+/#", Some(("g", "a/+/#")));
        check("$share/g//", Some(("g", "/")));
        check("$share/g/a#", Some(("g", "a#")));
        check("$share/g/$share/g/a", Some(("g", "$share/g/a")));
        check("$share/", None);
        check("$share/g", None);
        check("$share/g/", None);
        check("$share//a", None);
        check("$share/+/a", None);
        check("$share/g#/a", None);
        assert!(split_share("a/b").is_none() && is_valid_subscription("a/b"));
        assert!(split_share("$share").is_none() && is_valid_subscription("$share"), "no group is meant");
        assert!(split_share("$SHARE/g/a").is_none() && is_valid_subscription("$SHARE/g/a"));
    }

    /// The definition, by recursion over lists.
    fn naive(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            (["#"], _) => true,
            ([], []) => true,
            ([f, fs @ ..], [n, ns @ ..]) if *f == "+" || f == n => naive(fs, ns),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(filter in "([ab+$]?/){0,3}([ab+#$]?)", name in "([ab$]?/){0,3}[ab$]?") {
            prop_assume!(is_valid_filter(&filter) && is_valid_name(&name));
            let by_lists = naive(&filter.split('/').collect::<Vec<_>>(), &name.split('/').collect::<Vec<_>>());
            let hidden = name.starts_with('$') && filter.starts_with(['+', '#']);
            prop_assert_eq!(matches(&filter, &name), by_lists && !hidden);
        }

        #[test]
        fn no_text_makes_the_rules_panic(a in any::<String>(), b in any::<String>()) {
            let _ = (is_valid_name(&a), is_valid_filter(&a), matches(&a, &b));
        }
    }
}
