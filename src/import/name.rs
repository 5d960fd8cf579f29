//! Names of the old bucket: `{device_id}/{category}/{time}.json`. Pure.

use super::row::Wrong;
use crate::domain::{DeviceId, Timestamp};
use crate::payload::Kind;

/// What a name says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name {
    pub(super) device: DeviceId,
    pub(super) kind: Kind,
    /// When the message was received, where that can be read.
    pub(super) at: Option<Timestamp>,
}

/// Reads the last three parts of a name; what stands before them is a folder.
pub(super) fn parse(name: &str) -> Result<Name, Wrong> {
    let mut parts = name.rsplitn(4, '/');
    let wrong = || ("bad_name", "is not {device_id}/{category}/{time}.json".to_owned());
    let file = parts.next().and_then(|file| file.strip_suffix(".json")).ok_or_else(wrong)?;
    let category = parts.next().ok_or_else(wrong)?;
    let device = parts.next().ok_or_else(wrong)?;
    let device = DeviceId::parse(device).ok_or_else(|| ("bad_device_id", format!("{device:?} is not a device id")))?;
    let kind = kind(category).ok_or_else(|| ("unknown_category", format!("{category:?} is no kind of message")))?;
    Ok(Name { device, kind, at: time(file) })
}

/// The kind of message behind a category; also as topics and older programs spell it.
pub(super) fn kind(category: &str) -> Option<Kind> {
    Some(match category.to_ascii_lowercase().replace(['-', '/'], "_").as_str() {
        "telemetry" | "metrics" | "data" => Kind::Telemetry,
        "hello" | "heartbeat" => Kind::Hello,
        "status" => Kind::Status,
        "command_ack" | "commandack" | "ack" => Kind::CommandAck,
        "ota_status" | "otastatus" | "ota" => Kind::OtaStatus,
        _ => return None,
    })
}

/// A time in a file's name, in UTC: `2026-02-12T10:00:10.123456+00:00` with any signs between the numbers, or none, or a
/// count since 1970 in seconds, milliseconds, microseconds or nanoseconds. In another zone it is not read.
fn time(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    if text.bytes().all(|b| b.is_ascii_digit()) && (10..=19).contains(&text.len()) && text.len() != 14 {
        let number: i64 = text.parse().ok()?;
        return Some(Timestamp(match text.len() {
            10..=11 => number.checked_mul(1_000_000)?,
            12..=14 => number.checked_mul(1000)?,
            15..=17 => number,
            _ => number / 1000,
        }));
    }
    let mut rest = text;
    let mut number = |digits: usize| {
        rest = rest.trim_start_matches(|c: char| c.is_ascii() && !c.is_ascii_digit());
        let (number, behind) = rest.split_at_checked(digits)?;
        rest = behind;
        number.bytes().all(|b| b.is_ascii_digit()).then(|| number.to_owned())
    };
    let whole = [number(4)?, number(2)?, number(2)?, number(2)?, number(2)?, number(2)?];
    let (fraction, behind) = match rest.strip_prefix(['.', '_', '-', ',']) {
        Some(digits) if !is_zone(rest) => {
            digits.split_at(digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len()))
        }
        _ => ("", rest),
    };
    // A plus begins a zone wherever it stands.
    let zone = if is_zone(behind) { behind } else { behind.trim_start_matches(|c: char| c != '+') };
    if !matches!(zone.trim_start_matches(['+', '-']), "" | "00" | "0000" | "00:00" | "00-00" | "00_00") {
        return None;
    }
    let [year, month, day, hour, minute, second] = whole;
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    Timestamp::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}.{fraction}Z"))
}

/// Whether that is an offset from UTC: `-05:00`, `-0500`, `-05`. Behind seconds a minus may begin a fraction as well, which
/// has other numbers of digits: 3 or 6.
fn is_zone(text: &str) -> bool {
    let Some(offset) = text.strip_prefix(['+', '-']) else { return false };
    let digits: Vec<char> = offset.chars().filter(|c| !matches!(c, ':' | '-' | '_')).collect();
    matches!(digits.len(), 2 | 4) && digits.iter().all(char::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_say_device_kind_and_time_however_they_spell_it() {
        let check = |name: &str, expected: Option<&str>| {
            let parsed = parse(&format!("old/bucket/m-1/telemetry/{name}.json")).unwrap();
            assert_eq!((parsed.device.as_str(), parsed.kind), ("m-1", Kind::Telemetry));
            assert_eq!(parsed.at, expected.map(|t| Timestamp::parse_rfc3339(t).unwrap()), "{name}");
        };
        for name in [
            "2026-02-12T10:00:10.123456",
            "2026-02-12T10-00-10.123456Z",
            "2026-02-12T10:00:10.123456+00:00",
            "2026-02-12T10:00:10.123456-00:00",
            "2026-02-12T10-00-10-123456",
            "2026-02-12T10-00-10-123456-1a",
            "2026-02-12_10-00-10_123456",
            "20260212_100010_123456",
            "20260212T100010.123456",
            "1770890410123456",
            "1770890410123456789",
        ] {
            check(name, Some("2026-02-12T10:00:10.123456Z"));
        }
        check("1770890410", Some("2026-02-12T10:00:10Z"));
        check("1770890410123", Some("2026-02-12T10:00:10.123Z"));
        check("2026-02-12T10:00:10", Some("2026-02-12T10:00:10Z"));
        check("20260212100010", Some("2026-02-12T10:00:10Z"));
        for unreadable in ["x", "2026-13-12T10:00:10", "7", "é026-02-12T10:00:10"] {
            check(unreadable, None);
        }
        for zone in ["+02:00", "-05:00", "-05-00", "-0530", "-05"] {
            for time in ["2026-02-12T10:00:10", "2026-02-12T10:00:10.123456", "20260212_100010_123456"] {
                check(&format!("{time}{zone}"), None);
            }
        }
    }

    #[test]
    fn what_is_no_message_is_refused_by_what_is_wrong() {
        let check = |name: &str, reason: &str| assert_eq!(parse(name).unwrap_err().0, reason, "{name}");
        check("readme.md", "bad_name");
        check("m-1/telemetry", "bad_name");
        check("a.json", "bad_name");
        check("-m/telemetry/1770890410.json", "bad_device_id");
        check("m-1/unheard-of/1770890410.json", "unknown_category");
        assert_eq!(parse("m-1/command_ack/1770890410.json").unwrap().kind, Kind::CommandAck);
    }

    proptest! {
        #[test]
        fn no_name_makes_the_parser_panic(name in ".{0,60}") {
            let _ = parse(&format!("m/telemetry/{name}.json"));
            let _ = parse(&name);
        }
    }
}
