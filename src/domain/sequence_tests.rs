//! Sequence tracking against the vectors, against a set, and in the situations that only look like a reboot.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// What a run of messages left behind.
#[derive(Default)]
struct Run {
    state: SequenceState,
    seen: Vec<Observation>,
    healed: Vec<(u32, u32)>,
}

impl Run {
    fn say(&mut self, seq: u32, ts: Timestamp) -> Observation {
        let observation = self.state.observe(seq, ts);
        if let Observation::Late(gap) = &observation
            && gap.is_filled()
        {
            self.healed.push((gap.first, gap.last));
        }
        self.seen.push(observation.clone());
        observation
    }

    fn missing(&self) -> Vec<(u32, u32)> {
        self.state.open.iter().flat_map(|gap| gap.missing.iter().copied()).collect()
    }
}

fn s(seconds: i64) -> Timestamp {
    Timestamp(1_770_000_000_000_000 + seconds * 1_000_000)
}

/// Plays (number, second) pairs; checks the reboots and the ranges left missing.
fn check(messages: &[(u32, i64)], reboots: u64, missing: &[(u32, u32)]) {
    let mut run = Run::default();
    for (seq, second) in messages {
        run.say(*seq, s(*second));
    }
    assert_eq!((run.state.reboots, run.missing()), (reboots, missing.to_vec()), "{messages:?}: {:?}", run.seen);
}

fn ranges(value: &Value) -> Vec<(u32, u32)> {
    serde_json::from_value(value.clone()).expect("pairs of numbers")
}

#[test]
fn every_vector_gives_its_gaps_and_reboots() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors/sequences.json"))
        .expect("the vectors are there");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("the vectors are JSON");
    assert!(cases.len() >= 11, "the vectors have shrunk");
    for case in &cases {
        let (name, mut run, mut identities) = (&case["name"], Run::default(), BTreeSet::new());
        for step in case["steps"].as_array().expect("steps") {
            let ts = step["ts"].as_str().and_then(Timestamp::parse_rfc3339).expect("a time");
            let seq = u32::try_from(step["seq"].as_u64().expect("a number")).expect("32 bits");
            let observation = run.say(seq, ts);
            let is_new = identities.insert((ts, seq));
            assert_eq!(step["outcome"], if is_new { "new" } else { "duplicate" }, "{name}");
            assert!(is_new || observation == Observation::Known, "{name}: a copy changes nothing: {observation:?}");
        }
        for (key, got) in [("open_gaps", run.missing()), ("healed_gaps", run.healed)] {
            if let Some(expected) = case.get(key) {
                assert_eq!(got, ranges(expected), "{name}: {key}");
            }
        }
        if let Some(reboots) = case.get("reboots") {
            assert_eq!(Some(run.state.reboots), reboots.as_u64(), "{name}");
        }
    }
}

#[test]
fn the_start_of_a_power_on_that_is_missing_is_a_gap_and_heals() {
    check(&[(500, 0), (501, 1), (3, 60)], 1, &[(0, 2)]);
    check(&[(500, 0), (501, 1), (3, 60), (1, 58), (0, 57), (2, 59)], 1, &[]);
    check(&[(7, 0), (7, 60)], 1, &[(0, 6)]);
}

#[test]
fn a_message_of_the_last_power_on_is_neither_a_reboot_nor_ahead() {
    check(&[(500, 0), (0, 60), (502, 2), (501, 1), (1, 61)], 1, &[]);
    // A late message that fills a gap of the last power-on, and has the number after the present head.
    check(&[(0, 0), (3, 3), (0, 60), (1, 1), (1, 61), (2, 62)], 1, &[(2, 2)]);
    // Copies over a slower broker, running on after the reboot with numbers around the new head.
    check(&[(0, 0), (0, 0), (1, 1), (2, 2), (0, 60), (1, 1), (2, 2), (1, 61), (2, 62)], 1, &[]);
    // A backfill whose numbers run past the head, over two brokers.
    check(&[(0, 3600), (0, 0), (1, 10), (2, 20), (1, 10), (2, 20), (1, 3610), (3, 30), (2, 3620)], 0, &[]);
    check(&[(0, 3600), (1, 3610), (0, 0), (1, 10), (2, 20), (3, 30), (2, 3620), (4, 40), (3, 3630)], 0, &[]);
}

#[test]
fn the_newest_message_is_by_time_and_by_the_count_where_the_heads_time_is_still_to_come() {
    let check = |head: (u32, i64), seq: u32, second: i64, expected: bool| {
        let state = SequenceState { head: Some((head.0, s(head.1))), ..SequenceState::default() };
        assert_eq!(state.is_newest(seq, s(second), s(100)), expected, "{head:?} {seq} {second}");
    };
    check((7, 99), 8, 100, true);
    check((7, 99), 0, 100, true);
    check((7, 99), 7, 99, false);
    check((7, 99), 8, 98, false);
    check((7, 102), 8, 100, false);
    check((7, 72_000), 8, 100, true);
    check((7, 72_000), 9, 100, true);
    check((7, 72_000), 7, 72_000, false);
    check((7, 72_000), 6, 99, false);
    check((u32::MAX, 72_000), 0, 100, true);
    assert!(SequenceState::default().is_newest(5, s(1), s(100)));
}

/// Plays (number, second, second of receipt); checks the reboots and the ranges left missing.
fn check_live(messages: &[(u32, i64, i64)], reboots: u64, missing: &[(u32, u32)]) {
    let mut run = Run::default();
    for (seq, second, now) in messages {
        let observation = run.state.observe_at(*seq, s(*second), s(*now));
        run.seen.push(observation);
    }
    assert_eq!((run.state.reboots, run.missing()), (reboots, missing.to_vec()), "{messages:?}: {:?}", run.seen);
}

#[test]
fn a_message_stamped_ahead_hides_neither_losses_nor_a_reboot() {
    const DAY: i64 = 72_000;
    let losses = [(0, 0, 0), (1, 9, 1), (3, 3, 3), (4, 4, 4), (6, 6, 6), (7, 7, 7), (8, 12, 12)];
    check_live(&losses, 0, &[(2, 2), (5, 5)]);
    // The lost one was late; copies of everything come behind it.
    check_live(&[(0, 0, 0), (1, DAY, 1), (3, 3, 3), (2, 2, 4), (3, 3, 5), (1, DAY, 5), (4, 4, 6)], 0, &[]);
    check_live(
        &[(5000, 0, 0), (5001, DAY, 1), (5001, DAY, 2), (5000, 0, 2), (5002, 3, 3), (5004, 5, 5)],
        0,
        &[(5003, 5003)],
    );
    check_live(&[(5000, 0, 0), (5001, DAY, 1), (0, 5, 5), (5001, DAY, 6), (1, 6, 6), (5000, 0, 7), (2, 7, 7)], 1, &[]);
    check_live(&[(5000, 0, 0), (5001, DAY, 1), (2, 5, 5), (3, 6, 6)], 1, &[(0, 1)]);
    check_live(&[(5000, 0, 0), (5001, DAY, 1), (2, 5, 5), (1, 4, 6), (0, 3, 6), (3, 6, 6)], 1, &[]);
    // What has waited says nothing of now; and a clock that stays ahead is an ordinary one.
    check_live(&[(5000, 0, 0), (5001, DAY, 1), (0, -3600, 2), (9000, -3600, 3), (5002, 4, 4)], 0, &[]);
    check_live(&[(500, 0, 0), (501, DAY, 1), (0, 5, 5), (1, 6, 6), (501, DAY, 7), (2, 8, 8)], 1, &[]);
    check_live(&[(9, 0, 0), (10, DAY, 1), (8, -1, 2), (9, 0, 2), (11, 3, 3)], 0, &[]);
    // Copies and a late one that are stamped ahead, of two such messages too.
    check_live(&[(0, 0, 0), (1, DAY, 1), (2, 2 * DAY, 2), (3, 3, 3), (1, DAY, 4), (4, 5, 5), (2, 2 * DAY, 6)], 0, &[]);
    check_live(&[(0, 0, 0), (1, DAY, 1), (3, 3, 3), (2, DAY, 4), (4, 5, 5)], 0, &[]);
    check_live(
        &[(9000, 0, 0), (9001, DAY, 1), (0, 3, 3), (9001, DAY, 4), (1, 5, 5), (9001, DAY, 6), (2, 7, 7)],
        1,
        &[],
    );
    // A meter that is switched on again with a clock that is ahead, and one whose clock always is.
    check_live(&[(500, 0, 0), (0, DAY, 9), (1, DAY + 1, 10), (2, DAY + 2, 11)], 1, &[]);
    check_live(&[(500, 5, 0), (501, 15, 10), (0, 65, 60), (1, 75, 70), (3, 95, 90)], 1, &[(2, 2)]);
    check_live(&[(0, DAY, 0), (1, DAY + 1, 1), (3, DAY + 3, 3), (0, DAY + 60, 60)], 1, &[(2, 2)]);
    check_live(&[(u32::MAX, DAY, 0), (1, 2, 2)], 0, &[(0, 0)]);
}

#[test]
fn a_copy_of_a_message_from_the_future_is_no_reboot_when_hints_are_forgotten() {
    let mut run = Run::default();
    for (seq, second, now) in [(0, 0, 0), (1, 72_000, 1), (2, 2, 2), (3, 3, 3), (1, 72_000, 4), (4, 5, 5)] {
        run.state.hints = Hints::default();
        let observation = run.state.observe_at(seq, s(second), s(now));
        run.seen.push(observation);
    }
    assert_eq!((run.state.reboots, run.missing()), (0, vec![]), "{:?}", run.seen);
}

#[test]
fn a_clock_set_back_is_no_reboot_and_no_gap() {
    check(&[(98, 100), (99, 110), (100, 60), (101, 70), (102, 80)], 0, &[]);
    // … also when a second broker delivers copies from before the step,
    check(&[(98, 100), (99, 110), (100, 60), (98, 100), (99, 110), (101, 70), (100, 60)], 0, &[]);
    // … and when a gap from before it heals after it.
    check(&[(97, 90), (99, 110), (100, 60), (98, 100), (101, 70)], 0, &[]);
}

#[test]
fn a_meter_that_starts_with_a_wrong_clock_opens_no_gap_when_the_clock_is_set() {
    check(&[(500, 1000), (0, 10), (1, 20), (2, 30), (3, 1090)], 1, &[]);
    check(&[(1, 1000), (0, 10), (1, 20), (2, 30), (3, 40), (4, 1090), (5, 1100)], 1, &[]);
}

#[test]
fn numbers_and_times_stamped_in_two_steps_are_no_reboot() {
    let mut run = Run::default();
    for (seq, us) in [(4, 0), (6, 9_000_001), (5, 9_000_002), (5, 9_000_002), (7, 19_000_000)] {
        run.say(seq, Timestamp(us));
    }
    assert_eq!((run.state.reboots, run.missing()), (0, vec![]));
}

#[test]
fn a_gap_across_the_wrap_heals_from_both_sides() {
    let (a, b) = (u32::MAX - 2, u32::MAX);
    check(&[(a, 0), (3, 6)], 0, &[(a + 1, 2)]);
    check(&[(a, 0), (3, 6), (b, 2), (1, 4)], 0, &[(a + 1, a + 1), (0, 0), (2, 2)]);
    check(&[(a, 0), (3, 6), (b, 2), (1, 4), (0, 3), (2, 5), (a + 1, 1)], 0, &[]);
}

#[test]
fn state_stays_bounded_whatever_is_lost() {
    let mut run = Run::default();
    for n in 0..1000 {
        run.say(n * 2, s(i64::from(n)));
    }
    assert_eq!(run.state.open.len(), MAX_OPEN_GAPS);
    assert_eq!(run.state.open[0].first, 1999 - 2 * MAX_OPEN_GAPS as u32, "the newest are followed");
    // One wide gap, filled at every second number.
    run.say(100_000, s(100_000));
    for n in (2_000..90_000).step_by(2) {
        run.say(n, s(i64::from(n)));
        let parts: usize = run.state.open.iter().map(|gap| gap.missing.len()).sum();
        assert!(parts <= MAX_MISSING_PARTS);
    }
}

proptest! {
    /// One power-on, with numbers anywhere around the wrap, lost, copied and shuffled within a window.
    #[test]
    fn what_is_missing_is_what_a_set_says(
        start in prop_oneof![Just(0_u32), any::<u32>(), (u32::MAX - 150)..=u32::MAX],
        fates in proptest::collection::vec((0_usize..8, any::<bool>(), 0_usize..12), 2..160),
    ) {
        // (place in the order of receipt, index); a fate below 2 of 8 loses the message.
        let mut arrivals = Vec::new();
        for (index, (fate, is_copied, delay)) in fates.iter().enumerate() {
            if *fate >= 2 {
                arrivals.push((index + delay, index));
            }
            if *is_copied && *fate >= 2 {
                arrivals.push((index + 15 - delay, index));
            }
        }
        arrivals.sort();
        let number = |index: usize| start.wrapping_add(index as u32);
        let (mut run, mut model) = (Run::default(), BTreeSet::new());
        for (_, index) in &arrivals {
            run.say(number(*index), s(*index as i64));
            model.insert(*index);
            let first = arrivals[0].1;
            let furthest = *model.last().expect("one at least");
            let expected: Vec<u32> = (first..furthest).filter(|n| !model.contains(n)).map(number).collect();
            let mut got = Vec::new();
            for (from, to) in run.missing() {
                got.extend((0..=to.wrapping_sub(from)).map(|n| from.wrapping_add(n)));
            }
            got.sort_by_key(|n| n.wrapping_sub(start));
            prop_assert_eq!(got, expected);
            prop_assert_eq!(run.state.reboots, 0);
        }
        // What was lost is sent again: nothing is missing then.
        for index in 0..fates.len() {
            run.say(number(index), s(index as i64));
        }
        prop_assert_eq!(run.missing(), vec![]);
        prop_assert_eq!(run.state.reboots, 0);
    }

    #[test]
    fn no_order_of_messages_breaks_the_bounds(
        messages in proptest::collection::vec((prop_oneof![0_u32..40, any::<u32>()], 0_i64..60), 0..400),
    ) {
        let mut run = Run::default();
        for (seq, second) in messages {
            let observation = run.say(seq, s(second));
            prop_assert!(run.state.open.len() <= MAX_OPEN_GAPS);
            prop_assert!(run.state.open.iter().all(|gap| !gap.is_filled() && gap.missing_count() > 0));
            if !matches!(observation, Observation::Late(_)) {
                prop_assert_eq!(run.state.clone().observe(seq, s(second)), Observation::Known);
            }
        }
    }
}
