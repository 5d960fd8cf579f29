//! Every received message, exact bytes, as Parquet objects. (to be written; the signatures are fixed)

use crate::domain::{DeviceId, Timestamp};

/// A received message as shown in a listing.
#[derive(Clone, PartialEq, Debug)]
pub struct RawEntry {
    /// `{device_id}/{category}/{time}.json`; unique: a further message of the same microsecond gets `-N` before `.json`.
    pub filename: String,
    /// Bytes of the payload.
    pub size: u64,
    /// When it was received.
    pub last_modified: Timestamp,
}

/// The archive failed.
#[derive(Debug, thiserror::Error)]
#[error("to be written")]
pub struct Error;

/// Reads the archive and the journal's not yet archived tail as one list. Clones share it.
#[derive(Clone, Debug)]
pub struct Reader;

impl Reader {
    /// The newest `limit` messages of a device, newest first; only those whose category is `category` if given.
    pub async fn list(
        &self,
        _device: &DeviceId,
        _category: Option<&str>,
        _limit: usize,
    ) -> Result<Vec<RawEntry>, Error> {
        unimplemented!()
    }
    /// The exact bytes of a message named by a listing (content type, payload); `None` = no such message.
    pub async fn read(&self, _device: &DeviceId, _filename: &str) -> Result<Option<(String, Vec<u8>)>, Error> {
        unimplemented!()
    }
}
