//! What one who watches is told, and what not.

use super::*;
use crate::domain::{Metric, Sequence, Telemetry, Timestamp};

fn reading(device: &str, seq: u32) -> Event {
    let mut values = Telemetry::default();
    values.push(0, Metric::parse("voltage_dc").unwrap(), None, 700.0);
    let device = DeviceId::parse(device).unwrap();
    let (ts, received_at) = (Timestamp(i64::from(seq)), Timestamp(i64::from(seq)));
    Event::Reading(TelemetryRow { device, ts, seq: Sequence::Counted(seq), received_at, values })
}

fn seen(heard: Heard) -> Vec<i64> {
    let Heard::Events(events) = heard else { panic!("{heard:?}") };
    let ts = |event: &Event| match event {
        Event::Reading(row) => row.ts.0,
        other => panic!("{other:?}"),
    };
    events.iter().map(|(_, event)| ts(event)).collect()
}

fn hub(events: usize) -> Hub {
    Hub::new(Options { keep_bytes: events * reading("m", 0).size_bytes() })
}

#[test]
fn everybody_who_watches_is_told_everything_from_the_beginning_of_the_watch() {
    let hub = hub(100);
    assert!(!hub.is_watched());
    hub.tell([reading("m1", 1)]);
    let mut one = hub.enter(None);
    hub.tell([reading("m1", 2), reading("m2", 3)]);
    let mut other = hub.enter(None);
    hub.tell([reading("m1", 4)]);
    assert_eq!(seen(one.take(10, |_| true)), [2, 3, 4]);
    assert_eq!(seen(other.take(10, |_| true)), [4]);
    assert_eq!(seen(other.take(10, |_| true)), [0_i64; 0]);
    hub.tell([reading("m1", 4), reading("m2", 3)]);
    assert_eq!(seen(other.take(10, |_| true)), [0_i64; 0], "copies are no news");
    let of_m2 = |event: &Event| event.subject().is_some_and(|(_, device)| device.as_str() == "m2");
    hub.tell([reading("m1", 5), reading("m2", 6), reading("m2", 7)]);
    assert_eq!(seen(one.take(1, of_m2)), [6]);
    assert_eq!(seen(one.take(10, of_m2)), [7]);
}

#[test]
fn who_is_too_slow_is_told_how_much_is_missing_and_goes_on_behind_it() {
    let hub = hub(3);
    let mut slow = hub.enter(None);
    hub.tell((1..=10).map(|seq| reading("m", seq)));
    let Heard::Lost { position, events } = slow.take(10, |_| true) else { panic!("nothing was lost") };
    assert_eq!(events, Some(7));
    assert_eq!(position.to_string().rsplit_once('-').unwrap().1, "8");
    assert_eq!(seen(slow.take(10, |_| true)), [8, 9, 10]);
}

#[test]
fn who_comes_back_goes_on_behind_the_last_event_it_has_seen() {
    let hub = hub(5);
    let mut watch = hub.enter(None);
    hub.tell((1..=3).map(|seq| reading("m", seq)));
    let Heard::Events(events) = watch.take(2, |_| true) else { panic!() };
    let last = events[1].0.to_string();
    drop(watch);
    hub.tell((4..=5).map(|seq| reading("m", seq)));
    let mut back = hub.enter(Some(&last));
    assert_eq!(seen(back.take(10, |_| true)), [3, 4, 5]);
    hub.tell((6..=9).map(|seq| reading("m", seq)));
    let mut late = hub.enter(Some(&last));
    assert!(matches!(late.take(10, |_| true), Heard::Lost { events: Some(2), .. }), "3 and 4");
    let ahead = format!("{}-99", hub.0.epoch);
    for unknown in ["00000000-1", "nonsense", "", ahead.as_str()] {
        let mut stranger = hub.enter(Some(unknown));
        assert!(matches!(stranger.take(10, |_| true), Heard::Lost { events: None, .. }), "{unknown}");
        assert_eq!(seen(stranger.take(10, |_| true)), [0_i64; 0]);
    }
}

#[test]
fn what_happened_while_nobody_watched_is_missing_not_passed_over() {
    let hub = hub(5);
    let mut watch = hub.enter(None);
    hub.tell([reading("m", 1)]);
    seen(watch.take(10, |_| true));
    let last = watch.position().to_string();
    drop(watch);
    hub.lock().left_at = Some(Instant::now().checked_sub(LINGER).unwrap());
    hub.tell([reading("m", 2)]);
    let mut back = hub.enter(Some(&last));
    assert!(matches!(back.take(10, |_| true), Heard::Lost { events: None, .. }), "nobody has counted it");
    hub.tell([reading("m", 3), Event::Unseen, reading("m", 4)]);
    assert_eq!(seen(back.take(10, |_| true)), [3]);
    assert!(matches!(back.take(10, |_| true), Heard::Lost { events: None, .. }));
    assert_eq!(seen(back.take(10, |_| true)), [4]);
}

#[test]
fn how_much_is_missing_is_said_only_where_all_of_it_was_seen() {
    let hub = hub(3);
    let mut slow = hub.enter(None);
    hub.tell([reading("m", 1), Event::Unseen]);
    let mut slower = hub.enter(None);
    hub.tell((2..=6).map(|seq| reading("m", seq)));
    assert!(matches!(slow.take(10, |_| true), Heard::Lost { events: None, .. }), "the unseen has left the ring too");
    assert!(matches!(slower.take(10, |_| true), Heard::Lost { events: Some(2), .. }), "2 and 3");
    assert_eq!(seen(slow.take(10, |_| true)), [4, 5, 6]);
    assert_eq!(seen(slower.take(10, |_| true)), [4, 5, 6]);
}

#[test]
fn memory_is_free_again_when_nobody_watches() {
    let hub = hub(100);
    let watch = hub.enter(None);
    hub.tell((1..=50).map(|seq| reading("m", seq)));
    assert!(!hub.end_following());
    drop(watch);
    assert!(!hub.end_following(), "it may come back");
    hub.lock().left_at = Some(Instant::now().checked_sub(LINGER).unwrap());
    assert!(hub.end_following());
    assert!(hub.lock().ring.from(0).next().is_none());
}

#[test]
fn who_looks_for_little_among_much_gets_it_piece_by_piece() {
    let hub = hub(5000);
    let mut watch = hub.enter(None);
    hub.tell((1..=2000).map(|seq| reading("m", seq)));
    let (mut found, mut looks) = (Vec::new(), 0);
    while watch.is_behind() {
        found.extend(seen(watch.take(10, |event| matches!(event, Event::Reading(row) if row.ts.0 % 700 == 0))));
        looks += 1;
    }
    assert_eq!((found, looks), (vec![700, 1400], 4));
}

#[tokio::test]
async fn who_begins_while_the_database_is_away_is_told_that_something_is_missing_when_it_is_back() {
    let hub = hub(5);
    let mut early = hub.enter(None);
    hub.wait_followed(Duration::ZERO).await;
    assert_eq!(seen(early.take(10, |_| true)), [0_i64; 0]);
    hub.begin_following();
    assert!(matches!(early.take(10, |_| true), Heard::Lost { events: None, .. }));
    let mut later = hub.watch(None).await;
    hub.wait_followed(Duration::ZERO).await;
    hub.begin_following();
    for watch in [&mut early, &mut later] {
        assert_eq!(seen(watch.take(10, |_| true)), [0_i64; 0], "nothing is missing twice");
    }
}

#[tokio::test]
async fn a_watch_wakes_by_what_happens_and_ends_when_all_ends() {
    let hub = hub(5);
    let mut watch = hub.enter(None);
    let teller = hub.clone();
    let told = tokio::spawn(async move { teller.tell([reading("m", 1)]) });
    watch.wait().await;
    told.await.unwrap();
    assert_eq!(seen(watch.take(10, |_| true)), [1]);
    hub.close();
    watch.wait().await;
    assert_eq!(watch.take(10, |_| true), Heard::Closed);
}
