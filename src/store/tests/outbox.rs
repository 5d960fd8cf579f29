//! Notices of alerts on their way out. Each test leaves nothing that waits.

use super::*;

const A: &str = "aa01";
const B: &str = "bb02";

fn notice(fingerprint: &str, status: AlertStatus, second: i64) -> Notice {
    Notice {
        fingerprint: fingerprint.into(),
        status,
        // A repetition fires since the same time.
        starts_at: T,
        name: "Down".into(),
        body: "{\"labels\":{}}".into(),
        at: at(second),
        is_dry: false,
    }
}

fn firing(fingerprint: &str, second: i64) -> Notice {
    notice(fingerprint, AlertStatus::Firing, second)
}

fn resolved(fingerprint: &str, second: i64) -> Notice {
    notice(fingerprint, AlertStatus::Resolved, second)
}

fn issue(number: i64) -> Issue {
    Issue { repository: "a/b".into(), number }
}

fn end(state: OutboxState, second: i64) -> Settlement {
    let result = (state == OutboxState::Done).then(|| "opened".to_owned());
    Settlement {
        at: at(second),
        state,
        attempts: 1,
        next_attempt_at: at(second),
        last_error: None,
        result,
        issue: None,
        held_until: None,
    }
}

fn accept(store: &dyn Store, notices: &[Notice]) -> usize {
    match store.accept_notices(notices, 1000).unwrap() {
        Outcome::Done(taken) => taken,
        Outcome::Conflict => panic!("there is room"),
    }
}

fn claim(store: &dyn Store, node: &str, second: i64) -> Option<Due> {
    store.claim_notice(node, at(second), at(second + 60)).unwrap()
}

fn rows(store: &dyn Store, fingerprint: &str) -> Vec<OutboxRow> {
    let filter = OutboxFilter { state: None, fingerprint: Some(fingerprint.into()) };
    store.outbox(&filter, ALL).unwrap().items
}

/// All of them, in an order: the last one takes everything away.
pub fn all(store: &dyn Store) {
    a_notice_is_taken_once_and_handed_out_in_the_order_of_its_alert(store);
    an_alert_that_has_begun_anew_is_told_again_though_its_end_was_not(store);
    an_end_is_taken_though_a_clock_is_behind_or_its_beginning_is_not_known(store);
    only_one_node_sends_and_a_lease_that_has_ended_is_anybodys(store);
    a_dead_notice_holds_nobody_up_and_can_be_sent_again(store);
    a_limit_puts_off_whatever_waits_for_all_nodes(store);
    what_came_in_meanwhile_is_taken_over_once(store);
    a_full_outbox_takes_nothing(store);
    notices_are_listed_counted_and_trimmed(store);
}

fn a_notice_is_taken_once_and_handed_out_in_the_order_of_its_alert(store: &dyn Store) {
    assert_eq!(accept(store, &[firing(A, 10), firing(B, 10)]), 2);
    assert_eq!(accept(store, &[firing(A, 11), firing(B, 11)]), 0, "Alertmanager repeats itself");
    assert_eq!(accept(store, &[resolved(A, 12)]), 1);
    assert_eq!(accept(store, &[resolved(A, 13)]), 0);
    assert_eq!(claim(store, "n1", 9), None, "not due yet");
    let first = claim(store, "n1", 20).unwrap();
    assert_eq!((first.row.fingerprint.as_str(), first.row.attempts, first.is_overtaken), (A, 1, false));
    assert_eq!(first.row.notice(), firing(A, 10));
    let other = claim(store, "n2", 20).unwrap();
    assert_eq!(other.row.fingerprint, B, "the end of A waits for its beginning");
    assert_eq!(claim(store, "n3", 20), None);
    let done = Settlement { issue: Some(issue(7)), ..end(OutboxState::Done, 21) };
    assert!(store.settle_notice(first.row.id, "n1", &done).unwrap());
    assert!(!store.settle_notice(first.row.id, "n1", &done).unwrap(), "settled once");
    assert!(!store.settle_notice(other.row.id, "n1", &done).unwrap(), "somebody else has it");
    let last = claim(store, "n1", 22).unwrap();
    assert_eq!((last.row.status, last.issue), (AlertStatus::Resolved, Some(issue(7))));
    for (id, node) in [(last.row.id, "n1"), (other.row.id, "n2")] {
        assert!(store.settle_notice(id, node, &end(OutboxState::Done, 23)).unwrap());
    }
    let shown: Vec<_> =
        rows(store, A).into_iter().map(|row| (row.status, row.state, row.issue, row.finished_at)).collect();
    let (open, over) = (AlertStatus::Firing, AlertStatus::Resolved);
    let expected =
        [(over, OutboxState::Done, None, Some(at(23))), (open, OutboxState::Done, Some(issue(7)), Some(at(21)))];
    assert_eq!(shown, expected);
}

fn an_alert_that_has_begun_anew_is_told_again_though_its_end_was_not(store: &dyn Store) {
    let since = |starts: i64, second: i64| Notice { starts_at: at(starts), ..firing("anew", second) };
    assert_eq!(accept(store, &[since(20, 24)]), 1);
    assert_eq!(accept(store, &[since(22, 25)]), 0, "another Prometheus saw it a little later");
    assert_eq!(accept(store, &[since(26, 27)]), 1);
    assert_eq!(accept(store, &[since(26, 28)]), 0, "Alertmanager repeats itself");
    assert_eq!(accept(store, &[since(20, 28)]), 0, "another Alertmanager has missed what is new");
    let first = claim(store, "n1", 28).unwrap();
    let done = Settlement { issue: Some(issue(8)), ..end(OutboxState::Done, 29) };
    assert!(store.settle_notice(first.row.id, "n1", &done).unwrap());
    let second = claim(store, "n1", 29).unwrap();
    assert_eq!((second.row.notice(), second.issue, second.is_overtaken), (since(26, 27), Some(issue(8)), false));
    assert!(store.settle_notice(second.row.id, "n1", &end(OutboxState::Done, 29)).unwrap());
}

fn an_end_is_taken_though_a_clock_is_behind_or_its_beginning_is_not_known(store: &dyn Store) {
    assert_eq!(accept(store, &[firing("behind", 29)]), 1);
    let first = claim(store, "n1", 29).unwrap();
    assert!(store.settle_notice(first.row.id, "n1", &end(OutboxState::Done, 29)).unwrap());
    assert_eq!(accept(store, &[resolved("behind", 5)]), 1, "the clock was set back");
    assert_eq!(accept(store, &[resolved("behind", 6)]), 0, "a repetition");
    let over = claim(store, "n1", 7).expect("nobody waits until the clock is there again");
    assert_eq!((over.row.status, over.is_overtaken), (AlertStatus::Resolved, false));
    assert!(store.settle_notice(over.row.id, "n1", &end(OutboxState::Done, 29)).unwrap());
    // Another node was told the beginning while it had no database.
    let anew = |status, second| Notice { starts_at: at(40), ..notice("behind", status, second) };
    assert_eq!(accept(store, &[anew(AlertStatus::Resolved, 45)]), 1);
    assert_eq!(accept(store, &[anew(AlertStatus::Resolved, 46)]), 0, "a repetition");
    let reopened = OutboxRow {
        state: OutboxState::Done,
        finished_at: Some(at(42)),
        ..OutboxRow::of(1, &anew(AlertStatus::Firing, 41))
    };
    store.adopt_notices(&[reopened]).unwrap();
    let over = claim(store, "n1", 47).unwrap();
    assert_eq!((over.row.status, over.row.starts_at, over.is_overtaken), (AlertStatus::Resolved, at(40), false));
    assert!(store.settle_notice(over.row.id, "n1", &end(OutboxState::Done, 29)).unwrap());
}

fn only_one_node_sends_and_a_lease_that_has_ended_is_anybodys(store: &dyn Store) {
    accept(store, &[firing("lease", 30)]);
    let id = claim(store, "n1", 31).unwrap().row.id;
    assert_eq!(claim(store, "n2", 90), None);
    assert_eq!(claim(store, "n1", 40).unwrap().row.attempts, 2, "what one had in an earlier life it gets again");
    assert_eq!(claim(store, "n2", 101).unwrap().row.attempts, 3);
    let again = Settlement { last_error: Some("away".into()), attempts: 2, ..end(OutboxState::Pending, 102) };
    assert!(!store.settle_notice(id, "n1", &again).unwrap());
    assert!(store.settle_notice(id, "n2", &Settlement { next_attempt_at: at(110), ..again }).unwrap());
    assert_eq!(claim(store, "n2", 109), None);
    let row = claim(store, "n1", 110).unwrap().row;
    assert_eq!((row.attempts, row.last_error.as_deref()), (3, Some("away")));
    assert!(store.settle_notice(id, "n1", &end(OutboxState::Done, 111)).unwrap());
    assert_eq!(rows(store, "lease")[0].last_error.as_deref(), Some("away"), "what was wrong is kept");
}

fn a_dead_notice_holds_nobody_up_and_can_be_sent_again(store: &dyn Store) {
    accept(store, &[firing("dead", 120)]);
    let id = claim(store, "n1", 121).unwrap().row.id;
    assert!(store.settle_notice(id, "n1", &end(OutboxState::Dead, 122)).unwrap());
    accept(store, &[resolved("dead", 123)]);
    let over = claim(store, "n1", 124).unwrap();
    assert!(!over.is_overtaken && over.row.status == AlertStatus::Resolved);
    assert!(store.settle_notice(over.row.id, "n1", &end(OutboxState::Done, 125)).unwrap());
    assert_eq!(claim(store, "n1", 126), None);
    assert_eq!(store.retry_notice(i64::MAX, at(127)).unwrap(), None);
    assert_eq!(store.retry_notice(over.row.id, at(127)).unwrap(), Some(Outcome::Conflict));
    let Some(Outcome::Done(row)) = store.retry_notice(id, at(127)).unwrap() else { panic!("is sent again") };
    assert_eq!((row.state, row.attempts, row.next_attempt_at), (OutboxState::Pending, 0, at(127)));
    let due = claim(store, "n1", 127).unwrap();
    assert!(due.row.id == id && due.is_overtaken, "the alert is over");
    assert!(store.settle_notice(id, "n1", &end(OutboxState::Done, 128)).unwrap());
}

fn a_limit_puts_off_whatever_waits_for_all_nodes(store: &dyn Store) {
    accept(store, &[firing("limited", 130), firing("behind it", 130)]);
    let id = claim(store, "n1", 131).unwrap().row.id;
    let limited = Settlement { held_until: Some(at(135)), ..end(OutboxState::Pending, 135) };
    assert!(store.settle_notice(id, "n1", &limited).unwrap());
    assert_eq!(claim(store, "n2", 134), None);
    assert!(rows(store, "dead").iter().all(|row| row.next_attempt_at < at(135)), "what is over is left alone");
    for node in ["n1", "n2"] {
        let row = claim(store, node, 135).unwrap().row;
        assert_eq!(row.next_attempt_at, at(135));
        assert!(store.settle_notice(row.id, node, &end(OutboxState::Done, 136)).unwrap());
    }
}

fn what_came_in_meanwhile_is_taken_over_once(store: &dyn Store) {
    let row = |notice: &Notice, state: OutboxState, number: Option<i64>| OutboxRow {
        state,
        attempts: 1,
        issue: number.map(issue),
        finished_at: (state == OutboxState::Done).then(|| at(150)),
        ..OutboxRow::of(1, notice)
    };
    let done = row(&firing("meanwhile", 140), OutboxState::Done, Some(9));
    let waits = row(&resolved("meanwhile", 141), OutboxState::Pending, None);
    for _ in 0..2 {
        store.adopt_notices(&[done.clone(), waits.clone()]).unwrap();
        assert_eq!(rows(store, "meanwhile").len(), 2);
    }
    assert_eq!(accept(store, &[resolved("meanwhile", 142)]), 0, "it is known");
    let due = claim(store, "n1", 151).unwrap();
    assert_eq!((due.row.status, due.row.attempts, due.issue), (AlertStatus::Resolved, 2, Some(issue(9))));
    assert!(store.settle_notice(due.row.id, "n1", &end(OutboxState::Done, 152)).unwrap());
    // The database took one in late, and it was sent from elsewhere.
    accept(store, &[firing("hung", 153)]);
    store.adopt_notices(&[row(&firing("hung", 153), OutboxState::Done, Some(10))]).unwrap();
    let hung = &rows(store, "hung")[0];
    assert_eq!((hung.state, hung.issue.clone(), hung.finished_at), (OutboxState::Done, Some(issue(10)), Some(at(150))));
    accept(store, &[resolved("hung", 154)]);
    let due = claim(store, "n1", 155).unwrap();
    assert_eq!((due.row.status, due.issue), (AlertStatus::Resolved, Some(issue(10))));
    assert!(store.settle_notice(due.row.id, "n1", &end(OutboxState::Done, 156)).unwrap());
    // Another node has heard of the end before the beginning comes.
    accept(store, &[resolved("late", 160)]);
    store.adopt_notices(&[row(&firing("late", 159), OutboxState::Pending, None)]).unwrap();
    let late = &rows(store, "late")[0];
    assert_eq!((late.state, late.result.as_deref()), (OutboxState::Done, Some(OVERTAKEN)));
    let due = claim(store, "n1", 161).unwrap();
    assert_eq!((due.row.status, due.is_overtaken), (AlertStatus::Resolved, false));
    assert!(store.settle_notice(due.row.id, "n1", &end(OutboxState::Done, 162)).unwrap());
    // And what is known already is not sent again.
    accept(store, &[firing("twice", 170)]);
    store.adopt_notices(&[row(&firing("twice", 171), OutboxState::Pending, None)]).unwrap();
    assert_eq!(rows(store, "twice").len(), 1);
    let id = claim(store, "n1", 172).unwrap().row.id;
    assert!(store.settle_notice(id, "n1", &end(OutboxState::Done, 173)).unwrap());
}

fn a_full_outbox_takes_nothing(store: &dyn Store) {
    let three = ["f1", "f2", "f3"].map(|fingerprint| firing(fingerprint, 180));
    assert_eq!(store.accept_notices(&three, 2).unwrap(), Outcome::Conflict);
    assert_eq!(store.accept_notices(&three[..2], 2).unwrap(), Outcome::Done(2));
    assert_eq!(store.accept_notices(&three[..2], 2).unwrap(), Outcome::Done(0), "a repetition needs no room");
    assert_eq!(store.accept_notices(&three, 2).unwrap(), Outcome::Conflict);
    assert_eq!(rows(store, "f3"), []);
    for node in ["n1", "n2"] {
        let id = claim(store, node, 181).unwrap().row.id;
        assert!(store.settle_notice(id, node, &end(OutboxState::Done, 182)).unwrap());
    }
}

fn notices_are_listed_counted_and_trimmed(store: &dyn Store) {
    accept(store, &[firing("w1", 200), firing("w2", 201)]);
    let id = claim(store, "n1", 202).unwrap().row.id;
    assert!(store.settle_notice(id, "n1", &end(OutboxState::Dead, 202)).unwrap());
    let figures = store.outbox_figures().unwrap();
    assert_eq!((figures.pending, figures.dead, figures.oldest), (1, 1, Some(at(201))));
    let filter = |state| OutboxFilter { state: Some(state), fingerprint: None };
    for state in OutboxState::ALL {
        let listed = store.outbox(&filter(state), ALL).unwrap();
        assert!(listed.items.iter().all(|row| row.state == state));
        assert!(listed.items.is_sorted_by(|a, b| a.id > b.id), "newest first");
    }
    let walk = store.outbox(&OutboxFilter::default(), Page::behind(None, 3)).unwrap();
    let next = store.outbox(&OutboxFilter::default(), Page::behind(walk.next, 3)).unwrap();
    assert!(walk.items.len() == 3 && next.items[0].id < walk.items[2].id);
    assert_eq!(store.trim_outbox(at(22), 100).unwrap(), 1, "of what ended before");
    assert!(store.trim_outbox(at(1000), 100).unwrap() > 5);
    assert_eq!(store.trim_outbox(at(1000), 100).unwrap(), 0);
    let left = store.outbox(&OutboxFilter::default(), ALL).unwrap().items;
    assert_eq!(left.iter().map(|row| row.fingerprint.as_str()).collect::<Vec<_>>(), ["w2"], "what waits stays");
    assert_eq!(accept(store, &[firing(B, 300)]), 0, "what fires is known as long as it fires");
    assert_eq!(accept(store, &[resolved(A, 300)]), 1, "what was over is forgotten");
    store.retry_notice(left[0].id, at(300)).unwrap();
    for node in ["n1", "n2"] {
        let id = claim(store, node, 301).unwrap().row.id;
        assert!(store.settle_notice(id, node, &end(OutboxState::Done, 302)).unwrap());
    }
}
