//! The dispatcher's task: one owner of what goes to which meter and when.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{Inbox, Request};
use crate::broker::{Broker, Event, Events};
use crate::domain::command::CommandStatus;
use crate::domain::{Clock, CommandId, DeviceId, Timestamp};
use crate::observe::{Board, TaskState};
use crate::payload;
use crate::store::{self, Command, CommandChange, Outcome, SharedStore};
use crate::vault::{self, Keyring, Purpose, Secret32};

/// The name on the task board.
pub const TASK: &str = "dispatcher";

/// How often overdue commands are looked for and failed work is tried again.
const PERIOD: Duration = Duration::from_secs(1);
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
    /// Devices whose commands could not be read or sent yet.
    due: HashSet<DeviceId>,
    /// Deliveries that the store has not taken yet, oldest first.
    receipts: VecDeque<CommandChange>,
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
        let (due, receipts) = (HashSet::new(), VecDeque::new());
        Self { options, store, vault, broker, events, inbox, clock, board, due, receipts }
    }

    /// Works until the broker has ended or `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.board.set(TASK, TaskState::Running);
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                events = self.events.next() => match events {
                    Some(events) => self.on_events(events).await,
                    None => break,
                },
                Some(request) = self.inbox.rx.recv() => self.on_request(request).await,
                _ = tick.tick() => self.upkeep().await,
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
                    ready.push(device);
                }
                Event::Delivered { cmd_id } => self.note(cmd_id),
                Event::Gone { device } => {
                    self.inbox.connected.remove(&device);
                    self.due.remove(&device);
                }
            }
        }
        self.write_receipts().await;
        for device in ready {
            self.deliver(device).await;
        }
    }

    async fn on_request(&mut self, request: Request) {
        match request {
            Request::Deliver(device) => self.deliver(device).await,
            Request::Disconnect(device) => self.broker.disconnect(&device),
            Request::DisconnectService(name) => self.broker.disconnect_service(&name, None),
        }
    }

    /// Sends a connected device everything that waits for it. What cannot be sent now is due again at the next upkeep.
    async fn deliver(&mut self, device: DeviceId) {
        self.due.remove(&device);
        if !self.inbox.connected.contains(&device) {
            return;
        }
        match self.hand_out(&device).await {
            Ok((commands, key)) => {
                if !commands.iter().all(|command| self.send(&device, command, key.as_deref())) {
                    self.due.insert(device); // no room: it is slow, or it has just gone
                }
            }
            Err(error) => {
                tracing::warn!(device_id = %device, error = &error as &dyn std::error::Error, "commands cannot be handed out; trying again");
                self.board.set(TASK, TaskState::Retrying("the store failed to hand out commands".into()));
                self.due.insert(device);
            }
        }
    }

    /// What is to be sent, oldest first, each written as sent before it is: one that is cancelled meanwhile is never
    /// sent, one that is written and not sent (a crash) is handed out again. With it the key to sign with, where the device
    /// has one; where it has one that does not open, nothing is handed out: an unsigned command never takes its place.
    async fn hand_out(&mut self, device: &DeviceId) -> Result<(Vec<Command>, Option<Secret32>), store::Error> {
        let (id, now) = (device.clone(), self.clock.now());
        let read = move |s: &dyn store::Store| {
            let commands = s.deliverable_commands(&id, now)?;
            let sealed = if commands.is_empty() { None } else { s.device_secret(&id, Purpose::CommandKey.name())? };
            Ok((commands, sealed))
        };
        let (mut commands, sealed) = store::run(&self.store, read).await?;
        commands.retain(|command| !self.receipts.iter().any(|r| r.cmd_id == command.cmd_id));
        let open = |sealed: Vec<u8>| self.vault.open_32(Purpose::CommandKey, device.as_str(), &sealed);
        let key = match sealed.map(open).transpose() {
            Ok(key) => key,
            Err(error) => {
                self.refuse(device, &commands, error).await?;
                return Ok((Vec::new(), None));
            }
        };
        let pending = commands.iter().filter(|c| c.status == CommandStatus::Pending);
        let changes: Vec<_> = pending.map(|c| change(c.cmd_id, CommandStatus::Sent, now)).collect();
        if changes.is_empty() {
            return Ok((commands, key));
        }
        let outcomes = store::run(&self.store, move |s| s.advance_commands(&changes)).await?;
        let mut is_written = outcomes.iter().map(|outcome| matches!(outcome, Some(Outcome::Done(_))));
        commands.retain(|c| c.status == CommandStatus::Sent || is_written.next().unwrap_or(false));
        Ok((commands, key))
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
    fn send(&self, device: &DeviceId, command: &Command, key: Option<&[u8; 32]>) -> bool {
        let bytes = payload::encode_command(command.cmd_id, command.created_at, &command.cmd, &command.params, key);
        let is_sent = self.broker.send_command(device, command.cmd_id, bytes.into());
        if is_sent {
            let is_signed = key.is_some();
            tracing::info!(device_id = %device, cmd_id = %command.cmd_id, cmd = command.cmd, is_signed, "command sent");
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

    async fn upkeep(&mut self) {
        self.write_receipts().await;
        for device in std::mem::take(&mut self.due) {
            self.deliver(device).await;
        }
        let now = self.clock.now();
        let timeout_us = i64::try_from(self.options.ack_timeout.as_micros()).unwrap_or(i64::MAX);
        match store::run(&self.store, move |s| s.expire_commands(now, now.plus_us(-timeout_us))).await {
            Ok(_) if self.due.is_empty() && self.receipts.is_empty() => self.board.set(TASK, TaskState::Running),
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
