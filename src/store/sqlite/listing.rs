//! Small things every list and row reader needs.

use crate::domain::{DeviceId, Timestamp};
use crate::store::{Listing, Page};

use super::fault::Fault;

/// A page's offset as SQL wants it.
pub(super) fn offset(page: Page) -> i64 {
    i64::try_from(page.offset).unwrap_or(i64::MAX)
}

/// A count is never negative; an impossible one reads as none.
pub(super) fn count(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// A listing of rows read one by one.
pub(super) fn of<R, T>(rows: Vec<R>, total: i64, read: impl Fn(R) -> Result<T, Fault>) -> Result<Listing<T>, Fault> {
    Ok(Listing { items: rows.into_iter().map(read).collect::<Result<_, _>>()?, total: count(total) })
}

/// Behind every device id that begins with `prefix`: ids are ASCII, and text is compared by its bytes. A range, unlike
/// LIKE, is answered from the index.
pub(super) fn end_of(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

/// A stored device id.
pub(super) fn device_id(text: &str) -> Result<DeviceId, Fault> {
    DeviceId::parse(text).ok_or(Fault::Corrupt("device id"))
}

/// A stored JSON object.
pub(super) fn object(text: &str, what: &'static str) -> Result<serde_json::Map<String, serde_json::Value>, Fault> {
    serde_json::from_str(text).map_err(|_| Fault::Corrupt(what))
}

/// A stored digest.
pub(super) fn digest(bytes: Vec<u8>) -> Result<[u8; 32], Fault> {
    bytes.try_into().map_err(|_| Fault::Corrupt("digest"))
}

/// A stored time that may be absent.
pub(super) fn time(stored: Option<i64>) -> Option<Timestamp> {
    stored.map(Timestamp)
}
