//! The alert rules that are in force, kept as they are in the store.
//!
//! Who changes them through this process says so, and what is received after that is judged by them as they are then. Their
//! revision is asked for besides, every few seconds: another node may have changed them, or a request that ended before it could
//! say so. Not in every transaction, for a node that judges by rules of a moment ago does no harm. The store raises no alert by
//! a rule that has changed, and what such a node remembers of it is void as soon as it knows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Collector, Error};
use crate::domain::rule::RuleSet;
use crate::observe::metrics;

/// How often it is asked whether they have changed.
const PERIOD: Duration = Duration::from_secs(2);

/// The rules, and when they were looked at.
#[derive(Debug, Default)]
pub(super) struct Current {
    set: Arc<RuleSet>,
    looked: Option<Instant>,
}

impl Collector {
    /// The rules to judge by now.
    pub(super) fn current_rules(&mut self) -> Result<Arc<RuleSet>, Error> {
        let is_told = self.inbox.rules_changed.swap(false, Ordering::Acquire);
        match self.rules.looked {
            None => self.read_rules()?,
            Some(_) if is_told => self.read_rules()?,
            Some(last) if last.elapsed() >= PERIOD => {
                let revision = self.retry("look for changed alert rules", |c| c.store.rules_revision())?;
                if revision == self.rules.set.revision() {
                    self.rules.looked = Some(Instant::now());
                } else {
                    self.read_rules()?;
                }
            }
            Some(_) => {}
        }
        Ok(Arc::clone(&self.rules.set))
    }

    fn read_rules(&mut self) -> Result<(), Error> {
        let looked = Instant::now();
        let (set, off) = self.retry("read the alert rules", |c| c.store.rule_set())?;
        metrics::RULES.set(&[("state", "enabled")], set.len() as f64);
        metrics::RULES.set(&[("state", "disabled")], off as f64);
        self.rules = Current { set: Arc::new(set), looked: Some(looked) };
        Ok(())
    }
}
