//! Alert rules, and that an alert is raised by a rule as it is, once.

use super::*;
use crate::domain::rule::{ClearReason, Condition, MAX_RULES, Op, RuleId, Selector, Severity};
use crate::domain::{DevicePattern, Quantity};

pub(super) fn all(store: &dyn Store) {
    a_rule_comes_back_as_it_was_said_and_has_a_name_of_its_own(store);
    every_change_moves_the_revision_and_a_stale_one_is_refused(store);
    an_alert_of_a_rule_is_open_once_and_says_why_it_was_cleared(store);
    no_alert_is_raised_by_a_rule_as_it_was(store);
    rules_are_filtered_and_paged(store);
    there_are_so_many_rules_and_no_more(store);
}

pub(in crate::store) fn text(name: &str) -> RuleText {
    RuleText {
        name: name.into(),
        condition: Condition {
            quantity: Quantity::parse("voltage_dc").unwrap(),
            op: Op::Gt,
            threshold: 0.1 + 0.2,
            clear: Some(-1e-300),
            for_s: 10,
        },
        selector: Selector { devices: DevicePattern::parse("dc-*"), device_type: Some("dc750 é".into()) },
        severity: Severity::Critical,
        message: Some("Überspannung".into()),
        is_enabled: true,
    }
}

pub(in crate::store) fn make(store: &dyn Store, text: &RuleText) -> AlertRule {
    match store.create_rule(text, "key:1", at(0)).unwrap() {
        RuleOutcome::Done(rule) => rule,
        other => panic!("{other:?}"),
    }
}

pub(in crate::store) fn put(store: &dyn Store, id: RuleId, text: &RuleText) -> AlertRule {
    match store.replace_rule(id, text, None, at(50)).unwrap() {
        Some(RuleOutcome::Done(rule)) => rule,
        other => panic!("{other:?}"),
    }
}

pub(in crate::store) fn remove(store: &dyn Store, id: RuleId) {
    assert!(matches!(store.delete_rule(id, None, at(60)).unwrap(), Some(RuleOutcome::Done(_))));
}

pub(in crate::store) fn fire(device: &str, rule: &AlertRule, second: i64) -> RuleAlert {
    RuleAlert::Fire {
        device: id(device),
        rule: rule.id,
        generation: rule.generation,
        name: rule.text.name.clone(),
        severity: rule.text.severity,
        message: format!("found in second {second}"),
        at: at(second),
    }
}

pub(in crate::store) fn clear(device: &str, rule: &AlertRule, reason: Option<ClearReason>, second: i64) -> RuleAlert {
    RuleAlert::Clear { device: id(device), rule: rule.id, reason, at: at(second) }
}

fn commit(store: &dyn Store, rule_alerts: Vec<RuleAlert>) {
    store.commit(&Batch { rule_alerts, ..Batch::default() }).unwrap();
}

/// `(second raised, second cleared, why)`, oldest first.
fn alerts(store: &dyn Store, device: &str) -> Vec<(i64, Option<i64>, Option<String>)> {
    let filter = AlertFilter { device: Some(id(device)), ..AlertFilter::default() };
    let second = |t: Timestamp| (t.0 - T.0) / 1_000_000;
    let alerts = store.alerts(&filter, ALL).unwrap().items.into_iter().rev();
    alerts.map(|a| (second(a.created_at), a.cleared_at.map(second), a.cleared_reason)).collect()
}

fn a_rule_comes_back_as_it_was_said_and_has_a_name_of_its_own(store: &dyn Store) {
    let rule = make(store, &text("one"));
    assert_eq!((&rule.text, rule.created_by.as_str(), rule.created_at), (&text("one"), "key:1", at(0)));
    assert_eq!((rule.id.0, rule.generation), (rule.version, rule.version));
    assert_eq!(store.rule(rule.id).unwrap(), Some(rule.clone()));
    assert_eq!(store.create_rule(&text("one"), "key:2", at(1)).unwrap(), RuleOutcome::NameTaken);
    let bare = RuleText {
        condition: Condition { quantity: Quantity::parse("active_power").unwrap(), clear: None, ..text("").condition },
        selector: Selector::default(),
        message: None,
        is_enabled: false,
        ..text("bare")
    };
    let other = make(store, &bare);
    assert_eq!(store.rule(other.id).unwrap().unwrap().text, bare);
    assert_eq!(store.replace_rule(other.id, &text("one"), None, at(2)).unwrap(), Some(RuleOutcome::NameTaken));
    let (set, off) = store.rule_set().unwrap();
    assert_eq!((set.len(), off, set.revision()), (1, 1, store.rules_revision().unwrap()));
    let whole = put(store, other.id, &text("whole"));
    assert_eq!(put(store, whole.id, &bare).text, bare, "what is left out is gone");
    remove(store, rule.id);
    remove(store, other.id);
    assert_eq!(store.rule(rule.id).unwrap(), None);
    assert_eq!(store.delete_rule(rule.id, None, at(3)).unwrap(), None);
    assert_eq!(store.replace_rule(rule.id, &text("x"), None, at(3)).unwrap(), None);
}

fn every_change_moves_the_revision_and_a_stale_one_is_refused(store: &dyn Store) {
    let revision = || store.rules_revision().unwrap();
    let before = revision();
    let rule = make(store, &text("two"));
    assert_eq!((rule.version, revision()), (before + 1, before + 1));
    let renamed = put(store, rule.id, &RuleText { message: None, ..text("renamed") });
    assert_eq!((renamed.version, renamed.generation, renamed.created_at), (before + 2, rule.generation, at(0)));
    assert_eq!(renamed.updated_at, at(50));
    let stale = Some(rule.version);
    assert_eq!(store.replace_rule(rule.id, &text("x"), stale, at(4)).unwrap(), Some(RuleOutcome::Stale));
    assert_eq!(store.delete_rule(rule.id, stale, at(4)).unwrap(), Some(RuleOutcome::Stale));
    assert_eq!(revision(), before + 2, "what was refused is no change");
    let mut sharper = text("renamed");
    sharper.condition.threshold = 1.0;
    let sharper = put(store, rule.id, &sharper);
    assert_eq!((sharper.version, sharper.generation), (before + 3, before + 3));
    let current = Some(sharper.version);
    assert!(matches!(store.delete_rule(rule.id, current, at(5)).unwrap(), Some(RuleOutcome::Done(_))));
    assert_eq!(revision(), before + 4);
    let next = make(store, &text("two"));
    assert!(next.id > rule.id, "no number is given twice");
    remove(store, next.id);
}

fn an_alert_of_a_rule_is_open_once_and_says_why_it_was_cleared(store: &dyn Store) {
    create(store, &new_device("ruled"));
    let rule = make(store, &text("three"));
    let other = make(store, &text("other"));
    let found = |second| fire("ruled", &rule, second);
    commit(store, vec![found(1), found(2), clear("ruled", &rule, None, 3), found(4)]);
    commit(store, vec![found(5), fire("ruled", &other, 6), fire("nobody-registered", &rule, 6)]);
    assert_eq!(alerts(store, "ruled"), [(1, Some(3), None), (4, None, None), (6, None, None)]);
    assert!(alerts(store, "nobody-registered").is_empty());
    let filter = AlertFilter { device: Some(id("ruled")), is_open: Some(true), ..AlertFilter::default() };
    let open = store.alerts(&filter, ALL).unwrap().items;
    let first = open.iter().find(|alert| alert.rule == Some(rule.id)).unwrap();
    assert_eq!((first.alert_type.as_str(), first.severity.as_str()), ("three", "critical"));
    assert_eq!(first.message, "found in second 4");
    commit(store, vec![clear("ruled", &rule, Some(ClearReason::NotSelected), 7)]);
    commit(store, vec![clear("ruled", &rule, None, 8), found(9)]);
    let reason = |reason: ClearReason| Some(reason.name().to_owned());
    let expected =
        [(1, Some(3), None), (4, Some(7), reason(ClearReason::NotSelected)), (6, None, None), (9, None, None)];
    assert_eq!(alerts(store, "ruled"), expected);
    remove(store, other.id);
    assert_eq!(alerts(store, "ruled")[2], (6, Some(60), reason(ClearReason::Deleted)));
    remove(store, rule.id);
}

fn no_alert_is_raised_by_a_rule_as_it_was(store: &dyn Store) {
    create(store, &new_device("changed"));
    let rule = make(store, &text("four"));
    commit(store, vec![fire("changed", &rule, 1)]);
    let renamed = put(store, rule.id, &text("four, renamed"));
    assert_eq!(alerts(store, "changed"), [(1, None, None)], "it judges as it did");
    let mut wider = renamed.text.clone();
    wider.selector.device_type = None;
    let wider = put(store, rule.id, &wider);
    let reason = |reason: ClearReason| Some(reason.name().to_owned());
    assert_eq!(alerts(store, "changed"), [(1, Some(50), reason(ClearReason::Changed))]);
    commit(store, vec![fire("changed", &rule, 2), fire("changed", &renamed, 3)]);
    assert_eq!(alerts(store, "changed").len(), 1, "whoever has not heard of the change raises nothing");
    commit(store, vec![fire("changed", &wider, 4)]);
    let off = put(store, rule.id, &RuleText { is_enabled: false, ..wider.text.clone() });
    assert_eq!(alerts(store, "changed")[1], (4, Some(50), reason(ClearReason::Disabled)));
    commit(store, vec![fire("changed", &wider, 5)]);
    let on = put(store, rule.id, &wider.text);
    assert!(on.generation > off.generation && off.generation > wider.generation);
    commit(store, vec![fire("changed", &on, 6)]);
    remove(store, rule.id);
    commit(store, vec![fire("changed", &on, 7)]);
    let seconds: Vec<i64> = alerts(store, "changed").iter().map(|alert| alert.0).collect();
    assert_eq!(seconds, [1, 4, 6]);
    assert!(alerts(store, "changed").iter().all(|alert| alert.1.is_some()));
}

fn rules_are_filtered_and_paged(store: &dyn Store) {
    let mut made = Vec::new();
    for n in 0..5 {
        let mut text = text(&format!("paged {n}"));
        text.is_enabled = n != 1;
        text.severity = if n == 2 { Severity::Info } else { Severity::Critical };
        text.selector.devices = (n != 3).then(|| DevicePattern::parse(&format!("dc-{n}")).unwrap());
        made.push(make(store, &text));
    }
    let names = |filter: &RuleFilter, page| -> Vec<String> {
        store.rules(filter, page).unwrap().items.into_iter().map(|rule| rule.text.name).collect()
    };
    let every = RuleFilter::default();
    assert_eq!(names(&every, ALL), ["paged 4", "paged 3", "paged 2", "paged 1", "paged 0"]);
    assert_eq!(store.rules(&every, Page::offset(3, 1)).unwrap(), counted(vec![made[1].clone()], 5));
    let first = store.rules(&every, Page::behind(None, 3)).unwrap();
    assert_eq!((first.items.len(), first.total), (3, None));
    let rest = store.rules(&every, Page::behind(first.next, 3)).unwrap();
    assert_eq!((rest.items.len(), rest.next), (2, None));
    assert_eq!(names(&RuleFilter { is_enabled: Some(false), ..every.clone() }, ALL), ["paged 1"]);
    assert_eq!(names(&RuleFilter { severity: Some(Severity::Info), ..every.clone() }, ALL), ["paged 2"]);
    assert_eq!(names(&RuleFilter { quantity: Quantity::parse("pf"), ..every.clone() }, ALL), [""; 0]);
    let within = RuleFilter { device_prefix: Some("dc-".into()), ..every };
    assert_eq!(names(&within, ALL), ["paged 4", "paged 2", "paged 1", "paged 0"], "one is about every device");
    made.iter().for_each(|rule| remove(store, rule.id));
}

/// The last one: they stay.
fn there_are_so_many_rules_and_no_more(store: &dyn Store) {
    let first = make(store, &text("many"));
    (1..MAX_RULES).for_each(|n| drop(make(store, &text(&format!("many {n}")))));
    assert_eq!(store.create_rule(&text("one too many"), "key:1", at(0)).unwrap(), RuleOutcome::TooMany);
    remove(store, first.id);
    make(store, &text("room again"));
}
