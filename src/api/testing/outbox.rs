//! The part of the fake store that is real: notices of alerts on their way out, and rollups (of nothing).

use super::FakeStore;
use crate::domain::Timestamp;
use crate::store::*;

impl Outbox for FakeStore {
    fn accept_notices(&self, notices: &[Notice], room: u64) -> Result<Outcome<usize>, Error> {
        drop(self.answer()?);
        self.real().accept_notices(notices, room)
    }
    fn claim_notice(&self, node: &str, now: Timestamp, until: Timestamp) -> Result<Option<Due>, Error> {
        self.real().claim_notice(node, now, until)
    }
    fn settle_notice(&self, id: i64, node: &str, end: &Settlement) -> Result<bool, Error> {
        self.real().settle_notice(id, node, end)
    }
    fn adopt_notices(&self, rows: &[OutboxRow]) -> Result<(), Error> {
        self.real().adopt_notices(rows)
    }
    fn outbox(&self, filter: &OutboxFilter, page: Page) -> Result<Listing<OutboxRow>, Error> {
        self.real().outbox(filter, page)
    }
    fn retry_notice(&self, id: i64, now: Timestamp) -> Result<Option<Outcome<OutboxRow>>, Error> {
        self.real().retry_notice(id, now)
    }
    fn outbox_figures(&self) -> Result<OutboxFigures, Error> {
        self.real().outbox_figures()
    }
    fn trim_outbox(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        self.real().trim_outbox(before, limit)
    }
}

/// Nothing is rolled up here: answers come from samples.
impl Rollups for FakeStore {
    fn rollups(
        &self,
        _: &crate::domain::DeviceId,
        _: i16,
        _: Option<&[String]>,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<RollupPage, Error> {
        Ok(RollupPage::none())
    }
    fn finish_hours(&self, until: Timestamp) -> Result<(), Error> {
        self.real().finish_hours(until)
    }
    fn rollup_work(&self, limit: usize) -> Result<Vec<RollupWork>, Error> {
        self.real().rollup_work(limit)
    }
    fn roll_up(&self, rolled: &[Rolled]) -> Result<usize, Error> {
        self.real().roll_up(rolled)
    }
    fn trim_rollups(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        self.real().trim_rollups(before, limit)
    }
    fn rollup_figures(&self) -> Result<RollupFigures, Error> {
        self.real().rollup_figures()
    }
}
