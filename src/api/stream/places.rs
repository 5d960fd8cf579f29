//! How many streams there may be: in all, and of one key (`domain::Places`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api::error::ApiError;
use crate::domain::{self, NoPlace};
use crate::observe::metrics;

/// Who has how many, by name.
#[derive(Debug)]
pub struct Places {
    most: usize,
    most_of_key: usize,
    taken: Mutex<domain::Places<String>>,
}

/// A stream's place; free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    name: String,
}

impl Places {
    /// So many in all; one key may have four fifths of them, so that it does not shut the others out.
    pub fn new(most: usize) -> Arc<Self> {
        let most_of_key = (most * 4 / 5).max(1);
        Arc::new(Self { most, most_of_key, taken: Mutex::new(domain::Places::new(most, most_of_key)) })
    }

    /// Takes a place for whoever is called so.
    pub fn enter(self: &Arc<Self>, name: &str) -> Result<Place, ApiError> {
        let (reason, error) = match self.lock().enter(name.to_owned()) {
            Ok(()) => return Ok(Place { places: Arc::clone(self), name: name.to_owned() }),
            Err(NoPlace::Any) => ("full", ApiError::StreamsFull { most: self.most }),
            Err(NoPlace::OfOne) => ("key", ApiError::StreamsOfKey { most: self.most_of_key }),
        };
        metrics::STREAMS_REFUSED.increment(&[("reason", reason)], 1);
        Err(error)
    }

    fn lock(&self) -> MutexGuard<'_, domain::Places<String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().leave(std::mem::take(&mut self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_leaves_room_for_others_and_all_have_an_end() {
        let places = Places::new(5);
        let mut own: Vec<Place> = (0..4).map(|_| places.enter("a").unwrap()).collect();
        assert!(matches!(places.enter("a"), Err(ApiError::StreamsOfKey { most: 4 })));
        let _other = places.enter("b").unwrap();
        assert!(matches!(places.enter("b"), Err(ApiError::StreamsFull { most: 5 })));
        own.pop();
        assert!(places.enter("a").is_ok());
        assert!(Places::new(1).enter("a").is_ok());
    }
}
