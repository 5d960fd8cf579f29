//! The dispatcher's task: one owner of what goes to which meter and when.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::{Inbox, Request};
use crate::broker::{Broker, Event};
use crate::domain::command::CommandStatus;
use crate::domain::{Clock, CommandId, DeviceId};
use crate::observe::{Board, TaskState};
use crate::payload;
use crate::store::{self, Command, CommandChange, SharedStore};

/// The name on the task board.
pub const TASK: &str = "dispatcher";

/// How often overdue commands are looked for and failed work is tried again.
const PERIOD: Duration = Duration::from_secs(1);
/// Receipts kept while the store is away; older ones are dropped (the command is then delivered once more, which is harmless).
const MAX_RECEIPTS: usize = 10_000;

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
    broker: Broker,
    events: mpsc::Receiver<Event>,
    inbox: Inbox,
    clock: Clock,
    board: Board,
    /// Devices whose commands could not be read or sent yet.
    due: HashSet<DeviceId>,
    /// State changes that the store has not taken yet, oldest first.
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
        broker: Broker,
        events: mpsc::Receiver<Event>,
        inbox: Inbox,
        board: Board,
    ) -> Self {
        let clock = board.clock().clone();
        Self { options, store, broker, events, inbox, clock, board, due: HashSet::new(), receipts: VecDeque::new() }
    }

    /// Works until the broker has ended or `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.board.set(TASK, TaskState::Running);
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.on_event(event).await,
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

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Ready { device } => {
                self.inbox.connected.insert(device.clone());
                self.deliver(device).await;
            }
            Event::Delivered { cmd_id } => {
                self.note(cmd_id, CommandStatus::Delivered);
                self.write_receipts().await;
            }
            Event::Gone { device } => {
                self.inbox.connected.remove(&device);
                self.due.remove(&device);
            }
        }
    }

    async fn on_request(&mut self, request: Request) {
        match request {
            Request::Deliver(device) => self.deliver(device).await,
            Request::Disconnect(device) => self.broker.disconnect(&device),
        }
    }

    /// Sends a connected device everything that waits for it.
    async fn deliver(&mut self, device: DeviceId) {
        if !self.inbox.connected.contains(&device) {
            return;
        }
        let (id, now) = (device.clone(), self.clock.now());
        match store::run(&self.store, move |s| s.deliverable_commands(&id, now)).await {
            Ok(commands) => {
                self.due.remove(&device);
                for command in commands {
                    self.send(&device, &command);
                }
                self.write_receipts().await;
            }
            Err(error) => {
                tracing::warn!(device_id = %device, error = &error as &dyn std::error::Error, "commands cannot be read; trying again");
                self.board.set(TASK, TaskState::Retrying("the store failed to read commands".into()));
                self.due.insert(device);
            }
        }
    }

    fn send(&mut self, device: &DeviceId, command: &Command) {
        let bytes = payload::encode_command(command.cmd_id, command.created_at, &command.cmd, &command.params, None);
        if self.broker.send_command(device, command.cmd_id, bytes.into()) {
            tracing::info!(device_id = %device, cmd_id = %command.cmd_id, cmd = command.cmd, "command sent");
            if command.status == CommandStatus::Pending {
                self.note(command.cmd_id, CommandStatus::Sent);
            }
        }
    }

    fn note(&mut self, cmd_id: CommandId, to: CommandStatus) {
        if self.receipts.len() == MAX_RECEIPTS {
            self.receipts.pop_front();
        }
        self.receipts.push_back(CommandChange { cmd_id, device: None, to, detail: None, at: self.clock.now() });
    }

    /// Writes state changes back, in order; what the store does not take stays for the next try.
    async fn write_receipts(&mut self) {
        while let Some(change) = self.receipts.front().cloned() {
            // `None` (deleted) and `Conflict` (the acknowledgement overtook the receipt) are fine.
            match store::run(&self.store, move |s| s.advance_command(&change)).await {
                Ok(_) => drop(self.receipts.pop_front()),
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
