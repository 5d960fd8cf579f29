//! Time ranges as clients write them: `-1h`, `now()`, RFC 3339, epoch milliseconds; and lengths of time (`5m`).
//!
//! Pure; a range is half-open, `start..stop`.

use crate::domain::Timestamp;

use super::query::Params;
pub use crate::series::Range;

/// What a time parameter may be, for error messages.
const TIME: &str = "-30s, -15m, -1h or -7d, now(), an RFC 3339 time, or epoch milliseconds";

/// Microseconds of `30s`, `15m`, `1h`, `7d`.
pub fn parse_length_us(text: &str) -> Option<i64> {
    let unit_s = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<i64>().ok()?.checked_mul(unit_s)?.checked_mul(1_000_000)
}

/// One end of a range. A blank in place of the zone's plus sign is the plus sign a query string made into a blank.
pub fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if text == "now()" {
        return Some(now);
    }
    if let Some(length) = text.strip_prefix('-') {
        return now.0.checked_sub(parse_length_us(length)?).map(Timestamp);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<i64>().ok()?.checked_mul(1000).map(Timestamp);
    }
    Timestamp::parse_rfc3339(text).or_else(|| Timestamp::parse_rfc3339(&text.replace(' ', "+")))
}

impl Range {
    /// `start` and `stop` of a query; without them from `default_us` ago to now.
    pub fn read(params: &mut Params, default_us: i64, now: Timestamp) -> Self {
        let start = params.read("start", TIME, |v| parse_time(v, now));
        let stop = params.read("stop", TIME, |v| parse_time(v, now)).unwrap_or(now);
        let start = start.unwrap_or_else(|| now.min(stop).plus_us(-default_us));
        if start > stop {
            params.fault("start", "must not be later than stop");
        }
        Self { start, stop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_770_890_400_000_000);

    #[test]
    fn a_time_is_relative_now_rfc_3339_or_epoch_ms_and_nothing_else() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_time(text, NOW).map(|t| t.0), expected, "{text:?}");
        };
        check("now()", Some(NOW.0));
        check("-30s", Some(NOW.0 - 30_000_000));
        check("-15m", Some(NOW.0 - 900_000_000));
        check("-1h", Some(NOW.0 - 3_600_000_000));
        check("-7d", Some(NOW.0 - 604_800_000_000));
        check("1770890400000", Some(NOW.0));
        check("2026-02-12T10:00:00Z", Some(NOW.0));
        check("2026-02-12T11:00:00+01:00", Some(NOW.0));
        check("2026-02-12T11:00:00 01:00", Some(NOW.0));
        check("0", Some(0));
        for bad in ["", "now", "1h", "-1w", "-h", "--1h", "-1h30m", "-1.5h", "+5", "2026-02-12", "yesterday", "1e9"] {
            check(bad, None);
        }
        check("99999999999999999999", None);
        check("-9223372036854775807d", None);
    }

    #[test]
    fn a_range_defaults_to_the_last_hour_and_may_not_run_backwards() {
        let check = |query: &str, expected: Option<(i64, i64)>| {
            let mut params = Params::parse(query);
            let range = Range::read(&mut params, 3_600_000_000, NOW);
            let got = params.finish().ok().map(|()| (NOW.0 - range.start.0, NOW.0 - range.stop.0));
            assert_eq!(got.map(|(a, b)| (a / 1_000_000, b / 1_000_000)), expected, "{query}");
        };
        check("", Some((3600, 0)));
        check("start=-2h", Some((7200, 0)));
        check("stop=-2h", Some((10_800, 7200)));
        check("start=-1h&stop=-2h", None);
        check("start=-1h&stop=-1h", Some((3600, 3600)));
        check("start=x&stop=y", None);
    }
}
