//! The payload: a realistic datagram of 20 values, built once and patched in place.
//!
//! Message `n` of a device is a function of `n` alone: `ts` = base + n·step, `seq` = n mod 2³², and ten samples of voltage
//! and current on a grid of step/10 that ends at `ts`, so that no two messages of a device share an instant, and the
//! store can be asked for exactly these. All patched fields have a fixed width; a counter is padded with blanks before it,
//! which JSON allows. Message time runs ahead of real time when a device sends more than 1/step messages a second, and
//! behind when fewer; both stay within the server's window for days.

use crate::domain::Timestamp;

/// Voltage and current pairs in a datagram.
pub(super) const SAMPLES: u64 = 10;
/// `2026-02-12T10:00:10.123456Z`.
const TIME_WIDTH: usize = 27;
const SEQ_WIDTH: usize = 10;

/// Where the messages of a run lie in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grid {
    base_us: i64,
    step_us: i64,
}

impl Grid {
    /// Messages from `now` on, `step_us` apart (a multiple of 10). The last digits of every instant are drawn from
    /// the present microsecond, so that runs that overlap in time seldom share one.
    pub(super) fn new(now: Timestamp, step_us: i64) -> Self {
        Self { base_us: now.micros(), step_us }
    }

    /// `ts` of message `n`.
    pub(super) fn ts(&self, n: u64) -> Timestamp {
        Timestamp(self.base_us.saturating_add(self.step_us.saturating_mul(i64::try_from(n).unwrap_or(i64::MAX))))
    }

    /// Time of sample `k` (0…9) of message `n`.
    fn sample(&self, n: u64, k: u64) -> Timestamp {
        self.ts(n).plus_us(-(self.step_us / SAMPLES as i64) * (SAMPLES - 1 - k) as i64)
    }

    /// Which message's sample an instant is; `None` when it is none of this run.
    pub(super) fn message_of(&self, at: Timestamp) -> Option<u64> {
        let spacing = self.step_us / SAMPLES as i64;
        let since = at.micros().checked_sub(self.sample(0, 0).micros())?;
        (since >= 0 && since % spacing == 0).then(|| (since / spacing) as u64 / SAMPLES)
    }

    /// The time range, end excluded, that holds all samples of the first `messages` messages.
    pub(super) fn range(&self, messages: u64) -> (Timestamp, Timestamp) {
        (self.sample(0, 0), self.sample(messages, 0))
    }
}

/// One device's packet-ready payload.
#[derive(Clone)]
pub(super) struct Template {
    grid: Grid,
    bytes: Vec<u8>,
    ts_at: usize,
    seq_at: usize,
    /// Where the time of each sample stands: with its voltage, with its current.
    samples: Vec<[usize; 2]>,
    digits: Vec<usize>,
    clock: ClockFace,
    salt: u64,
}

impl Template {
    /// The datagram of `device_id`; `salt` varies the values between devices.
    pub(super) fn new(device_id: &str, grid: Grid, salt: u64) -> Self {
        let blank_time = " ".repeat(TIME_WIDTH);
        let mut text = format!("{{\"v\":2,\"device_id\":\"{device_id}\",\"ts\":\"");
        let time = |text: &mut String| {
            let at = text.len();
            text.push_str(&blank_time);
            at
        };
        let ts_at = time(&mut text);
        text.push_str("\",\"seq\":");
        let seq_at = text.len();
        text.push_str(&" ".repeat(SEQ_WIDTH));
        text.push_str(",\"msg_type\":\"telemetry\",\"measurements\":[");
        let (mut samples, mut digits) = (Vec::new(), Vec::new());
        for k in 0..SAMPLES {
            let separator = if k == 0 { "" } else { "," };
            text.push_str(&format!("{separator}{{\"ts\":\""));
            let voltage = time(&mut text);
            text.push_str("\",\"type\":\"voltage_dc\",\"val\":7");
            digits.push(text.len());
            text.push_str("50.25,\"unit\":\"V\"},{\"ts\":\"");
            let current = time(&mut text);
            text.push_str("\",\"type\":\"current_dc\",\"val\":3");
            digits.push(text.len());
            text.push_str("10.75,\"unit\":\"A\"}");
            samples.push([voltage, current]);
        }
        text.push_str("]}");
        Self { grid, bytes: text.into_bytes(), ts_at, seq_at, samples, digits, clock: ClockFace::new(), salt }
    }

    /// Length of every payload.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of message `n`; the same for the same `n`, whenever asked.
    pub(super) fn message(&mut self, n: u64) -> &[u8] {
        put_seq(&mut self.bytes[self.seq_at..self.seq_at + SEQ_WIDTH], n as u32);
        for (k, places) in self.samples.iter().enumerate() {
            let text = self.clock.show(self.grid.sample(n, k as u64));
            for &at in places {
                self.bytes[at..at + TIME_WIDTH].copy_from_slice(text);
            }
        }
        // The last sample is of `ts`.
        let ts = self.clock.show(self.grid.ts(n));
        self.bytes[self.ts_at..self.ts_at + TIME_WIDTH].copy_from_slice(ts);
        let mut noise = (n ^ self.salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for &at in &self.digits {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            // The two digits before the point, and the two behind: 700.00 … 799.99.
            let field = &mut self.bytes[at..at + 5];
            put_pair(field, 0, (noise >> 8) as u32 % 100);
            put_pair(field, 3, (noise >> 40) as u32 % 100);
        }
        &self.bytes
    }
}

/// Digits of 0 … 99.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut value = 0;
    while value < 100 {
        pairs[value] = [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
        value += 1;
    }
    pairs
};

/// The two digits of a value below 100.
fn put_pair(to: &mut [u8], at: usize, value: u32) {
    to[at..at + 2].copy_from_slice(&PAIRS[value as usize]);
}

fn put_seq(to: &mut [u8], mut value: u32) {
    for byte in to.iter_mut().rev() {
        *byte = if value == 0 { b' ' } else { b'0' + (value % 10) as u8 };
        value /= 10;
    }
    if let Some(last) = to.last_mut().filter(|last| **last == b' ') {
        *last = b'0';
    }
}

/// The time shown last: what is the same in the next one stays.
#[derive(Clone)]
struct ClockFace {
    text: [u8; TIME_WIDTH],
    minute: i64,
}

impl ClockFace {
    fn new() -> Self {
        Self { text: [b' '; TIME_WIDTH], minute: i64::MIN }
    }

    /// `ts` as text.
    fn show(&mut self, ts: Timestamp) -> &[u8; TIME_WIDTH] {
        let minute = ts.micros().div_euclid(60_000_000);
        let within = ts.micros().rem_euclid(60_000_000) as u32;
        if self.minute != minute {
            self.minute = minute;
            let text = chrono::DateTime::from_timestamp(minute * 60, 0).unwrap_or_default();
            let text = text.format("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
            // Years beyond 9999 would be longer; the clock is not there.
            self.text.copy_from_slice(&text.as_bytes()[..TIME_WIDTH]);
        }
        let micros = within % 1_000_000;
        put_pair(&mut self.text, 17, within / 1_000_000);
        put_pair(&mut self.text, 20, micros / 10_000);
        put_pair(&mut self.text, 22, micros / 100 % 100);
        put_pair(&mut self.text, 24, micros % 100);
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn parsed(template: &mut Template, n: u64) -> Value {
        serde_json::from_slice(template.message(n)).expect("valid JSON")
    }

    fn time(value: &Value) -> Timestamp {
        Timestamp::parse_rfc3339(value["ts"].as_str().unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn patched_bytes_are_valid_json_with_growing_seq_and_times_of_their_own(
            base in 0i64..4_000_000_000_000_000, step in 1i64..10_000, n in 0u64..5_000_000_000,
        ) {
            let grid = Grid::new(Timestamp(base), step * 1000);
            let mut template = Template::new("load-0001", grid, 7);
            let one = parsed(&mut template, n);
            let first_bytes = template.message(n).to_vec();
            let two = parsed(&mut template, n + 1);
            prop_assert_eq!(&one["seq"], n as u32);
            prop_assert_eq!(&two["seq"], (n + 1) as u32);
            prop_assert!(time(&one) < time(&two));
            prop_assert_eq!(time(&one), grid.ts(n));
            let mut last = Timestamp(i64::MIN);
            for (message, number) in [(&one, n), (&two, n + 1)] {
                let measurements = message["measurements"].as_array().unwrap();
                prop_assert_eq!(measurements.len(), 20);
                for pair in measurements.chunks(2) {
                    prop_assert!(time(&pair[0]) > last && time(&pair[0]) == time(&pair[1]));
                    last = time(&pair[0]);
                    prop_assert_eq!(grid.message_of(last), Some(number));
                    prop_assert_eq!(grid.message_of(last.plus_us(1)), None);
                    prop_assert!((700.0..800.0).contains(&pair[0]["val"].as_f64().unwrap()));
                    prop_assert!((300.0..400.0).contains(&pair[1]["val"].as_f64().unwrap()));
                }
                prop_assert_eq!(last, time(message));
            }
            // Asked again later, the same bytes.
            prop_assert_eq!(template.message(n), &first_bytes[..]);
        }
    }

    /// A message put together afresh, without anything of the one before.
    fn afresh(device_id: &str, grid: Grid, salt: u64, n: u64) -> String {
        let text = |at: Timestamp| {
            let at = chrono::DateTime::from_timestamp_micros(at.micros()).unwrap();
            at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
        };
        let mut noise = (n ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut digits = || {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            format!("{:02}.{:02}", (noise >> 8) as u32 % 100, (noise >> 40) as u32 % 100)
        };
        let measurements: Vec<_> = (0..SAMPLES)
            .flat_map(|k| [(k, "voltage_dc", '7', 'V'), (k, "current_dc", '3', 'A')])
            .map(|(k, name, hundreds, unit)| {
                let (ts, digits) = (text(grid.sample(n, k)), digits());
                format!(r#"{{"ts":"{ts}","type":"{name}","val":{hundreds}{digits},"unit":"{unit}"}}"#)
            })
            .collect();
        let (ts, seq, measurements) = (text(grid.ts(n)), n as u32, measurements.join(","));
        format!(
            r#"{{"v":2,"device_id":"{device_id}","ts":"{ts}","seq":{seq:>10},"msg_type":"telemetry","measurements":[{measurements}]}}"#
        )
    }

    proptest! {
        /// Forth and back, over the ends of seconds, minutes and days.
        #[test]
        fn a_patched_message_is_the_same_as_one_made_afresh(
            base in 1_700_000_000_000_000i64..4_000_000_000_000_000, step in 1i64..10_000, salt in 0u64..1000,
            numbers in prop::collection::vec(prop_oneof![0u64..100, 0u64..5_000_000_000], 1..20),
        ) {
            let grid = Grid::new(Timestamp(base), step * 1000);
            let mut template = Template::new("load-0001", grid, salt);
            for n in numbers {
                let patched = String::from_utf8(template.message(n).to_vec()).unwrap();
                prop_assert_eq!(patched, afresh("load-0001", grid, salt, n));
            }
        }
    }

    #[test]
    fn a_datagram_is_about_one_and_a_half_kilobytes() {
        let template = Template::new("load-0001", Grid::new(Timestamp(0), 1000), 0);
        assert!((1500..1800).contains(&template.len()), "{}", template.len());
    }
}
