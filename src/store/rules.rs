//! Alert rules, and the alerts that come and go by them.
//!
//! Invariants: every change of the rules has a number of its own, the revision, which only grows: a rule is named by that of
//! its making, its version and its generation are those of its last change, and of the last one that made what it had found
//! void. An alert is raised only while the rule's generation is the one that found it, whoever changes the rule meanwhile; a
//! change that voids it clears it in the same transaction. Of a rule and a device one alert is open at most.

use std::collections::{BTreeMap, HashMap};

use super::listing::count;
use super::{Error, Listing, Page, Place, Start};
use crate::domain::rule::{ClearReason, Condition, Holding, Op, Rule, RuleId, RuleSet, Selector, Severity};
use crate::domain::{DeviceId, DevicePattern, Quantity, Timestamp};
use crate::store::fault::Fault;

/// Part of the [`Store`](super::Store).
pub trait Rules {
    /// Adds a rule.
    fn create_rule(&self, new: &RuleText, by: &str, now: Timestamp) -> Result<RuleOutcome, Error>;
    /// One rule.
    fn rule(&self, id: RuleId) -> Result<Option<AlertRule>, Error>;
    /// Rules that match, newest first.
    fn rules(&self, filter: &RuleFilter, page: Page) -> Result<Listing<AlertRule>, Error>;
    /// Puts another text in a rule's place; what it had found before is void, unless it judges and selects as it did: then
    /// its open alerts are cleared. `expected`: [`RuleOutcome::Stale`] when the version has moved on. `None` = no such rule.
    fn replace_rule(
        &self,
        id: RuleId,
        text: &RuleText,
        expected: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<RuleOutcome>, Error>;
    /// Removes a rule, and clears its open alerts. Likewise.
    fn delete_rule(&self, id: RuleId, expected: Option<i64>, now: Timestamp) -> Result<Option<RuleOutcome>, Error>;
    /// The revision of the rules.
    fn rules_revision(&self) -> Result<i64, Error>;
    /// The rules that are switched on, and how many are switched off.
    fn rule_set(&self) -> Result<(RuleSet, u64), Error>;
}

/// What somebody says of a rule.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct RuleText {
    /// Unique.
    pub name: String,
    pub condition: Condition,
    pub selector: Selector,
    pub severity: Severity,
    pub message: Option<String>,
    pub is_enabled: bool,
}

impl RuleText {
    /// Why what was found by the text `before` is void; `None` = it is not.
    pub(in crate::store) fn voids(&self, before: &Self) -> Option<ClearReason> {
        match (before.is_enabled, self.is_enabled) {
            (true, false) => Some(ClearReason::Disabled),
            _ if before.is_enabled == self.is_enabled
                && before.condition == self.condition
                && before.selector == self.selector =>
            {
                None
            }
            _ => Some(ClearReason::Changed),
        }
    }
}

/// A rule as stored.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct AlertRule {
    pub id: RuleId,
    /// Grows with every change: the ETag.
    pub version: i64,
    /// Grows with every change that makes void what was found.
    pub generation: i64,
    pub text: RuleText,
    pub created_at: Timestamp,
    pub created_by: String,
    pub updated_at: Timestamp,
}

impl From<AlertRule> for Rule {
    fn from(stored: AlertRule) -> Self {
        let AlertRule { id, generation, text, .. } = stored;
        let RuleText { name, condition, selector, severity, message, is_enabled: _ } = text;
        Self { id, generation, name, condition, selector, severity, message }
    }
}

/// What came of a change.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::large_enum_variant, reason = "made a few times a day")]
pub enum RuleOutcome {
    /// Done; the rule as it is, or was.
    Done(AlertRule),
    /// Another rule has that name.
    NameTaken,
    /// There are [`MAX_RULES`](crate::domain::rule::MAX_RULES) already.
    TooMany,
    /// It is of another version.
    Stale,
}

/// Which rules. All conditions must hold.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct RuleFilter {
    pub is_enabled: Option<bool>,
    pub quantity: Option<Quantity>,
    pub severity: Option<Severity>,
    /// All that the rule can mean begins with this.
    pub device_prefix: Option<String>,
}

impl RuleFilter {
    fn admits(&self, rule: &AlertRule) -> bool {
        let text = &rule.text;
        self.is_enabled.is_none_or(|wanted| text.is_enabled == wanted)
            && self.quantity.as_ref().is_none_or(|wanted| text.condition.quantity == *wanted)
            && self.severity.is_none_or(|wanted| text.severity == wanted)
            && self.device_prefix.as_deref().is_none_or(|prefix| text.selector.lies_within(prefix))
    }
}

/// A change of the one open alert of a rule and a device.
#[derive(Clone, PartialEq, Debug)]
pub enum RuleAlert {
    /// Opens one, unless one is open, or the rule is of another generation by now.
    Fire {
        /// The device.
        device: DeviceId,
        /// The rule.
        rule: RuleId,
        /// The generation of it that found it.
        generation: i64,
        /// The rule's name.
        name: String,
        /// The rule's.
        severity: Severity,
        /// For people.
        message: String,
        /// When.
        at: Timestamp,
    },
    /// Closes the open one, if any.
    Clear {
        /// The device.
        device: DeviceId,
        /// The rule.
        rule: RuleId,
        /// Why, unless its condition has gone.
        reason: Option<ClearReason>,
        /// When.
        at: Timestamp,
    },
}

impl RuleAlert {
    /// Which alert it is about, and whether it opens one.
    pub(in crate::store) fn key(&self) -> ((&DeviceId, RuleId), bool) {
        match self {
            Self::Fire { device, rule, .. } => ((device, *rule), true),
            Self::Clear { device, rule, .. } => ((device, *rule), false),
        }
    }
}

/// The page of a list of all rules, which are few, newest first.
pub(in crate::store) fn page_of(all: Vec<AlertRule>, filter: &RuleFilter, page: Page) -> Listing<AlertRule> {
    let mut all: Vec<AlertRule> = all.into_iter().filter(|rule| filter.admits(rule)).collect();
    all.sort_unstable_by_key(|rule| std::cmp::Reverse(rule.id));
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    match page.start {
        Start::Offset(offset) => {
            let total = Some(all.len() as u64);
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            Listing { items: all.into_iter().skip(offset).take(limit).collect(), total, next: None }
        }
        Start::Behind(place) => {
            all.retain(|rule| place.is_none_or(|Place(id, _)| rule.id.0 < id));
            let has_more = all.len() > limit;
            all.truncate(limit);
            let next = all.last().filter(|_| has_more).map(|rule| Place(rule.id.0, 0));
            Listing { items: all, total: None, next }
        }
    }
}

/// The set of stored rules.
pub(in crate::store) fn set_of(revision: i64, all: Vec<AlertRule>) -> (RuleSet, u64) {
    let (on, off): (Vec<_>, Vec<_>) = all.into_iter().partition(|rule| rule.text.is_enabled);
    (RuleSet::new(revision, on.into_iter().map(Rule::from)), count(i64::try_from(off.len()).unwrap_or(i64::MAX)))
}

const CORRUPT: Fault = Fault::Corrupt("alert rule");

/// The words of a stored rule, as both databases keep them.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::store) struct Words {
    pub(in crate::store) name: String,
    pub(in crate::store) metric: String,
    pub(in crate::store) op: String,
    pub(in crate::store) threshold: f64,
    pub(in crate::store) clear_threshold: Option<f64>,
    pub(in crate::store) for_s: i64,
    pub(in crate::store) devices: Option<String>,
    pub(in crate::store) device_type: Option<String>,
    pub(in crate::store) severity: String,
    pub(in crate::store) message: Option<String>,
    pub(in crate::store) is_enabled: bool,
}

impl Words {
    pub(in crate::store) fn of(text: &RuleText) -> Self {
        let RuleText { name, condition, selector, severity, message, is_enabled } = text.clone();
        Self {
            name,
            metric: condition.quantity.name().to_owned(),
            op: condition.op.name().to_owned(),
            threshold: condition.threshold,
            clear_threshold: condition.clear,
            for_s: i64::from(condition.for_s),
            devices: selector.devices.map(|pattern| pattern.as_str().to_owned()),
            device_type: selector.device_type,
            severity: severity.name().to_owned(),
            message,
            is_enabled,
        }
    }

    pub(in crate::store) fn read(self) -> Result<RuleText, Fault> {
        let devices = self.devices.map(|text| DevicePattern::parse(&text).ok_or(CORRUPT)).transpose()?;
        Ok(RuleText {
            name: self.name,
            condition: Condition {
                quantity: Quantity::parse(&self.metric).ok_or(CORRUPT)?,
                op: Op::from_name(&self.op).ok_or(CORRUPT)?,
                threshold: self.threshold,
                clear: self.clear_threshold,
                for_s: u32::try_from(self.for_s).map_err(|_| CORRUPT)?,
            },
            selector: Selector { devices, device_type: self.device_type },
            severity: Severity::from_name(&self.severity).ok_or(CORRUPT)?,
            message: self.message,
            is_enabled: self.is_enabled,
        })
    }
}

/// What holds of a device, by rule: `{"7": [generation, since in µs, is firing]}`; `None` = nothing.
pub(in crate::store) fn holdings_text(holdings: &BTreeMap<RuleId, Holding>) -> Option<String> {
    let all: BTreeMap<i64, _> = holdings.iter().map(|(id, h)| (id.0, (h.generation, h.since.0, h.is_firing))).collect();
    (!all.is_empty()).then(|| serde_json::to_string(&all).expect("numbers always fit JSON"))
}

/// The inverse of [`holdings_text`].
pub(in crate::store) fn holdings(text: &str) -> Result<BTreeMap<RuleId, Holding>, Fault> {
    let all: BTreeMap<i64, (i64, i64, bool)> =
        serde_json::from_str(text).map_err(|_| Fault::Corrupt("device state"))?;
    let read =
        |(id, (generation, since, is_firing))| (RuleId(id), Holding { generation, since: Timestamp(since), is_firing });
    Ok(all.into_iter().map(read).collect())
}

/// What is said of one thing, turn by turn: of several changes in a row to the same state the first counts, and a turn has
/// every thing once. `key`: which thing, and to which state.
pub(in crate::store) fn turns<'a, C, K: std::hash::Hash + Eq>(
    changes: &'a [C],
    key: impl Fn(&'a C) -> (K, bool),
) -> Vec<Vec<&'a C>> {
    let mut turns: Vec<Vec<&C>> = Vec::new();
    let mut last: HashMap<K, (usize, bool)> = HashMap::new();
    for change in changes {
        let (thing, state) = key(change);
        let turn = match last.get(&thing) {
            Some((_, before)) if *before == state => continue,
            Some((turn, _)) => turn + 1,
            None => 0,
        };
        last.insert(thing, (turn, state));
        if turns.len() == turn {
            turns.push(Vec::new());
        }
        turns[turn].push(change);
    }
    turns
}
