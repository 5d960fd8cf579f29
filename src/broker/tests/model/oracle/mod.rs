//! The reference model: what every session is owed, by the rules of the specification and nothing else.
//!
//! It hears what the server reads, when a publish is routed, when connections begin and end, and sees every packet the
//! server writes. A message that somebody must get is a [`Duty`]; a PUBLISH that fulfils none, or not the one whose turn
//! it is, is a fault, and so is a duty that stays when the server had room and time for it.

mod acks;
mod duties;
mod route;
mod sessions;
mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ops::CLIENTS;
use crate::broker::options::Options;
use crate::mqtt::packet::SubscribeOptions;
use crate::mqtt::{PacketId, QoS};

/// An application message.
#[derive(Clone, PartialEq)]
pub(super) struct Message {
    pub(super) number: u32,
    /// The client that published it; `None` = a will.
    pub(super) from: Option<usize>,
    pub(super) topic: &'static str,
    pub(super) payload: Vec<u8>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) expiry_s: Option<u32>,
    pub(super) content_type: Option<String>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, from, topic, payload, qos, retain, expiry_s, .. } = self;
        write!(
            f,
            "{number} of {from:?} to {topic}, {} bytes, {qos:?}, retain {retain}, expiry {expiry_s:?}",
            payload.len()
        )
    }
}

impl Message {
    fn is_big(&self) -> bool {
        self.payload.len() > 100
    }
}

/// What the model has met and how often, so that a run can say that it met everything.
pub(super) type Met = BTreeMap<&'static str, u64>;

/// The largest packet of a client that takes small ones only: between small and big.
pub(super) const SMALL_PACKET: u32 = 100;

/// Names a message that one session, or one member of a share, must get.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Duty(usize);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    /// PUBLISH was sent with this id, last on this connection.
    Sent(PacketId, u32),
    /// PUBREC has come; PUBREL was sent, last on this connection.
    Released(PacketId, u32),
    Over,
}

#[derive(Debug)]
struct Owed {
    message: Rc<Message>,
    expires_at: Option<Instant>,
    /// Of a shared one: the publisher's, the member's share is found when it is sent.
    qos: QoS,
    retain: bool,
    /// In order; `None` = of the membership, which shows when a client of version 5 gets it.
    ids: Option<Vec<u32>>,
    /// It comes because it was retained.
    is_kept: bool,
    share: Option<Shared>,
    state: State,
    /// The server may have given it up: the client did not take it at the time.
    may_be_gone: bool,
    /// It was sent at QoS 1: may come more than once.
    is_repeatable: bool,
    /// How often an application has got it.
    seen: u32,
}

impl Owed {
    fn of(message: &Rc<Message>, qos: QoS) -> Self {
        Self {
            message: Rc::clone(message),
            expires_at: None,
            qos,
            retain: false,
            ids: None,
            is_kept: false,
            share: None,
            state: State::Waiting,
            may_be_gone: false,
            is_repeatable: false,
            seen: 0,
        }
    }
}

#[derive(Debug)]
struct Shared {
    filter: &'static str,
    /// Memberships that began later do not count.
    since: u64,
    /// It has been with another member.
    is_passed_on: bool,
    /// It stays with the member that has it.
    is_bound: bool,
    /// It may be lost: the member that has it may not be able to keep it.
    is_excused: bool,
}

/// A member's time in a share.
#[derive(Debug)]
struct Membership {
    filter: &'static str,
    options: SubscribeOptions,
    id: Option<u32>,
    until: Option<u64>,
}

#[derive(Default, Debug)]
struct Session {
    is_online: bool,
    /// Its connection has ended and it is back in its place.
    is_parked: bool,
    is_v5: bool,
    takes_small_only: bool,
    quota: usize,
    expiry: Duration,
    offline_since: Option<Instant>,
    /// Counts connections.
    link: u32,
    subscriptions: BTreeMap<&'static str, (SubscribeOptions, Option<u32>)>,
    memberships: Vec<Membership>,
    /// Its own, in order, without those that are over.
    owed: Vec<Duty>,
    /// Sent at QoS 1 and 2, shared ones too, in the order of the first sending.
    window: Vec<Duty>,
    inbound: acks::Inbound,
    will: Option<(Rc<Message>, Duration)>,
    will_due: Option<Instant>,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        self.offline_since.is_some_and(|since| since + self.expiry <= now)
    }
}

struct Kept {
    message: Rc<Message>,
    expires_at: Option<Instant>,
}

pub(super) struct Oracle {
    options: Options,
    pub(super) now: Instant,
    /// Counts what is routed and who joins.
    clock: u64,
    sessions: [Option<Session>; CLIENTS],
    duties: Vec<Owed>,
    /// Shared ones that wait.
    pool: Vec<Duty>,
    retained: BTreeMap<&'static str, Kept>,
    /// QoS 2 messages that were routed.
    taken: BTreeSet<u32>,
    pub(super) met: Met,
}

impl Oracle {
    pub(super) fn new(options: Options, now: Instant) -> Self {
        Self {
            options,
            now,
            clock: 0,
            sessions: std::array::from_fn(|_| None),
            duties: Vec::new(),
            pool: Vec::new(),
            retained: BTreeMap::new(),
            taken: BTreeSet::new(),
            met: Met::new(),
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    fn session(&mut self, who: usize) -> &mut Session {
        self.sessions[who].as_mut().expect("there is a session")
    }

    pub(super) fn has_session(&self, who: usize) -> bool {
        self.sessions[who].as_ref().is_some_and(|s| !s.is_over(self.now))
    }

    pub(super) fn is_v5(&self, who: usize) -> bool {
        self.sessions[who].as_ref().is_some_and(|s| s.is_v5)
    }

    /// Whether the session outlives its connection.
    pub(super) fn is_kept(&self, who: usize) -> bool {
        self.sessions[who].as_ref().is_some_and(|s| !s.expiry.is_zero())
    }

    fn expiry(&self, asked_s: u32) -> Duration {
        if asked_s == u32::MAX {
            self.options.session_expiry
        } else {
            Duration::from_secs(asked_s.into()).min(self.options.session_expiry)
        }
    }
}
