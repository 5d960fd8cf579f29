//! Staged updates: rows of rollouts and of their devices, and how they are made. `rollout_steps` moves them on.

use diesel::pg::Pg;
use diesel::prelude::Insertable;
use diesel::sql_types::BigInt;
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable, RunQueryDsl, sql_query,
};

use super::connection::View;
use super::schema::devices as registry;
use super::schema::rollout_devices::{self, dsl as devices_dsl};
use super::schema::rollouts::{self, dsl};
use super::text::plain;
use super::types::Time;
use super::{PostgresStore, devices, firmware, rollout_steps};
use crate::domain::rollout::{Action, Limits, PauseReason, Progress, RolloutState, Tally, UpdateReason, UpdateState};
use crate::domain::{CommandId, DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing::{self, Part};
use crate::store::rollout_rows::{CORRUPT, Counted, ROWS, open_rollouts, open_updates, selection, stage_of, tallies};
use crate::store::rollouts::{arrange, plan_of, small};
use crate::store::{
    Created, DeviceFilter, Error, Firmware, FirmwareFilter, Listing, MAX_ROLLOUT_DEVICES, NewFirmware, NewRollout,
    Order, Outcome, Page, Place, Rollout, RolloutDevice, RolloutFigures, Rollouts, Stepped,
};
use uuid::Uuid;

/// The advisory lock of [`take_turn`].
const LOCK: i64 = 0x0069_6f74_2d72_6f6f;

impl Rollouts for PostgresStore {
    fn add_firmware(&self, new: &NewFirmware) -> Result<Outcome<Firmware>, Error> {
        self.write("add a firmware", |c| firmware::add(c, new))
    }

    fn firmware(&self, id: i64) -> Result<Option<Firmware>, Error> {
        self.read("read a firmware", View::Snapshot, |c| firmware::find(c, id))
    }

    fn firmwares(&self, filter: &FirmwareFilter, page: Page) -> Result<Listing<Firmware>, Error> {
        self.read("list firmware", View::Snapshot, |c| firmware::list(c, filter, page))
    }

    fn remove_firmware(&self, id: i64) -> Result<Option<Outcome<Firmware>>, Error> {
        self.write("remove a firmware", |c| firmware::remove(c, id))
    }

    fn known_firmware(&self, objects: &[String]) -> Result<Vec<String>, Error> {
        self.read("look firmware up", View::Snapshot, |c| Ok(firmware::known(c, objects)?))
    }

    fn create_rollout(&self, new: &NewRollout) -> Result<Created, Error> {
        self.write("create a rollout", |c| create(c, new))
    }

    fn rollout(&self, id: i64) -> Result<Option<Rollout>, Error> {
        self.read("read a rollout", View::Snapshot, |c| find(c, id))
    }

    fn rollouts(&self, state: Option<RolloutState>, page: Page) -> Result<Listing<Rollout>, Error> {
        self.read("list rollouts", View::Snapshot, |c| list(c, state, page))
    }

    fn rollout_devices(
        &self,
        id: i64,
        state: Option<UpdateState>,
        page: Page,
    ) -> Result<Listing<RolloutDevice>, Error> {
        self.read("list a rollout's devices", View::Snapshot, |c| list_devices(c, id, state, page))
    }

    fn open_rollouts(&self) -> Result<Vec<i64>, Error> {
        self.read("list open rollouts", View::Snapshot, |c| Ok(open(c)?))
    }

    fn step_rollout(&self, id: i64, now: Timestamp, order: &Order<'_>) -> Result<Option<Stepped>, Error> {
        // Most times there is nothing to write: no row is locked to see that.
        match self.read("look at a rollout", View::Snapshot, |c| rollout_steps::look(c, id, now))? {
            None => Ok(None),
            Some((rollout, step)) if step.is_empty() => {
                Ok(Some(Stepped { rollout, is_changed: false, changes: Vec::new() }))
            }
            Some(_) => self.write("step a rollout", |c| rollout_steps::step(c, id, now, order)),
        }
    }

    fn act_on_rollout(
        &self,
        id: i64,
        action: Action,
        expected_version: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<Outcome<Rollout>>, Error> {
        self.write("change a rollout", |c| rollout_steps::act(c, id, action, expected_version, now))
    }

    fn rollout_figures(&self) -> Result<RolloutFigures, Error> {
        self.read("count rollouts", View::Snapshot, rollout_steps::figures)
    }
}

#[derive(Queryable)]
struct Row {
    id: i64,
    firmware_id: i64,
    version: String,
    device_type: String,
    state: String,
    pause_reason: Option<String>,
    stage: i64,
    passed_at: Option<Time>,
    stage_ends: Vec<i64>,
    max_parallel: i64,
    max_failed_pct: i64,
    min_confirmed_pct: i64,
    device_timeout_s: i64,
    soak_s: i64,
    created_at: Time,
    created_by: String,
    changed_at: Time,
    ended_at: Option<Time>,
}

#[derive(Insertable)]
#[diesel(table_name = rollouts)]
struct New<'a> {
    firmware_id: i64,
    version: &'a str,
    device_type: &'a str,
    state: &'static str,
    stage: i64,
    stage_ends: Vec<i64>,
    max_parallel: i64,
    max_failed_pct: i64,
    min_confirmed_pct: i64,
    device_timeout_s: i64,
    soak_s: i64,
    created_at: Time,
    created_by: &'a str,
    changed_at: Time,
}

#[derive(Insertable)]
#[diesel(table_name = rollout_devices)]
struct NewDevice<'a> {
    rollout_id: i64,
    place: i64,
    device_id: &'a str,
    stage: i64,
    state: &'static str,
    is_forgiven: bool,
    attempts: i64,
    changed_at: Time,
}

/// A rollout with its counts.
fn read(row: Row, tally: Vec<Tally>) -> Result<Rollout, Fault> {
    let limits = [row.max_parallel, row.max_failed_pct, row.min_confirmed_pct, row.device_timeout_s, row.soak_s];
    Ok(Rollout {
        id: row.id,
        firmware: row.firmware_id,
        version: row.version,
        device_type: row.device_type,
        plan: plan_of(limits, &row.stage_ends),
        progress: Progress {
            state: RolloutState::from_name(&row.state).ok_or(CORRUPT)?,
            pause: row.pause_reason.as_deref().and_then(PauseReason::from_name),
            stage: small(row.stage),
            passed_at: row.passed_at.map(|at| at.0),
        },
        tally,
        created_at: row.created_at.0,
        created_by: row.created_by,
        changed_at: row.changed_at.0,
        ended_at: row.ended_at.map(|at| at.0),
    })
}

/// The counts of rollouts.
fn counts(connection: &mut PgConnection, ids: &[i64]) -> QueryResult<Vec<Counted>> {
    let key = (devices_dsl::rollout_id, devices_dsl::stage, devices_dsl::state, devices_dsl::is_forgiven);
    devices_dsl::rollout_devices
        .filter(devices_dsl::rollout_id.eq_any(ids))
        .group_by(key)
        .select((
            devices_dsl::rollout_id,
            devices_dsl::stage,
            devices_dsl::state,
            devices_dsl::is_forgiven,
            diesel::dsl::count_star(),
        ))
        .load(connection)
}

fn with_tally(connection: &mut PgConnection, rows: Vec<Row>) -> Result<Vec<Rollout>, Fault> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut all = tallies(counts(connection, &ids)?);
    rows.into_iter()
        .map(|row| {
            let tally = all.remove(&row.id).unwrap_or_default();
            read(row, tally)
        })
        .collect()
}

/// See [`Rollouts::rollout`].
pub(super) fn find(connection: &mut PgConnection, id: i64) -> Result<Option<Rollout>, Fault> {
    let row: Option<Row> = dsl::rollouts.find(id).first(connection).optional()?;
    Ok(with_tally(connection, row.into_iter().collect())?.pop())
}

fn matching<'a>(state: Option<RolloutState>) -> rollouts::BoxedQuery<'a, Pg> {
    let query = dsl::rollouts.into_boxed();
    match state {
        Some(state) => query.filter(dsl::state.eq(state.name())),
        None => query,
    }
}

fn list(connection: &mut PgConnection, state: Option<RolloutState>, page: Page) -> Result<Listing<Rollout>, Fault> {
    let part = Part::new(page, || matching(state).count().get_result(connection))?;
    let mut query = matching(state).order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    if let Some(Place(id, _)) = part.behind {
        query = query.filter(dsl::id.lt(id));
    }
    let rows: Vec<Row> = query.load(connection)?;
    let listed = part.listing(rows, |row: &Row| Place(row.id, 0), Ok)?;
    Ok(Listing { items: with_tally(connection, listed.items)?, total: listed.total, next: listed.next })
}

fn open(connection: &mut PgConnection) -> QueryResult<Vec<i64>> {
    dsl::rollouts.filter(dsl::state.eq_any(open_rollouts())).order(dsl::id.asc()).select(dsl::id).load(connection)
}

type DeviceRow =
    (i64, String, i64, String, Option<String>, Option<String>, Option<Uuid>, i64, Option<f64>, Option<Time>, Time);

fn read_device(row: DeviceRow) -> Result<RolloutDevice, Fault> {
    let (place, device, stage, state, reason, detail, cmd_id, attempts, progress_pct, sent_at, changed_at) = row;
    Ok(RolloutDevice {
        place,
        device: listing::device_id(&device)?,
        stage: small(stage),
        state: UpdateState::from_name(&state).ok_or(CORRUPT)?,
        reason: reason.as_deref().and_then(UpdateReason::from_name),
        detail,
        cmd_id: cmd_id.map(CommandId),
        attempts: small(attempts),
        progress_pct,
        sent_at: sent_at.map(|at| at.0),
        changed_at: changed_at.0,
    })
}

fn list_devices(
    connection: &mut PgConnection,
    id: i64,
    state: Option<UpdateState>,
    page: Page,
) -> Result<Listing<RolloutDevice>, Fault> {
    use devices_dsl as d;
    let matching = || -> rollout_devices::BoxedQuery<'_, Pg> {
        let query = d::rollout_devices.filter(d::rollout_id.eq(id)).into_boxed();
        match state {
            Some(state) => query.filter(d::state.eq(state.name())),
            None => query,
        }
    };
    let part = Part::new(page, || matching().count().get_result(connection))?;
    let mut query = matching().order(d::place.asc()).limit(part.limit).offset(part.offset);
    if let Some(Place(place, _)) = part.behind {
        query = query.filter(d::place.gt(place));
    }
    let columns = (
        d::place,
        d::device_id,
        d::stage,
        d::state,
        d::reason,
        d::detail,
        d::cmd_id,
        d::attempts,
        d::report_pct,
        d::sent_at,
        d::changed_at,
    );
    let rows = query.select(columns).load(connection)?;
    part.listing(rows, |row: &DeviceRow| Place(row.0, 0), read_device)
}

/// The devices that are selected; `Err` = what stands in the way.
fn select(
    connection: &mut PgConnection,
    new: &NewRollout,
    image: &Firmware,
) -> Result<Result<Vec<String>, Created>, Fault> {
    let device_type = Some(image.device_type.clone());
    let filter = DeviceFilter { device_type, is_active: Some(true), ..new.filter.clone() };
    let mut selected: Vec<String> = Vec::new();
    if new.devices.is_empty() {
        let most = i64::try_from(MAX_ROLLOUT_DEVICES + 1).unwrap_or(i64::MAX);
        selected = devices::matching(&filter).select(registry::device_id).limit(most).load(connection)?;
    }
    for some in new.devices.chunks(ROWS) {
        let names: Vec<&str> = some.iter().map(DeviceId::as_str).collect();
        let query = devices::matching(&filter).filter(registry::device_id.eq_any(names));
        selected.extend(query.select(registry::device_id).load::<String>(connection)?);
    }
    Ok(selection(new, selected))
}

/// The first of the devices that is in a rollout that is not over.
fn busy(connection: &mut PgConnection, selected: &[String]) -> Result<Option<Created>, Fault> {
    let open = open_updates();
    for some in selected.chunks(ROWS) {
        let found: Option<(String, i64)> = devices_dsl::rollout_devices
            .filter(devices_dsl::device_id.eq_any(some))
            .filter(devices_dsl::state.eq_any(&open))
            .select((devices_dsl::device_id, devices_dsl::rollout_id))
            .first(connection)
            .optional()?;
        if let Some((device, rollout)) = found {
            return Ok(Some(Created::Busy(listing::device_id(&device)?, rollout)));
        }
    }
    Ok(None)
}

/// Until the end of the transaction nobody else puts devices into a rollout, or back into one: whether a device is free is
/// looked at before it is taken.
pub(super) fn take_turn(connection: &mut PgConnection) -> QueryResult<()> {
    sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(connection).map(drop)
}

/// See [`Rollouts::create_rollout`].
pub(super) fn create(connection: &mut PgConnection, new: &NewRollout) -> Result<Created, Fault> {
    take_turn(connection)?;
    let Some(image) = firmware::hold(connection, new.firmware)? else { return Ok(Created::NoFirmware) };
    let selected = match select(connection, new, &image)? {
        Ok(selected) => selected,
        Err(refused) => return Ok(refused),
    };
    if let Some(refused) = busy(connection, &selected)? {
        return Ok(refused);
    }
    let salt = u64::from_le_bytes(new.created_at.0.to_le_bytes());
    let (selected, ends) = match arrange(selected, &new.stages, salt) {
        Ok(arranged) => arranged,
        Err(fault) => return Ok(Created::Stages(fault)),
    };
    let id = insert(connection, new, &image, &ends)?;
    for (chunk, some) in selected.chunks(ROWS).enumerate() {
        let rows: Vec<NewDevice<'_>> = some
            .iter()
            .enumerate()
            .map(|(index, device_id)| {
                let place = chunk * ROWS + index;
                NewDevice {
                    rollout_id: id,
                    place: i64::try_from(place).unwrap_or(i64::MAX),
                    device_id,
                    stage: stage_of(&ends, place),
                    state: UpdateState::Waiting.name(),
                    is_forgiven: false,
                    attempts: 0,
                    changed_at: Time(new.created_at),
                }
            })
            .collect();
        diesel::insert_into(rollout_devices::table).values(rows).execute(connection)?;
    }
    find(connection, id)?.map(|made| Created::Done(Box::new(made))).ok_or(CORRUPT)
}

fn insert(connection: &mut PgConnection, new: &NewRollout, image: &Firmware, ends: &[u32]) -> QueryResult<i64> {
    let Limits { max_parallel, max_failed_pct, min_confirmed_pct, device_timeout, soak } = new.limits;
    let seconds = |d: std::time::Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    let row = New {
        firmware_id: image.id,
        version: &image.version,
        device_type: &image.device_type,
        state: RolloutState::Running.name(),
        stage: 0,
        stage_ends: ends.iter().copied().map(i64::from).collect(),
        max_parallel: max_parallel.into(),
        max_failed_pct: max_failed_pct.into(),
        min_confirmed_pct: min_confirmed_pct.into(),
        device_timeout_s: seconds(device_timeout),
        soak_s: seconds(soak),
        created_at: Time(new.created_at),
        created_by: &plain(&new.created_by),
        changed_at: Time(new.created_at),
    };
    diesel::insert_into(dsl::rollouts).values(row).returning(dsl::id).get_result(connection)
}
