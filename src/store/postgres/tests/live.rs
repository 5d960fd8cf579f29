//! What is told of changes while others hold transactions open.

use super::*;
use crate::domain::presence::Connection as Presence;
use crate::store::tests::live::{look, presence, what_is_old_is_forgotten_when_it_could_be_read};
use crate::store::{Live, LiveChange};

const AGE: &str = "UPDATE live_changes SET at = at - interval '1 hour'";

#[test]
fn changes_are_kept_for_their_time_and_until_they_could_be_read() {
    let (store, url) = store();
    what_is_old_is_forgotten_when_it_could_be_read(&store, || drop(Server::shared().query(&url, AGE)));
}

#[test]
fn what_a_long_transaction_hides_from_readers_is_not_forgotten_meanwhile() {
    let (store, url) = store();
    store.create_device(&new_device("live-1"), at(0)).unwrap();
    let mut somebody = PgConnection::establish(&url).unwrap();
    somebody.batch_execute("BEGIN; SELECT pg_current_xact_id()").unwrap();
    store.commit(&presence("live-1", Presence::Online)).unwrap();
    Server::shared().query(&url, AGE);
    let mut place = store.live_end().unwrap();
    assert_eq!(store.live_changes(place, 500).unwrap().changes, [], "something older may follow");
    assert_eq!(store.trim_live(place).unwrap(), 0);
    somebody.batch_execute("COMMIT").unwrap();
    let told = look(&store, &mut place, |told| !told.is_empty());
    assert!(matches!(&told[..], [LiveChange::Presence(_, state)] if state.connection == Presence::Online), "{told:?}");
    assert_eq!(store.trim_live(place).unwrap(), 1);
}
