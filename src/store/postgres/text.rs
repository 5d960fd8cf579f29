//! What Postgres cannot hold: U+0000 in texts and in jsonb. It becomes U+FFFD, the sign for a character that cannot be shown.
//! The type json takes it, but whatever then looks into the value fails (the view `readings`, a restore): so there, too.
//!
//! Why not refuse: a meter may say it in any text (a detail, a unit), and its message, refused by the database, would hold
//! up all that come behind it. The archive has the exact bytes. Pure.

use std::borrow::Cow;

use serde_json::Value;

const REPLACEMENT: &str = "\u{fffd}";

/// A text without U+0000.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', REPLACEMENT)) } else { Cow::Borrowed(text) }
}

/// A JSON text without escaped U+0000.
pub(super) fn json(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u0000") {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        clean.push_str(before);
        // A backslash is followed by an ASCII character, in JSON.
        let len = if escape.starts_with("\\u") { 6 } else { 2 };
        let (escape, behind) = escape.split_at(len.min(escape.len()));
        clean.push_str(if escape == "\\u0000" { "\\ufffd" } else { escape });
        rest = behind;
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

/// A JSON value without U+0000.
pub(super) fn value(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(plain(&text).into_owned()),
        Value::Array(items) => Value::Array(items.into_iter().map(self::value).collect()),
        Value::Object(members) => object(&members),
        other => other,
    }
}

/// A JSON object without U+0000.
pub(super) fn object(members: &serde_json::Map<String, Value>) -> Value {
    let clean = |(key, member): (&String, &Value)| (plain(key).into_owned(), value(member.clone()));
    Value::Object(members.iter().map(clean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_u0000_is_replaced_and_a_written_backslash_stays() {
        let check = |text: &str| {
            let written = serde_json::json!({ text: [text, 1] });
            let expected = value(written.clone());
            let read: Value = serde_json::from_str(&json(&written.to_string())).unwrap();
            assert_eq!(read, expected, "{text:?}");
            assert!(!read[&*plain(text)][0].as_str().unwrap().contains('\0'), "{read}");
            assert_eq!(plain(text), text.replace('\0', "\u{fffd}"));
        };
        for text in ["", "\0", "a\0\0b", "\\u0000", "\\\0", "\\\\u0000\0", "é\u{1}\"\n\0", "\\"] {
            check(text);
        }
    }
}
