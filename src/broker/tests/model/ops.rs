//! What can happen in the model's world, and in which mixture.
//!
//! Every step is possible in every state (one that makes no sense there does nothing), so that a failing sequence can be
//! cut down to the few steps that matter.

use proptest::prelude::*;

/// Client ids `c0` … `c5`.
pub(super) const CLIENTS: usize = 6;

pub(super) const TOPICS: [&str; 8] = ["a", "a/b", "a/c", "b", "b/x", "$x/y", "s/1", "s/2"];

const PLAIN: &[&str] = &["a", "a/#", "a/+", "#", "+/b", "+", "b/x", "$x/#", "s/#", "+/+"];
// A member has nothing else that brings it a message of its share: which of two copies was the shared one could not be told.
const LONE_MEMBER: &[&str] = &["a", "a/#", "+/b", "b", "b/x", "$x/#", "$share/h/s/#", "$share/h/s/#"];
const MEMBER: &[&str] = &["a/+", "a/#", "+/b", "b", "$x/y", "$share/g/s/1", "$share/g/s/1", "$share/g/s/2"];

/// The filters a client chooses from.
pub(super) const fn filters(who: usize) -> &'static [&'static str] {
    match who {
        0 | 1 => PLAIN,
        2 => LONE_MEMBER,
        _ => MEMBER,
    }
}

/// What a CONNECT asks for.
#[derive(Clone, Debug)]
pub(super) struct Asks {
    pub(super) is_v5: bool,
    pub(super) is_clean: bool,
    /// Session expiry in seconds (5 only).
    pub(super) expiry_s: u32,
    /// 0 = none said (5 only).
    pub(super) receive_maximum: u16,
    /// Takes no big messages (5 only).
    pub(super) takes_small_only: bool,
    pub(super) takes_aliases: bool,
    pub(super) will: Option<Says>,
    pub(super) will_delay_s: u32,
}

/// A message to be.
#[derive(Clone, Debug)]
pub(super) struct Says {
    pub(super) topic: usize,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) size: Size,
    /// 5 only.
    pub(super) expiry_s: Option<u32>,
    pub(super) has_properties: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Size {
    /// No payload: removes what is retained.
    Empty,
    Small,
    Big,
}

#[derive(Clone, Debug)]
pub(super) struct Wants {
    pub(super) filter: usize,
    pub(super) qos: u8,
    /// 5 only, as all that follows.
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retain_handling: u8,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// The client opens a connection; an earlier one, which the server may still believe in, is taken over.
    Connect(usize, Asks),
    /// The client's end of the connection is gone; the server has not noticed.
    Lose(usize),
    /// The server notices; `true` = the session is not put back yet.
    Notice(usize, bool),
    /// DISCONNECT, perhaps with another session expiry, perhaps with the will all the same.
    Goodbye(usize, Option<u32>, bool),
    Subscribe(usize, Vec<Wants>, Option<u32>),
    Unsubscribe(usize, usize),
    /// `true` = it is read and confirmed at once.
    Publish(usize, Says, bool),
    /// The server handles this many packets of the client.
    Read(usize, usize),
    /// This many publishes of the client are safe: they are routed and acknowledged.
    Confirm(usize, usize),
    /// The server writes what waits, this many bytes of it at most.
    Pull(usize, usize),
    /// The client takes this many packets; `true` = it refuses the messages among them (5 only).
    Take(usize, usize, bool),
    /// The client gives this many answers, of this kind.
    Acknowledge(usize, usize, usize),
    /// The server writes what it can, to everybody.
    PullAll,
    /// All of this, until nothing moves.
    Settle(usize),
    /// A connection with subscriptions, settled.
    Begin(usize, Asks, Vec<Wants>),
    Pass(u64),
    /// Sessions, retained messages and wills whose time has come.
    Upkeep,
    /// An orderly stop and a start; `true` = publishes that were not confirmed are not waited for.
    Restart(bool),
}

fn who() -> impl Strategy<Value = usize> {
    0..CLIENTS
}

fn says() -> impl Strategy<Value = Says> {
    let size = prop_oneof![1 => Just(Size::Empty), 8 => Just(Size::Small), 3 => Just(Size::Big)];
    let expiry = prop_oneof![6 => Just(None), 1 => (1..20_u32).prop_map(Some)];
    (0..TOPICS.len(), 0..3_u8, prop::bool::weighted(0.3), size, expiry, prop::bool::weighted(0.3)).prop_map(
        |(topic, qos, retain, size, expiry_s, has_properties)| {
            // Messages are told apart by their payloads, where it matters: in shares, and when some are given up.
            let size = if TOPICS[topic].starts_with("s/") && size == Size::Empty { Size::Small } else { size };
            let expiry_s = expiry_s.filter(|_| size != Size::Empty);
            Says { topic, qos, retain, size, expiry_s, has_properties }
        },
    )
}

fn asks() -> impl Strategy<Value = Asks> {
    let expiry = prop_oneof![1 => Just(0_u32), 2 => 5..60_u32, 4 => Just(u32::MAX)];
    let flags = (prop::bool::weighted(0.6), prop::bool::weighted(0.15), prop::bool::weighted(0.25), any::<bool>());
    (flags, expiry, 0..4_u16, prop::option::weighted(0.3, says()), prop_oneof![Just(0_u32), 1..20_u32]).prop_map(
        |((is_v5, is_clean, takes_small_only, takes_aliases), expiry_s, receive_maximum, will, will_delay_s)| Asks {
            is_v5,
            is_clean,
            expiry_s,
            receive_maximum,
            takes_small_only,
            takes_aliases,
            will,
            will_delay_s,
        },
    )
}

fn wants() -> impl Strategy<Value = Wants> {
    (0..10_usize, prop_oneof![1 => Just(0_u8), 3 => 1..3_u8], prop::bool::weighted(0.2), any::<bool>(), 0..3_u8)
        .prop_map(|(filter, qos, no_local, retain_as_published, retain_handling)| Wants {
            filter,
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        })
}

fn wants_some() -> impl Strategy<Value = Vec<Wants>> {
    prop::collection::vec(wants(), 1..4)
}

fn begin() -> impl Strategy<Value = Op> {
    (who(), asks(), wants_some()).prop_map(|(who, asks, wants)| Op::Begin(who, asks, wants))
}

/// A sequence.
pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let both = (prop::collection::vec(begin(), 4..10), prop::collection::vec(op(), 1..300));
    both.prop_map(|(begin, steps)| begin.into_iter().chain(steps).collect())
}

fn op() -> impl Strategy<Value = Op> {
    let few = || prop_oneof![3 => 1..4_usize, 1 => Just(99_usize)];
    let refuses = || prop::bool::weighted(0.3);
    prop_oneof![
        9 => (who(), asks()).prop_map(|(who, asks)| Op::Connect(who, asks)),
        4 => begin(),
        6 => who().prop_map(Op::Lose),
        6 => (who(), prop::bool::weighted(0.3)).prop_map(|(who, slowly)| Op::Notice(who, slowly)),
        2 => (who(), prop::option::of(0..40_u32), any::<bool>()).prop_map(|(who, s, will)| Op::Goodbye(who, s, will)),
        10 => (who(), wants_some(), prop::option::of(1..9_u32)).prop_map(|(who, wants, id)| Op::Subscribe(who, wants, id)),
        3 => (who(), 0..10_usize).prop_map(|(who, filter)| Op::Unsubscribe(who, filter)),
        70 => (who(), says(), prop::bool::weighted(0.7)).prop_map(|(who, says, at_once)| Op::Publish(who, says, at_once)),
        10 => (who(), few()).prop_map(|(who, n)| Op::Read(who, n)),
        8 => (who(), few()).prop_map(|(who, n)| Op::Confirm(who, n)),
        20 => (who(), prop_oneof![1..200_usize, Just(1 << 20)]).prop_map(|(who, budget)| Op::Pull(who, budget)),
        12 => Just(Op::PullAll),
        30 => (who(), few(), refuses()).prop_map(|(who, n, refuses)| Op::Take(who, n, refuses)),
        15 => (who(), few(), prop_oneof![4 => Just(0_usize), 4 => 1..5_usize])
            .prop_map(|(who, n, kind)| Op::Acknowledge(who, n, kind)),
        8 => who().prop_map(Op::Settle),
        3 => prop_oneof![4 => 1..15_u64, 1 => 20..120_u64].prop_map(Op::Pass),
        3 => Just(Op::Upkeep),
        1 => prop::bool::weighted(0.3).prop_map(Op::Restart),
    ]
}
