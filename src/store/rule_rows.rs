//! What stored rules mean, whatever the database: the words in their columns, which of them a list shows, and what holds of a
//! device.

use std::collections::BTreeMap;

use super::fault::Fault;
use super::{AlertRule, Listing, Page, Place, RuleFilter, RuleText, Start};
use crate::domain::rule::{ClearReason, Condition, Holding, Op, Rule, RuleId, RuleSet, Selector, Severity};
use crate::domain::{DevicePattern, Quantity, Timestamp};

impl RuleText {
    /// Why what was found by the text `before` is void; `None` = it is not.
    fn voids(&self, before: &Self) -> Option<ClearReason> {
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

impl AlertRule {
    /// A new one, by the change of that number.
    pub(in crate::store) fn made(number: i64, text: &RuleText, by: &str, now: Timestamp) -> Self {
        Self {
            id: RuleId(number),
            version: number,
            generation: number,
            text: text.clone(),
            created_at: now,
            created_by: by.to_owned(),
            updated_at: now,
        }
    }

    /// The same with another text, by the change of that number; and why what it had found is void, where it is.
    pub(in crate::store) fn put(self, number: i64, text: &RuleText, now: Timestamp) -> (Self, Option<ClearReason>) {
        let voided = text.voids(&self.text);
        let generation = voided.map_or(self.generation, |_| number);
        (Self { version: number, generation, text: text.clone(), updated_at: now, ..self }, voided)
    }
}

impl From<AlertRule> for Rule {
    fn from(stored: AlertRule) -> Self {
        let AlertRule { id, generation, text, .. } = stored;
        let RuleText { name, condition, selector, severity, message, is_enabled: _ } = text;
        Self { id, generation, name, condition, selector, severity, message }
    }
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
    (RuleSet::new(revision, on.into_iter().map(Rule::from)), off.len() as u64)
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
