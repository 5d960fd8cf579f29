//! The dispatcher's task: one owner of what goes to which meter and when.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::sessions::Sessions;
use super::{Inbox, Request};
use crate::broker::{Broker, Event, Events};
use crate::domain::command::CommandStatus;
use crate::domain::{Clock, CommandId, DeviceId, Timestamp};
use crate::observe::{Board, Seldom, TaskState};
use crate::payload;
use crate::store::{self, COMMANDS_AT_ONCE, Command, CommandChange, SharedStore};
use crate::vault::{self, Keyring, Purpose, Secret32};

/// The name on the task board.
pub const TASK: &str = "dispatcher";

/// How often overdue commands are looked for and failed work is tried again.
const PERIOD: Duration = Duration::from_secs(1);
/// How often one of several nodes looks for commands that another has taken in.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Devices whose commands are handed out at once.
const DEVICES_AT_ONCE: usize = 500;
/// Sessions written in one transaction.
const SESSIONS_A_WRITE: usize = 5_000;
/// Receipts kept while the store is away; older ones are dropped (the command is then delivered once more, which is harmless).
const MAX_RECEIPTS: usize = 10_000;

/// Receipts written in one transaction.
const RECEIPTS_A_WRITE: usize = 500;

/// Settings of the dispatcher.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A delivered command without an acknowledgement for this long has timed out.
    pub ack_timeout: Duration,
}

/// Hands commands to the broker and keeps their states.
pub struct Dispatcher {
    options: Options,
    store: SharedStore,
    vault: Arc<Keyring>,
    broker: Broker,
    events: Events,
    inbox: Inbox,
    clock: Clock,
    board: Board,
    /// Devices whose commands could not be read or sent yet, or not all of them.
    due: HashSet<DeviceId>,
    /// Deliveries that the store has not taken yet, oldest first.
    receipts: VecDeque<CommandChange>,
    /// Which devices this node reaches, as far as the store does not know it yet.
    sessions: Sessions,
    /// Devices whose command key is sealed by a key that this node has not been given.
    locked: Seldom,
}

/// What goes to a device.
struct Order {
    device: DeviceId,
    commands: Vec<Command>,
    key: Option<Secret32>,
    /// When they were claimed; what was `sent` before has been offered before.
    claimed_at: Timestamp,
    /// More may wait: these are as many as are handed out at once.
    is_cut: bool,
}

/// Resolves when the process stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: nobody is left to stop for.
    let _ = stop.wait_for(|stopping| *stopping).await;
}

impl Dispatcher {
    /// Takes the broker's events; there is one dispatcher a process.
    pub fn new(
        options: Options,
        store: SharedStore,
        vault: Arc<Keyring>,
        broker: Broker,
        events: Events,
        inbox: Inbox,
        board: Board,
    ) -> Self {
        let clock = board.clock().clone();
        let (due, receipts, sessions) = (HashSet::new(), VecDeque::new(), Sessions::default());
        let locked = Seldom::default();
        Self { options, store, vault, broker, events, inbox, clock, board, due, receipts, sessions, locked }
    }

    /// Works until the broker has ended or `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.board.set(TASK, TaskState::Running);
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let is_shared = self.store.is_shared();
        loop {
            tokio::select! {
                events = self.events.next() => match events {
                    Some(events) => self.on_events(events).await,
                    None => break,
                },
                Some(request) = self.inbox.rx.recv() => self.on_request(request).await,
                _ = tick.tick() => self.upkeep().await,
                _ = look.tick(), if is_shared => self.look_around().await,
                () = stopped(&mut stop) => break,
            }
        }
        self.write_receipts().await;
        self.board.set(TASK, TaskState::Stopped);
    }

    async fn on_events(&mut self, events: Vec<Event>) {
        let mut ready = Vec::new();
        for event in events {
            match event {
                Event::Ready { device } => {
                    self.inbox.connected.insert(device.clone());
                    self.sessions.note(&device, true);
                    ready.push(device);
                }
                Event::Delivered { cmd_id } => self.note(cmd_id),
                Event::Gone { device } => {
                    self.inbox.connected.remove(&device);
                    self.sessions.note(&device, false);
                    self.due.remove(&device);
                }
            }
        }
        self.write_receipts().await;
        // First it is said who has them: then their commands are this node's.
        self.save_sessions().await;
        self.deliver(ready).await;
    }

    async fn on_request(&mut self, request: Request) {
        match request {
            Request::Deliver(device) => self.deliver(vec![device]).await,
            Request::Disconnect(device) => self.broker.disconnect(&device),
            Request::DisconnectService(name) => self.broker.disconnect_service(&name, None),
        }
    }

    /// Sends connected devices what waits for them. What cannot be sent now, or is more than is handed out at once, is due
    /// again at the next upkeep.
    async fn deliver(&mut self, mut devices: Vec<DeviceId>) {
        for device in &devices {
            self.due.remove(device);
        }
        devices.retain(|device| self.inbox.connected.contains(device));
        for part in devices.chunks(DEVICES_AT_ONCE) {
            match self.hand_out(part).await {
                Ok(orders) => {
                    for order in orders {
                        let is_sent = order.commands.iter().all(|command| self.send(&order, command));
                        if order.is_cut || !is_sent {
                            self.due.insert(order.device); // more wait, or no room: it is slow, or it has just gone
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        devices = part.len(),
                        error = &error as &dyn std::error::Error,
                        "commands cannot be handed out; trying again"
                    );
                    self.board.set(TASK, TaskState::Retrying("the store failed to hand out commands".into()));
                    self.due.extend(part.iter().cloned());
                }
            }
        }
    }

    /// What is to be sent, oldest first, each written as sent before it is: one that is cancelled meanwhile is never
    /// sent, one that is written and not sent (a crash) is handed out again. With it the key to sign with, where the device
    /// has one; where it has one that does not open, nothing is handed out: an unsigned command never takes its place. One
    /// that another node has sealed by a key that this one has not been given yet leaves the device due.
    async fn hand_out(&mut self, devices: &[DeviceId]) -> Result<Vec<Order>, store::Error> {
        let (ids, now) = (devices.to_vec(), self.clock.now());
        let claim = move |s: &dyn store::Store| {
            let mut by_device: BTreeMap<DeviceId, Vec<Command>> = BTreeMap::new();
            for command in s.claim_commands(&ids, now)? {
                by_device.entry(command.device.clone()).or_default().push(command);
            }
            let with_secret = |(device, commands)| {
                let sealed = s.device_secret(&device, Purpose::CommandKey.name())?;
                Ok((device, commands, sealed))
            };
            by_device.into_iter().map(with_secret).collect::<Result<Vec<_>, store::Error>>()
        };
        let claimed = store::run(&self.store, claim).await?;
        let mut orders = Vec::with_capacity(claimed.len());
        for (device, mut commands, sealed) in claimed {
            let is_cut = commands.len() >= COMMANDS_AT_ONCE;
            commands.retain(|command| !self.receipts.iter().any(|r| r.cmd_id == command.cmd_id));
            let open = |sealed: Vec<u8>| self.vault.open_32(Purpose::CommandKey, device.as_str(), &sealed);
            let key = match sealed.map(open).transpose() {
                Ok(key) => key,
                Err(error @ vault::Error::UnknownKey(_)) => {
                    if self.locked.note(now).is_some() {
                        tracing::warn!(
                            device_id = %device,
                            %error,
                            "the device's command key cannot be opened here; its commands wait"
                        );
                    }
                    self.due.insert(device.clone());
                    commands.clear();
                    None
                }
                Err(error) => {
                    self.refuse(&device, &commands, error).await?;
                    commands.clear();
                    None
                }
            };
            orders.push(Order { device, commands, key, claimed_at: now, is_cut });
        }
        Ok(orders)
    }

    /// Commands given over another node, or left behind by one that has died or lost the device.
    async fn look_around(&mut self) {
        let now = self.clock.now();
        match store::run(&self.store, move |s| s.waiting_devices(now, DEVICES_AT_ONCE)).await {
            Ok(devices) if devices.is_empty() => {}
            Ok(devices) => self.deliver(devices).await,
            // The upkeep says so.
            Err(error) => tracing::debug!(%error, "cannot look for commands of other nodes"),
        }
    }

    /// Writes which devices this node reaches; what the store does not take stays for the next try.
    async fn save_sessions(&mut self) {
        if self.sessions.is_saved() {
            return;
        }
        if !self.store.is_shared() {
            // There is nobody to tell.
            self.sessions.saved();
            return;
        }
        let (is_first, changes, now) = (self.sessions.is_first, self.sessions.changes(), self.clock.now());
        let save = move |s: &dyn store::Store| {
            if is_first {
                s.forget_sessions()?;
            }
            changes.chunks(SESSIONS_A_WRITE).try_for_each(|part| s.note_sessions(part, now))
        };
        match store::run(&self.store, save).await {
            Ok(()) => self.sessions.saved(),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "sessions cannot be written; trying again");
                self.board.set(TASK, TaskState::Retrying("the store failed to note sessions".into()));
                // It may have been put back meanwhile, or have forgotten this node.
                self.sessions.start_over(self.inbox.connected.all());
            }
        }
    }

    /// Ends commands that cannot be signed, and says why.
    async fn refuse(&self, device: &DeviceId, commands: &[Command], why: vault::Error) -> Result<(), store::Error> {
        tracing::error!(device_id = %device, error = %why, "the device's command key cannot be opened; its commands fail");
        let now = self.clock.now();
        let detail = format!("not sent: the device's command key cannot be opened ({why})");
        let failed =
            |c: &Command| CommandChange { detail: Some(detail.clone()), ..change(c.cmd_id, CommandStatus::Error, now) };
        let changes: Vec<_> = commands.iter().map(failed).collect();
        store::run(&self.store, move |s| s.advance_commands(&changes)).await.map(drop)
    }

    /// `false` = the broker has no room for it, or the device is gone.
    fn send(&self, order: &Order, command: &Command) -> bool {
        let (device, cmd_id, cmd, key) = (&order.device, command.cmd_id, command.cmd.as_str(), order.key.as_deref());
        let bytes = payload::encode_command(cmd_id, command.created_at, cmd, &command.params, key);
        let is_sent = self.broker.send_command(device, cmd_id, bytes.into());
        let (is_new, is_signed) = (command.sent_at == Some(order.claimed_at), key.is_some());
        match is_sent {
            true if is_new => tracing::info!(device_id = %device, %cmd_id, cmd, is_signed, "command sent"),
            // Every second, where a device is slow and much waits for it.
            true => tracing::debug!(device_id = %device, %cmd_id, cmd, is_signed, "command offered again"),
            false => {}
        }
        is_sent
    }

    /// Notes a delivery.
    fn note(&mut self, cmd_id: CommandId) {
        if self.receipts.len() == MAX_RECEIPTS {
            self.receipts.pop_front();
        }
        self.receipts.push_back(change(cmd_id, CommandStatus::Delivered, self.clock.now()));
    }

    /// Writes receipts, in order; what the store does not take stays for the next try.
    async fn write_receipts(&mut self) {
        while !self.receipts.is_empty() {
            let changes: Vec<_> = self.receipts.iter().take(RECEIPTS_A_WRITE).cloned().collect();
            let count = changes.len();
            // `None` (deleted) and `Conflict` (the acknowledgement overtook the receipt) are fine.
            match store::run(&self.store, move |s| s.advance_commands(&changes)).await {
                Ok(_) => drop(self.receipts.drain(..count)),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a command's state cannot be written; trying again"
                    );
                    self.board.set(TASK, TaskState::Retrying("the store failed to write a command's state".into()));
                    return;
                }
            }
        }
    }

    fn is_up_to_date(&self) -> bool {
        self.due.is_empty() && self.receipts.is_empty() && self.sessions.is_saved()
    }

    async fn upkeep(&mut self) {
        self.write_receipts().await;
        self.save_sessions().await;
        let due = std::mem::take(&mut self.due);
        self.deliver(due.into_iter().collect()).await;
        let now = self.clock.now();
        let timeout_us = i64::try_from(self.options.ack_timeout.as_micros()).unwrap_or(i64::MAX);
        match store::run(&self.store, move |s| s.expire_commands(now, now.plus_us(-timeout_us))).await {
            Ok(_) if self.is_up_to_date() => self.board.set(TASK, TaskState::Running),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "overdue commands cannot be expired; trying again"
                );
                self.board.set(TASK, TaskState::Retrying("the store failed to expire commands".into()));
            }
        }
    }
}

fn change(cmd_id: CommandId, to: CommandStatus, at: Timestamp) -> CommandChange {
    CommandChange { cmd_id, device: None, to, detail: None, at }
}

#[cfg(test)]
mod tests;
