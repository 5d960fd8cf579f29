//! Rate limits: so many requests of a kind a second, for each peer address and for each key.
//!
//! Bounded: at most [`MAX_TRACKED`] addresses and keys are told apart. Whoever is keeps an allowance of their own; beyond that the
//! newcomers share one a network, and when these are too many as well, one for all. Keys have room of their own: whoever has proved
//! one is not pushed out by strangers. IPv6 peers count by /56, which is what one customer line gets. Knows no routes.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{Quota, RateLimiter};
use quick_cache::sync::Cache;

use crate::domain::{Tracked, line_of, wide_of};

/// Most addresses, networks and keys told apart for each kind of request.
const MAX_TRACKED: usize = 16_384;
/// Most peers without a log-in left that are known before they try again. (One forgotten is looked up once more.)
const MAX_SPENT: usize = 4096;

/// Kinds of requests with an allowance of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// GET.
    Read,
    /// Everything that changes something.
    Write,
    /// Commands to meters.
    Command,
    /// A wrong credential, a log-in at the issuer, an enrolment.
    Login,
}

impl Kind {
    /// Its name in the metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Command => "command",
            Self::Login => "login",
        }
    }
}

/// So many at once, refilled at a rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// Refill.
    pub per_second: NonZeroU32,
    /// How many at once.
    pub burst: NonZeroU32,
}

/// The allowances; `None` = unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct LimitOptions {
    pub read: Option<Allowance>,
    pub write: Option<Allowance>,
    pub command: Option<Allowance>,
    pub login: Option<Allowance>,
}

impl Default for LimitOptions {
    fn default() -> Self {
        let allow = |per_second: u32, burst: u32| Some(Allowance::new(per_second, burst));
        Self { read: allow(2000, 4000), write: allow(2000, 4000), command: allow(500, 1000), login: allow(1, 20) }
    }
}

impl Allowance {
    /// Zero counts as one.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self { per_second: at_least_one(per_second), burst: at_least_one(burst) }
    }
}

/// Whose allowance is used.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Who {
    /// A peer address, IPv6 cut to /56.
    Peer(IpAddr),
    /// Newcomers of a network, where there are too many peers.
    Wide(IpAddr),
    /// A key's name.
    Key(String),
    /// All that are not told apart.
    Others,
}

impl Who {
    /// The peer of that address.
    pub fn peer(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Others, |address| Self::Peer(line_of(address)))
    }
}

type Rate = RateLimiter<Who, Tracked<Who>, DefaultClock, StateInformationMiddleware>;

/// A rate, and who has one of their own.
struct Counter {
    rate: Rate,
    known: Tracked<Who>,
}

impl Counter {
    fn new(quota: Quota) -> Self {
        let known = Tracked::default();
        Self { rate: Rate::new(quota, known.clone(), DefaultClock::default()), known }
    }

    fn has_place(&self, who: &Who) -> bool {
        self.known.has_place(who, MAX_TRACKED)
    }
}

/// The allowance of one kind of request; no peers push out keys.
struct Limiter {
    peers: Counter,
    wide: Counter,
    keys: Counter,
}

impl Limiter {
    fn new(quota: Quota) -> Self {
        let [peers, wide, keys] = [quota; 3].map(Counter::new);
        Self { peers, wide, keys }
    }

    /// Where somebody is counted, and as whom.
    fn place(&self, who: Who) -> (&Rate, Who) {
        let (counter, who) = match who {
            Who::Key(_) => (&self.keys, who),
            Who::Peer(line) if !self.peers.has_place(&who) => (&self.wide, Who::Wide(wide_of(line))),
            Who::Peer(_) => (&self.peers, who),
            Who::Wide(_) | Who::Others => (&self.wide, who),
        };
        let who = if counter.has_place(&who) { who } else { Who::Others };
        (&counter.rate, who)
    }

    fn sweep(&self) {
        for counter in [&self.peers, &self.wide, &self.keys] {
            counter.rate.retain_recent();
        }
    }
}

/// Counts requests against the allowances. One for the whole process.
pub struct Limits {
    read: Option<Limiter>,
    write: Option<Limiter>,
    command: Option<Limiter>,
    login: Option<Limiter>,
    /// Who has no log-in left, until when, and how that stands.
    spent: Cache<Who, (Instant, Standing)>,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limits")
    }
}

/// How the allowance stands after a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The whole allowance.
    pub limit: u32,
    /// What is left of it.
    pub remaining: u32,
    /// Seconds until it is whole again.
    pub reset_s: u64,
    /// Set = refused; seconds until one more is allowed.
    pub retry_after_s: Option<u64>,
}

impl Limits {
    /// Nothing counted yet.
    pub fn new(options: LimitOptions) -> Self {
        let limiter = |allowance: Option<Allowance>| {
            let Allowance { per_second, burst } = allowance?;
            Some(Limiter::new(Quota::per_second(per_second).allow_burst(burst)))
        };
        Self {
            read: limiter(options.read),
            write: limiter(options.write),
            command: limiter(options.command),
            login: limiter(options.login),
            spent: Cache::new(MAX_SPENT),
        }
    }

    /// Counts one request; `None` = unlimited.
    pub fn count(&self, kind: Kind, who: Who) -> Option<Standing> {
        let limiter = match kind {
            Kind::Read => &self.read,
            Kind::Write => &self.write,
            Kind::Command => &self.command,
            Kind::Login => &self.login,
        };
        let limiter = limiter.as_ref()?;
        let (rate, who) = limiter.place(who);
        let (standing, wait) = match rate.check_key(&who) {
            Ok(state) => {
                let (limit, remaining) = (state.quota().burst_size().get(), state.remaining_burst_capacity());
                let interval = state.quota().replenish_interval();
                let reset_s = whole_seconds(interval * limit.saturating_sub(remaining));
                (Standing { limit, remaining, reset_s, retry_after_s: None }, interval)
            }
            Err(refused) => {
                let wait = refused.wait_time_from(DefaultClock::default().now());
                let limit = refused.quota().burst_size().get();
                let reset_s = whole_seconds(refused.quota().burst_size_replenished_in());
                (Standing { limit, remaining: 0, reset_s, retry_after_s: Some(whole_seconds(wait).max(1)) }, wait)
            }
        };
        if kind == Kind::Login && standing.remaining == 0 {
            self.spent.insert(who, (Instant::now() + wait, standing));
        }
        Some(standing)
    }

    /// How somebody stands who has no log-in left; `None` = there is one. Counts nothing.
    pub fn spent(&self, who: Who) -> Option<Standing> {
        let limiter = self.login.as_ref()?;
        let (until, standing) = self.spent.get(&limiter.place(who).1)?;
        let wait = until.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())?;
        Some(Standing { retry_after_s: Some(whole_seconds(wait).max(1)), ..standing })
    }

    /// Forgets those whose allowance is whole again. To be called now and then.
    pub fn sweep(&self) {
        for limiter in [&self.read, &self.write, &self.command, &self.login].into_iter().flatten() {
            limiter.sweep();
        }
    }
}

fn whole_seconds(d: Duration) -> u64 {
    d.as_secs() + u64::from(d.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowance_runs_out_for_one_peer_and_kind_only() {
        let one = Some(Allowance::new(1, 2));
        let limits = Limits::new(LimitOptions { read: one, write: one, command: None, login: None });
        let peer = |n: u8| Who::peer(Some(IpAddr::from([10, 0, 0, n])));
        assert_eq!(limits.count(Kind::Read, peer(1)).unwrap().remaining, 1);
        assert_eq!(limits.count(Kind::Read, peer(1)).unwrap().retry_after_s, None);
        assert_eq!(limits.count(Kind::Read, peer(1)).unwrap().retry_after_s, Some(1));
        assert_eq!(limits.count(Kind::Read, peer(2)).unwrap().retry_after_s, None);
        assert_eq!(limits.count(Kind::Write, peer(1)).unwrap().retry_after_s, None);
        assert_eq!(limits.count(Kind::Command, peer(1)), None);
    }

    #[test]
    fn strangers_in_any_number_take_no_allowance_from_keys_nor_from_peers_that_were_there_before() {
        let some = Some(Allowance::new(1, 1000));
        let limits = Limits::new(LimitOptions { read: some, write: None, command: None, login: None });
        let key = |name: &str| Who::Key(name.to_owned());
        let peer = |n: u32| Who::peer(Some(IpAddr::V4(std::net::Ipv4Addr::from_bits(n))));
        let is_alone = |who: Who| limits.count(Kind::Read, who).unwrap().remaining >= 997;
        let most = u32::try_from(MAX_TRACKED).unwrap();
        // All of 0.1.0.0/16.
        for n in 0..most {
            limits.count(Kind::Read, peer(0x1_0000 + n));
        }
        assert!(is_alone(peer(0x1_0000)), "there before");
        assert!(is_alone(key("old")), "a key");
        for n in 0..900 {
            limits.count(Kind::Read, peer(0x5_0000 + n));
        }
        assert!(!is_alone(peer(0x5_ffff)), "newcomers of a network share one");
        assert!(is_alone(peer(0x6_0000)), "those of another have theirs");
        assert!(is_alone(peer(0x1_0000)) && is_alone(key("new")));
        let limiter = limits.read.as_ref().unwrap();
        assert_eq!((limiter.peers.rate.len(), limiter.wide.rate.len(), limiter.keys.rate.len()), (MAX_TRACKED, 2, 2));
        for n in 0..most {
            limits.count(Kind::Read, peer((n + 16) << 16));
        }
        assert!(limiter.wide.rate.len() <= MAX_TRACKED + 1, "{}", limiter.wide.rate.len());
    }

    #[test]
    fn who_has_no_log_in_left_is_known_without_another_count() {
        let one = Some(Allowance::new(1, 2));
        let limits = Limits::new(LimitOptions { read: one, write: one, command: one, login: one });
        let peer = |n: u8| Who::peer(Some(IpAddr::from([10, 0, 0, n])));
        for kind in [Kind::Read, Kind::Write, Kind::Command] {
            limits.count(kind, peer(1));
            limits.count(kind, peer(1));
        }
        assert_eq!(limits.count(Kind::Login, peer(1)).unwrap().remaining, 1);
        assert_eq!(limits.spent(peer(1)), None);
        assert_eq!(limits.count(Kind::Login, peer(1)).unwrap().remaining, 0);
        let spent = limits.spent(peer(1)).unwrap();
        assert_eq!((spent.limit, spent.remaining, spent.retry_after_s), (2, 0, Some(1)));
        assert_eq!(limits.spent(peer(2)), None);
        let unlimited = Limits::new(LimitOptions { read: one, write: one, command: one, login: None });
        assert_eq!((unlimited.count(Kind::Login, peer(1)), unlimited.spent(peer(1))), (None, None));
    }
}
