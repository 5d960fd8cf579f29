//! Which devices are meant: a prefix of their ids, or a pattern with `*` (any letters, also none) and `?` (one letter).
//!
//! Invariant: a pattern has only letters that an id may have, and its wildcards; matching takes at most pattern × id steps.

use std::fmt;

/// Longest pattern.
const MAX_LEN: usize = 128;

/// A set of device ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DevicePattern(String);

impl DevicePattern {
    /// Reads a pattern; `None` = not 1 to 128 of `A-Z a-z 0-9 . _ - * ?`.
    pub fn parse(text: &str) -> Option<Self> {
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*' | b'?');
        ((1..=MAX_LEN).contains(&text.len()) && text.bytes().all(is_letter)).then(|| Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What every id that is meant begins with: all before the first wildcard.
    pub fn fixed_part(&self) -> &str {
        self.0.split(['*', '?']).next().unwrap_or_default()
    }

    /// Whether the device with this id is meant. Without a wildcard the pattern is a prefix, else it is about the whole id.
    pub fn admits(&self, id: &str) -> bool {
        match self.0.contains(['*', '?']) {
            true => is_match(self.0.as_bytes(), id.as_bytes()),
            false => id.starts_with(&self.0),
        }
    }
}

impl fmt::Display for DevicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Goes back to the last star only: what an earlier one could take, the last one can take too.
fn is_match(pattern: &[u8], id: &[u8]) -> bool {
    let (mut p, mut i) = (0, 0);
    let mut star = None;
    while i < id.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, i));
                p += 1;
            }
            Some(&letter) if letter == b'?' || letter == id[i] => {
                p += 1;
                i += 1;
            }
            _ => {
                let Some((behind, taken)) = star else { return false };
                star = Some((behind, taken + 1));
                (p, i) = (behind, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|&letter| letter == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_or_a_pattern_says_which_devices_are_meant() {
        let check = |pattern: &str, id: &str, expected: bool| {
            assert_eq!(DevicePattern::parse(pattern).unwrap().admits(id), expected, "{pattern} {id}");
        };
        check("dc-", "dc-7", true);
        check("dc-", "ac-7", false);
        check("m1", "m10", true);
        check("m1*", "m1", true);
        check("m?", "m1", true);
        check("m?", "m10", false);
        check("*-7", "dc-meter-7", true);
        check("*-7", "dc-meter-70", false);
        check("a*b*c", "aXXbYYc", true);
        check("a*b*c", "aXXcYYb", false);
        check("*", "anything", true);
        for bad in ["", "a b", "a/+", "é", &"a".repeat(129)] {
            assert_eq!(DevicePattern::parse(bad), None, "{bad:?}");
        }
    }

    /// The definition.
    fn naive(pattern: &[u8], id: &[u8]) -> bool {
        match (pattern, id) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=id.len()).any(|taken| naive(rest, &id[taken..])),
            ([b'?', rest @ ..], [_, ids @ ..]) => naive(rest, ids),
            ([letter, rest @ ..], [first, ids @ ..]) => letter == first && naive(rest, ids),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab*?]{1,8}", id in "[ab]{0,8}") {
            prop_assert_eq!(is_match(pattern.as_bytes(), id.as_bytes()), naive(pattern.as_bytes(), id.as_bytes()));
        }
    }
}
