//! Where the collector goes on reading: after a start, when a database that was away at the start is there, and when one does
//! not stand where it was left.

use crate::domain::{DeviceId, DeviceState};
use crate::journal::{Journal, Offset};
use crate::store::{Batch, Error, Store};

/// Where to go on, and whose presence to watch.
pub struct Place {
    pub start: Offset,
    pub online: Vec<(DeviceId, DeviceState)>,
}

/// The store's checkpoint, or the journal's beginning where the two do not fit together (a restored or a new database): what
/// is read twice is stored once. `head` is the end of what can be stored: at first where the journal ended when this process
/// began, later where the checkpoint was left. A checkpoint beyond it is another journal's, also when this one has grown past it
/// meanwhile. Such a checkpoint is set right before anything is let go of by it, and a new database gets its first.
pub fn find(store: &dyn Store, journal: &Journal, head: Offset) -> Result<Place, Error> {
    let status = journal.status();
    let start = match store.checkpoint()?.map(Offset) {
        Some(at) if (status.first..=head).contains(&at) => at,
        other => {
            if let Some(at) = other {
                tracing::error!(
                    checkpoint = at.0,
                    first = status.first.0,
                    head = head.0,
                    "the database does not fit the journal (was an older one restored?): reading the journal from its \
                     beginning; what was trimmed before is in the archive only"
                );
            }
            store.commit(&Batch { checkpoint: Some(status.first.0), ..Batch::default() })?;
            status.first
        }
    };
    Ok(Place { start, online: store.online_devices()? })
}

#[cfg(feature = "sqlite")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::journal::{Entry, Flags, Options};
    use crate::store;

    #[tokio::test]
    async fn a_checkpoint_of_another_journal_is_set_right_also_when_this_one_has_grown_past_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::open(&format!("sqlite://{}", dir.path().join("a.db").display())).unwrap();
        let set = |at: u64| store.commit(&Batch { checkpoint: Some(at), ..Batch::default() }).unwrap();
        let options = Options {
            dir: dir.path().join("journal"),
            node_id: uuid::Uuid::nil(),
            segment_bytes: 1 << 20,
            max_bytes: 1 << 30,
            queue_bytes: 1 << 20,
        };
        let (journal, _) = Journal::open(options).unwrap();
        let head = journal.status().head;
        let received_at = Timestamp(0);
        let flags = Flags::default();
        let entry = Entry { received_at, topic: "t", identity: "", content_type: "", flags, payload: b"x" };
        let end = journal.append(&[entry; 10]).await.unwrap();
        journal.wait_durable(end).await.unwrap();
        set(5);
        assert_eq!(find(&*store, &journal, head).unwrap().start, Offset(0), "it was at 0 when the process began");
        assert_eq!(store.checkpoint().unwrap(), Some(0), "so that nothing is let go of by it");
        set(5);
        assert_eq!(find(&*store, &journal, end).unwrap().start, Offset(5), "its own");
    }
}
