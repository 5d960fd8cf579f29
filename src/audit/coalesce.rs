//! Refusals that repeat become one entry with a count, so that nobody fills the disk by being refused.
//!
//! The first of its kind is written as it is; those that follow within [`WINDOW_US`] are counted, and when that time is
//! over one more entry says how many there were. Kind = who, from which line (`domain::line_of`), what. What was done is
//! never left out, nor what an authenticated actor failed at. Pure.
//!
//! Invariant: at most [`MAX_KINDS`] kinds are told apart; beyond that, refusals of one action count together whoever they
//! are of. So what is written in a minute is bounded by the number of kinds, whatever is sent.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Event, Outcome};
use crate::domain::{Timestamp, line_of};

/// How long refusals of a kind are counted together.
pub(super) const WINDOW_US: i64 = 60_000_000;
/// Most kinds told apart.
const MAX_KINDS: usize = 512;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct KindOf {
    /// `None` = of anybody.
    who: Option<(String, Option<IpAddr>)>,
    action: String,
    outcome: Outcome,
}

#[derive(Debug)]
struct Repeated {
    since: Timestamp,
    count: u64,
    last: Event,
}

/// What is being counted.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    kinds: HashMap<KindOf, Repeated>,
}

impl Coalescer {
    /// What is to be written of an event is added to `out`; `true` = it was only counted.
    pub(super) fn take(&mut self, event: Event, out: &mut Vec<Event>) -> bool {
        let is_counted = match event.outcome {
            Outcome::Done => false,
            Outcome::Refused => true,
            Outcome::Failed => event.actor == "-",
        };
        if !is_counted {
            out.push(event);
            return false;
        }
        let mut kind = KindOf {
            who: Some((event.actor.clone(), event.address.map(line_of))),
            action: event.action.clone(),
            outcome: event.outcome,
        };
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(&kind) {
            kind.who = None;
        }
        if let Some(known) = self.kinds.get_mut(&kind) {
            if event.at.0 - known.since.0 < WINDOW_US {
                known.count += 1;
                known.last = event;
                return true;
            }
            out.extend(self.kinds.remove(&kind).and_then(|over| summary(over, kind.who.is_none())));
        }
        out.push(event.clone());
        self.kinds.insert(kind, Repeated { since: event.at, count: 0, last: event });
        false
    }

    /// Adds the counts whose time is over at `now`.
    pub(super) fn due(&mut self, now: Timestamp, out: &mut Vec<Event>) {
        let over: Vec<KindOf> =
            self.kinds.iter().filter(|(_, r)| now.0 - r.since.0 >= WINDOW_US).map(|(k, _)| k.clone()).collect();
        for kind in over {
            out.extend(self.kinds.remove(&kind).and_then(|over| summary(over, kind.who.is_none())));
        }
    }

    /// Adds all counts: nothing more comes.
    pub(super) fn finish(&mut self, out: &mut Vec<Event>) {
        let mut all: Vec<_> = self.kinds.drain().filter_map(|(kind, r)| summary(r, kind.who.is_none())).collect();
        all.sort_by_key(|event| event.at);
        out.append(&mut all);
    }
}

/// The last of them, and how many there were beside the first; `None` = none.
fn summary(Repeated { since, count, last }: Repeated, is_of_many: bool) -> Option<Event> {
    if count == 0 {
        return None;
    }
    let by = if is_of_many { " by many" } else { "" };
    let detail = format!("{count} more{by} since {since}; the last: {}", last.detail);
    Some(Event { detail, ..last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(second: i64, actor: &str, last: u8, outcome: Outcome) -> Event {
        Event {
            at: Timestamp(second * 1_000_000),
            actor: actor.into(),
            address: Some([10, 0, 0, last].into()),
            action: "key.refused".into(),
            target: format!("t{second}"),
            outcome,
            request_id: None,
            detail: "unknown_key".into(),
        }
    }

    fn run(events: Vec<Event>) -> Vec<Event> {
        let (mut coalescer, mut out) = (Coalescer::default(), Vec::new());
        for event in events {
            coalescer.take(event, &mut out);
        }
        coalescer.finish(&mut out);
        out
    }

    #[test]
    fn the_first_refusal_is_written_and_the_others_of_a_minute_are_counted() {
        let out = run((0..59).map(|s| event(s, "-", 1, Outcome::Refused)).collect());
        assert_eq!(out.len(), 2);
        assert_eq!((out[0].target.as_str(), out[1].target.as_str()), ("t0", "t58"));
        assert!(
            out[1].detail.starts_with("58 more since ") && out[1].detail.ends_with("unknown_key"),
            "{}",
            out[1].detail
        );
        let out = run([0, 1, 61, 62].map(|s| event(s, "-", 1, Outcome::Refused)).to_vec());
        let written: Vec<_> = out.iter().map(|e| e.target.as_str()).collect();
        assert_eq!(written, ["t0", "t1", "t61", "t62"], "a minute later it is written again");
    }

    #[test]
    fn who_and_from_where_are_told_apart_and_what_was_done_is_never_left_out() {
        let refused = |actor, last| event(0, actor, last, Outcome::Refused);
        assert_eq!(run(vec![refused("-", 1), refused("-", 2), refused("key:a", 1)]).len(), 3);
        assert_eq!(run(vec![event(0, "key:a", 1, Outcome::Done); 5]).len(), 5);
        assert_eq!(run(vec![event(0, "key:a", 1, Outcome::Failed); 5]).len(), 5);
        assert_eq!(run(vec![event(0, "-", 1, Outcome::Failed); 5]).len(), 2);
    }

    #[test]
    fn a_crowd_of_addresses_is_counted_together_beyond_a_limit() {
        let (mut coalescer, mut out) = (Coalescer::default(), Vec::new());
        for n in 0..50_000_u32 {
            let address = Some(std::net::Ipv4Addr::from_bits(n).into());
            coalescer.take(Event { address, ..event(0, "-", 0, Outcome::Refused) }, &mut out);
        }
        assert_eq!(out.len(), MAX_KINDS + 1);
        coalescer.due(Timestamp(WINDOW_US), &mut out);
        assert_eq!(out.len(), MAX_KINDS + 2);
        assert!(out.last().is_some_and(|e| e.detail.contains(" more by many since ")));
        assert!(coalescer.kinds.is_empty(), "nothing is kept when its time is over");
    }
}
