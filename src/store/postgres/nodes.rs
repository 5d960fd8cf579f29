//! The nodes on this database.

use super::PostgresStore;
use super::leases;
use crate::store::{Duty, Error, Lease, Nodes};

impl Nodes for PostgresStore {
    fn is_shared(&self) -> bool {
        true
    }

    fn try_lead(&self, duty: Duty) -> Result<Option<Lease>, Error> {
        leases::try_lead(&self.connections, duty).map_err(|fault| fault.during("take a duty over"))
    }
}
