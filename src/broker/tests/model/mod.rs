//! Random clients against a simple model of MQTT's delivery: what the specification promises holds in every order of
//! steps, over lost connections, take-overs, expiries and restarts of the server, in both versions.
//!
//! ```text
//! clients (keep the rules) ⇄ wire (codec, loses what is on it) ⇄ server (real hub, sessions, queues)
//!                                         │
//!                                 oracle: who is owed what
//! ```
//! A sequence that fails is cut down by proptest and printed, with the seed that gives it again in `PROPTEST_RNG_SEED`;
//! `PROPTEST_CASES` asks for more.

mod client;
mod link;
mod messages;
mod ops;
mod oracle;
mod server;
mod traffic;
mod world;

use std::cell::RefCell;
use std::time::Duration;

use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::broker::options::Options;
use oracle::Met;
use world::World;

/// Small enough that every limit is met.
fn narrow() -> Options {
    Options {
        max_inflight: 3,
        receive_maximum: 6,
        max_topic_aliases: 2,
        max_subscriptions: 4,
        session_expiry: Duration::from_secs(100),
        ..Options::default()
    }
}

/// Runs sequences of steps; gives what they met.
fn check(options: &Options, cases: u32) -> Met {
    let asked = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let cases = asked("PROPTEST_CASES").map_or(cases, |n| u32::try_from(n).unwrap());
    let seed = asked("PROPTEST_RNG_SEED").unwrap_or_else(rand::random);
    let config = Config { failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Config::with_cases(cases) };
    let all = RefCell::new(Met::new());
    let outcome = TestRunner::new(config).run(&ops::ops(), |ops| {
        let mut world = World::new(options.clone());
        ops.iter().for_each(|op| world.apply(op));
        world.finish();
        let mut all = all.borrow_mut();
        *all.entry("steps").or_default() += ops.len() as u64;
        world.oracle.met.iter().for_each(|(what, n)| *all.entry(what).or_default() += n);
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("PROPTEST_RNG_SEED={seed}: {failed}"));
    let all = all.into_inner();
    println!("{all:#?}");
    all
}

#[test]
fn every_subscriber_gets_what_it_is_owed_whatever_happens_in_between() {
    let met = check(&narrow(), 1000);
    for what in [
        "sent",
        "sent, retained",
        "sent, shared",
        "sent, shared, perhaps passed on",
        "taken back from a member",
        "repeated",
        "repeated in portions",
        "exactly once, repeated by the client",
        "exactly once, too large to repeat",
        "expired or too large",
        "refused by the client",
        "routed, a will",
        "session expired",
        "session resumed",
        "subscription refused",
        "restart",
    ] {
        assert!(met.contains_key(what), "{what:?} was not met: {met:#?}");
    }
}

#[test]
fn what_is_full_drops_the_new_and_nothing_else() {
    let options = Options { max_queued_messages: 3, max_retained_messages: 3, ..narrow() };
    let met = check(&options, 300);
    assert!(met.contains_key("dropped: full"), "{met:#?}");
}
