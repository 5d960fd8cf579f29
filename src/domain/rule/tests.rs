//! Rules against tables, and against a model that looks at the whole past.

use proptest::prelude::*;

use super::*;
use crate::domain::metric::Telemetry;
use crate::domain::{DeviceState, Metric, Registration};

const REVISION: i64 = 9;

fn device() -> DeviceId {
    DeviceId::parse("dc-1").unwrap()
}

fn rule(id: i64, quantity: &str, op: Op, threshold: f64) -> Rule {
    let quantity = Quantity::parse(quantity).unwrap();
    Rule {
        id: RuleId(id),
        generation: id,
        name: format!("rule {id}"),
        condition: Condition { quantity, op, threshold, clear: None, for_s: 0 },
        selector: Selector::default(),
        severity: Severity::Warning,
        message: None,
    }
}

fn over(threshold: f64, clear: Option<f64>, for_s: u32) -> Rule {
    let mut rule = rule(1, "voltage_dc", Op::Gt, threshold);
    (rule.condition.clear, rule.condition.for_s) = (clear, for_s);
    rule
}

fn registered(is_active: bool) -> DeviceState {
    let registration = Registration { is_active, intervals: Default::default(), device_type: "dc750".into() };
    DeviceState { registration: Some(registration), ..DeviceState::default() }
}

fn seconds(s: i64) -> Timestamp {
    Timestamp(s * 1_000_000)
}

/// `(second, type, value)` as one datagram that is stamped at second 0.
fn datagram(samples: &[(i64, &str, f64)]) -> Telemetry {
    let mut telemetry = Telemetry::default();
    for (second, name, value) in samples {
        telemetry.push(second * 1_000_000, Metric::parse(name).unwrap(), None, *value);
    }
    telemetry
}

/// Takes a datagram in; what it raised (`+`) and cleared (`-`, with the reason), with the rule's number.
fn hear(set: &RuleSet, state: &mut DeviceState, values: Telemetry) -> String {
    hear_of(set, state, values, (seconds(0), true))
}

/// The same of a datagram with a time, and whether it is the last that the device has said.
fn hear_of(set: &RuleSet, state: &mut DeviceState, mut values: Telemetry, said: (Timestamp, bool)) -> String {
    let seen = set.seen(state, &values, said);
    state.absorb(&mut values, said.0);
    let verdicts = set.judge(&device(), state, (&seen, &values, said.0));
    let word = |verdict| match verdict {
        Verdict::Fire { rule, .. } => format!("+{}", rule.id),
        Verdict::Clear { rule, reason: None } => format!("-{rule}"),
        Verdict::Clear { rule, reason: Some(reason) } => format!("-{rule}:{}", reason.name()),
    };
    verdicts.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Each part is a datagram of voltages: `second=value …`.
fn check(rule: Rule, datagrams: &str, expected: &[&str]) {
    let set = RuleSet::new(REVISION, [rule]);
    let mut state = registered(true);
    let read = |part: &str| {
        let (second, value) = part.split_once('=').unwrap();
        (second.parse().unwrap(), "voltage_dc", value.parse().unwrap())
    };
    let heard: Vec<String> = datagrams
        .split(';')
        .map(|text| datagram(&text.split_whitespace().map(read).collect::<Vec<_>>()))
        .map(|values| hear(&set, &mut state, values))
        .collect();
    assert_eq!(heard, expected, "{datagrams}");
}

#[test]
fn a_rule_fires_once_until_it_is_over() {
    check(over(900.0, None, 0), "1=899; 2=901; 3=950; 4=900; 5=901", &["", "+1", "", "-1", "+1"]);
}

#[test]
fn with_a_clear_threshold_a_value_that_wavers_raises_one_alert() {
    check(over(900.0, Some(880.0), 0), "1=901; 2=899; 3=902; 4=881; 5=880", &["+1", "", "", "", "-1"]);
}

#[test]
fn a_condition_must_hold_from_sample_to_sample_for_as_long_as_the_rule_says() {
    check(over(900.0, None, 10), "1=901; 5=905; 10=901; 11=901", &["", "", "", "+1"]);
    check(over(900.0, None, 10), "1=901; 5=900; 11=901; 20=901; 21=901", &["", "", "", "", "+1"]);
    check(over(900.0, None, 10), "1=901 6=901 11=901 12=0; 13=901", &["+1 -1", ""]);
}

#[test]
fn late_and_repeated_samples_neither_raise_nor_clear() {
    check(over(900.0, None, 0), "5=800; 4=950; 5=950; 6=950; 5=0; 6=0; 6=950", &["", "", "", "+1", "", "", ""]);
    check(over(900.0, None, 10), "5=901; 1=901; 14=901; 15=901", &["", "", "", "+1"]);
}

#[test]
fn a_sample_from_the_future_keeps_no_rule_from_what_follows() {
    const DAY: i64 = 86_400;
    // When the device was last heard, what its message is stamped, whether that is the last it has said, and the voltage.
    let check = |for_s: u32, messages: &[(i64, i64, bool, f64)], expected: &[&str]| {
        let set = RuleSet::new(REVISION, [over(900.0, None, for_s)]);
        let mut state = registered(true);
        let mut heard = Vec::new();
        for (last_seen, stamped, is_newest, value) in messages {
            state.last_seen = Some(seconds(*last_seen));
            let values = datagram(&[(0, "voltage_dc", *value)]);
            heard.push(hear_of(&set, &mut state, values, (seconds(*stamped), *is_newest)));
        }
        assert_eq!(heard, expected, "{messages:?}");
    };
    let right = |second: i64, value: f64| (second, second, true, value);
    check(0, &[(1, DAY, true, 800.0), right(2, 2000.0), right(3, 2000.0), right(4, 800.0)], &["", "+1", "", "-1"]);
    check(0, &[(1, DAY, true, 950.0), right(2, 950.0), right(3, 800.0)], &["+1", "", "-1"]);
    check(10, &[(1, DAY, true, 950.0), right(2, 950.0), right(11, 950.0), right(12, 950.0)], &["", "", "", "+1"]);
    // What is late, or a copy, still says nothing,
    check(0, &[(1, DAY, true, 800.0), right(3, 800.0), (4, 2, false, 950.0), (4, 3, false, 950.0)], &[""; 4]);
    // … nor what one node stores long after another has heard more,
    check(0, &[right(100, 800.0), (100, 50, true, 950.0)], &["", ""]);
    // … nor to a meter whose clock is always ahead.
    let ahead = [(1, 61, true, 950.0), (6, 66, true, 950.0), (7, 65, false, 0.0), (11, 71, true, 950.0)];
    check(10, &ahead, &["", "", "", "+1"]);
}

#[test]
fn samples_of_one_datagram_are_judged_in_order_of_time_and_raise_one_alert() {
    check(over(900.0, None, 0), "3=0 1=901 2=902", &["+1 -1"]);
    check(over(900.0, None, 0), "1=901 2=0 3=901 4=0 5=901; 6=901", &["+1 -1", "+1"]);
    check(over(900.0, None, 0), "1=901; 2=0 3=901; 4=0; 5=0", &["+1", "-1", "", ""]);
}

#[test]
fn every_comparison_is_what_its_sign_says() {
    for (op, holds) in [
        (Op::Gt, [false, false, true]),
        (Op::Ge, [false, true, true]),
        (Op::Lt, [true, false, false]),
        (Op::Le, [true, true, false]),
        (Op::Eq, [false, true, false]),
        (Op::Ne, [true, false, true]),
    ] {
        assert_eq!([1.0, 2.0, 3.0].map(|value| op.holds(value, 2.0)), holds, "{op:?}");
        assert_eq!(Op::from_name(op.name()), Some(op));
        let clear = [1.0, 2.0, 3.0].map(|clear| op.may_clear_at(2.0, clear));
        let expected = match op {
            Op::Gt | Op::Ge => [true, true, false],
            Op::Lt | Op::Le => [false, true, true],
            Op::Eq | Op::Ne => [false; 3],
        };
        assert_eq!(clear, expected, "{op:?}");
    }
}

#[test]
fn a_derived_quantity_is_judged_where_its_inputs_are_of_one_instant() {
    let set = RuleSet::new(REVISION, [rule(1, "active_power", Op::Ge, 300_000.0)]);
    let mut state = registered(true);
    let mut hear = |samples: &[(i64, &str, f64)]| hear(&set, &mut state, datagram(samples));
    assert_eq!(hear(&[(1, "voltage_dc", 750.0), (2, "current_dc", 500.0)]), "");
    assert_eq!(hear(&[(3, "voltage_dc", 750.0), (3, "current_dc", 500.0)]), "+1");
    assert_eq!(hear(&[(2, "voltage_dc", 750.0), (2, "current_dc", 0.0)]), "", "it is late");
    assert_eq!(hear(&[(4, "voltage_dc", 750.0), (4, "current_dc", 100.0)]), "-1");
}

#[test]
fn values_in_another_unit_than_the_registered_one_are_not_judged() {
    let set = RuleSet::new(REVISION, [over(0.5, None, 0), rule(2, "door", Op::Eq, 1.0)]);
    let mut values = Telemetry::default();
    values.push(0, Metric::parse("voltage_dc").unwrap(), Some("kV"), 0.75);
    values.push(0, Metric::parse("door").unwrap(), Some("open"), 1.0);
    assert_eq!(hear(&set, &mut registered(true), values), "+2", "a type without a registered unit has any");
}

#[test]
fn only_selected_and_active_devices_are_judged_and_what_was_raised_is_cleared() {
    let mut typed = over(900.0, None, 0);
    typed.selector.device_type = Some("dc750".into());
    let mut named = rule(2, "voltage_dc", Op::Gt, 900.0);
    named.selector.devices = DevicePattern::parse("dc-");
    let mut other = rule(3, "voltage_dc", Op::Gt, 900.0);
    other.selector.devices = DevicePattern::parse("ac-*");
    let set = RuleSet::new(REVISION, [typed, named, other]);
    let volts = |second, value| datagram(&[(second, "voltage_dc", value)]);
    let mut state = registered(true);
    assert_eq!(hear(&set, &mut state, volts(1, 950.0)), "+1 +2");
    let mut retyped = state.clone();
    retyped.registration.as_mut().unwrap().device_type = "ac15".into();
    assert_eq!(hear(&set, &mut retyped, volts(2, 950.0)), "-1:device_not_selected");
    state.registration.as_mut().unwrap().is_active = false;
    assert_eq!(hear(&set, &mut state, volts(2, 950.0)), "");
    assert_eq!(hear(&set, &mut state, volts(3, 0.0)), "-1 -2");
    assert_eq!(hear(&set, &mut state, volts(4, 950.0)), "");
    assert!(state.rules.is_empty());
}

#[test]
fn a_derived_quantity_is_judged_where_all_it_is_derived_from_is_in_its_registered_unit() {
    let check = |quantity: &str, samples: &[(i64, &str, Option<&str>, f64)], expected: &str| {
        let set = RuleSet::new(REVISION, [rule(1, quantity, Op::Lt, 100.0)]);
        let mut telemetry = Telemetry::default();
        for (second, name, unit, value) in samples {
            telemetry.push(second * 1_000_000, Metric::parse(name).unwrap(), *unit, *value);
        }
        assert_eq!(hear(&set, &mut registered(true), telemetry), expected, "{quantity} {samples:?}");
    };
    let dc = |unit| [(1, "voltage_dc", Some(unit), 0.75), (1, "current_dc", Some("A"), 10.0)];
    check("active_power", &dc("V"), "+1");
    check("active_power", &dc("kV"), "");
    check("apparent_power", &dc("kV"), "");
    let ac = [(1, "voltage_ac", None, 1.0), (1, "current_ac", None, 10.0), (1, "pf", Some("%"), 60.0)];
    check("active_power", &ac, "");
    check("apparent_power", &ac, "+1");
    let apart = [(2, "voltage_ac", None, 1.0), (2, "current_ac", None, 10.0), (2, "pf", None, 0.6)];
    check("active_power", &[&dc("kV")[..], &apart].concat(), "+1");
}

#[test]
fn what_another_generation_found_is_void_and_what_a_newer_one_found_stays() {
    let changed = |generation| Rule { generation, ..over(900.0, None, 0) };
    let volts = |second| datagram(&[(second, "voltage_dc", 950.0)]);
    let mut state = registered(true);
    assert_eq!(hear(&RuleSet::new(1, [changed(1)]), &mut state, volts(1)), "+1");
    let newer = RuleSet::new(2, [changed(2)]);
    assert_eq!(hear(&newer, &mut state, volts(2)), "+1", "its first alert was cleared by the change");
    let kept = state.rules.clone();
    assert_eq!(
        hear(&RuleSet::new(1, [changed(1)]), &mut state, volts(3)),
        "",
        "a node that has not heard of the change"
    );
    assert_eq!(hear(&RuleSet::new(0, []), &mut state, volts(4)), "", "nor of the rule");
    assert_eq!(state.rules, kept);
    assert_eq!(hear(&RuleSet::new(3, []), &mut state, volts(5)), "", "its alert was cleared with the rule");
    assert!(state.rules.is_empty());
}

#[test]
fn a_type_that_a_device_has_no_room_for_is_not_judged_again_and_again() {
    let set = RuleSet::new(REVISION, [rule(1, "late-comer", Op::Gt, 0.0)]);
    let mut state = registered(true);
    let names: Vec<String> = (0..64).map(|n| format!("m{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| (1, name.as_str(), 1.0)).collect();
    assert_eq!(hear(&set, &mut state, datagram(&all)), "");
    assert_eq!(hear(&set, &mut state, datagram(&[(2, "late-comer", 1.0)])), "", "it is not stored either");
}

#[test]
fn an_alert_says_what_was_measured_and_what_the_rule_is() {
    let mut rule = over(900.0, None, 10);
    let at = Timestamp::parse_rfc3339("2026-02-12T10:00:00Z").unwrap();
    let found = "dc-1: voltage_dc is 905.5 V at 2026-02-12T10:00:00Z (rule: voltage_dc > 900 for 10 s)";
    assert_eq!(rule.alert_message(&device(), 905.5, at), found);
    rule.message = Some("Overvoltage".into());
    assert_eq!(rule.alert_message(&device(), 905.5, at), format!("Overvoltage: {found}"));
    assert_eq!([0.0, -2.5, 1e300, 1e-9].map(number), ["0", "-2.5", "1e300", "1e-9"]);
}

#[test]
fn a_selector_lies_within_a_prefix_when_all_it_can_mean_does() {
    let check = |pattern: Option<&str>, expected: bool| {
        let devices = pattern.map(|pattern| DevicePattern::parse(pattern).unwrap());
        let selector = Selector { devices, device_type: Some("dc750".into()) };
        assert_eq!(selector.lies_within("dc-"), expected, "{pattern:?}");
    };
    check(Some("dc-"), true);
    check(Some("dc-7*"), true);
    check(Some("dc-?"), true);
    check(Some("dc"), false);
    check(Some("d?-7"), false);
    check(Some("*"), false);
    check(None, false);
}

/// What should come of single samples in order of time, told from the whole past at each of them.
fn model(rule: &Rule, samples: &[(i64, f64)]) -> Vec<String> {
    let mut fired_at: Option<usize> = None;
    let mut last_clear = 0;
    let each = samples.iter().enumerate().map(|(i, (at, value))| {
        if fired_at.is_some() {
            if *value <= rule.condition.clear.unwrap_or(rule.condition.threshold) {
                (fired_at, last_clear) = (None, i + 1);
                return "-1".to_owned();
            }
            return String::new();
        }
        let held = samples[last_clear..=i].iter().rev().take_while(|(_, v)| *v > rule.condition.threshold);
        let since = held.last().map(|(at, _)| *at);
        if since.is_some_and(|since| at - since >= i64::from(rule.condition.for_s)) {
            fired_at = Some(i);
            return "+1".to_owned();
        }
        String::new()
    });
    each.collect()
}

proptest! {
    #[test]
    fn single_samples_fire_and_clear_as_the_whole_past_says(
        values in prop::collection::vec((1i64..5, 0u8..6), 1..60), for_s in 0u32..8, clear in 0u8..4,
    ) {
        let rule = over(3.0, Some(f64::from(clear)), for_s);
        let mut at = 0;
        let samples: Vec<(i64, f64)> = values.iter().map(|(step, value)| { at += step; (at, f64::from(*value)) }).collect();
        let set = RuleSet::new(REVISION, [rule.clone()]);
        let mut state = registered(true);
        let heard: Vec<String> =
            samples.iter().map(|(at, v)| hear(&set, &mut state, datagram(&[(*at, "voltage_dc", *v)]))).collect();
        prop_assert_eq!(heard, model(&rule, &samples));
    }

    #[test]
    fn whatever_is_repeated_or_late_changes_nothing_and_alerts_alternate(
        datagrams in prop::collection::vec(prop::collection::vec((0i64..30, 0u8..6), 1..6), 1..12),
        repeats in prop::collection::vec(0usize..12, 0..24), for_s in 0u32..4,
    ) {
        let set = RuleSet::new(REVISION, [over(3.0, Some(2.0), for_s)]);
        let mut state = registered(true);
        let all: Vec<Telemetry> = datagrams.iter().map(|samples| {
            datagram(&samples.iter().map(|(at, v)| (*at, "voltage_dc", f64::from(*v))).collect::<Vec<_>>())
        }).collect();
        let mut is_firing = false;
        for (index, values) in all.iter().enumerate() {
            for word in hear(&set, &mut state, values.clone()).split_whitespace() {
                prop_assert_eq!(word, if is_firing { "-1" } else { "+1" });
                is_firing = !is_firing;
            }
            prop_assert_eq!(state.rules.get(&RuleId(1)).is_some_and(|holding| holding.is_firing), is_firing);
            let before = state.rules.clone();
            for again in repeats.iter().filter(|again| **again <= index) {
                prop_assert_eq!(hear(&set, &mut state, all[*again].clone()), "");
            }
            prop_assert_eq!(&state.rules, &before);
        }
    }
}
