//! Energy against the vectors, against the closed form, and against itself cut otherwise.

use std::ops::ControlFlow;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const S: i64 = 1_000_000;
/// 2026-02-12T00:00:00Z.
const DAY: i64 = 1_770_854_400 * S;

fn sample(time: i64, active_w: f64) -> Sample {
    let apparent_va = active_w.abs() * 1.25;
    let reactive_var = active_w.abs() * 0.75;
    Sample {
        time: Timestamp(time),
        active_w,
        apparent_va,
        reactive_var,
        cadence_us: Some(S),
        doubts: Doubts::default(),
    }
}

fn hours(samples: &[Sample]) -> Vec<Hour> {
    let (mut hours, mut got) = (Hours::default(), Vec::new());
    for sample in samples {
        hours.push(*sample, &mut |hour| got.push(hour));
    }
    hours.finish(&mut |hour| got.push(hour));
    got
}

fn pieces(samples: &[Sample]) -> Vec<Piece> {
    pieces_but(samples, None)
}

fn pieces_but(samples: &[Sample], whole: Option<(Timestamp, Timestamp)>) -> Vec<Piece> {
    let (mut join, mut pieces) = (Join::new(whole), Vec::new());
    for hour in hours(samples) {
        join.push(hour, &mut |piece| pieces.push(piece));
    }
    join.finish(&mut |piece| pieces.push(piece));
    assert!(pieces.windows(2).all(|pair| pair[0].start < pair[1].start), "in order, one a minute: {pieces:?}");
    pieces
}

fn intervals(pieces: &[Piece], period: Period, start: i64, stop: i64) -> Vec<Interval> {
    let mut got = Vec::new();
    let mut out = |interval| {
        got.push(interval);
        ControlFlow::Continue(())
    };
    let mut periods = Periods::new(period, Timestamp(start), Timestamp(stop));
    for piece in pieces {
        assert!(periods.push(piece, &mut out).is_continue());
    }
    assert!(periods.finish(&mut out).is_continue());
    got
}

fn total(pieces: &[Piece]) -> Totals {
    pieces.iter().fold(Totals::default(), |mut sum, piece| {
        sum.add(&piece.totals);
        sum
    })
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

fn vectors() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors/energy.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("the vectors are JSON");
    assert!(cases.len() >= 7, "the vectors have shrunk");
    cases
}

fn time_of(value: &Value) -> i64 {
    Timestamp::parse_rfc3339(value["ts"].as_str().or(value["start"].as_str()).unwrap()).unwrap().0
}

/// The vectors, with the cadence told, with each sample in a message of its own, and all in one.
#[test]
fn every_vector_has_its_outcome() {
    for case in vectors() {
        let cadence_us = case["sampling_cadence_ms"].as_i64().unwrap() * 1000;
        let given = case["samples"].as_array().unwrap();
        let power = |s: &Value| s["voltage_dc"].as_f64().unwrap() * s["current_dc"].as_f64().unwrap();
        for cadence_us in [Some(cadence_us), None] {
            let of = |s| Sample { cadence_us, ..sample(time_of(s), power(s)) };
            check_vector(&case, &pieces(&given.iter().map(of).collect::<Vec<_>>()));
        }
        let mut datagram = crate::domain::Telemetry::default();
        let first = time_of(&given[0]);
        for s in given {
            for name in ["voltage_dc", "current_dc"] {
                let metric = crate::domain::Metric::parse(name).unwrap();
                datagram.push(time_of(s) - first, metric, None, s[name].as_f64().unwrap());
            }
        }
        let mut whole = Vec::new();
        samples(Timestamp(first), &datagram, false, &mut |_, sample| whole.push(sample));
        check_vector(&case, &pieces(&whole));
    }
}

fn check_vector(case: &Value, pieces: &[Piece]) {
    let expected = case["intervals"].as_array().unwrap();
    let (start, stop) = (time_of(&expected[0]), time_of(expected.last().unwrap()) + 1);
    let got = intervals(pieces, Period::default(), start, stop);
    assert_eq!(got.len(), expected.len(), "{}", case["name"]);
    for (interval, expected) in got.iter().zip(expected) {
        let at = format!("{}: {interval:?}", case["name"]);
        let is = |name: &str, value: f64| assert!(is_near(value, expected[name].as_f64().unwrap()), "{name} of {at}");
        let length_us = Period::default().us();
        assert_eq!(interval.start.0, time_of(expected), "{at}");
        is("import_wh", interval.totals.import_wh());
        is("export_wh", interval.totals.export_wh());
        is("coverage", interval.totals.coverage(length_us));
        let is_valid = expected["coverage"].as_f64().unwrap() >= 0.99;
        assert_eq!(interval.totals.quality(length_us) == Quality::Valid, is_valid, "{at}");
        assert_eq!(interval.totals.covered_us, pieces_of(pieces, interval), "{at}");
    }
}

fn pieces_of(pieces: &[Piece], interval: &Interval) -> i64 {
    let inside = pieces.iter().filter(|p| interval.start <= p.start && p.start < interval.end);
    inside.map(|p| p.totals.covered_us).sum()
}

/// (time s, power W, cadence s) of samples, and the (minute, import Ws, export Ws, covered s) that they make.
fn check(given: &[(f64, f64, i64)], expected: &[(i64, f64, f64, f64)]) {
    let made: Vec<Sample> = given
        .iter()
        .map(|(t, w, cadence)| Sample { cadence_us: Some(cadence * S), ..sample(DAY + (t * 1e6) as i64, *w) })
        .collect();
    let got: Vec<_> = pieces(&made)
        .iter()
        .map(|p| {
            let Totals { import_ws, export_ws, covered_us, .. } = p.totals;
            ((p.start.0 - DAY) / MINUTE_US, import_ws, export_ws, covered_us as f64 / 1e6)
        })
        .collect();
    assert_eq!(got, expected, "{given:?}");
}

#[test]
fn borders_and_zero_cut_exactly_and_holes_carry_nothing() {
    check(&[(0.0, 100.0, 1)], &[]);
    check(&[(58.0, 100.0, 4), (62.0, 140.0, 4)], &[(0, 220.0, 0.0, 2.0), (1, 260.0, 0.0, 2.0)]);
    // Through zero just at the border, and away from it.
    check(&[(59.0, 100.0, 1), (61.0, -100.0, 1)], &[(0, 50.0, 0.0, 1.0), (1, 0.0, 50.0, 1.0)]);
    check(&[(0.0, -300.0, 1), (2.0, 100.0, 1)], &[(0, 25.0, 225.0, 2.0)]);
    check(&[(0.0, 0.0, 1), (1.0, -8.0, 1), (2.0, 0.0, 1)], &[(0, 0.0, 8.0, 2.0)]);
    // Three cadences are no hole, more are one; of two neighbours the faster counts.
    check(&[(0.0, 10.0, 1), (3.0, 10.0, 1), (6.000001, 10.0, 1)], &[(0, 30.0, 0.0, 3.0)]);
    check(&[(0.0, 10.0, 10), (30.0, 10.0, 10), (34.0, 10.0, 1)], &[(0, 300.0, 0.0, 30.0)]);
    // Over the border of an hour as over that of a minute.
    check(&[(3598.0, 10.0, 4), (3606.0, 10.0, 4)], &[(59, 20.0, 0.0, 2.0), (60, 60.0, 0.0, 6.0)]);
    check(&[(3590.0, 10.0, 4), (3606.0, 10.0, 4)], &[]);
    // A slow meter's neighbours lie minutes apart.
    check(
        &[(30.0, 10.0, 60), (210.0, 10.0, 60)],
        &[(0, 300.0, 0.0, 30.0), (1, 600.0, 0.0, 60.0), (2, 600.0, 0.0, 60.0), (3, 300.0, 0.0, 30.0)],
    );
    // Two values of one instant: nothing between them, and on with the later one.
    check(&[(0.0, 10.0, 1), (1.0, 10.0, 1), (1.0, 50.0, 1), (2.0, 50.0, 1)], &[(0, 60.0, 0.0, 2.0)]);
}

#[test]
fn an_interval_is_valid_uncertain_or_missing() {
    let check = |covered_s: i64, doubts: Doubts, expected: Quality| {
        let totals = Totals { covered_us: covered_s * S, doubts, ..Totals::default() };
        assert_eq!(totals.quality(300 * S), expected, "{covered_s} {doubts:?}");
    };
    let none = Doubts::default();
    check(300, none, Quality::Valid);
    check(297, none, Quality::Valid);
    check(296, none, Quality::Uncertain);
    check(0, none, Quality::Missing);
    check(300, Doubts { is_implausible: true, ..none }, Quality::Uncertain);
    check(300, Doubts { is_clock_off: true, ..none }, Quality::Uncertain);
}

#[test]
fn a_doubtful_sample_makes_the_minutes_it_takes_part_in_doubtful_and_no_other() {
    let mut made: Vec<Sample> = (0..240).map(|t| sample(DAY + t * S, 1.0)).collect();
    made[120].doubts.is_implausible = true;
    let doubtful: Vec<bool> = pieces(&made).iter().map(|p| p.totals.doubts.is_implausible).collect();
    assert_eq!(doubtful, [false, true, true, false], "on the border it belongs to both");
    let alone = Sample { doubts: Doubts { is_clock_off: true, ..Doubts::default() }, ..sample(DAY, 1.0) };
    assert_eq!(pieces(&[alone])[0].totals.quality(MINUTE_US), Quality::Missing);
}

#[test]
fn intervals_begin_at_midnight_utc_whole_and_without_gaps() {
    let minute = |n: i64| Piece {
        start: Timestamp(DAY + n * MINUTE_US),
        totals: Totals { import_ws: 1.0, covered_us: MINUTE_US, ..Totals::default() },
    };
    let all: Vec<Piece> = (-30..30).map(minute).collect();
    let check = |period: &str, start_min: i64, stop_min: i64, expected: &[(i64, f64)]| {
        let period = Period::from_name(period).unwrap();
        let got = intervals(&all, period, DAY + start_min * MINUTE_US, DAY + stop_min * MINUTE_US);
        let short: Vec<_> = got.iter().map(|i| ((i.start.0 - DAY) / MINUTE_US, i.totals.import_ws)).collect();
        assert_eq!(short, expected, "{period:?} {start_min} {stop_min}");
        assert!(got.iter().all(|i| i.end.0 - i.start.0 == period.us()));
    };
    check("5m", -3, 1, &[(-5, 5.0), (0, 5.0)]);
    check("5m", -5, 0, &[(-5, 5.0)]);
    check("15m", 14, 46, &[(0, 15.0), (15, 15.0), (30, 0.0), (45, 0.0)]);
    check("10m", -31, -29, &[(-40, 0.0), (-30, 10.0)]);
    check("1h", 0, 60, &[(0, 30.0)]);
    check("1d", -1, 1, &[(-1440, 30.0), (0, 30.0)]);
    check("1m", 7, 7, &[]);
    check("1m", 7, 8, &[(7, 1.0)]);
    assert_eq!(Period::from_name("2m"), None);
}

/// Steps of 1 ms to 5 s and powers of both signs, beginning near a minute's border.
fn walks() -> impl Strategy<Value = Vec<Sample>> {
    let step = prop_oneof![4 => 1_000_i64..3_000_000, 1 => 3_000_001_i64..5_000_000, 1 => Just(S)];
    let power = prop_oneof![6 => -2e6_f64..2e6, 1 => Just(0.0)];
    (-90 * S..0, prop::collection::vec((step, power), 0..120)).prop_map(|(begin, steps)| {
        let mut time = DAY + begin;
        steps
            .into_iter()
            .map(|(step, power)| {
                time += step;
                sample(time, power)
            })
            .collect()
    })
}

/// ∫ max(±P, 0) of a straight line, by where it is zero.
fn closed_form(a: &Sample, b: &Sample, sign: f64) -> f64 {
    let (p, q) = (a.active_w * sign, b.active_w * sign);
    let seconds = (b.time.0 - a.time.0) as f64 / 1e6;
    if p.max(q) <= 0.0 {
        0.0
    } else if p.min(q) >= 0.0 {
        (p + q) / 2.0 * seconds
    } else {
        let zero_at = p / (p - q);
        let (height, part) = if p > 0.0 { (p, zero_at) } else { (q, 1.0 - zero_at) };
        height * part * seconds / 2.0
    }
}

proptest! {
    #[test]
    fn the_sum_is_the_closed_form_whatever_the_borders(walk in walks()) {
        let got = total(&pieces(&walk));
        let bridged = walk.windows(2).filter(|pair| pair[1].time.0 - pair[0].time.0 <= 3 * S);
        let mut expected = Totals::default();
        for pair in bridged {
            let (a, b) = (&pair[0], &pair[1]);
            let seconds = (b.time.0 - a.time.0) as f64 / 1e6;
            expected.import_ws += closed_form(a, b, 1.0);
            expected.export_ws += closed_form(a, b, -1.0);
            expected.apparent_vas += (a.apparent_va + b.apparent_va) / 2.0 * seconds;
            expected.reactive_vars += (a.reactive_var + b.reactive_var) / 2.0 * seconds;
            expected.covered_us += b.time.0 - a.time.0;
        }
        prop_assert!(is_near(got.import_ws, expected.import_ws), "{got:?} {expected:?}");
        prop_assert!(is_near(got.export_ws, expected.export_ws), "{got:?} {expected:?}");
        prop_assert!(is_near(got.apparent_vas, expected.apparent_vas), "{got:?} {expected:?}");
        prop_assert!(is_near(got.reactive_vars, expected.reactive_vars), "{got:?} {expected:?}");
        prop_assert_eq!(got.covered_us, expected.covered_us);
    }

    #[test]
    fn every_period_has_the_same_total(walk in walks()) {
        let pieces = pieces(&walk);
        let (start, stop) = (DAY - 86_400 * S, DAY + 86_400 * S);
        let whole = total(&pieces);
        for (_, period) in Period::ALL {
            let sum = intervals(&pieces, period, start, stop).iter().fold(Totals::default(), |mut sum, interval| {
                sum.add(&interval.totals);
                sum
            });
            prop_assert!(is_near(sum.import_ws, whole.import_ws) && is_near(sum.export_ws, whole.export_ws));
            prop_assert_eq!(sum.covered_us, whole.covered_us);
        }
        let hours = total(&pieces_but(&walk, Period::Day.whole_hours()));
        prop_assert!(is_near(hours.import_ws, whole.import_ws) && is_near(hours.reactive_vars, whole.reactive_vars));
        prop_assert_eq!((hours.covered_us, hours.doubts), (whole.covered_us, whole.doubts));
    }

    /// A reader of a part finds the same minutes as in the whole, to the bit; and hours that were kept are as good.
    #[test]
    fn a_part_is_read_as_it_is_in_the_whole(
        steps in prop::collection::vec((1_i64..70, -9_i64..9, prop::bool::ANY), 1..400),
        from_min in 0_i64..200,
        length_min in 1_i64..100,
    ) {
        let mut time = DAY + 1_800 * S;
        let walk: Vec<Sample> = steps.into_iter().map(|(step, power, is_told)| {
            time += step * S;
            Sample { cadence_us: is_told.then_some(20 * S), ..sample(time, power as f64) }
        }).collect();
        let start = Timestamp(DAY + from_min * MINUTE_US);
        let stop = start.plus_us(length_min * MINUTE_US);
        let inside = |pieces: Vec<Piece>| -> Vec<Piece> {
            pieces.into_iter().filter(|p| start <= p.start && p.start < stop).collect()
        };
        let (from, to) = hours_for(start, stop);
        let near: Vec<Sample> = walk.iter().copied().filter(|s| from <= s.time && s.time < to).collect();
        prop_assert_eq!(inside(pieces(&near)), inside(pieces(&walk)));
        let apart: Vec<Hour> = hours(&walk).into_iter().flat_map(|hour| {
            let own: Vec<Sample> = walk.iter().copied().filter(|s| hour_of(s.time) == hour.start).collect();
            hours(&own)
        }).collect();
        prop_assert_eq!(apart, hours(&walk));
    }
}

/// A slow meter that sends each sample by itself is known by its hour.
#[test]
fn a_slow_meter_whose_messages_hold_one_sample_is_covered_from_its_first_sample_on() {
    let told = |cadence_us: Option<i64>, times: &mut dyn Iterator<Item = i64>| {
        let made: Vec<Sample> = times.map(|t| Sample { cadence_us, ..sample(DAY + t * S, 10.0) }).collect();
        total(&pieces(&made)).covered_us / S
    };
    assert_eq!(told(None, &mut (0..7).map(|n| n * 10)), 60);
    assert_eq!(told(None, &mut (0..180).map(|n| n * 60)), 179 * 60);
    assert_eq!(told(None, &mut (0..2).map(|n| n * 10)), 0, "two samples tell no cadence: the default is a second");
    assert_eq!(told(None, &mut [0, 10, 20, 30, 90, 100].into_iter()), 40);
    assert_eq!(told(None, &mut (0..200).map(|n| n * 61)), 0, "no meter is so slow");
}
