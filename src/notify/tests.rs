//! Deliveries against a GitHub in memory, cut off at any step and begun again; and the desk on a real database.

#[cfg(feature = "sqlite")]
mod desk;
mod hub;

use std::collections::BTreeMap;

use proptest::prelude::*;

use self::hub::Hub;
use super::alertmanager::Alert;
use super::delivery::{Delivery, End, Next};
use super::github::Trouble;
use crate::domain::Timestamp;
use crate::store::{AlertStatus, OutboxRow};

const NOW: Timestamp = Timestamp(1_770_890_400_000_000);

fn at(second: i64) -> Timestamp {
    NOW.plus_us(second * 1_000_000)
}

fn alert(fingerprint: &str, status: AlertStatus, starts: i64) -> Alert {
    let labels = [("alertname", "Down"), ("severity", "critical"), ("service", "database")];
    Alert {
        fingerprint: fingerprint.into(),
        status,
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        annotations: BTreeMap::new(),
        starts_at: at(starts),
        ends_at: None,
        generator_url: String::new(),
    }
}

fn row(alert: &Alert, told: i64) -> OutboxRow {
    OutboxRow::of(1, &alert.notice(at(told), false))
}

/// How a try is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    /// Before that call reaches GitHub.
    Before(usize),
    /// After it was done there: the answer is lost.
    After(usize),
}

/// One try; `None` = cut off.
fn deliver(hub: &mut Hub, alert: &Alert, told: i64, known: Option<i64>, cut: Option<Cut>) -> Option<End> {
    let (mut delivery, mut next) = Delivery::begin(alert.clone(), row(alert, told), known);
    for step in 0..100 {
        let call = match next {
            Next::Done(end) => return Some(end),
            Next::Ask(call) => call,
        };
        if cut == Some(Cut::Before(step)) {
            return None;
        }
        let answer = hub.answer(&call);
        if cut == Some(Cut::After(step)) {
            return None;
        }
        next = delivery.heard(&call, &answer, NOW).expect("the model never fails");
    }
    panic!("it does not end");
}

#[test]
fn an_alert_has_one_issue_that_is_closed_and_opened_again() {
    let mut hub = Hub::default();
    let (firing, resolved) = (AlertStatus::Firing, AlertStatus::Resolved);
    let mut tell = |status: AlertStatus, starts: i64, told: i64, known: Option<i64>| {
        let end = deliver(&mut hub, &alert("ab", status, starts), told, known, None).unwrap();
        let issue = &hub.issues[0];
        (end.result, end.issue, hub.issues.len(), issue.is_open, issue.comments.len())
    };
    assert_eq!(tell(firing, 0, 1, None), ("opened", Some(1), 1, true, 0));
    assert_eq!(tell(firing, 0, 2, None), ("known", Some(1), 1, true, 0), "the database had forgotten");
    assert_eq!(tell(firing, 5, 6, Some(1)), ("commented", Some(1), 1, true, 1), "Prometheus was restarted");
    assert_eq!(tell(resolved, 5, 9, Some(1)), ("closed", Some(1), 1, false, 2));
    assert_eq!(tell(resolved, 5, 9, None), ("no_issue", None, 1, false, 2), "only open ones are looked for");
    assert_eq!(tell(resolved, 5, 9, Some(1)), ("closed_before", Some(1), 1, false, 2));
    assert_eq!(tell(firing, 5, 12, Some(1)), ("reopened", Some(1), 1, true, 3), "the same firing came back");
    assert_eq!(tell(resolved, 5, 15, None), ("closed", Some(1), 1, false, 4));
    assert_eq!(tell(firing, 20, 21, None), ("reopened", Some(1), 1, true, 5));
}

#[test]
fn an_issue_that_is_gone_is_made_anew() {
    let mut hub = Hub::default();
    let firing = alert("ab", AlertStatus::Firing, 0);
    let end = deliver(&mut hub, &firing, 1, Some(77), None).unwrap();
    assert_eq!((end.result, end.issue), ("opened", Some(1)));
}

#[test]
fn issues_are_found_among_many_others_and_requests_to_merge_are_none() {
    let mut hub = Hub::default();
    deliver(&mut hub, &alert("ab", AlertStatus::Firing, 0), 1, None, None).unwrap();
    let body = hub.issues[0].body.clone();
    for n in 0..250 {
        deliver(&mut hub, &alert(&format!("c{n:x}"), AlertStatus::Firing, 0), 1, None, None).unwrap();
    }
    hub.add_pull_request(&body);
    let end = deliver(&mut hub, &alert("ab", AlertStatus::Resolved, 0), 2, None, None).unwrap();
    assert_eq!((end.result, end.issue), ("closed", Some(1)));
    // A comment behind two hundred of people's.
    for n in 0..200 {
        hub.issues[0].comments.push(format!("{n}"));
    }
    hub.issues[0].is_open = true;
    let again = alert("ab", AlertStatus::Firing, 9);
    assert_eq!(deliver(&mut hub, &again, 9, Some(1), None).unwrap().result, "commented");
    let before = hub.issues[0].comments.len();
    assert_eq!(deliver(&mut hub, &again, 9, Some(1), None).unwrap().result, "commented");
    assert_eq!(hub.issues[0].comments.len(), before, "said once");
}

#[test]
fn an_answer_that_cannot_be_read_is_no_good_answer() {
    let alert = alert("ab", AlertStatus::Firing, 0);
    let (mut delivery, next) = Delivery::begin(alert.clone(), row(&alert, 1), None);
    let Next::Ask(call) = next else { panic!("something is asked") };
    let answer = crate::fetch::Answer { status: 200, headers: vec![], body: b"<html>".to_vec() };
    assert!(matches!(delivery.heard(&call, &answer, NOW), Err(Trouble::Away(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever is cut off wherever, and whether the database remembers the issue or not.
    #[test]
    fn cut_off_anywhere_there_is_one_issue_an_alert_and_one_comment_a_notice(
        notices in proptest::collection::vec(
            (0..2usize, proptest::collection::vec((any::<bool>(), 0..8usize), 0..4), any::<bool>()), 1..12),
    ) {
        let names = ["ab", "abc"];
        let mut hub = Hub::default();
        let mut firing = [false; 2];
        let mut issues = [None::<i64>; 2];
        for (told, (which, cuts, remembers)) in notices.into_iter().enumerate() {
            let told = told as i64 * 10 + 5;
            firing[which] = !firing[which];
            let status = if firing[which] { AlertStatus::Firing } else { AlertStatus::Resolved };
            let alert = alert(names[which], status, told - 1);
            let comments_before: usize = hub.issues.iter().map(|issue| issue.comments.len()).sum();
            let known = issues[which].filter(|_| remembers);
            let cuts = cuts.into_iter().map(|(after, step)| if after { Cut::After(step) } else { Cut::Before(step) });
            let mut end = None;
            for cut in cuts.map(Some).chain([None]) {
                end = deliver(&mut hub, &alert, told, known, cut);
                if end.is_some() {
                    break;
                }
            }
            let end = end.expect("the last try is not cut off");
            issues[which] = end.issue.or(issues[which]);
            let comments: usize = hub.issues.iter().map(|issue| issue.comments.len()).sum();
            prop_assert!(comments - comments_before <= 1, "at most one comment a notice");
            for (name, fires) in names.iter().zip(firing) {
                let own: Vec<_> = hub.issues.iter().filter(|issue| issue.is_of(name)).collect();
                prop_assert!(own.len() <= 1, "one issue an alert");
                prop_assert_eq!(own.iter().any(|issue| issue.is_open), fires, "open while it fires");
            }
        }
    }
}
