//! Who may come in, and when: connections in all and of one address, and how many may log in a second.
//!
//! Invariants: what is full refuses at once; too many at once are let in one after the other, first come, first served,
//! so that a fleet that comes back as one is served and does not try again; every count goes back when its [`Permit`] is
//! dropped. Bounded: a count an address that has a connection, a rate for [`MAX_TRACKED`] addresses. Whoever has one keeps it; beyond
//! that the newcomers share one a network, and when these are too many as well, one for all. Knows no sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::{Options, Shared};
use crate::domain::{NoPlace, Places, Tracked, line_of, wide_of};

/// Most addresses, and networks, whose rate is told apart.
const MAX_TRACKED: usize = 16_384;

/// How often addresses that have been quiet are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Whose rate those share that are not told apart.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// So many at once, refilled at a rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Refill.
    pub per_second: NonZeroU32,
    /// How many at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `None` where `per_second` is 0: no limit. A burst of 0 counts as one.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        NonZeroU32::new(per_second).map(|per_second| Self { per_second, burst })
    }

    const fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// Why a connection is closed at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    /// Too many connections.
    Connections,
    /// Too many connections of this address.
    Address,
    /// This address connects too often.
    AddressRate,
}

/// A rate of each, and who has one.
struct Counter {
    rate: RateLimiter<IpAddr, Tracked<IpAddr>, DefaultClock>,
    known: Tracked<IpAddr>,
}

impl Counter {
    fn new(quota: Quota) -> Self {
        let known = Tracked::default();
        Self { rate: RateLimiter::new(quota, known.clone(), DefaultClock::default()), known }
    }

    fn has_place(&self, one: IpAddr) -> bool {
        self.known.has_place(&one, MAX_TRACKED)
    }

    fn sweep(&self) {
        self.rate.retain_recent();
        self.rate.shrink_to_fit();
    }
}

/// How often each address may connect.
struct AddressRate {
    lines: Counter,
    /// Of newcomers, where there are too many addresses.
    wide: Counter,
}

impl AddressRate {
    fn new(rate: Rate) -> Self {
        Self { lines: Counter::new(rate.quota()), wide: Counter::new(rate.quota()) }
    }

    fn is_within(&self, line: IpAddr) -> bool {
        if self.lines.has_place(line) {
            return self.lines.rate.check_key(&line).is_ok();
        }
        let wide = wide_of(line);
        let who = if self.wide.has_place(wide) { wide } else { OTHERS };
        self.wide.rate.check_key(&who).is_ok()
    }

    fn sweep(&self) {
        self.lines.sweep();
        self.wide.sweep();
    }
}

/// See the module.
pub(super) struct Gate {
    places: Mutex<Places<IpAddr>>,
    address_rate: Option<AddressRate>,
    rate: Option<DefaultDirectRateLimiter>,
    /// Whose turn it is; waiters are served in order.
    turn: tokio::sync::Mutex<()>,
}

/// A place inside, given back when dropped.
pub(super) struct Permit {
    gate: Arc<Gate>,
    peer: IpAddr,
}

impl Gate {
    pub(super) fn new(options: &Options) -> Arc<Self> {
        Arc::new(Self {
            places: Mutex::new(Places::new(options.max_connections, options.max_connections_per_address)),
            address_rate: options.address_connect_rate.map(AddressRate::new),
            rate: options.connect_rate.map(|rate| RateLimiter::direct(rate.quota())),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Takes a place for a connection from `peer`.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Result<Permit, Full> {
        if self.address_rate.as_ref().is_some_and(|rate| !rate.is_within(line_of(peer))) {
            return Err(Full::AddressRate);
        }
        self.places().enter(line_of(peer)).map_err(|none| match none {
            NoPlace::Any => Full::Connections,
            NoPlace::OfOne => Full::Address,
        })?;
        Ok(Permit { gate: Arc::clone(self), peer })
    }

    /// Waits until one more may log in. `true` = it had to wait.
    pub(super) async fn wait_turn(&self) -> bool {
        let Some(rate) = &self.rate else { return false };
        if let Ok(_turn) = self.turn.try_lock()
            && rate.check().is_ok()
        {
            return false;
        }
        let _turn = self.turn.lock().await;
        while let Err(early) = rate.check() {
            tokio::time::sleep(early.wait_time_from(DefaultClock::default().now())).await;
        }
        true
    }

    /// Forgets the rates of addresses that have been quiet.
    fn sweep(&self) {
        if let Some(rate) = &self.address_rate {
            rate.sweep();
        }
    }

    fn places(&self) -> MutexGuard<'_, Places<IpAddr>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.places().leave(line_of(self.peer));
    }
}

/// Sweeps now and then until the broker stops.
pub(super) async fn sweep(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    while !shared.is_stopping() {
        tokio::select! {
            _ = stop.wait_for(|stops| *stops) => return,
            () = tokio::time::sleep(SWEEP_EVERY) => shared.gate.sweep(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(options: Options) -> Arc<Gate> {
        Gate::new(&options)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn full(gate: &Arc<Gate>, peer: &str) -> Option<Full> {
        gate.enter(address(peer)).err()
    }

    #[test]
    fn a_place_is_free_again_when_its_permit_is_dropped() {
        let gate = gate(Options { max_connections: 3, max_connections_per_address: 2, ..Options::default() });
        let mut places: Vec<_> = (0..2).map(|_| gate.enter(address("10.0.0.1")).unwrap()).collect();
        assert_eq!(full(&gate, "10.0.0.1"), Some(Full::Address));
        places.push(gate.enter(address("10.0.0.2")).unwrap());
        assert_eq!(full(&gate, "10.0.0.3"), Some(Full::Connections));
        drop(places);
        assert_eq!((full(&gate, "10.0.0.1"), gate.places().taken()), (None, 0));
    }

    #[test]
    fn addresses_of_one_line_share_its_places() {
        let gate = gate(Options { max_connections: 100, max_connections_per_address: 2, ..Options::default() });
        let places = ["2001:db8::1", "2001:db8::2"].map(|peer| gate.enter(address(peer)).unwrap());
        assert_eq!(full(&gate, "2001:db8::ff:2"), Some(Full::Address), "the same /56");
        assert_eq!([full(&gate, "2001:db8:0:100::1"), full(&gate, "10.0.0.1")], [None, None]);
        drop(places);
        assert_eq!(full(&gate, "2001:db8::ff:2"), None);
    }

    #[test]
    fn an_address_that_connects_too_often_is_refused_alone() {
        let gate = gate(Options { address_connect_rate: Rate::new(1, 2), ..Options::default() });
        assert_eq!([(); 3].map(|()| full(&gate, "10.0.0.1")), [None, None, Some(Full::AddressRate)]);
        assert_eq!(full(&gate, "10.0.0.2"), None);
    }

    #[test]
    fn addresses_beyond_the_tracked_ones_share_a_rate_a_network_and_take_none_from_those_there_before() {
        let gate = gate(Options { address_connect_rate: Rate::new(1, 1000), ..Options::default() });
        let rate = gate.address_rate.as_ref().unwrap();
        let at = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
        let most = u32::try_from(MAX_TRACKED).unwrap();
        (0..most).for_each(|n| assert!(rate.is_within(at(0x1_0000 + n))));
        let newcomers = (0..3000).filter(|n| rate.is_within(at(0x5_0000 + n))).count();
        assert!((1000..2000).contains(&newcomers), "they share one: {newcomers}");
        assert!(rate.is_within(at(0x1_0000)), "there before");
        assert!(rate.is_within(at(0x6_0000)), "another network's");
        for n in 0..most + 100 {
            rate.is_within(at((n + 16) << 16));
        }
        let tracked = (rate.lines.rate.len(), rate.wide.rate.len());
        assert!(tracked.0 <= MAX_TRACKED && tracked.1 <= MAX_TRACKED + 1, "{tracked:?}");
    }

    #[test]
    fn addresses_that_have_been_quiet_are_forgotten() {
        let gate = gate(Options { address_connect_rate: Rate::new(1000, 1), ..Options::default() });
        let rate = gate.address_rate.as_ref().unwrap();
        for n in 0..u32::try_from(MAX_TRACKED + 100).unwrap() {
            rate.is_within(IpAddr::V4(Ipv4Addr::from_bits(n)));
        }
        while !(rate.lines.rate.is_empty() && rate.wide.rate.is_empty()) {
            std::thread::yield_now(); // an allowance of one is whole again after a millisecond
            gate.sweep();
        }
    }

    #[tokio::test]
    async fn too_many_at_once_are_let_in_one_after_the_other() {
        let gate = gate(Options { connect_rate: Rate::new(100, 5), ..Options::default() });
        let start = std::time::Instant::now();
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiters = (0..25).map(|n| {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            async move {
                let waited = gate.wait_turn().await;
                order.lock().unwrap().push(n);
                waited
            }
        });
        let waited = futures_util::future::join_all(waiters).await;
        assert_eq!(waited.iter().filter(|waited| !**waited).count(), 5, "the burst goes through");
        assert!(start.elapsed() >= Duration::from_millis(190), "20 more at 100/s: {:?}", start.elapsed());
        assert!(order.lock().unwrap().is_sorted(), "first come, first served");
    }
}
