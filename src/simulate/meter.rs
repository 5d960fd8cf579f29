//! One meter, without input or output: time and commands in, messages and effects out.
//!
//! Invariants: one counter over all messages but `status`, +1 each, 0 at power-on; a datagram never holds more than 200
//! measurements; a command is done once, however often it is delivered; periodic hellos only while the send interval is
//! longer than the hello interval. Beside those it says hello once after power-on (so that the server learns its
//! firmware, and an update is confirmed) and when asked by `request_status`.
//! Does not know: sockets, brokers, faults on the way.

use std::collections::VecDeque;
use std::fmt;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use uuid::Uuid;

use super::electric::{Source, Value};
use super::options::Profile;
use super::ota::{Download, Update};
use super::wire::{self, Broker, Command, ConfigParams, Head, Hello, Measurement, OtaParams, Outgoing, Progress};
use crate::domain::Timestamp;
use crate::domain::message::{AckResult, OtaState};
use crate::domain::metric::MAX_MEASUREMENTS;
use crate::payload::{CommandRefusal, decode_command};
use crate::vault::Secret32;

/// Command ids remembered, so that a repeated delivery is ignored.
const DONE_COMMANDS: usize = 64;
/// Most values of one sample (AC with the slow ones).
const MAX_SAMPLE_VALUES: usize = 8;
/// Slowly changing values are measured every so many samples.
const SLOW_EVERY: u64 = 60;
/// After a longer pause of the process, a meter does not make up for the samples it missed.
const LONGEST_CATCH_UP_US: i64 = 120_000_000;

/// How often a meter measures and speaks, in its own (unscaled) time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Milliseconds between samples, 100…60000.
    pub sampling_cadence_ms: u32,
    /// Seconds between datagrams, 1…3600.
    pub send_interval_s: u32,
    /// Seconds between hellos, 5…3600.
    pub hello_interval_s: u32,
}

/// A command key that does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandKey(pub Secret32);

impl fmt::Debug for CommandKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommandKey(***)")
    }
}

/// How a meter leaves the factory.
#[derive(Clone, PartialEq, Debug)]
pub struct Build {
    /// Its id.
    pub device_id: String,
    /// Its line.
    pub profile: Profile,
    /// Its intervals.
    pub config: Config,
    /// Its firmware.
    pub fw_version: String,
    /// How much faster than real it lives.
    pub speed: f64,
    /// Seed of its train and values.
    pub seed: u64,
    /// What its commands must be signed with; `None` = it does not look.
    pub command_key: Option<CommandKey>,
    /// When in the first send interval its first datagram is due, (0, 1]: spreads a fleet.
    pub phase: f64,
}

/// What the meter's surroundings tell it for its hello.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Surroundings {
    /// Brokers it is connected to.
    pub broker_connections: usize,
    /// Fill of its send buffer, 0…100 %.
    pub buf_usage_pct: f64,
}

/// What a command or a download leads to.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Send this.
    Publish(Outgoing),
    /// Lose power; [`Meter::power_on`] follows.
    Reboot,
    /// Fetch an image and tell [`Meter::on_download`] about it.
    Fetch {
        /// Where from.
        url: String,
        /// Announced size.
        size_bytes: u64,
    },
    /// Leave the present brokers for these.
    MoveTo(Vec<Broker>),
}

/// One meter.
pub struct Meter {
    build: Build,
    config: Config,
    fw_version: String,
    rng: SmallRng,
    source: Source,
    /// Error of its clock, µs.
    pub clock_error_us: i64,
    seq: u32,
    samples_taken: u64,
    powered_on: Timestamp,
    next_sample: Timestamp,
    next_send: Timestamp,
    next_hello: Timestamp,
    announced: bool,
    pending: Vec<Measurement>,
    values: Vec<Value>,
    update: Option<Update>,
    done: VecDeque<Uuid>,
    surroundings: Surroundings,
}

impl Meter {
    /// A meter switched on at `now`.
    pub fn new(build: Build, now: Timestamp) -> Self {
        let mut rng = SmallRng::seed_from_u64(build.seed);
        let source = Source::new(build.profile, &mut rng);
        let mut meter = Self {
            config: build.config,
            fw_version: build.fw_version.clone(),
            rng,
            source,
            clock_error_us: 0,
            seq: 0,
            samples_taken: 0,
            powered_on: now,
            next_sample: now,
            next_send: now,
            next_hello: now,
            announced: false,
            pending: Vec::with_capacity(MAX_MEASUREMENTS),
            values: Vec::with_capacity(MAX_SAMPLE_VALUES),
            update: None,
            done: VecDeque::with_capacity(DONE_COMMANDS),
            surroundings: Surroundings::default(),
            build,
        };
        meter.power_on(now);
        meter
    }

    /// Starts again: counter at 0, nothing buffered in the measuring part. Configuration and done commands are kept.
    pub fn power_on(&mut self, now: Timestamp) {
        self.seq = 0;
        self.powered_on = now;
        self.announced = false;
        self.clock_error_us = 0;
        self.update = None;
        self.schedule(now, self.build.phase.clamp(0.05, 1.0));
    }

    /// The meter's id.
    pub fn device_id(&self) -> &str {
        &self.build.device_id
    }

    /// The firmware it runs.
    pub fn fw_version(&self) -> &str {
        &self.fw_version
    }

    /// The intervals it works with.
    pub fn config(&self) -> Config {
        self.config
    }

    /// What its next hello will say of connections and buffer.
    pub fn set_surroundings(&mut self, surroundings: Surroundings) {
        self.surroundings = surroundings;
    }

    /// The `online` status, to be published retained at each connect.
    pub fn online(&self, now: Timestamp) -> Outgoing {
        wire::status(self.device_id(), self.clock(now), true)
    }

    /// The `offline` status: last will, and last word of an orderly end.
    pub fn offline(&self, now: Timestamp) -> Outgoing {
        wire::status(self.device_id(), self.clock(now), false)
    }

    /// When [`tick`](Self::tick) has something to do again.
    pub fn next_wake(&self) -> Timestamp {
        if !self.announced {
            return self.powered_on;
        }
        let fits = (MAX_MEASUREMENTS - self.pending.len()) / MAX_SAMPLE_VALUES;
        let full = self.next_sample.plus_us(self.cadence_us().saturating_mul(fits as i64 - 1));
        let due = self.next_send.min(full);
        if self.says_hello() { due.min(self.next_hello) } else { due }
    }

    /// Measures and speaks everything that is due by `now`.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Outgoing> {
        let mut out = Vec::new();
        if now.0 - self.next_sample.0 > LONGEST_CATCH_UP_US {
            self.schedule(now, 1.0);
        }
        if !self.announced {
            self.announced = true;
            out.push(self.hello(now));
        }
        loop {
            let hello = if self.says_hello() { self.next_hello } else { Timestamp(i64::MAX) };
            let due = self.next_sample.min(self.next_send).min(hello);
            if due > now {
                return out;
            }
            if due == self.next_sample {
                self.sample(due);
                self.next_sample = due.plus_us(self.cadence_us());
                if self.pending.len() + MAX_SAMPLE_VALUES > MAX_MEASUREMENTS {
                    out.extend(self.datagram(due));
                }
            } else if due == self.next_send {
                out.extend(self.datagram(due));
                self.next_send = due.plus_us(self.scaled_us(self.config.send_interval_s, 1_000_000));
            } else {
                out.push(self.hello(due));
                self.next_hello = due.plus_us(self.scaled_us(self.config.hello_interval_s, 1_000_000));
            }
        }
    }

    /// Obeys a command. A payload that is no command of this meter is ignored, like one already done, and one that is not
    /// signed with the meter's key.
    pub fn on_command(&mut self, payload: &[u8], now: Timestamp) -> Vec<Effect> {
        let key = self.build.command_key.as_ref().map(|key| &*key.0);
        if key.is_some() && decode_command(payload, key) == Err(CommandRefusal::BadSignature) {
            return Vec::new();
        }
        let Ok(command) = serde_json::from_slice::<Command<'_>>(payload) else {
            return Vec::new();
        };
        let is_mine = command.device_id.as_deref().is_none_or(|id| id == self.build.device_id);
        if !is_mine || self.done.contains(&command.cmd_id) {
            return Vec::new();
        }
        if self.done.len() == DONE_COMMANDS {
            self.done.pop_front();
        }
        self.done.push_back(command.cmd_id);
        let id = command.cmd_id;
        match &*command.cmd {
            "update_config" => self.update_config(id, command.params, now),
            "start_ota" => self.start_ota(id, command.params, now),
            "reboot" => vec![self.ack(id, AckResult::Accepted, None, now), Effect::Reboot],
            "factory_reset" => {
                let ack = self.ack(id, AckResult::Accepted, None, now);
                self.config = self.build.config;
                self.fw_version = self.build.fw_version.clone();
                vec![ack, Effect::Reboot]
            }
            "request_status" => {
                let ack = self.ack(id, AckResult::Accepted, None, now);
                vec![ack, Effect::Publish(self.hello(now))]
            }
            other => {
                let detail = format!("unknown command {}", other.chars().take(64).collect::<String>());
                vec![self.ack(id, AckResult::Unsupported, Some(&detail), now)]
            }
        }
    }

    /// Takes one word of a running download.
    pub fn on_download(&mut self, download: Download, now: Timestamp) -> Vec<Effect> {
        let Some(mut update) = self.update.take() else {
            return Vec::new();
        };
        let mut effects = Vec::new();
        let mut ended = None;
        for (state, pct, detail) in update.handle(download) {
            effects.push(self.ota_status(&update, state, pct, detail.as_deref(), now));
            ended = matches!(state, OtaState::Success | OtaState::Failed).then_some(state);
        }
        match ended {
            None => self.update = Some(update),
            Some(OtaState::Success) => {
                self.fw_version = update.params.fw_version;
                effects.push(Effect::Reboot);
            }
            Some(_) => {}
        }
        effects
    }

    fn update_config(&mut self, id: Uuid, params: serde_json::Value, now: Timestamp) -> Vec<Effect> {
        let params = match serde_json::from_value::<ConfigParams>(params) {
            Ok(params) => params,
            Err(e) => return vec![self.ack(id, AckResult::Rejected, Some(&e.to_string()), now)],
        };
        let within = |value: Option<u32>, low: u32, high: u32| value.is_none_or(|v| (low..=high).contains(&v));
        let fault = if !within(params.sampling_cadence_ms, 100, 60_000) {
            Some("sampling_cadence_ms must be 100 to 60000")
        } else if !within(params.send_interval_s, 1, 3600) {
            Some("send_interval_s must be 1 to 3600")
        } else if !within(params.hello_interval_s, 5, 3600) {
            Some("hello_interval_s must be 5 to 3600")
        } else if !params.brokers.as_ref().is_none_or(|b| (1..=5).contains(&b.len())) {
            Some("brokers must be 1 to 5")
        } else {
            None
        };
        if fault.is_some() {
            return vec![self.ack(id, AckResult::Rejected, fault, now)];
        }
        let mut effects = vec![self.ack(id, AckResult::Accepted, None, now)];
        self.config.sampling_cadence_ms = params.sampling_cadence_ms.unwrap_or(self.config.sampling_cadence_ms);
        self.config.send_interval_s = params.send_interval_s.unwrap_or(self.config.send_interval_s);
        self.config.hello_interval_s = params.hello_interval_s.unwrap_or(self.config.hello_interval_s);
        self.reschedule(now);
        effects.extend(params.brokers.map(Effect::MoveTo));
        effects
    }

    fn start_ota(&mut self, id: Uuid, params: serde_json::Value, now: Timestamp) -> Vec<Effect> {
        let order = match serde_json::from_value::<OtaParams>(params) {
            Ok(_) if self.update.is_some() => Err("an update is running".into()),
            Ok(params) => Update::order(id, params).map_err(String::from),
            Err(e) => Err(e.to_string()),
        };
        match order {
            Err(reason) => vec![self.ack(id, AckResult::Rejected, Some(&reason), now)],
            Ok(update) => {
                let fetch =
                    Effect::Fetch { url: update.params.fw_url.clone(), size_bytes: update.params.fw_size_bytes };
                let ack = self.ack(id, AckResult::Accepted, None, now);
                let started = self.ota_status(&update, OtaState::Downloading, 0, None, now);
                self.update = Some(update);
                vec![ack, started, fetch]
            }
        }
    }

    fn says_hello(&self) -> bool {
        self.config.send_interval_s > self.config.hello_interval_s
    }

    /// `value` units of `unit_us` of meter time in real microseconds, never shorter than a millisecond.
    fn scaled_us(&self, value: u32, unit_us: i64) -> i64 {
        ((f64::from(value) * unit_us as f64 / self.build.speed) as i64).max(1000)
    }

    fn cadence_us(&self) -> i64 {
        self.scaled_us(self.config.sampling_cadence_ms, 1000)
    }

    /// Plans from `now` on as after power-on, the first datagram after `phase` of an interval.
    fn schedule(&mut self, now: Timestamp, phase: f64) {
        self.pending.clear();
        let send_us = self.scaled_us(self.config.send_interval_s, 1_000_000);
        self.next_sample = now.plus_us(self.cadence_us().min(send_us / 10));
        self.next_send = now.plus_us((send_us as f64 * phase) as i64);
        self.next_hello = now.plus_us(self.scaled_us(self.config.hello_interval_s, 1_000_000));
    }

    /// Applies changed intervals: what is due later than the new interval allows is brought forward.
    fn reschedule(&mut self, now: Timestamp) {
        self.next_sample = self.next_sample.min(now.plus_us(self.cadence_us()));
        self.next_send = self.next_send.min(now.plus_us(self.scaled_us(self.config.send_interval_s, 1_000_000)));
        self.next_hello = now.plus_us(self.scaled_us(self.config.hello_interval_s, 1_000_000));
    }

    fn sample(&mut self, at: Timestamp) {
        let seconds = f64::from(self.config.sampling_cadence_ms) / 1000.0;
        let slow = self.samples_taken.is_multiple_of(SLOW_EVERY);
        self.samples_taken += 1;
        self.values.clear();
        self.source.sample(seconds, slow, &mut self.rng, &mut self.values);
        let ts = self.clock(at);
        self.pending.extend(self.values.iter().map(|&(name, unit, val)| Measurement { ts, name, val, unit }));
    }

    fn datagram(&mut self, at: Timestamp) -> Option<Outgoing> {
        if self.pending.is_empty() {
            return None;
        }
        let pending = std::mem::take(&mut self.pending);
        let out = wire::telemetry(self.head(at), &pending);
        self.pending = pending;
        self.pending.clear();
        Some(out)
    }

    fn hello(&mut self, now: Timestamp) -> Outgoing {
        let fw_version = std::mem::take(&mut self.fw_version);
        let body = Hello {
            fw_version: &fw_version,
            uptime_s: now.since(self.powered_on).as_secs(),
            broker_connections: self.surroundings.broker_connections,
            buf_usage_pct: (self.surroundings.buf_usage_pct * 10.0).round() / 10.0,
            temp_internal: self.source.temperature(),
        };
        let out = wire::hello(self.head(now), &body);
        self.fw_version = fw_version;
        out
    }

    fn ack(&mut self, id: Uuid, result: AckResult, detail: Option<&str>, now: Timestamp) -> Effect {
        Effect::Publish(wire::command_ack(self.head(now), id, result, detail))
    }

    fn ota_status(
        &mut self,
        update: &Update,
        state: OtaState,
        pct: u8,
        detail: Option<&str>,
        now: Timestamp,
    ) -> Effect {
        let progress = Progress { cmd_id: update.cmd_id, state, pct, target: &update.params.fw_version, detail };
        Effect::Publish(wire::ota_status(self.head(now), &progress))
    }

    /// Takes the next counter.
    fn head(&mut self, now: Timestamp) -> Head<'_> {
        let seq = self.seq;
        self.seq = self.seq.wrapping_add(1);
        Head { device_id: &self.build.device_id, ts: self.clock(now), seq }
    }

    fn clock(&self, now: Timestamp) -> Timestamp {
        now.plus_us(self.clock_error_us)
    }
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
