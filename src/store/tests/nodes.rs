//! What a store promises to nodes, also to one that is alone.

use serde_json::json;

use super::registry::new_command;
use super::{ALL, at, create, id, new_device};
use crate::domain::CommandId;
use crate::domain::command::CommandStatus;
use crate::store::{COMMANDS_AT_ONCE, CommandChange, CommandFilter, Duty, Leader, Store};

pub(super) fn all(store: &dyn Store) {
    a_duty_stays_with_who_has_it_until_given_up(store);
    many_commands_are_claimed_in_parts_oldest_first(store);
}

fn many_commands_are_claimed_in_parts_oldest_first(store: &dyn Store) {
    create(store, &new_device("busy"));
    let new = |_| store.create_command(&new_command("busy", "reboot", json!({}))).unwrap().unwrap().cmd_id;
    let given: Vec<CommandId> = (0..1500).map(new).collect();
    let claim = || -> Vec<CommandId> {
        let claimed = store.claim_commands(&[id("busy")], at(1)).unwrap();
        assert!(claimed.iter().all(|command| command.status == CommandStatus::Sent));
        claimed.into_iter().map(|command| command.cmd_id).collect()
    };
    assert_eq!(claim(), given[..COMMANDS_AT_ONCE]);
    assert_eq!(claim(), given[..COMMANDS_AT_ONCE], "nobody has received them");
    let pending = CommandFilter { device: Some(id("busy")), status: Some(CommandStatus::Pending) };
    assert_eq!(store.commands(&pending, ALL).unwrap().total, Some(1500 - COMMANDS_AT_ONCE as u64));
    let delivered = |cmd_id: &CommandId| {
        let (cmd_id, to) = (*cmd_id, CommandStatus::Delivered);
        CommandChange { cmd_id, device: None, to, detail: None, at: at(2) }
    };
    let mut received = Vec::new();
    while received.len() < given.len() {
        let part = claim();
        assert!((1..=COMMANDS_AT_ONCE).contains(&part.len()), "{}", part.len());
        store.advance_commands(&part.iter().map(delivered).collect::<Vec<_>>()).unwrap();
        received.extend(part);
    }
    assert_eq!(received, given);
    assert_eq!(claim(), []);
    assert!(store.delete_device(&id("busy"), false).unwrap());
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
