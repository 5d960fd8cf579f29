//! Another part of the fake store that is real: alert rules.

use super::FakeStore;
use crate::domain::Timestamp;
use crate::domain::rule::{RuleId, RuleSet};
use crate::store::*;

impl Rules for FakeStore {
    fn create_rule(&self, new: &RuleText, by: &str, now: Timestamp) -> Result<RuleOutcome, Error> {
        drop(self.answer()?);
        self.real().create_rule(new, by, now)
    }
    fn rule(&self, id: RuleId) -> Result<Option<AlertRule>, Error> {
        self.real().rule(id)
    }
    fn rules(&self, filter: &RuleFilter, page: Page) -> Result<Listing<AlertRule>, Error> {
        drop(self.answer()?);
        self.real().rules(filter, page)
    }
    fn replace_rule(
        &self,
        id: RuleId,
        text: &RuleText,
        expected: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<RuleOutcome>, Error> {
        self.real().replace_rule(id, text, expected, now)
    }
    fn delete_rule(&self, id: RuleId, expected: Option<i64>, now: Timestamp) -> Result<Option<RuleOutcome>, Error> {
        self.real().delete_rule(id, expected, now)
    }
    fn rules_revision(&self) -> Result<i64, Error> {
        self.real().rules_revision()
    }
    fn rule_set(&self) -> Result<(RuleSet, u64), Error> {
        self.real().rule_set()
    }
}
