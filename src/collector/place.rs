//! Where the collector goes on reading: after a start, or when a database that was away at the start is there.

use crate::domain::{DeviceId, DeviceState};
use crate::journal::{Journal, Offset};
use crate::store::{Batch, Error, Store};

/// Where to go on, and whose presence to watch.
pub struct Place {
    pub start: Offset,
    pub online: Vec<(DeviceId, DeviceState)>,
}

/// The store's checkpoint, or the journal's beginning where the two do not fit together (a restored or a new database): what
/// is read twice is stored once. `head` is where the journal ended when this process began: nothing has been stored since, so
/// a checkpoint beyond it is another journal's, also when this one has grown past it meanwhile. Such a checkpoint is set
/// right before anything is let go of by it.
pub fn find(store: &dyn Store, journal: &Journal, head: Offset) -> Result<Place, Error> {
    let status = journal.status();
    let start = match store.checkpoint()?.map(Offset) {
        Some(at) if (status.first..=head).contains(&at) => at,
        Some(at) => {
            tracing::error!(
                checkpoint = at.0,
                first = status.first.0,
                head = head.0,
                "the database does not fit the journal (was an older one restored?): reading the journal from its \
                 beginning; what was trimmed before is in the archive only"
            );
            store.commit(&Batch { checkpoint: Some(status.first.0), ..Batch::default() })?;
            status.first
        }
        None => status.first,
    };
    Ok(Place { start, online: store.online_devices()? })
}
