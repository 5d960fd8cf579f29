//! The pure heart of the collector: decoded messages and device states in, one [`Batch`] for the store out.
//!
//! Invariant: the same messages in the same order on the same states give the same batch; time comes in with the messages.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::json;

use super::cache::States;
use crate::domain::alert::AlertKind;
use crate::domain::presence::{Connection, PresenceChange};
use crate::domain::rule::{RuleSet, Severity, Verdict};
use crate::domain::sequence::{Gap, Observation};
use crate::domain::{
    Body, DEFAULT_DEVICE_TYPE, DeviceId, DeviceState, Message, Refusal, Registration, Sequence, Telemetry, Timestamp,
};
use crate::journal::Offset;
use crate::payload::Kind;
use crate::store::{AlertChange, Batch, CommandChange, EventRow, GapEntry, NewDevice, RuleAlert, TelemetryRow};

/// What to do with a message of a device that is not registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownDevices {
    /// Register it, active.
    Register,
    /// Register it as `inactive` with `metadata.quarantined`: its data are stored, it raises no alerts.
    Quarantine,
    /// Refuse its messages; they stay in the archive.
    Refuse,
}

/// One journal record, decoded or refused.
#[derive(Clone, PartialEq, Debug)]
pub struct Decoded {
    /// Its place in the journal.
    pub offset: Offset,
    /// The topic's device.
    pub device: DeviceId,
    /// Of what kind it is, by its topic.
    pub kind: Kind,
    /// When this server received it.
    pub received_at: Timestamp,
    /// What it says.
    pub result: Result<Message, Refusal>,
}

/// What a plan counted, for the metrics.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tally {
    /// Messages by kind.
    pub kinds: Vec<(&'static str, u64)>,
    /// Refused messages by kind and reason.
    pub refused: Vec<((Kind, Refusal), u64)>,
    /// Values to be stored.
    pub readings: u64,
    /// Values outside their plausible range.
    pub flagged: u64,
    /// Measurements dropped from datagrams that were stored.
    pub dropped: u64,
    /// Gaps found.
    pub gaps_opened: u64,
    /// Gaps filled to the last message.
    pub gaps_filled: u64,
    /// Restarts of a meter's count.
    pub reboots: u64,
    /// Devices registered by their first message.
    pub registered: u64,
    /// Messages stamped more than 2 s after their receipt ([`Timestamp::is_ahead_of`]).
    pub ahead: u64,
    /// Alerts raised by rules, by their severity.
    pub fired: [u64; Severity::ALL.len()],
}

impl Tally {
    fn kind(&mut self, kind: &'static str) {
        match self.kinds.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, n)) => *n += 1,
            None => self.kinds.push((kind, 1)),
        }
    }

    fn refuse(&mut self, kind: Kind, reason: Refusal) {
        match self.refused.iter_mut().find(|(of, _)| *of == (kind, reason)) {
            Some((_, n)) => *n += 1,
            None => self.refused.push(((kind, reason), 1)),
        }
    }
}

/// Builds a batch message by message.
#[derive(Debug)]
pub struct Plan<'a> {
    states: &'a mut States,
    unknown: UnknownDevices,
    rules: Option<&'a RuleSet>,
    batch: Batch,
    /// Where in the batch a ledger entry is, by what names it.
    entries: HashMap<(DeviceId, Timestamp, u32), usize>,
    tally: Tally,
}

/// Plans a run of messages. The states of all their devices must be loaded.
pub fn plan(states: &mut States, decoded: Vec<Decoded>, unknown: UnknownDevices, rules: &RuleSet) -> (Batch, Tally) {
    let mut plan = Plan { rules: Some(rules), ..Plan::new(states, unknown) };
    for message in decoded {
        plan.take(message);
    }
    plan.finish()
}

impl<'a> Plan<'a> {
    /// An empty plan on these states.
    pub fn new(states: &'a mut States, unknown: UnknownDevices) -> Self {
        let (batch, tally) = (Batch::default(), Tally::default());
        Self { states, unknown, rules: None, batch, entries: HashMap::new(), tally }
    }

    /// The batch, with the states it changes.
    pub fn finish(mut self) -> (Batch, Tally) {
        self.batch.states = self.states.changes();
        (self.batch, self.tally)
    }

    /// One more message.
    pub fn take(&mut self, decoded: Decoded) {
        let Decoded { offset, device, kind, received_at, result } = decoded;
        if self.states.is_buried(&device, offset) {
            // It stays in the archive; the device was deleted after it said this.
            self.tally.refuse(kind, Refusal::UnknownDevice);
            return;
        }
        match result {
            Ok(message) if self.admit(&device) => self.message(message, received_at),
            Ok(_) => self.tally.refuse(kind, Refusal::UnknownDevice),
            Err(reason) => {
                self.tally.refuse(kind, reason);
                // A registered meter that sends nonsense is there all the same.
                if self.registered(&device).is_some() {
                    self.hear(&device, Connection::Online, received_at);
                }
            }
        }
    }

    /// The state of a device that is registered.
    pub fn registered(&self, device: &DeviceId) -> Option<&DeviceState> {
        self.states.get(device).filter(|state| state.registration.is_some())
    }

    /// The device's status as said over REST or found by the presence timeout.
    pub fn set_connection(&mut self, device: &DeviceId, to: Connection, at: Timestamp, why: &str) {
        let change = self.states.edit(device).connect(to);
        self.follow(device, change, at, why);
    }

    /// Raises or clears the alert that goes with a change of presence.
    fn follow(&mut self, device: &DeviceId, change: PresenceChange, at: Timestamp, why: &str) {
        let is_active = |state: &DeviceState| state.registration.as_ref().is_some_and(|r| r.is_active);
        let raises = self.states.get(device).is_some_and(is_active);
        let (device, kind) = (device.clone(), AlertKind::DeviceOffline);
        match change {
            PresenceChange::WentOffline if raises => {
                let message = format!("{device} is offline: {why}");
                self.batch.alerts.push(AlertChange::Raise { device, kind, message, at });
            }
            PresenceChange::WentOnline => self.batch.alerts.push(AlertChange::Clear { device, kind, at }),
            _ => {}
        }
    }

    /// The firmware as said over REST.
    pub fn set_firmware(&mut self, device: &DeviceId, version: String) {
        let state = self.states.edit(device);
        (state.fw_version, state.doubtful_fw) = (Some(version), None);
    }

    /// The firmware as a hello says it. One that is not ahead is a copy that came late, or of a meter that was switched on with a
    /// clock that is behind: that shows later.
    fn hear_firmware(&mut self, device: &DeviceId, version: String, is_known: bool) {
        let state = self.states.edit(device);
        match is_known && state.fw_version.is_some() {
            true => state.doubtful_fw = Some(version),
            false => self.set_firmware(device, version),
        }
    }

    /// A sign of life (or, with `Offline`, the last will) received at `at`.
    pub fn hear(&mut self, device: &DeviceId, connection: Connection, at: Timestamp) {
        let change = self.states.edit(device).heard(connection, at);
        self.follow(device, change, at, "its last will was received");
    }

    /// Whether the device may be stored; registers an unknown one when the rule says so.
    fn admit(&mut self, device: &DeviceId) -> bool {
        if self.registered(device).is_some() {
            return true;
        }
        if self.unknown == UnknownDevices::Refuse {
            return false;
        }
        let is_active = self.unknown == UnknownDevices::Register;
        let mut metadata = serde_json::Map::new();
        if !is_active {
            metadata.insert("quarantined".into(), json!(true));
        }
        self.batch.registrations.push(NewDevice {
            device_id: device.clone(),
            device_name: device.to_string(),
            device_type: DEFAULT_DEVICE_TYPE.into(),
            location: None,
            is_active,
            metadata,
            token_sha256: None,
        });
        self.tally.registered += 1;
        let device_type = DEFAULT_DEVICE_TYPE.into();
        let registration = Registration { is_active, intervals: Default::default(), device_type };
        self.states.edit(device).registration = Some(registration);
        true
    }

    fn message(&mut self, message: Message, received_at: Timestamp) {
        let Message { device, ts, seq, body, .. } = message;
        self.tally.kind(body.kind());
        self.tally.ahead += u64::from(ts.is_ahead_of(received_at));
        // (Looked up for rules alone.)
        let has_rules = self.rules.is_some_and(|rules| !rules.is_empty());
        let is_newest = has_rules && self.is_newest(&device, seq, ts, received_at);
        let is_known = seq.counted().is_some_and(|counted| self.count(&device, counted, ts, received_at));
        self.hear(&device, Connection::said_by(&body), received_at);
        let kind = body.kind();
        let body = match body {
            Body::Telemetry(mut values) => {
                self.measure(&device, &mut values, (ts, is_newest), received_at);
                self.tally.readings += values.len() as u64;
                self.tally.flagged += u64::from(values.flagged);
                self.tally.dropped += u64::from(values.dropped);
                self.batch.telemetry.push(TelemetryRow { device, ts, seq, received_at, values });
                return;
            }
            Body::Hello(hello) => {
                let json = json!({
                    "fw_version": hello.fw_version, "uptime_s": hello.uptime_s,
                    "broker_connections": hello.broker_connections, "buf_usage_pct": hello.buf_usage_pct,
                    "temp_internal": hello.temp_internal,
                });
                self.hear_firmware(&device, hello.fw_version, is_known);
                json
            }
            Body::Status { online } => json!({ "status": if online { "online" } else { "offline" } }),
            Body::CommandAck(ack) => {
                self.batch.commands.push(CommandChange {
                    cmd_id: ack.cmd_id,
                    device: Some(device.clone()),
                    to: ack.result.into(),
                    detail: ack.detail.clone(),
                    at: received_at,
                });
                json!({ "cmd_id": ack.cmd_id.to_string(), "result": ack.result.name(), "detail": ack.detail })
            }
            Body::OtaStatus(ota) => json!({
                "cmd_id": ota.cmd_id.to_string(), "ota_state": ota.state.name(), "progress_pct": ota.progress_pct,
                "fw_version_target": ota.fw_version_target, "detail": ota.detail,
            }),
        };
        self.batch.events.push(EventRow { device, ts, seq, received_at, kind: kind.to_owned(), body });
    }

    /// Takes a datagram in, and judges it by the alert rules.
    fn measure(
        &mut self,
        device: &DeviceId,
        values: &mut Telemetry,
        (ts, is_newest): (Timestamp, bool),
        received_at: Timestamp,
    ) {
        let state = self.states.edit(device);
        let Some(rules) = self.rules.filter(|rules| !rules.is_empty() || !state.rules.is_empty()) else {
            state.absorb(values, ts);
            return;
        };
        let seen = rules.seen(state, values, (ts, is_newest));
        state.absorb(values, ts);
        for verdict in rules.judge(device, state, (&seen, values, ts)) {
            self.batch.rule_alerts.push(match verdict {
                Verdict::Fire { rule, value, at } => {
                    self.tally.fired[rule.severity as usize] += 1;
                    RuleAlert::Fire {
                        device: device.clone(),
                        rule: rule.id,
                        generation: rule.generation,
                        name: rule.name.clone(),
                        severity: rule.severity,
                        message: rule.alert_message(device, value, at),
                        at: received_at,
                    }
                }
                Verdict::Clear { rule, reason } => {
                    RuleAlert::Clear { device: device.clone(), rule, reason, at: received_at }
                }
            });
        }
    }

    /// Whether a message, not counted yet, is the last that its meter has said. One without a counter is taken for it unless it
    /// is ahead itself.
    fn is_newest(&self, device: &DeviceId, seq: Sequence, ts: Timestamp, received_at: Timestamp) -> bool {
        let Some(counted) = seq.counted() else { return !ts.is_ahead_of(received_at) };
        self.states.get(device).is_none_or(|state| {
            let now = state.last_seen.map_or(received_at, |heard| heard.max(received_at));
            state.sequence.is_newest(counted, ts, now)
        })
    }

    /// Follows the meter's counter; `true` = the message is not ahead of what was heard, and was not missing.
    fn count(&mut self, device: &DeviceId, counter: u32, ts: Timestamp, received_at: Timestamp) -> bool {
        let state = self.states.edit(device);
        let now = state.last_seen.map_or(received_at, |heard| heard.max(received_at));
        let observation = state.sequence.observe_at(counter, ts, now);
        let is_known = observation == Observation::Known;
        // Not a late copy after all: the meter was switched on again.
        if !is_known
            && let Some(said) = state.doubtful_fw.take()
            && matches!(observation, Observation::Reboot { .. })
        {
            state.fw_version = Some(said);
        }
        let gap = match observation {
            Observation::First | Observation::Next | Observation::Known => None,
            Observation::Reboot { gap } => {
                self.tally.reboots += 1;
                gap
            }
            Observation::Jump(gap) | Observation::Late(gap) => Some(gap),
        };
        if let Some(gap) = gap {
            self.note_gap(device, gap, received_at);
        }
        is_known
    }

    /// A gap that is new or has changed into the ledger, and the alert that goes with open ones.
    fn note_gap(&mut self, device: &DeviceId, gap: Gap, received_at: Timestamp) {
        let state = self.states.edit(device);
        let raises = state.registration.as_ref().is_some_and(|r| r.is_active);
        let alert = if gap.missing.is_empty() {
            self.tally.gaps_filled += 1;
            state.sequence.open.is_empty().then(|| AlertChange::Clear {
                device: device.clone(),
                kind: AlertKind::SequenceGap,
                at: received_at,
            })
        } else if is_new(&gap) {
            self.tally.gaps_opened += 1;
            raises.then(|| AlertChange::Raise {
                device: device.clone(),
                kind: AlertKind::SequenceGap,
                message: format!("{device}: messages {} to {} are missing", gap.first, gap.last),
                at: received_at,
            })
        } else {
            None
        };
        self.batch.alerts.extend(alert);
        self.enter(device, gap, received_at);
    }

    /// Into the ledger. However often a gap changes within a batch, it is one entry there: as it was left.
    fn enter(&mut self, device: &DeviceId, gap: Gap, at: Timestamp) {
        match self.entries.entry((device.clone(), gap.after, gap.first)) {
            Entry::Vacant(place) => {
                place.insert(self.batch.gaps.len());
                let filled_at = gap.is_filled().then_some(at);
                self.batch.gaps.push((device.clone(), GapEntry { gap, detected_at: at, filled_at }));
            }
            Entry::Occupied(place) => {
                if let Some((_, entry)) = self.batch.gaps.get_mut(*place.get()) {
                    entry.filled_at = gap.is_filled().then_some(entry.filled_at.unwrap_or(at));
                    entry.gap = gap;
                }
            }
        }
    }
}

/// Whether nothing of the gap has been filled yet.
fn is_new(gap: &Gap) -> bool {
    gap.missing == [(gap.first, gap.last)]
}
