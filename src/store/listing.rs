//! Small things every list and row reader needs, whatever the database.

use crate::domain::DeviceId;
#[cfg(feature = "sqlite")]
use crate::domain::Timestamp;
use crate::store::{Listing, Page, Place, Start};

use super::fault::Fault;

/// A page as SQL wants it.
pub(in crate::store) struct Part {
    /// Rows to ask for: where nothing is counted one more than shown, which tells whether there are more.
    pub(in crate::store) limit: i64,
    pub(in crate::store) offset: i64,
    /// Only rows behind this place.
    pub(in crate::store) behind: Option<Place>,
    /// How many rows match in all, where that is to be said.
    total: Option<i64>,
}

impl Part {
    /// `count` is asked only where all are counted.
    pub(in crate::store) fn new<E>(page: Page, count: impl FnOnce() -> Result<i64, E>) -> Result<Self, E> {
        let limit = i64::from(page.limit);
        Ok(match page.start {
            Start::Offset(offset) => {
                let offset = i64::try_from(offset).unwrap_or(i64::MAX);
                Self { limit, offset, behind: None, total: Some(count()?) }
            }
            Start::Behind(behind) => Self { limit: limit + 1, offset: 0, behind, total: None },
        })
    }

    /// A listing of rows read one by one.
    pub(in crate::store) fn listing<R, T>(
        self,
        mut rows: Vec<R>,
        place: impl Fn(&R) -> Place,
        read: impl FnMut(R) -> Result<T, Fault>,
    ) -> Result<Listing<T>, Fault> {
        let is_counted = self.total.is_some();
        let has_more = !is_counted && i64::try_from(rows.len()).is_ok_and(|len| len == self.limit);
        if has_more {
            rows.pop();
        }
        let next = rows.last().filter(|_| has_more).map(place);
        let items = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Listing { items, total: self.total.map(count), next })
    }
}

/// A count is never negative; an impossible one reads as none.
pub(in crate::store) fn count(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// Behind every device id that begins with `prefix`: ids are ASCII, and text is compared by its bytes. A range, unlike
/// LIKE, is answered from the index.
pub(in crate::store) fn end_of(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

/// A stored device id.
pub(in crate::store) fn device_id(text: &str) -> Result<DeviceId, Fault> {
    DeviceId::parse(text).ok_or(Fault::Corrupt("device id"))
}

/// A stored JSON object.
#[cfg(feature = "sqlite")]
pub(in crate::store) fn object(
    text: &str,
    what: &'static str,
) -> Result<serde_json::Map<String, serde_json::Value>, Fault> {
    serde_json::from_str(text).map_err(|_| Fault::Corrupt(what))
}

/// A stored digest.
pub(in crate::store) fn digest(bytes: Vec<u8>) -> Result<[u8; 32], Fault> {
    bytes.try_into().map_err(|_| Fault::Corrupt("digest"))
}

/// A stored time that may be absent.
#[cfg(feature = "sqlite")]
pub(in crate::store) fn time(stored: Option<i64>) -> Option<Timestamp> {
    stored.map(Timestamp)
}
