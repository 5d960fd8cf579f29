//! Staged updates on their way: what meters report, what a step changes, what people want.

use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text, Timestamptz, Uuid as UuidType};
use diesel::{ExpressionMethods, PgConnection, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use uuid::Uuid;

use super::commands;
use super::rollouts::{find, take_turn};
use super::schema::rollout_devices::dsl as d;
use super::schema::rollouts::dsl;
use super::text::plain;
use super::types::{Time, optional};
use crate::domain::command::CommandStatus;
use crate::domain::message::OtaState;
use crate::domain::rollout::{
    Action, Change, Progress, RolloutState, Seen, Step, Update, UpdateState, step as next_step,
};
use crate::domain::{CommandId, DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing;
use crate::store::rollout_rows::{self, CORRUPT, open_rollouts, open_updates};
use crate::store::rollouts::{Report, small};
use crate::store::{CommandChange, EventRow, Firmware, Order, Outcome, Rollout, RolloutFigures, Stepped};

/// Writes what meters said of their updates. A report that came late, or again, changes nothing.
pub(super) fn hear(connection: &mut PgConnection, events: &[EventRow]) -> QueryResult<()> {
    // In the order in which a step writes them: neither waits for the other in a circle.
    let mut reports: Vec<Report<'_>> = Report::among(events).collect();
    reports.sort_by_key(|report| report.device);
    for report in reports {
        sql_query(
            "UPDATE rollout_devices SET report = $1, report_pct = $2, report_detail = $3, report_ts = $4, report_seq = $5 \
             WHERE cmd_id = $6 AND device_id = $7 AND (report_ts IS NULL OR (report_ts, report_seq) < ($4, $5))",
        )
        .bind::<Text, _>(report.state)
        .bind::<Double, _>(report.progress_pct)
        .bind::<Nullable<Text>, _>(report.detail.map(plain))
        .bind::<Timestamptz, _>(Time(report.ts))
        .bind::<BigInt, _>(report.seq)
        .bind::<UuidType, _>(report.cmd_id.0)
        .bind::<Text, _>(report.device.as_str())
        .execute(connection)?;
    }
    Ok(())
}

/// A device with what is known of it elsewhere.
const LOOK: &str = "SELECT d.device_id, d.stage, d.state, d.is_forgiven, d.sent_at, d.report, \
    coalesce(d.report_detail, c.detail) AS words, c.status AS command, \
    coalesce(s.connection_status = 'online', FALSE) AS is_online, coalesce(s.fw_version = $1, FALSE) AS has_target, \
    coalesce(r.is_active, FALSE) AS is_there \
    FROM rollout_devices AS d LEFT JOIN device_commands AS c ON c.cmd_id = d.cmd_id \
    LEFT JOIN device_sequence AS s ON s.device_id = d.device_id \
    LEFT JOIN devices AS r ON r.device_id = d.device_id WHERE d.rollout_id = $2 ";
/// Those under way, and those that have the version after all.
const TOLD: &str = "AND (d.state IN ('sent', 'downloading', 'verifying', 'applying') \
    OR (d.state = 'failed' AND s.fw_version = $1))";
/// Those that wait and whose turn it is, as far as something can be done with them.
const WAITING: &str = "AND d.state = 'waiting' AND d.stage <= $3 AND (s.connection_status = 'online' OR s.fw_version = $1 \
    OR r.is_active IS NULL OR NOT r.is_active) ORDER BY d.place LIMIT $4";

#[derive(QueryableByName)]
struct Looked {
    #[diesel(sql_type = Text)]
    device_id: String,
    #[diesel(sql_type = BigInt)]
    stage: i64,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Bool)]
    is_forgiven: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    sent_at: Option<Time>,
    #[diesel(sql_type = Nullable<Text>)]
    report: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    words: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    command: Option<String>,
    #[diesel(sql_type = Bool)]
    is_online: bool,
    #[diesel(sql_type = Bool)]
    has_target: bool,
    #[diesel(sql_type = Bool)]
    is_there: bool,
}

fn read(row: Looked) -> Result<Update, Fault> {
    Ok(Update {
        device: listing::device_id(&row.device_id)?,
        stage: small(row.stage),
        state: UpdateState::from_name(&row.state).ok_or(CORRUPT)?,
        is_forgiven: row.is_forgiven,
        sent_at: row.sent_at.map(|at| at.0),
        seen: Seen {
            is_there: row.is_there,
            is_online: row.is_online,
            has_target: row.has_target,
            command: row.command.as_deref().and_then(CommandStatus::from_name),
            report: row.report.as_deref().and_then(OtaState::from_name),
            words: row.words,
        },
    })
}

/// What the next step would be.
pub(super) fn look(connection: &mut PgConnection, id: i64, now: Timestamp) -> Result<Option<(Rollout, Step)>, Fault> {
    let Some(rollout) = find(connection, id)? else { return Ok(None) };
    if !rollout.progress.state.is_open() {
        return Ok(Some((rollout, Step::default())));
    }
    let told = sql_query(format!("{LOOK}{TOLD}")).bind::<Text, _>(&rollout.version).bind::<BigInt, _>(id);
    let mut rows: Vec<Looked> = told.load(connection)?;
    if rollout.progress.state == RolloutState::Running {
        let waiting = sql_query(format!("{LOOK}{WAITING}"))
            .bind::<Text, _>(&rollout.version)
            .bind::<BigInt, _>(id)
            .bind::<BigInt, _>(i64::from(rollout.progress.stage))
            .bind::<BigInt, _>(i64::from(rollout.plan.limits.max_parallel));
        rows.extend(waiting.load::<Looked>(connection)?);
    }
    let updates = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let step = next_step(&rollout.plan, rollout.progress, &rollout.tally, &updates, now);
    Ok(Some((rollout, step)))
}

/// Whoever changes a rollout holds its row until the end of the transaction.
fn lock(connection: &mut PgConnection, id: i64) -> QueryResult<()> {
    dsl::rollouts.find(id).select(dsl::id).for_update().load::<i64>(connection).map(drop)
}

/// Holds those devices that may be heard of, which were told, in the order in which [`hear`] and a step write them. Their
/// commands are locked before, as in a commit.
fn hold(connection: &mut PgConnection, id: i64, states: &[&str]) -> QueryResult<()> {
    d::rollout_devices
        .filter(d::rollout_id.eq(id))
        .filter(d::state.eq_any(states))
        .filter(d::cmd_id.is_not_null())
        .order(d::device_id.asc())
        .select(d::place)
        .for_update()
        .load::<i64>(connection)
        .map(drop)
}

/// See [`Rollouts::step_rollout`](crate::store::Rollouts::step_rollout).
pub(super) fn step(
    connection: &mut PgConnection,
    id: i64,
    now: Timestamp,
    order: &Order<'_>,
) -> Result<Option<Stepped>, Fault> {
    lock(connection, id)?;
    let Some((rollout, Step { progress, mut changes })) = look(connection, id, now)? else { return Ok(None) };
    changes.sort_by(|a, b| a.device.cmp(&b.device));
    let Some(image) = super::firmware::find(connection, rollout.firmware)? else { return Err(CORRUPT) };
    for change in &changes {
        apply(connection, &rollout, &image, change, now, order)?;
    }
    if let Some(progress) = progress {
        save(connection, id, progress, now)?;
    }
    let rollout = find(connection, id)?.ok_or(CORRUPT)?;
    Ok(Some(Stepped { rollout, is_changed: progress.is_some(), changes }))
}

fn apply(
    connection: &mut PgConnection,
    rollout: &Rollout,
    image: &Firmware,
    change: &Change,
    now: Timestamp,
    order: &Order<'_>,
) -> Result<(), Fault> {
    let row = d::rollout_devices.filter(d::rollout_id.eq(rollout.id)).filter(d::device_id.eq(change.device.as_str()));
    let reason = change.reason.map(|reason| reason.name());
    let what = (
        d::state.eq(change.to.name()),
        d::reason.eq(reason),
        d::detail.eq(&change.detail),
        d::changed_at.eq(Time(now)),
    );
    diesel::update(row).set(what).execute(connection)?;
    if !matches!(change.to, UpdateState::Sent | UpdateState::Waiting) {
        return Ok(());
    }
    let cmd_id = match change.to {
        UpdateState::Sent => Some(send(connection, rollout, image, &change.device, order)?.0),
        _ => None,
    };
    let told = i64::from(cmd_id.is_some());
    let sent_at = cmd_id.map(|_| Time(now));
    diesel::update(row)
        .set((
            d::cmd_id.eq(cmd_id),
            d::sent_at.eq(sent_at),
            d::attempts.eq(d::attempts + told),
            d::is_forgiven.eq(false),
            (d::report.eq(None::<String>), d::report_pct.eq(None::<f64>), d::report_detail.eq(None::<String>)),
            (d::report_ts.eq(None::<Time>), d::report_seq.eq(None::<i64>)),
        ))
        .execute(connection)?;
    Ok(())
}

/// Gives the device its command.
fn send(
    connection: &mut PgConnection,
    rollout: &Rollout,
    image: &Firmware,
    device: &DeviceId,
    order: &Order<'_>,
) -> Result<CommandId, Fault> {
    let command = order(image, rollout, device);
    commands::create(connection, &command)?.map(|command| command.cmd_id).ok_or(CORRUPT)
}

fn save(connection: &mut PgConnection, id: i64, progress: Progress, now: Timestamp) -> QueryResult<()> {
    diesel::update(dsl::rollouts.find(id))
        .set((
            dsl::state.eq(progress.state.name()),
            dsl::pause_reason.eq(progress.pause.map(|reason| reason.name())),
            dsl::stage.eq(i64::from(progress.stage)),
            dsl::passed_at.eq(optional(progress.passed_at)),
            dsl::changed_at.eq(Time(now)),
            dsl::ended_at.eq((!progress.state.is_open()).then_some(Time(now))),
        ))
        .execute(connection)
        .map(drop)
}

/// Lets those wait again that failed, but for those that another rollout has taken up.
const RETRY: &str = "UPDATE rollout_devices SET state = 'waiting', reason = NULL, detail = NULL, cmd_id = NULL, \
    is_forgiven = FALSE, sent_at = NULL, changed_at = $1, report = NULL, report_pct = NULL, report_detail = NULL, \
    report_ts = NULL, report_seq = NULL WHERE rollout_id = $2 AND state = 'failed' AND device_id NOT IN \
    (SELECT device_id FROM rollout_devices WHERE state IN ('waiting', 'sent', 'downloading', 'verifying', 'applying'))";

/// See [`Rollouts::act_on_rollout`](crate::store::Rollouts::act_on_rollout).
pub(super) fn act(
    connection: &mut PgConnection,
    id: i64,
    action: Action,
    expected_version: Option<i64>,
    now: Timestamp,
) -> Result<Option<Outcome<Rollout>>, Fault> {
    if matches!(action, Action::Resume { retry: true }) {
        take_turn(connection)?;
    }
    lock(connection, id)?;
    let Some(rollout) = find(connection, id)? else { return Ok(None) };
    if expected_version.is_some_and(|expected| expected != rollout.changed_at.0) {
        return Ok(Some(Outcome::Conflict));
    }
    let Some(progress) = action.apply(rollout.progress) else { return Ok(Some(Outcome::Conflict)) };
    let failed = d::rollout_devices.filter(d::rollout_id.eq(id)).filter(d::state.eq(UpdateState::Failed.name()));
    match action {
        Action::Pause => {}
        Action::Resume { retry } => {
            hold(connection, id, &[UpdateState::Failed.name()])?;
            match retry {
                false => diesel::update(failed).set(d::is_forgiven.eq(true)).execute(connection)?,
                true => sql_query(RETRY).bind::<Timestamptz, _>(Time(now)).bind::<BigInt, _>(id).execute(connection)?,
            };
        }
        Action::Abort => cancel(connection, id, now)?,
    }
    save(connection, id, progress, now)?;
    Ok(find(connection, id)?.map(Outcome::Done))
}

/// Ends all that has no end yet, and cancels commands that nobody has got. What was sent and not received may be on its way: it
/// expires, so that it is not sent again and a late acknowledgement still counts.
fn cancel(connection: &mut PgConnection, id: i64, now: Timestamp) -> Result<(), Fault> {
    let open = d::rollout_devices.filter(d::rollout_id.eq(id)).filter(d::state.eq_any(open_updates()));
    let given: Vec<Option<Uuid>> = open.clone().filter(d::cmd_id.is_not_null()).select(d::cmd_id).load(connection)?;
    // Whichever its state allows, if any.
    let ended = |cmd_id: Uuid| {
        [CommandStatus::Cancelled, CommandStatus::Expired].map(|to| CommandChange {
            cmd_id: CommandId(cmd_id),
            device: None,
            to,
            detail: Some(format!("cancelled: rollout {id} was aborted")),
            at: now,
        })
    };
    let changes: Vec<_> = given.into_iter().flatten().flat_map(ended).collect();
    commands::advance(connection, &changes)?;
    hold(connection, id, &open_updates())?;
    diesel::update(open)
        .set((d::state.eq(UpdateState::Cancelled.name()), d::changed_at.eq(Time(now))))
        .execute(connection)?;
    Ok(())
}

/// See [`Rollouts::rollout_figures`](crate::store::Rollouts::rollout_figures).
pub(super) fn figures(connection: &mut PgConnection) -> Result<RolloutFigures, Fault> {
    let count = diesel::dsl::count_star();
    let rollouts: Vec<(String, i64)> =
        dsl::rollouts.group_by(dsl::state).select((dsl::state, count)).load(connection)?;
    let paused: Vec<(Option<String>, i64)> = dsl::rollouts
        .filter(dsl::state.eq(RolloutState::Paused.name()))
        .group_by(dsl::pause_reason)
        .select((dsl::pause_reason, count))
        .load(connection)?;
    let open = dsl::rollouts.filter(dsl::state.eq_any(open_rollouts())).select(dsl::id);
    let devices: Vec<(String, i64)> = d::rollout_devices
        .filter(d::rollout_id.eq_any(open))
        .group_by(d::state)
        .select((d::state, count))
        .load(connection)?;
    Ok(rollout_rows::figures(rollouts, paused, devices))
}
