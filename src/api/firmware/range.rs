//! Range requests (RFC 9110, section 14): one range of bytes. Pure.

use std::ops::Range;

use actix_web::http::header::{HeaderMap, IF_RANGE, RANGE};

/// What of a representation is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These bytes, one at least.
    Part(Range<u64>),
    /// Bytes it does not have.
    Nothing,
}

/// What the headers want of `size` bytes with that strong tag. A header that is no range, or several ranges, wants all
/// (section 14.2: a server may ignore it); `If-Range` with another tag too (section 13.1.5).
pub fn wanted(headers: &HeaderMap, size: u64, tag: &str) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key(IF_RANGE) && text(IF_RANGE).map(str::trim) != Some(tag) {
        return Wanted::Whole;
    }
    text(RANGE).map_or(Wanted::Whole, |range| parse(range, size))
}

fn parse(text: &str, size: u64) -> Wanted {
    let unit = text.trim().split_once('=').filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"));
    let Some((first, last)) = unit.and_then(|(_, range)| range.trim().split_once('-')) else { return Wanted::Whole };
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        // What is too large for the type is beyond every end.
        true if !text.is_empty() => Some(text.parse().unwrap_or(u64::MAX)),
        _ => None,
    };
    match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => match suffix.min(size) {
            0 => Wanted::Nothing,
            length => Wanted::Part(size - length..size),
        },
        (Some(first), Some(last)) if last < first => Wanted::Whole,
        (Some(first), _) if (last.is_empty() || number(last).is_some()) && first >= size => Wanted::Nothing,
        (Some(first), Some(last)) => Wanted::Part(first..last.saturating_add(1).min(size)),
        (Some(first), None) if last.is_empty() => Wanted::Part(first..size),
        _ => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn one_range_is_cut_to_what_there_is_and_anything_else_is_ignored() {
        let check = |text: &str, expected: Wanted| assert_eq!(parse(text, 100), expected, "{text}");
        check("bytes=0-9", Wanted::Part(0..10));
        check("bytes=90-", Wanted::Part(90..100));
        check("bytes=-5", Wanted::Part(95..100));
        check("bytes=-500", Wanted::Part(0..100));
        check("Bytes = 0-0", Wanted::Part(0..1));
        check("bytes=99-1000", Wanted::Part(99..100));
        check("bytes=99-99999999999999999999999999", Wanted::Part(99..100));
        for nothing in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999999-"] {
            check(nothing, Wanted::Nothing);
        }
        for ignored in [
            "bytes=9-1",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1-b",
            "lines=1-2",
            "bytes=0-1,5-6",
            "x",
            "bytes=+1-2",
        ] {
            check(ignored, Wanted::Whole);
        }
    }

    #[test]
    fn if_range_with_another_tag_wants_all() {
        let check = |if_range: Option<&str>, expected: Wanted| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static("bytes=5-"));
            if let Some(value) = if_range {
                headers.insert(IF_RANGE, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(wanted(&headers, 10, "\"ab\""), expected, "{if_range:?}");
        };
        check(None, Wanted::Part(5..10));
        check(Some("\"ab\""), Wanted::Part(5..10));
        check(Some("\"cd\""), Wanted::Whole);
        check(Some("W/\"ab\""), Wanted::Whole);
        check(Some("Wed, 21 Oct 2026 07:28:00 GMT"), Wanted::Whole);
    }
}
