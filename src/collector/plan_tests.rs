//! The plan's rules, message by message.

use super::cache::States;
use super::plan::{Decoded, Plan, Tally, UnknownDevices, plan};
use crate::domain::message::{AckResult, CommandAck, Hello};
use crate::domain::presence::Connection;
use crate::domain::rule::{Condition, Op, Rule, RuleId, RuleSet, Selector, Severity};
use crate::domain::sequence::Gap;
use crate::domain::{
    Body, CommandId, DeviceId, DeviceState, Message, Metric, Quantity, Refusal, Registration, Sequence, Telemetry,
    Timestamp,
};
use crate::journal::Offset;
use crate::payload::Kind;
use crate::store::{AlertChange, Batch, GapEntry, RuleAlert};

fn id() -> DeviceId {
    DeviceId::parse("m1").unwrap()
}

fn at(s: i64) -> Timestamp {
    Timestamp(1_000_000_000_000_000 + s * 1_000_000)
}

fn said(ts: Timestamp, seq: u32, body: Body) -> Decoded {
    let message = Message { device: id(), ts, seq: Sequence::Counted(seq), version: 2, body };
    Decoded { offset: Offset(5), device: id(), kind: Kind::Telemetry, received_at: ts, result: Ok(message) }
}

fn volts(value: f64) -> Body {
    let mut values = Telemetry::default();
    values.push(0, Metric::parse("voltage_dc").unwrap(), Some("V"), value);
    Body::Telemetry(values)
}

fn registered(is_active: bool) -> States {
    let mut states = States::default();
    states.edit(&id()).registration =
        Some(Registration { is_active, intervals: Default::default(), device_type: "dc750".into() });
    states.settle(100);
    states
}

fn run(states: &mut States, decoded: Vec<Decoded>, unknown: UnknownDevices) -> (Batch, Tally) {
    let done = plan(states, decoded, unknown, &RuleSet::default());
    states.settle(100);
    done
}

#[test]
fn an_unknown_device_is_registered_quarantined_or_refused_as_the_rule_says() {
    let check = |rule, registrations: &[bool], rows: usize, refused: u64| {
        let (batch, tally) = run(&mut States::default(), vec![said(at(0), 0, volts(750.0))], rule);
        let active: Vec<bool> = batch.registrations.iter().map(|d| d.is_active).collect();
        assert_eq!(active, registrations, "{rule:?}");
        assert_eq!(batch.telemetry.len(), rows, "{rule:?}");
        assert_eq!(tally.refused.iter().map(|(_, n)| n).sum::<u64>(), refused, "{rule:?}");
    };
    check(UnknownDevices::Register, &[true], 1, 0);
    check(UnknownDevices::Quarantine, &[false], 1, 0);
    check(UnknownDevices::Refuse, &[], 0, 1);
}

#[test]
fn a_device_is_registered_once_however_much_it_says() {
    let messages = (0..5).map(|n| said(at(n), n as u32, volts(750.0))).collect();
    let (batch, tally) = run(&mut States::default(), messages, UnknownDevices::Register);
    assert_eq!((batch.registrations.len(), tally.registered, batch.telemetry.len()), (1, 1, 5));
    assert_eq!(batch.states.len(), 1, "one state a device and batch");
}

#[test]
fn going_offline_raises_one_alert_and_coming_back_clears_it() {
    let mut states = registered(true);
    let will = || said(at(5), 0, Body::Status { online: false });
    run(&mut states, vec![said(at(0), 0, volts(1.0))], UnknownDevices::Refuse);
    let (batch, _) = run(&mut states, vec![will(), will()], UnknownDevices::Refuse);
    assert!(matches!(batch.alerts[..], [AlertChange::Raise { .. }]), "{:?}", batch.alerts);
    let (batch, _) = run(&mut states, vec![said(at(9), 1, volts(1.0))], UnknownDevices::Refuse);
    assert!(matches!(batch.alerts[..], [AlertChange::Clear { .. }]), "{:?}", batch.alerts);
}

#[test]
fn an_inactive_device_is_stored_and_raises_no_alert() {
    let mut states = registered(false);
    let messages =
        vec![said(at(0), 0, volts(1.0)), said(at(9), 9, volts(1.0)), said(at(10), 10, Body::Status { online: false })];
    let (batch, _) = run(&mut states, messages, UnknownDevices::Refuse);
    assert_eq!((batch.telemetry.len(), batch.gaps.len()), (2, 1));
    assert!(batch.alerts.iter().all(|a| !matches!(a, AlertChange::Raise { .. })), "{:?}", batch.alerts);
}

#[test]
fn nonsense_from_a_registered_meter_is_a_sign_of_life_and_from_a_stranger_is_nothing() {
    let nonsense = || Decoded { kind: Kind::Hello, result: Err(Refusal::Malformed), ..said(at(3), 0, volts(1.0)) };
    let mut states = registered(true);
    let (batch, tally) = run(&mut states, vec![nonsense()], UnknownDevices::Register);
    assert_eq!(batch.states[0].1.connection, Connection::Online);
    assert_eq!(tally.refused, [((Kind::Hello, Refusal::Malformed), 1)]);
    let (batch, _) = run(&mut States::default(), vec![nonsense()], UnknownDevices::Register);
    assert_eq!(batch, Batch::default());
}

#[test]
fn a_hello_tells_the_firmware_and_an_acknowledgement_moves_its_own_devices_command() {
    let hello = Hello {
        fw_version: "2.1.0".into(),
        uptime_s: 5,
        broker_connections: 1,
        buf_usage_pct: 0.0,
        temp_internal: None,
    };
    let ack = CommandAck { cmd_id: CommandId::random(), result: AckResult::Rejected, detail: None };
    let mut states = registered(true);
    let messages = vec![said(at(0), 0, Body::Hello(hello)), said(at(1), 1, Body::CommandAck(ack.clone()))];
    let (batch, _) = run(&mut states, messages, UnknownDevices::Refuse);
    assert_eq!(batch.states[0].1.fw_version.as_deref(), Some("2.1.0"));
    assert_eq!(batch.commands[0].cmd_id, ack.cmd_id);
    assert_eq!(batch.commands[0].device, Some(id()));
    assert_eq!(batch.events.len(), 2);
}

#[test]
fn a_filled_gap_clears_its_alert_only_when_no_other_is_open() {
    let mut states = registered(true);
    let seqs = [0, 2, 4];
    run(&mut states, seqs.map(|s| said(at(i64::from(s)), s, volts(1.0))).to_vec(), UnknownDevices::Refuse);
    let (batch, tally) = run(&mut states, vec![said(at(1), 1, volts(1.0))], UnknownDevices::Refuse);
    assert_eq!((tally.gaps_filled, batch.alerts.len()), (1, 0), "3 is still missing");
    let (batch, _) = run(&mut states, vec![said(at(3), 3, volts(1.0))], UnknownDevices::Refuse);
    assert!(matches!(batch.alerts[..], [AlertChange::Clear { .. }]), "{:?}", batch.alerts);
}

#[test]
fn a_gap_is_one_change_of_a_batch_however_many_late_messages_it_is_filled_by() {
    let late = |n: u32, received: i64| {
        let message = said(at(i64::from(n)), n, volts(1.0));
        Decoded { received_at: at(received), ..message }
    };
    let entry = |first: u32, last: u32, missing: &[(u32, u32)], detected: i64, filled: Option<i64>| {
        let (after, before) = (at(i64::from(first) - 1), at(i64::from(last) + 1));
        let gap = Gap { first, last, after, before, missing: missing.to_vec() };
        (id(), GapEntry { gap, detected_at: at(detected), filled_at: filled.map(at) })
    };
    let mut states = registered(true);
    let mut gaps = |messages: Vec<Decoded>| {
        let (batch, tally) = run(&mut states, messages, UnknownDevices::Refuse);
        (batch.gaps, tally.gaps_opened, tally.gaps_filled)
    };
    let found = gaps(vec![late(0, 1), late(1001, 2000), late(1005, 2001), late(1003, 2002), late(500, 2003)]);
    // What is left of a gap keeps its name.
    let wide = entry(1, 1000, &[(1, 499), (501, 1000)], 2000, None);
    assert_eq!(found, (vec![wide, entry(1002, 1004, &[(1002, 1002), (1004, 1004)], 2001, None)], 2, 0));
    let mut messages: Vec<Decoded> = (1..=1000).filter(|n| *n != 500).map(|n| late(n, 3000 + i64::from(n))).collect();
    messages.insert(400, late(1004, 3999));
    messages.push(late(77, 5000));
    let filled = entry(1, 1000, &[], 3001, Some(4000));
    assert_eq!(gaps(messages), (vec![filled, entry(1002, 1004, &[(1002, 1002)], 3999, None)], 0, 1));
    let within_one = gaps(vec![late(1008, 6000), late(1006, 6001), late(1007, 6002), late(1002, 6003)]);
    let last = entry(1002, 1004, &[], 6003, Some(6003));
    assert_eq!(within_one, (vec![entry(1006, 1007, &[], 6000, Some(6002)), last], 1, 2));
}

#[test]
fn the_same_messages_on_the_same_states_give_the_same_batch() {
    let messages: Vec<Decoded> = [3, 1, 7, 7, 2].map(|s| said(at(i64::from(s)), s, volts(f64::from(s)))).to_vec();
    let (mut one, mut two) = (registered(true), registered(true));
    let first = plan(&mut one, messages.clone(), UnknownDevices::Refuse, &RuleSet::default());
    assert_eq!(first, plan(&mut two, messages, UnknownDevices::Refuse, &RuleSet::default()));
    let untouched = Plan::new(&mut one, UnknownDevices::Refuse);
    assert_eq!(untouched.finish().0.states.len(), 1, "changes stay until they are settled");
    assert_eq!(DeviceState::default().connection, Connection::Unknown);
}

#[test]
fn what_a_deleted_device_said_before_its_deletion_does_not_bring_it_back() {
    let mut states = States::default();
    states.bury(&id(), Offset(6));
    let (batch, tally) = run(&mut states, vec![said(at(0), 0, volts(1.0))], UnknownDevices::Register);
    assert_eq!((batch, tally.refused), (Batch::default(), vec![((Kind::Telemetry, Refusal::UnknownDevice), 1)]));
    let after = Decoded { offset: Offset(6), ..said(at(1), 1, volts(1.0)) };
    let (batch, _) = run(&mut states, vec![after], UnknownDevices::Register);
    assert_eq!((batch.registrations.len(), batch.telemetry.len()), (1, 1));
    states.passed(Offset(6));
    assert!(!states.is_buried(&id(), Offset(5)));
}

fn overvoltage() -> RuleSet {
    let quantity = Quantity::parse("voltage_dc").unwrap();
    let rule = Rule {
        id: RuleId(3),
        generation: 3,
        name: "overvoltage".into(),
        condition: Condition { quantity, op: Op::Gt, threshold: 900.0, clear: None, for_s: 0 },
        selector: Selector::default(),
        severity: Severity::Critical,
        message: None,
    };
    RuleSet::new(3, [rule])
}

#[test]
fn one_message_from_the_future_silences_no_rule_and_what_is_late_then_is_late() {
    let volts = |second: i64, seq: u32, value: f64| said(at(second), seq, volts(value));
    let future = Decoded { received_at: at(1), ..volts(72_000, 1, 750.0) };
    let late = Decoded { received_at: at(6), ..volts(3, 3, 2000.0) };
    let high = || volts(2, 2, 2000.0);
    let messages = vec![volts(0, 0, 750.0), future, high(), high(), volts(4, 4, 2000.0), volts(5, 5, 750.0), late];
    let (batch, _) = plan(&mut registered(true), messages, UnknownDevices::Refuse, &overvoltage());
    let [RuleAlert::Fire { at: fired, .. }, RuleAlert::Clear { at: cleared, .. }] = &batch.rule_alerts[..] else {
        panic!("{:?}", batch.rule_alerts)
    };
    assert_eq!((*fired, *cleared), (at(2), at(5)));
    assert_eq!(batch.states[0].1.latest[&Metric::parse("voltage_dc").unwrap()].ts, at(72_000));
}

#[test]
fn a_rule_fires_once_for_copies_and_for_a_plan_that_is_made_again() {
    let rules = overvoltage();
    let mut states = registered(true);
    let high = || vec![said(at(1), 1, volts(950.0)), said(at(1), 1, volts(950.0)), said(at(2), 2, volts(951.0))];
    let first = plan(&mut states, high(), UnknownDevices::Refuse, &rules);
    states.discard();
    let (batch, tally) = plan(&mut states, high(), UnknownDevices::Refuse, &rules);
    assert_eq!((&batch, &tally), (&first.0, &first.1), "the first one came to nothing");
    let [RuleAlert::Fire { device, rule, generation, name, severity, message, at: raised }] = &batch.rule_alerts[..]
    else {
        panic!("{:?}", batch.rule_alerts)
    };
    assert_eq!(
        (device, rule.0, *generation, name.as_str(), *severity),
        (&id(), 3, 3, "overvoltage", Severity::Critical)
    );
    assert!(message.contains("voltage_dc is 950 V") && message.contains("> 900"), "{message}");
    assert_eq!((*raised, tally.fired), (at(1), [0, 0, 1]));
    states.settle(100);
    let (batch, _) = plan(&mut states, high(), UnknownDevices::Refuse, &rules);
    assert!(batch.rule_alerts.is_empty(), "a replay: {:?}", batch.rule_alerts);
    states.settle(100);
    let (batch, _) = plan(&mut states, vec![said(at(3), 3, volts(1.0))], UnknownDevices::Refuse, &rules);
    assert!(matches!(batch.rule_alerts[..], [RuleAlert::Clear { reason: None, .. }]), "{:?}", batch.rule_alerts);
}

#[test]
fn a_hello_that_comes_again_late_does_not_bring_older_firmware_back() {
    let hello = |seconds: i64, version: &str| {
        let fw_version = version.into();
        let (uptime_s, broker_connections, buf_usage_pct) = (0, 1, 0.0);
        said(
            at(seconds),
            0,
            Body::Hello(Hello { fw_version, uptime_s, broker_connections, buf_usage_pct, temp_internal: None }),
        )
    };
    let mut states = registered(true);
    let mut firmware = |messages: Vec<Decoded>| {
        run(&mut states, messages, UnknownDevices::Refuse);
        states.get(&id()).and_then(|state| state.fw_version.clone()).unwrap()
    };
    assert_eq!(firmware(vec![hello(100, "1.0"), said(at(101), 1, volts(750.0))]), "1.0");
    assert_eq!(firmware(vec![said(at(201), 1, volts(750.0)), hello(200, "2.0")]), "2.0", "missing until now");
    assert_eq!(firmware(vec![hello(100, "1.0"), said(at(202), 2, volts(750.0))]), "2.0", "a copy");
    assert_eq!(firmware(vec![said(at(203), 3, volts(750.0)), hello(100, "1.0")]), "2.0", "another");
    assert_eq!(firmware(vec![said(at(204), 4, volts(750.0))]), "2.0");
    // Switched on with a clock that is behind, until it is set.
    assert_eq!(firmware(vec![hello(150, "3.0"), said(at(151), 1, volts(750.0))]), "2.0", "it could be a copy");
    assert_eq!(firmware(vec![said(at(300), 2, volts(750.0))]), "3.0");
}
