//! Numbers that JSON has no word for, as some meters print them: `NaN`, `-inf`, `Infinity`, `1e999`.
//!
//! They make the text no JSON, but are one bad value each: here something that JSON knows takes their place, and the
//! rest is read. Only used after a text was found malformed, so a good message never pays for it. Everything else stays
//! as it is.

/// The text with `instead` in place of each number that is not finite; `None` when there is none.
pub(super) fn without_non_finite(text: &str, instead: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut repaired = String::new();
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            b if is_word(b) => {
                let end = at + bytes[at..].iter().take_while(|b| is_word(**b)).count();
                if text[at..end].parse::<f64>().is_ok_and(|value| !value.is_finite()) {
                    repaired.push_str(&text[copied..at]);
                    repaired.push_str(instead);
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return None;
    }
    repaired.push_str(&text[copied..]);
    Some(repaired)
}

/// What numbers and literals are made of. ASCII only, so that cutting there never splits a character.
fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')
}

/// The place behind the string that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_numbers_that_are_not_finite_are_replaced() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(without_non_finite(text, "null").as_deref(), expected, "{text}");
        };
        check(r#"{"a":NaN,"b":-Infinity,"c":1}"#, Some(r#"{"a":null,"b":null,"c":1}"#));
        check(r#"[1e999,-1e999,nan,inf]"#, Some("[null,null,null,null]"));
        check(r#"{"NaN":"é NaN \" NaN","x":true}"#, None);
        check(r#"{"a":"NaN"#, None);
        check(r#"{"a":nano}"#, None);
        check("é", None);
        assert_eq!(without_non_finite("[-inf,1]", "0").as_deref(), Some("[0,1]"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"([a-z0-9"\\é{}:,. -]|NaN|1e999){0,40}"#) {
            let _ = without_non_finite(&text, "null");
        }
    }
}
