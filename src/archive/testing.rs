//! An archive without an archiver, for the tests of rooms that read it.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use super::batch::Pending;
use super::classify::classify;
use super::encode::Encoder;
use super::{Bucket, CloudOptions, Done, Reader, Upkeep, UpkeepOptions};
use crate::domain::{Clock, DeviceId, Timestamp};
use crate::journal::{Flags, Offset, Record};
use crate::observe::Board;
use crate::payload::Window;

/// Days are enough for every test.
pub(crate) const WINDOW: Window =
    Window { past: Duration::from_secs(400 * 86_400), future: Duration::from_secs(86_400) };
const NODE: uuid::Uuid = uuid::Uuid::from_u128(7);

/// A directory as an archive.
pub(crate) struct Shelf {
    pub(crate) bucket: Bucket,
    next: u64,
}

impl Shelf {
    pub(crate) fn in_dir(dir: &Path, runtime: &tokio::runtime::Runtime) -> Self {
        let url = format!("file://{}", dir.display());
        let bucket = Bucket::open(&url, &CloudOptions::default(), runtime.handle().clone()).unwrap();
        Self { bucket, next: 0 }
    }

    /// Archives telemetry as one batch.
    pub(crate) fn put(&mut self, device: &DeviceId, messages: &[(Timestamp, Vec<u8>)]) {
        let mut pending = Pending::default();
        for (received_at, payload) in messages {
            let record = Record {
                offset: Offset(self.next),
                received_at: *received_at,
                topic: &format!("iot/{device}/telemetry"),
                identity: device.as_str(),
                content_type: "application/json",
                flags: Flags::default(),
                payload,
            };
            self.next += 1;
            pending.push(&record);
        }
        let Some(batch) = pending.take(|_| None, |record| classify(record, WINDOW)) else { return };
        for part in batch.parts(&NODE.hyphenated().to_string()) {
            let (bytes, _) = Encoder::default().encode(&batch, &part, "").unwrap();
            assert!(self.bucket.put_new(&part.name.key(part.hour), bytes).unwrap());
        }
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::of_bucket(self.bucket.clone(), WINDOW)
    }

    /// One pass of upkeep, long after everything.
    pub(crate) fn look_after(&self) -> Done {
        let board = Board::new(Clock::manual(Timestamp(0)));
        let period = Duration::from_secs(1);
        let options = UpkeepOptions { node: NODE, period, compacts: true, keep: None, board };
        let (_stop, stopping) = watch::channel(false);
        Upkeep::new(options, self.bucket.clone()).pass(Timestamp(4_000_000_000_000_000), &mut None, &stopping).unwrap()
    }
}
