//! What a simulation did: counters shared by all meters, and the report made of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use super::wire::Kind;

/// Messages of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Messages the meters made (identities; faults and number of brokers do not change it).
    pub made: u64,
    /// Publishes handed to a connection: copies for several brokers and `dup` count, dropped ones do not.
    pub sent: u64,
    /// Publishes a broker acknowledged (PUBACK or PUBCOMP).
    pub acked: u64,
}

/// Faults that really struck.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct FaultCounts {
    pub drop: u64,
    pub dup: u64,
    pub reorder: u64,
    pub reboot: u64,
    pub clock: u64,
}

/// The outcome of a run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Meters simulated.
    pub devices: u32,
    /// Real time.
    pub elapsed_s: f64,
    /// By message type.
    pub messages: BTreeMap<&'static str, Counts>,
    /// Faults that struck.
    pub faults: FaultCounts,
    /// Successful connects.
    pub connects: u64,
    /// Connections lost or refused.
    pub lost_connections: u64,
    /// Messages thrown away because a meter's buffer was full.
    pub buffer_overflow: u64,
    /// Deliveries on a command topic, repeated ones included.
    pub commands_received: u64,
    /// Power-ons after the first.
    pub reboots: u64,
}

#[derive(Default)]
pub(super) struct KindCounters {
    pub made: AtomicU64,
    pub sent: AtomicU64,
    pub acked: AtomicU64,
}

/// Shared by all meters of a run.
#[derive(Default)]
pub(super) struct Counters {
    kinds: [KindCounters; Kind::ALL.len()],
    pub drop: AtomicU64,
    pub dup: AtomicU64,
    pub reorder: AtomicU64,
    pub reboot: AtomicU64,
    pub clock: AtomicU64,
    pub connects: AtomicU64,
    pub lost_connections: AtomicU64,
    pub buffer_overflow: AtomicU64,
    pub commands: AtomicU64,
    pub reboots: AtomicU64,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counters {
    pub(super) fn kind(&self, kind: Kind) -> &KindCounters {
        &self.kinds[kind as usize]
    }

    pub(super) fn report(&self, devices: u32, elapsed: Duration) -> Report {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let counts = |kind: Kind| {
            let of = self.kind(kind);
            (kind.name(), Counts { made: get(&of.made), sent: get(&of.sent), acked: get(&of.acked) })
        };
        Report {
            devices,
            elapsed_s: elapsed.as_secs_f64(),
            messages: Kind::ALL.into_iter().map(counts).collect(),
            faults: FaultCounts {
                drop: get(&self.drop),
                dup: get(&self.dup),
                reorder: get(&self.reorder),
                reboot: get(&self.reboot),
                clock: get(&self.clock),
            },
            connects: get(&self.connects),
            lost_connections: get(&self.lost_connections),
            buffer_overflow: get(&self.buffer_overflow),
            commands_received: get(&self.commands),
            reboots: get(&self.reboots),
        }
    }
}
