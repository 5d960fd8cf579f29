//! The part of the fake store that is real: notices of alerts on their way out.

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
