//! The rules that are switched on, found by what they watch; and the judgement of a datagram.
//!
//! Cost: a look-up a series of the datagram, and only where a rule watches it more.
//! Invariant: of one message a rule raises one alert of a device at most, however often its values cross the threshold.

use std::collections::{BTreeMap, HashMap};

use super::{ClearReason, Holding, Rule, RuleId};
use crate::domain::derived::Derived;
use crate::domain::metric::{Metric, Series, Telemetry};
use crate::domain::{DeviceId, DeviceState, Quantity, Timestamp};

/// The rules of one revision.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RuleSet {
    revision: i64,
    rules: BTreeMap<RuleId, Rule>,
    watching: HashMap<Quantity, Vec<RuleId>>,
}

/// Newest sample times of what is watched in a datagram, before it was taken in.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Seen(Vec<(Quantity, Option<Timestamp>)>);

/// What a datagram means for the alert of a rule and a device.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict<'a> {
    /// It is raised.
    Fire {
        /// By which rule.
        rule: &'a Rule,
        /// The value that did it.
        value: f64,
        /// When that was sampled.
        at: Timestamp,
    },
    /// It is over.
    Clear {
        /// Of which rule.
        rule: RuleId,
        /// `None` = by what was measured.
        reason: Option<ClearReason>,
    },
}

/// A sample: when, and how much.
type Sample = (Timestamp, f64);

impl RuleSet {
    /// Rules of a revision. Numbers of rules are not greater than the revision that they are of.
    pub fn new(revision: i64, rules: impl IntoIterator<Item = Rule>) -> Self {
        let rules: BTreeMap<RuleId, Rule> = rules.into_iter().map(|rule| (rule.id, rule)).collect();
        let mut watching: HashMap<Quantity, Vec<RuleId>> = HashMap::new();
        for rule in rules.values() {
            watching.entry(rule.condition.quantity.clone()).or_default().push(rule.id);
        }
        Self { revision, rules, watching }
    }

    /// Which revision it is.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// How many rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What is known of the watched quantities of a datagram of time `ts` before it is taken in ([`DeviceState::absorb`]), but
    /// after the device was heard by it ([`DeviceState::heard()`]). `is_newest` = it is the last that the device has said.
    pub fn seen(&self, state: &DeviceState, telemetry: &Telemetry, (ts, is_newest): (Timestamp, bool)) -> Seen {
        // Not the receipt of this datagram: what another node has heard since it was received may well be later.
        let is_to_come = |at: Timestamp| state.last_seen.is_some_and(|heard| at.is_ahead_of(heard));
        // The meter's clock was wrong and has been set since. A clock that is ahead and goes on so is as good as any.
        let is_wrong = |at: Timestamp| is_newest && ts < at && is_to_come(at);
        let newest = |metric: &Metric| state.latest.get(metric).map(|latest| latest.ts);
        let measured = telemetry.series.iter().map(|series| Quantity::Measured(series.metric.clone()));
        let derived = Derived::ALL.into_iter().map(Quantity::Derived);
        let watched = measured.chain(derived).filter(|quantity| self.watching.contains_key(quantity));
        let seen = watched.map(|quantity| {
            let at = match &quantity {
                Quantity::Measured(metric) => newest(metric),
                // As new as the newest of what it is derived from: nothing older was derived later.
                Quantity::Derived(_) => Derived::INPUTS.into_iter().filter_map(|k| newest(&Metric::Known(k))).max(),
            };
            (quantity, at.filter(|at| !is_wrong(*at)))
        });
        if self.is_empty() { Seen::default() } else { Seen(seen.collect()) }
    }

    /// Judges a datagram of time `ts` that the state has taken in; `seen` is what was known before. The state keeps whose
    /// condition holds.
    pub fn judge(
        &self,
        device: &DeviceId,
        state: &mut DeviceState,
        (seen, telemetry, ts): (&Seen, &Telemetry, Timestamp),
    ) -> Vec<Verdict<'_>> {
        let (is_active, device_type) = match &state.registration {
            Some(registration) => (registration.is_active, registration.device_type.clone()),
            None => return Vec::new(),
        };
        let mut verdicts = self.settle(device, &device_type, &mut state.rules);
        for (quantity, seen) in &seen.0 {
            let samples = samples_behind(*seen, quantity, telemetry, ts);
            if samples.is_empty() {
                continue;
            }
            for rule in self.watching[quantity].iter().filter_map(|id| self.rules.get(id)) {
                if !rule.selector.admits(device, &device_type) {
                    continue;
                }
                let before = state.rules.get(&rule.id).copied();
                if before.is_some_and(|holding| holding.generation > rule.generation) {
                    // Another node knows a newer rule already.
                    continue;
                }
                let (after, new) = follow(rule, before, &samples, is_active);
                verdicts.extend(new);
                match after {
                    Some(holding) => state.rules.insert(rule.id, holding),
                    None => state.rules.remove(&rule.id),
                };
            }
        }
        verdicts
    }

    /// Forgets what is void: of rules that are gone (their alerts were cleared with them), of earlier generations, and of
    /// rules that are not about this device any more.
    fn settle(
        &self,
        device: &DeviceId,
        device_type: &str,
        holdings: &mut BTreeMap<RuleId, Holding>,
    ) -> Vec<Verdict<'_>> {
        let mut verdicts = Vec::new();
        holdings.retain(|id, holding| match self.rules.get(id) {
            // One that is not known here may be newer than what is known here.
            None => id.0 > self.revision || holding.generation > self.revision,
            Some(rule) if holding.generation != rule.generation => holding.generation > rule.generation,
            Some(rule) if rule.selector.admits(device, device_type) => true,
            Some(rule) => {
                let reason = Some(ClearReason::NotSelected);
                verdicts.extend(holding.is_firing.then_some(Verdict::Clear { rule: rule.id, reason }));
                false
            }
        });
        verdicts
    }
}

/// The samples of a quantity that are newer than what was seen, in order of time.
fn samples_behind(seen: Option<Timestamp>, quantity: &Quantity, telemetry: &Telemetry, ts: Timestamp) -> Vec<Sample> {
    let at = |slot: usize| ts.plus_us(telemetry.offsets_us[slot]);
    let mut samples: Vec<Sample> = match quantity {
        Quantity::Measured(metric) => {
            let is_it = |series: &&Series| series.metric == *metric && series.is_usual();
            let values = telemetry.series.iter().find(is_it).map(|series| series.values.iter().enumerate());
            let is_value = |(_, value): &(usize, &f64)| !value.is_nan();
            values.into_iter().flatten().filter(is_value).map(|(slot, value)| (at(slot), *value)).collect()
        }
        Quantity::Derived(derived) => {
            derived.of_datagram(telemetry).map(|(slot, power)| (at(slot), power.value)).collect()
        }
    };
    samples.retain(|(at, _)| seen.is_none_or(|seen| *at > seen));
    // Stable: of equal times the later in order counts last, as it does for the newest value.
    samples.sort_by_key(|(at, _)| *at);
    samples
}

/// Goes on from what held before through new samples.
fn follow<'a>(
    rule: &'a Rule,
    before: Option<Holding>,
    samples: &[Sample],
    is_active: bool,
) -> (Option<Holding>, Vec<Verdict<'a>>) {
    let (condition, generation) = (&rule.condition, rule.generation);
    // Of a device that is switched off, or in quarantine, nothing is raised; what was is cleared.
    let mut holding = before.filter(|holding| holding.generation == generation && (is_active || holding.is_firing));
    let mut verdicts = Vec::new();
    let mut may_fire = is_active;
    for (at, value) in samples.iter().copied() {
        match holding {
            Some(Holding { is_firing: true, .. }) if condition.goes_on(value) => {}
            Some(Holding { is_firing: true, .. }) => {
                verdicts.push(Verdict::Clear { rule: rule.id, reason: None });
                // What begins again within one message waits for the next one.
                (holding, may_fire) = (None, false);
            }
            _ if !condition.begins(value) || !is_active => holding = None,
            _ => {
                // The earlier one: what it held since may have had a wrong time, still to come.
                let since = holding.map_or(at, |holding| holding.since.min(at));
                let is_firing = may_fire && condition.is_due(since, at);
                holding = Some(Holding { generation, since, is_firing });
                if is_firing {
                    verdicts.push(Verdict::Fire { rule, value, at });
                }
            }
        }
    }
    (holding, verdicts)
}
