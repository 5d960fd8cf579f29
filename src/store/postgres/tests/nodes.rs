//! What only several nodes on one database can show.

use super::*;
use crate::store::{Duty, Leader, Nodes};

#[test]
fn a_duty_goes_to_another_node_when_its_holder_ends_or_loses_the_database() {
    let (first, url) = store();
    let second = store_at(&url);
    let (of_first, of_second) = (Leader::new(Duty::Retention), Leader::new(Duty::Retention));
    assert!(of_first.leads(&first).unwrap());
    assert!(!of_second.leads(&second).unwrap());
    assert!(second.try_lead(Duty::Rollups).unwrap().is_some(), "another duty is free");
    // As a killed process, or a cut network, looks to the server.
    Server::shared().query(
        &url,
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_locks WHERE locktype = 'advisory' AND granted \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()",
    );
    assert!(of_second.leads(&second).unwrap());
    assert!(!of_first.leads(&first).unwrap(), "it notices, and does not have both");
    of_second.resign();
    assert!(of_first.leads(&first).unwrap());
}
