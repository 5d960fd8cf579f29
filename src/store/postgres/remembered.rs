//! What devices log in with, as it was last seen: for the time while the database is away, when a meter that comes back from
//! a tunnel must not be turned away.
//!
//! Invariant: what the database says counts whenever it can be asked. In memory, bounded, forgotten with the process.

use quick_cache::sync::Cache;

use crate::domain::DeviceId;
use crate::store::{DeviceCredential, Error};

const DEVICES: usize = 100_000;

/// The last answers of the database.
pub(super) struct Remembered {
    known: Cache<DeviceId, DeviceCredential>,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { known: Cache::new(DEVICES) }
    }
}

impl Remembered {
    /// Takes in what the database says; where it says nothing, what it said last.
    pub(super) fn or_last(
        &self,
        id: &DeviceId,
        said: Result<Option<DeviceCredential>, Error>,
    ) -> Result<Option<DeviceCredential>, Error> {
        match said {
            Ok(Some(credential)) => {
                self.known.insert(id.clone(), credential.clone());
                Ok(Some(credential))
            }
            Ok(None) => {
                self.known.remove(id);
                Ok(None)
            }
            // Not «no such device»: of one never seen nothing is known.
            Err(error) if error.is_transient() => self.known.get(id).map(Some).ok_or(error),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_counts_only_while_there_is_none() {
        let remembered = Remembered::default();
        let (a, b) = (DeviceId::parse("a").unwrap(), DeviceId::parse("b").unwrap());
        let away = || Err(Error::Unavailable { operation: "x", source: "away".into() });
        let credential = |n| DeviceCredential { is_active: true, token_sha256: Some([n; 32]) };
        let answer = |said| remembered.or_last(&a, said).unwrap().and_then(|c| c.token_sha256);
        assert!(remembered.or_last(&a, away()).is_err());
        assert_eq!(answer(Ok(Some(credential(1)))), Some([1; 32]));
        assert_eq!(answer(away()), Some([1; 32]));
        assert_eq!(answer(Ok(Some(credential(2)))), Some([2; 32]));
        assert_eq!(answer(away()), Some([2; 32]));
        assert!(remembered.or_last(&b, away()).is_err());
        assert_eq!(answer(Ok(None)), None);
        assert!(remembered.or_last(&a, away()).is_err());
    }
}
