//! What a store promises to nodes, also to one that is alone.

use crate::store::{Duty, Leader, Store};

pub(super) fn all(store: &dyn Store) {
    a_duty_stays_with_who_has_it_until_given_up(store);
}

fn a_duty_stays_with_who_has_it_until_given_up(store: &dyn Store) {
    let leaders = Duty::ALL.map(Leader::new);
    for _ in 0..2 {
        for leader in &leaders {
            assert!(leader.leads(store).unwrap(), "each duty by itself, again and again");
        }
    }
    let another = Leader::new(Duty::Rollouts);
    assert_eq!(another.leads(store).unwrap(), !store.is_shared(), "a store of one node has nobody to keep from it");
    leaders.iter().for_each(Leader::resign);
    assert!(another.leads(store).unwrap());
}
