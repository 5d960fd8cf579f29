//! A store mostly in memory and an application around it, for the tests of handlers.

mod access;
mod certificates;
mod data;
mod enrolment;
mod outbox;
mod raw;
mod rollouts;
mod rules;
mod sending;
mod takeover;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix_web::web;
use serde_json::{Value, json};

pub use data::{Answer, alert, soon};

use super::{MetricsAccess, Options, Page as StaticPage, Services, State, key};
use crate::collector::RequestKind;
use crate::domain::command::{CommandStatus, may_advance};
use crate::domain::metric::Metric;
use crate::domain::presence::Connection;
use crate::domain::{Clock, CommandId, DeviceId, DeviceState, Sequence, Telemetry, Timestamp};
use crate::journal;
use crate::observe::{Board, Progress, TaskState};
use crate::store::*;
use crate::{audit, collector, dispatch, notify};

/// 2026-02-12T10:00:00Z.
pub const NOW: Timestamp = Timestamp(1_770_890_400_000_000);

/// Long enough for anything that is going to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Content {
    devices: Vec<Device>,
    states: Vec<(DeviceId, DeviceState)>,
    tokens: Vec<(DeviceId, [u8; 32])>,
    telemetry: Vec<TelemetryRow>,
    gaps: Vec<GapEntry>,
    alerts: Vec<Alert>,
    commands: Vec<Command>,
    is_away: bool,
    /// It goes away as soon as devices have been created.
    is_going: bool,
    pings: usize,
}

/// Devices and data in memory, nothing fast; keys, sessions and the audit log in a real database.
#[derive(Default)]
pub struct FakeStore(Mutex<Content>, access::Real, AtomicUsize);

impl FakeStore {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    pub fn pings(&self) -> usize {
        self.lock().pings
    }

    fn answer(&self) -> Result<MutexGuard<'_, Content>, Error> {
        let content = self.lock();
        if content.is_away {
            return Err(Error::Unavailable { operation: "answer", source: "secret driver text".into() });
        }
        Ok(content)
    }
}

/// A row's place is its number, counted from the oldest: nothing is removed while a test walks.
fn part<T: Clone>(all: Vec<T>, page: Page) -> Listing<T> {
    let total = all.len();
    let limit = page.limit as usize;
    let newest_first = all.into_iter().rev();
    match page.start {
        Start::Offset(offset) => {
            let items = newest_first.skip(offset as usize).take(limit).collect();
            Listing { items, total: Some(total as u64), next: None }
        }
        Start::Behind(place) => {
            let left = place.map_or(total, |Place(number, _)| number as usize);
            let items = newest_first.skip(total - left).take(limit).collect();
            Listing { items, total: None, next: (left > limit).then(|| Place((left - limit) as i64, 0)) }
        }
    }
}

impl Nodes for FakeStore {}

impl Commands for FakeStore {
    fn advance_command_from(
        &self,
        from: Option<CommandStatus>,
        change: &CommandChange,
    ) -> Result<Option<Outcome<Command>>, Error> {
        match self.command(change.cmd_id)? {
            Some(command) if from.is_some_and(|from| from != command.status) => Ok(Some(Outcome::Conflict)),
            _ => self.advance_command(change),
        }
    }
}

impl Store for FakeStore {
    fn checkpoint(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }
    fn durable_checkpoint(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }
    fn device_states(&self, ids: &[DeviceId]) -> Result<Vec<(DeviceId, DeviceState)>, Error> {
        Ok(self.answer()?.states.iter().filter(|(id, _)| ids.contains(id)).cloned().collect())
    }
    fn online_devices(&self) -> Result<Vec<(DeviceId, DeviceState)>, Error> {
        Ok(Vec::new())
    }
    fn commit(&self, _: &Batch) -> Result<Committed, Error> {
        Ok(Committed::default())
    }
    fn create_device(&self, new: &NewDevice, now: Timestamp) -> Result<Outcome<Device>, Error> {
        self.2.fetch_add(1, Ordering::SeqCst);
        let mut content = self.answer()?;
        if content.devices.iter().any(|d| d.device_id == new.device_id) {
            return Ok(Outcome::Conflict);
        }
        let device = Device {
            id: content.devices.len() as i64 + 1,
            device_id: new.device_id.clone(),
            device_name: new.device_name.clone(),
            device_type: new.device_type.clone(),
            location: new.location.clone(),
            is_active: new.is_active,
            connection: Connection::Unknown,
            last_seen: None,
            fw_version: None,
            created_at: now,
            updated_at: now,
            metadata: new.metadata.clone(),
            version: 1,
        };
        content.devices.push(device.clone());
        content.tokens.extend(new.token_sha256.map(|t| (new.device_id.clone(), t)));
        Ok(Outcome::Done(device))
    }
    fn create_devices(&self, new: &[NewDevice], all_or_nothing: bool, now: Timestamp) -> Result<Vec<bool>, Error> {
        self.2.fetch_add(1, Ordering::SeqCst);
        let is_free = |new: &NewDevice| Ok(self.device(&new.device_id)?.is_none());
        let free = new.iter().map(is_free).collect::<Result<Vec<bool>, Error>>()?;
        if !all_or_nothing || !free.contains(&false) {
            new.iter().try_for_each(|new| self.create_device(new, now).map(drop))?;
        }
        let mut content = self.lock();
        content.is_away = content.is_going;
        Ok(free)
    }
    fn devices_of(&self, ids: &[DeviceId]) -> Result<Vec<Device>, Error> {
        Ok(self.answer()?.devices.iter().filter(|d| ids.contains(&d.device_id)).cloned().collect())
    }
    fn device(&self, id: &DeviceId) -> Result<Option<Device>, Error> {
        Ok(self.answer()?.devices.iter().find(|d| d.device_id == *id).cloned())
    }
    fn devices(&self, filter: &DeviceFilter, page: Page) -> Result<Listing<Device>, Error> {
        let matches = |d: &&Device| {
            filter.is_active.is_none_or(|a| a == d.is_active)
                && filter.id_prefix.as_ref().is_none_or(|p| d.device_id.as_str().starts_with(p.as_str()))
                && filter.q.as_ref().is_none_or(|q| d.device_id.as_str().contains(q.as_str()))
        };
        Ok(part(self.answer()?.devices.iter().filter(matches).cloned().collect(), page))
    }
    fn update_device(
        &self,
        id: &DeviceId,
        change: &DeviceChange,
        expected: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<Outcome<Device>>, Error> {
        let mut content = self.answer()?;
        let Some(device) = content.devices.iter_mut().find(|d| d.device_id == *id) else { return Ok(None) };
        if expected.is_some_and(|v| v != device.version) {
            return Ok(Some(Outcome::Conflict));
        }
        if let Some(name) = &change.device_name {
            device.device_name.clone_from(name);
        }
        device.is_active = change.is_active.unwrap_or(device.is_active);
        device.version += 1;
        device.updated_at = now;
        Ok(Some(Outcome::Done(device.clone())))
    }
    fn delete_device(&self, id: &DeviceId, _: bool) -> Result<bool, Error> {
        let mut content = self.answer()?;
        let before = content.devices.len();
        content.devices.retain(|d| d.device_id != *id);
        Ok(content.devices.len() < before)
    }
    fn set_device_token(&self, id: &DeviceId, token: Option<[u8; 32]>) -> Result<bool, Error> {
        let mut content = self.answer()?;
        content.tokens.retain(|(d, _)| d != id);
        content.tokens.extend(token.map(|t| (id.clone(), t)));
        Ok(content.devices.iter().any(|d| d.device_id == *id))
    }
    fn device_credential(&self, id: &DeviceId) -> Result<Option<DeviceCredential>, Error> {
        let token = self.answer()?.tokens.iter().find(|(d, _)| d == id).map(|(_, t)| *t);
        Ok(Some(DeviceCredential { is_active: true, token_sha256: token }))
    }
    fn stats(&self) -> Result<Stats, Error> {
        let content = self.answer()?;
        let total_devices = content.devices.len() as u64;
        let device_by_status = vec![("active".to_owned(), total_devices)];
        Ok(Stats { total_devices, device_by_status, ..Stats::default() })
    }
    fn scan_telemetry(
        &self,
        id: &DeviceId,
        from: Timestamp,
        to: Timestamp,
        each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut rows = self.answer()?.telemetry.clone();
        rows.sort_by_key(|r| (r.ts, r.seq));
        for row in rows.into_iter().filter(|r| r.device == *id && from <= r.ts && r.ts < to) {
            if each(row).is_break() {
                break;
            }
        }
        Ok(())
    }
    fn reach(&self, _: &DeviceId) -> Result<Reach, Error> {
        Ok(Reach::default())
    }
    fn note_purge(&self, _: &DeviceId, _: Timestamp) -> Result<(), Error> {
        self.answer().map(drop)
    }
    fn gaps(&self, _: &DeviceId, _: Timestamp, _: Timestamp, page: Page) -> Result<Listing<GapEntry>, Error> {
        Ok(part(self.answer()?.gaps.clone(), page))
    }
    fn events(&self, _: &DeviceId, _: Option<&str>, page: Page) -> Result<Listing<EventRow>, Error> {
        Ok(part(Vec::new(), page))
    }
    fn create_alert(&self, id: &DeviceId, new: &NewAlert, now: Timestamp) -> Result<Option<Alert>, Error> {
        let mut content = self.answer()?;
        if !content.devices.iter().any(|d| d.device_id == *id) {
            return Ok(None);
        }
        let alert = Alert {
            id: content.alerts.len() as i64 + 1,
            device_id: id.clone(),
            alert_type: new.alert_type.clone(),
            severity: new.severity.clone(),
            message: new.message.clone(),
            created_at: now,
            cleared_at: None,
            acknowledged_at: None,
            acknowledged_by: None,
            rule: None,
            cleared_reason: None,
        };
        content.alerts.push(alert.clone());
        Ok(Some(alert))
    }
    fn alerts(&self, filter: &AlertFilter, page: Page) -> Result<Listing<Alert>, Error> {
        let matches = |a: &&Alert| {
            filter.id.is_none_or(|id| id == a.id)
                && filter.device.as_ref().is_none_or(|d| *d == a.device_id)
                && filter.id_prefix.as_ref().is_none_or(|p| a.device_id.as_str().starts_with(p.as_str()))
                && filter.acknowledged.is_none_or(|w| w == a.acknowledged_at.is_some())
        };
        Ok(part(self.answer()?.alerts.iter().filter(matches).cloned().collect(), page))
    }
    fn acknowledge_alert(&self, alert: i64, by: &str, now: Timestamp) -> Result<Option<Alert>, Error> {
        let mut content = self.answer()?;
        let found = content.alerts.iter_mut().find(|a| a.id == alert);
        Ok(found.map(|a| {
            a.acknowledged_at.get_or_insert(now);
            a.acknowledged_by.get_or_insert(by.to_owned());
            a.clone()
        }))
    }
    fn create_command(&self, new: &NewCommand) -> Result<Option<Command>, Error> {
        let mut content = self.answer()?;
        if !content.devices.iter().any(|d| d.device_id == new.device) {
            return Ok(None);
        }
        let command = Command {
            cmd_id: new.cmd_id,
            device: new.device.clone(),
            cmd: new.cmd.clone(),
            params: new.params.clone(),
            status: CommandStatus::Pending,
            detail: None,
            created_at: new.created_at,
            created_by: new.created_by.clone(),
            expires_at: new.expires_at,
            sent_at: None,
            delivered_at: None,
            finished_at: None,
        };
        content.commands.push(command.clone());
        Ok(Some(command))
    }
    fn command(&self, id: CommandId) -> Result<Option<Command>, Error> {
        Ok(self.answer()?.commands.iter().find(|c| c.cmd_id == id).cloned())
    }
    fn commands(&self, filter: &CommandFilter, page: Page) -> Result<Listing<Command>, Error> {
        let matches = |c: &&Command| {
            filter.device.as_ref().is_none_or(|d| *d == c.device) && filter.status.is_none_or(|s| s == c.status)
        };
        Ok(part(self.answer()?.commands.iter().filter(matches).cloned().collect(), page))
    }
    fn deliverable_commands(&self, _: &DeviceId, _: Timestamp) -> Result<Vec<Command>, Error> {
        Ok(Vec::new())
    }
    fn advance_command(&self, change: &CommandChange) -> Result<Option<Outcome<Command>>, Error> {
        let mut content = self.answer()?;
        let Some(command) = content.commands.iter_mut().find(|c| c.cmd_id == change.cmd_id) else { return Ok(None) };
        if !may_advance(command.status, change.to) {
            return Ok(Some(Outcome::Conflict));
        }
        command.status = change.to;
        command.detail.clone_from(&change.detail);
        command.finished_at = Some(change.at);
        Ok(Some(Outcome::Done(command.clone())))
    }
    fn expire_commands(&self, _: Timestamp, _: Timestamp) -> Result<usize, Error> {
        Ok(0)
    }
    fn create_api_key(&self, key: &ApiKey) -> Result<(), Error> {
        self.real().create_api_key(key)
    }
    fn api_key(&self, prefix: &str) -> Result<Option<ApiKey>, Error> {
        self.real().api_key(prefix)
    }
    fn api_keys(&self) -> Result<Vec<ApiKey>, Error> {
        self.real().api_keys()
    }
    fn revoke_api_key(&self, prefix: &str, now: Timestamp) -> Result<bool, Error> {
        self.real().revoke_api_key(prefix, now)
    }
    fn save_sessions(&self, _: &[SessionChange], _: &[RetainedChange]) -> Result<(), Error> {
        Ok(())
    }
    fn load_sessions(&self, _: &mut dyn FnMut(SavedSession)) -> Result<(), Error> {
        Ok(())
    }
    fn load_retained(&self, _: &mut dyn FnMut(String, Vec<u8>)) -> Result<(), Error> {
        Ok(())
    }
    fn ping(&self) -> Result<(), Error> {
        self.lock().pings += 1;
        self.answer().map(drop)
    }
    fn trim(&self, _: Timestamp, _: usize) -> Result<usize, Error> {
        Ok(0)
    }
}

/// A server without a socket, and what stands behind it.
pub struct Bench {
    pub store: Arc<FakeStore>,
    pub clock: Clock,
    pub state: web::Data<State>,
    pub told: Arc<Mutex<Vec<RequestKind>>>,
    pub asked: tokio::sync::mpsc::Receiver<dispatch::Request>,
    pub connected: dispatch::Connected,
    pub noted: Mutex<audit::Noted>,
    pub _dir: tempfile::TempDir,
}

const PAGES: &[StaticPage] = &[StaticPage { path: "/", content_type: "text/html", body: "<p>hello</p>" }];

/// What the API stands on in tests, and the ends of its channels.
pub fn services(store: Arc<FakeStore>, clock: Clock, open: bool) -> (Services, Ends) {
    let (collector, collector::Inbox { mut requests, .. }) = collector::Handle::channel();
    let (dispatch, dispatch::Inbox { rx: asked, connected }) = dispatch::Handle::channel();
    let told: Arc<Mutex<Vec<RequestKind>>> = Arc::default();
    let (ear, registry) = (Arc::clone(&told), Arc::clone(&store));
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            ear.lock().unwrap().push(request.kind);
            let known = registry.lock().devices.iter().any(|d| d.device_id == request.device);
            let _ = request.reply.send(if known { collector::Answer::Done } else { collector::Answer::NoDevice });
        }
    });
    let (audit, noted) = audit::Log::channel();
    let board = Board::new(clock.clone());
    board.set("collector", TaskState::Running);
    let collector_progress = Progress::default();
    collector_progress.set(90, None);
    let status =
        journal::Status { head: journal::Offset(101), durable: journal::Offset(100), ..journal::Status::default() };
    let authenticator = Arc::new(super::Authenticator::new(open, clock.clone()));
    let dir = tempfile::tempdir().unwrap();
    let notices = notify::Desk::open(Arc::clone(&store) as SharedStore, dir.path(), clock.clone(), false).unwrap();
    let services = Services {
        notices,
        history: crate::history::History::of_store(Arc::clone(&store) as SharedStore),
        pulse: super::Pulse::new(Arc::clone(&store) as SharedStore, clock.clone()),
        store,
        raw: Arc::new(raw::FakeRaw),
        collector,
        dispatch,
        board,
        journal: Arc::new(move || status.clone()),
        collector_progress,
        archiver_progress: Progress::default(),
        clock,
        metrics: Some(Arc::new(|_| "up 1\n".to_owned())),
        tracer: Default::default(),
        node_id: "n1".to_owned(),
        said: Arc::new(crate::store::Beat {
            name: "test".to_owned(),
            version: "0".to_owned(),
            addresses: Vec::new(),
            started_at: crate::domain::Timestamp(0),
            stored_until: crate::domain::Timestamp(0),
        }),
        peers: Default::default(),
        authenticator,
        audit,
        open: tokio::sync::watch::Sender::new(true).subscribe(),
        live: data::closed_hub(),
        campaigns: rollouts::campaigns(dir.path()),
        vault: Arc::new(crate::vault::Keyring::of_new_key()),
        mqtt_port: 1883,
        pki: certificates::pki(),
    };
    (services, Ends { told, asked, connected, noted, _dir: dir })
}

/// The ends of the channels.
pub struct Ends {
    pub told: Arc<Mutex<Vec<RequestKind>>>,
    pub asked: tokio::sync::mpsc::Receiver<dispatch::Request>,
    pub connected: dispatch::Connected,
    pub noted: audit::Noted,
    pub _dir: tempfile::TempDir,
}

impl Bench {
    pub fn new(open: bool) -> Self {
        Self::with(open, Options::default())
    }

    pub fn with(open: bool, options: Options) -> Self {
        let store = Arc::new(FakeStore::default());
        let clock = Clock::manual(NOW);
        let (services, ends) = services(Arc::clone(&store), clock.clone(), open);
        let options = Options { pages: PAGES, metrics_access: MetricsAccess::Loopback, ..options };
        let state = web::Data::new(State::new(services, options));
        Self {
            store,
            clock,
            state,
            told: ends.told,
            asked: ends.asked,
            connected: ends.connected,
            noted: Mutex::new(ends.noted),
            _dir: ends._dir,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None, &[]).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, Some(body), &[]).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, Some(body), &[]).await
    }

    pub async fn add_device(&self, id: &str) {
        assert_eq!(self.post("/api/devices", json!({"device_id": id, "device_name": "M"})).await.status, 201);
    }

    pub fn add_key(&self, role: Role, prefix: Option<&str>) -> String {
        let (text, key) = key::generate("test", role, prefix.map(str::to_owned), NOW);
        self.store.create_api_key(&key).unwrap();
        text
    }

    pub fn take_database_away(&self) {
        self.store.lock().is_away = true;
    }
}
