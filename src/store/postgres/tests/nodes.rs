//! What only several nodes on one database can show.

use super::*;
use crate::store::tests::rules::{clear, fire, make, put, remove, text};
use crate::store::{AlertFilter, Duty, Leader, Nodes, Rules};

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

#[test]
fn rules_change_while_alerts_come_and_go_at_two_nodes_and_none_is_left_behind() {
    let (first, url) = store();
    let second = store_at(&url);
    let devices: Vec<String> = (0..8).map(|n| format!("m{n}")).collect();
    devices.iter().for_each(|device| drop(first.create_device(&new_device(device), at(0)).unwrap()));
    let made = ["one", "two"].map(|name| make(&first, &text(name)));
    let alert = |device: &String, rule: &_, n: i64| match n % 2 {
        0 => fire(device, rule, n),
        _ => clear(device, rule, None, n),
    };
    let commit = |store: &PostgresStore, devices: &[String], order: [usize; 2], n: i64| {
        // As they may be by now: both generations of both rules, in either order.
        let rules = order.map(|rule| store.rule(made[rule].id).unwrap().unwrap());
        let each = |device| rules.iter().flat_map(move |rule| [alert(device, rule, n), alert(device, rule, n + 1)]);
        store.commit(&Batch { rule_alerts: devices.iter().flat_map(each).collect(), ..Batch::default() }).unwrap();
    };
    let (here, there) = devices.split_at(4);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..60).for_each(|n| commit(&first, here, [0, 1], n)));
        scope.spawn(|| (0..60).for_each(|n| commit(&second, there, [1, 0], n)));
        for n in 0..60 {
            let mut changed = text(["one", "two"][n % 2]);
            changed.condition.threshold = n as f64;
            put(&second, made[n % 2].id, &changed);
        }
    });
    let open = AlertFilter { is_open: Some(true), ..AlertFilter::default() };
    let voided = AlertFilter { is_open: Some(false), ..AlertFilter::default() };
    made.iter().for_each(|rule| remove(&first, rule.id));
    assert_eq!(second.alerts(&open, Page::offset(0, 1)).unwrap().total, Some(0));
    assert!(second.alerts(&voided, Page::offset(0, 1)).unwrap().total > Some(100));
}
