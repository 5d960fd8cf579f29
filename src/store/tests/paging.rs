//! Walking lists from place to place while rows come and go, against the whole list before and after.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::registry::new_command;
use super::*;

/// Long before what other tests store, so that trimming does not touch it.
const LONG_AGO_S: i64 = -3_000_000;

/// What happens while a client walks.
#[derive(Clone, Debug)]
enum Step {
    Add(i64),
    Remove(i64),
    Read,
}

/// A client on its way through a list.
struct Walk<'a, T> {
    ask: Box<dyn Fn(Page) -> Listing<T> + 'a>,
    name: fn(&T) -> String,
    before: BTreeSet<String>,
    next: Option<Option<Place>>,
    seen: Vec<String>,
}

impl<'a, T: Debug> Walk<'a, T> {
    fn new(name: fn(&T) -> String, ask: impl Fn(Page) -> Listing<T> + 'a) -> Self {
        let mut walk = Self { ask: Box::new(ask), name, before: BTreeSet::new(), next: Some(None), seen: Vec::new() };
        walk.before = walk.all().into_iter().collect();
        walk
    }

    /// The whole list, in its order.
    fn all(&self) -> Vec<String> {
        let listing = (self.ask)(ALL);
        assert_eq!((listing.total, listing.next), (Some(listing.items.len() as u64), None));
        listing.items.iter().map(self.name).collect()
    }

    /// What is not there now is not there all the time, even when it comes back.
    fn forget_removed(&mut self) {
        let all = self.all();
        self.before.retain(|name| all.contains(name));
    }

    fn read(&mut self, limit: u32) {
        let Some(place) = self.next else { return };
        let listing = (self.ask)(Page::behind(place, limit));
        assert_eq!(listing.total, None, "nothing is counted");
        let is_full = listing.items.len() == limit as usize;
        assert!(is_full || listing.next.is_none(), "a place to go on from behind a part that is not full: {listing:?}");
        self.seen.extend(listing.items.iter().map(self.name));
        self.next = listing.next.map(Some);
    }

    /// Reads to the end; then every row that was there all the time has been seen once, in the list's order.
    fn finish(mut self, limit: u32) {
        while self.next.is_some() {
            self.read(limit);
        }
        let unique: BTreeSet<_> = self.seen.iter().cloned().collect();
        assert_eq!(unique.len(), self.seen.len(), "seen twice: {:?}", self.seen);
        let stayed: Vec<String> = self.all().into_iter().filter(|name| self.before.contains(name)).collect();
        let seen: Vec<String> = self.seen.into_iter().filter(|name| stayed.contains(name)).collect();
        assert_eq!(seen, stayed);
    }
}

/// A registered device with an alert and a command; an entry of the ledger and an event, two of each in one second.
fn add(store: &dyn Store, prefix: &str, n: i64) {
    let device = format!("{prefix}{n}");
    if store.create_device(&new_device(&device), T).unwrap() != Outcome::Conflict {
        let alert = NewAlert { alert_type: "door".into(), severity: "info".into(), message: String::new() };
        store.create_alert(&id(&device), &alert, T).unwrap();
        store.create_command(&new_command(&device, "reboot", json!({}))).unwrap();
    }
    let (first, second) = (u32::try_from(n).unwrap(), LONG_AGO_S + n / 2);
    let gap = Gap { first, last: first, after: at(second), before: at(second), missing: vec![] };
    let log = format!("{prefix}log");
    let entry = GapEntry { gap, detected_at: T, filled_at: Some(T) };
    let (gaps, events) = (vec![(id(&log), entry)], vec![event(&log, second, first, "hello")]);
    store.commit(&Batch { gaps, events, ..Batch::default() }).unwrap();
}

fn remove(store: &dyn Store, prefix: &str, n: i64) {
    store.delete_device(&id(&format!("{prefix}{n}")), true).unwrap();
    store.trim(at(LONG_AGO_S + n / 2), 1000).unwrap();
}

fn walk_all(store: &dyn Store, prefix: &str, start: &[i64], steps: &[Step], limit: u32) {
    for n in start {
        add(store, prefix, *n);
    }
    let log = id(&format!("{prefix}log"));
    let of_devices = DeviceFilter { id_prefix: Some(prefix.to_owned()), ..DeviceFilter::default() };
    let of_alerts = AlertFilter { id_prefix: Some(prefix.to_owned()), ..AlertFilter::default() };
    let everything = CommandFilter::default();
    let mut devices = Walk::new(|d: &Device| d.device_id.to_string(), |page| store.devices(&of_devices, page).unwrap());
    let mut alerts = Walk::new(|a: &Alert| a.id.to_string(), |page| store.alerts(&of_alerts, page).unwrap());
    let mut commands = Walk::new(|c: &Command| c.cmd_id.to_string(), |page| store.commands(&everything, page).unwrap());
    let mut gaps = Walk::new(
        |g: &GapEntry| g.gap.first.to_string(),
        |page| store.gaps(&log, at(2 * LONG_AGO_S), T, page).unwrap(),
    );
    let mut events =
        Walk::new(|e: &EventRow| e.seq.to_i64().to_string(), |page| store.events(&log, None, page).unwrap());
    macro_rules! every_walk {
        ($do:ident ( $($with:expr)? )) => {{
            devices.$do($($with)?);
            alerts.$do($($with)?);
            commands.$do($($with)?);
            gaps.$do($($with)?);
            events.$do($($with)?);
        }};
    }
    for step in steps {
        match step {
            Step::Add(n) => add(store, prefix, *n),
            Step::Remove(n) => {
                remove(store, prefix, *n);
                every_walk!(forget_removed());
            }
            Step::Read => every_walk!(read(limit)),
        }
    }
    every_walk!(finish(limit));
}

pub(super) fn a_walk_gives_every_row_that_stays_once_whatever_comes_and_goes(store: &dyn Store) {
    let number = || 0..16_i64;
    let step = prop_oneof![
        2 => number().prop_map(Step::Add),
        1 => number().prop_map(Step::Remove),
        2 => Just(Step::Read),
    ];
    let start = proptest::collection::vec(number(), 0..14);
    let steps = proptest::collection::vec(step, 0..16);
    let case = Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 16, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(start, steps, 1..6_u32), |(start, steps, limit)| {
        case.set(case.get() + 1);
        let prefix = format!("walk{}-", case.get());
        walk_all(store, &prefix, &start, &steps, limit);
        for n in number() {
            remove(store, &prefix, n);
        }
        store.trim(at(LONG_AGO_S / 2), 1000).unwrap();
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
