//! The devices that have spoken through a source, and when each did last.
//!
//! Invariant: never more than `max`; the ones silent for longest go first.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::domain::DeviceId;

/// See the module.
pub(super) struct Seen {
    devices: HashMap<DeviceId, Instant>,
    max: usize,
}

impl Seen {
    pub(super) fn new(max: usize) -> Self {
        Self { devices: HashMap::new(), max: max.max(1) }
    }

    /// A device has spoken; it, if it was not known.
    pub(super) fn hear(&mut self, device: &str, now: Instant) -> Option<DeviceId> {
        if let Some(at) = self.devices.get_mut(device) {
            *at = now;
            return None;
        }
        let device = DeviceId::parse(device)?;
        self.devices.insert(device.clone(), now);
        Some(device)
    }

    /// Takes out those silent for longest when there are too many: an eighth at a time, so that it is rarely done.
    pub(super) fn crowd_out(&mut self) -> Vec<DeviceId> {
        if self.devices.len() <= self.max {
            return Vec::new();
        }
        let keep = self.max - self.max / 8;
        let mut all: Vec<_> = self.devices.drain().collect();
        all.select_nth_unstable_by_key(keep - 1, |(_, at)| std::cmp::Reverse(*at));
        let out = all.split_off(keep);
        self.devices.extend(all);
        out.into_iter().map(|(device, _)| device).collect()
    }

    pub(super) fn forget(&mut self, device: &DeviceId) -> bool {
        self.devices.remove(device).is_some()
    }

    /// Takes out all.
    pub(super) fn clear(&mut self) -> Vec<DeviceId> {
        std::mem::take(&mut self.devices).into_keys().collect()
    }

    /// When it spoke last.
    pub(super) fn last_heard(&self, device: &DeviceId) -> Option<Instant> {
        self.devices.get(device).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_silent_ones_make_room_and_the_map_keeps_its_bound() {
        let (mut seen, start) = (Seen::new(16), Instant::now());
        let at = |n: u64| start + Duration::from_secs(n);
        let name = |n: u64| format!("m{n}");
        for n in 0..16 {
            assert!(seen.hear(&name(n), at(n)).is_some());
        }
        assert!(seen.hear(&name(0), at(20)).is_none(), "known");
        assert!(seen.crowd_out().is_empty());
        assert!(seen.hear(&name(16), at(21)).is_some());
        let mut out = seen.crowd_out();
        out.sort();
        assert_eq!(out, ["m1", "m2", "m3"].map(|id| DeviceId::parse(id).unwrap()));
        assert_eq!(seen.len(), 14);
        assert!(seen.last_heard(&DeviceId::parse("m0").unwrap()).is_some(), "heard again since");
        assert!(seen.hear("not/a device", at(22)).is_none());
        assert_eq!(seen.clear().len(), 14);
    }

    #[test]
    fn a_bound_of_one_holds() {
        let mut seen = Seen::new(0);
        let now = Instant::now();
        seen.hear("m1", now);
        seen.hear("m2", now + Duration::from_secs(1));
        assert_eq!(seen.crowd_out(), [DeviceId::parse("m1").unwrap()]);
        assert_eq!(seen.len(), 1);
    }
}
