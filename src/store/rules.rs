//! Alert rules, and the alerts that come and go by them.
//!
//! Invariants: every change of the rules has a number of its own, the revision, which only grows: a rule is named by that of
//! its making, its version and its generation are those of its last change, and of the last one that made what it had found
//! void. An alert is raised only while the rule's generation is the one that found it, whoever changes the rule meanwhile; a
//! change that voids it clears it in the same transaction. Of a rule and a device one alert is open at most.

use super::{Error, Listing, Page};
use crate::domain::rule::{ClearReason, Condition, RuleId, RuleSet, Selector, Severity};
use crate::domain::{DeviceId, Quantity, Timestamp};

/// Part of the [`Store`](super::Store).
pub trait Rules {
    /// Adds a rule.
    fn create_rule(&self, new: &RuleText, by: &str, now: Timestamp) -> Result<RuleOutcome, Error>;
    /// One rule.
    fn rule(&self, id: RuleId) -> Result<Option<AlertRule>, Error>;
    /// Rules that match, newest first.
    fn rules(&self, filter: &RuleFilter, page: Page) -> Result<Listing<AlertRule>, Error>;
    /// Puts another text in a rule's place. Unless it judges and selects as before, what it had found is void and its open
    /// alerts are cleared. `expected`: [`RuleOutcome::Stale`] when the version has moved on. `None` = no such rule.
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
