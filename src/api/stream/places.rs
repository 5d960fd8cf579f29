//! How many streams there may be: in all, and of one key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::error::ApiError;
use crate::observe::metrics;

/// Who has how many.
#[derive(Debug)]
pub struct Places {
    most: usize,
    most_of_key: usize,
    taken: Mutex<HashMap<String, usize>>,
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
        Arc::new(Self { most, most_of_key: (most * 4 / 5).max(1), taken: Mutex::default() })
    }

    /// Takes a place for whoever is called so.
    pub fn enter(self: &Arc<Self>, name: &str) -> Result<Place, ApiError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let refuse = |reason| metrics::STREAMS_REFUSED.increment(&[("reason", reason)], 1);
        if taken.values().sum::<usize>() >= self.most {
            refuse("full");
            return Err(ApiError::StreamsFull { most: self.most });
        }
        if taken.get(name).is_some_and(|count| *count >= self.most_of_key) {
            refuse("key");
            return Err(ApiError::StreamsOfKey { most: self.most_of_key });
        }
        *taken.entry(name.to_owned()).or_default() += 1;
        Ok(Place { places: Arc::clone(self), name: name.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.name);
            }
        }
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
