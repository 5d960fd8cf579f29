//! What is handed out when, over a real store and a broker without listeners.

use super::*;
use crate::broker::{Deps, OpenAuthenticator};
use crate::dispatch::Handle;
use crate::journal::{self, Journal};
use crate::store::{NewCommand, NewDevice};

const NOW: Timestamp = Timestamp(1_000_000);

fn device() -> DeviceId {
    DeviceId::parse("m1").unwrap()
}

/// A dispatcher that believes the device to be connected while the broker knows nobody.
async fn dispatcher(dir: &std::path::Path) -> Dispatcher {
    let clock = Clock::manual(NOW);
    let node_id = uuid::Uuid::from_u128(1);
    let options =
        journal::Options { dir: dir.join("j"), node_id, segment_bytes: 4096, max_bytes: 1 << 20, queue_bytes: 1 << 20 };
    let (journal, _) = Journal::open(options).unwrap();
    let authenticator = Arc::new(OpenAuthenticator);
    let audit = crate::audit::Log::silent();
    let deps = Deps {
        journal,
        authenticator,
        clock: clock.clone(),
        store: None,
        audit,
        revocations: Default::default(),
        tracer: Default::default(),
    };
    let broker = Broker::start(crate::broker::Options::default(), deps, vec![]).await.unwrap();
    let store = store::open(&format!("sqlite://{}", dir.join("s.db").display())).unwrap();
    let new = NewDevice {
        device_id: device(),
        device_name: String::new(),
        device_type: String::new(),
        location: None,
        is_active: true,
        metadata: serde_json::Map::new(),
        token_sha256: None,
    };
    store.create_device(&new, NOW).unwrap();
    let (_, inbox) = Handle::channel();
    inbox.connected.insert(device());
    let events = broker.events().unwrap();
    let options = Options { ack_timeout: Duration::from_secs(60) };
    Dispatcher::new(options, store, Arc::new(Keyring::of_new_key()), broker, events, inbox, Board::new(clock))
}

async fn handed_out(dispatcher: &mut Dispatcher) -> (Vec<Command>, Option<Secret32>) {
    let order = dispatcher.hand_out(&[device()]).await.unwrap().pop();
    order.map_or((Vec::new(), None), |order| (order.commands, order.key))
}

fn command(dispatcher: &Dispatcher) -> CommandId {
    let new = NewCommand {
        cmd_id: CommandId::random(),
        device: device(),
        cmd: "reboot".into(),
        params: serde_json::Map::new(),
        created_at: NOW,
        created_by: "ann".into(),
        expires_at: NOW.plus_us(1_000_000),
    };
    dispatcher.store.create_command(&new).unwrap().unwrap().cmd_id
}

#[tokio::test]
async fn a_command_for_which_the_broker_has_no_room_stays_due_until_the_device_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut dispatcher = dispatcher(dir.path()).await;
    let id = command(&dispatcher);
    dispatcher.deliver(vec![device()]).await;
    assert!(dispatcher.due.contains(&device()));
    dispatcher.upkeep().await;
    assert!(dispatcher.due.contains(&device()));
    assert_eq!(dispatcher.store.command(id).unwrap().unwrap().status, CommandStatus::Sent, "written before it is sent");
    dispatcher.on_events(vec![Event::Gone { device: device() }]).await;
    assert!(dispatcher.due.is_empty());
}

#[tokio::test]
async fn what_is_cancelled_or_already_received_is_not_handed_out_and_what_was_sent_is_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut dispatcher = dispatcher(dir.path()).await;
    let ids = [(); 4].map(|()| command(&dispatcher));
    let [sent, cancelled, received, pending] = ids;
    for (id, to) in [(sent, CommandStatus::Sent), (cancelled, CommandStatus::Cancelled)] {
        dispatcher.store.advance_command(&change(id, to, NOW)).unwrap();
    }
    dispatcher.note(received);
    let handed_out: Vec<_> = handed_out(&mut dispatcher).await.0.iter().map(|c| c.cmd_id).collect();
    assert_eq!(handed_out, [sent, pending]);
    dispatcher.write_receipts().await;
    let status = |id| dispatcher.store.command(id).unwrap().unwrap().status;
    let expected = [CommandStatus::Sent, CommandStatus::Cancelled, CommandStatus::Delivered, CommandStatus::Sent];
    assert_eq!(ids.map(status), expected);
}

#[tokio::test]
async fn of_many_commands_the_oldest_are_handed_out_and_the_others_when_these_are_received() {
    let dir = tempfile::tempdir().unwrap();
    let mut dispatcher = dispatcher(dir.path()).await;
    let ids: Vec<_> = (0..=COMMANDS_AT_ONCE).map(|_| command(&dispatcher)).collect();
    let first = dispatcher.hand_out(&[device()]).await.unwrap().pop().unwrap();
    let handed_out: Vec<_> = first.commands.iter().map(|c| c.cmd_id).collect();
    assert_eq!((handed_out.as_slice(), first.is_cut), (&ids[..COMMANDS_AT_ONCE], true));
    handed_out.into_iter().for_each(|id| dispatcher.note(id));
    dispatcher.write_receipts().await;
    let rest = dispatcher.hand_out(&[device()]).await.unwrap().pop().unwrap();
    assert_eq!((rest.commands.len(), rest.commands[0].cmd_id, rest.is_cut), (1, ids[COMMANDS_AT_ONCE], false));
}

#[tokio::test]
async fn commands_of_a_device_with_a_key_are_signed_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut dispatcher = dispatcher(dir.path()).await;
    seal(&dispatcher, device().as_str(), &[7; 32]);
    let id = command(&dispatcher);
    let (commands, key) = handed_out(&mut dispatcher).await;
    assert_eq!((commands[0].cmd_id, key.as_deref()), (id, Some(&[7; 32])));
}

#[tokio::test]
async fn a_key_that_does_not_open_fails_the_command_and_nothing_goes_out_unsigned() {
    let dir = tempfile::tempdir().unwrap();
    let mut dispatcher = dispatcher(dir.path()).await;
    seal(&dispatcher, "another-device", &[7; 32]);
    let id = command(&dispatcher);
    let (commands, key) = handed_out(&mut dispatcher).await;
    assert!(commands.is_empty() && key.is_none());
    let command = dispatcher.store.command(id).unwrap().unwrap();
    assert_eq!(command.status, CommandStatus::Error);
    assert!(command.detail.unwrap().contains("command key cannot be opened"));
}

#[tokio::test]
async fn commands_wait_while_the_key_is_sealed_by_one_that_is_not_at_hand_yet() {
    let dir = tempfile::tempdir().unwrap();
    let mut dispatcher = dispatcher(dir.path()).await;
    let elsewhere = Arc::new(Keyring::of_new_key());
    seal_by(&elsewhere, &dispatcher, device().as_str(), &[7; 32]);
    let id = command(&dispatcher);
    for _ in 0..2 {
        dispatcher.deliver(vec![device()]).await;
        assert!(dispatcher.due.contains(&device()), "it is tried again");
        assert_eq!(dispatcher.store.command(id).unwrap().unwrap().status, CommandStatus::Sent, "it has not failed");
        let (commands, key) = handed_out(&mut dispatcher).await;
        assert!(commands.is_empty() && key.is_none(), "nothing goes out unsigned");
    }
    dispatcher.vault = elsewhere;
    let (commands, key) = handed_out(&mut dispatcher).await;
    assert_eq!((commands[0].cmd_id, key.as_deref()), (id, Some(&[7; 32])));
}

/// Gives the device a key that was sealed for `owner`.
fn seal(dispatcher: &Dispatcher, owner: &str, key: &[u8; 32]) {
    seal_by(&dispatcher.vault, dispatcher, owner, key);
}

/// The same, sealed by the key of that ring.
fn seal_by(vault: &Keyring, dispatcher: &Dispatcher, owner: &str, key: &[u8; 32]) {
    let envelope = vault.seal(Purpose::CommandKey, owner, key);
    let sealed = store::Sealed { key_id: vault.current().to_string(), envelope };
    assert!(dispatcher.store.set_device_secret(&device(), Purpose::CommandKey.name(), &sealed, NOW).unwrap());
}
