//! Commands to meters and how far they have come; and what a confirmed configuration command changes.

use std::collections::HashMap;

use diesel::pg::Pg;
use diesel::prelude::Insertable;
use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text, Timestamptz, Uuid as UuidType};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable,
    RunQueryDsl, sql_query,
};
use serde_json::Value;
use uuid::Uuid;

use super::schema::device_commands::{self, dsl};
use super::types::{Time, optional};
use super::{PostgresStore, devices, locks, text};
use crate::domain::command::{CommandKind, CommandStatus, may_advance};
use crate::domain::{CommandId, DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing::{self, Part};
use crate::store::{
    COMMANDS_AT_ONCE, Command, CommandChange, CommandFilter, Commands, Error, Listing, NewCommand, Outcome, Page, Place,
};

impl Commands for PostgresStore {
    fn advance_command_from(
        &self,
        from: Option<CommandStatus>,
        change: &CommandChange,
    ) -> Result<Option<Outcome<Command>>, Error> {
        let change = std::slice::from_ref(change);
        let mut outcomes = self.write("advance a command", |c| advance_from(c, from, change))?;
        Ok(outcomes.pop().flatten())
    }
}

#[derive(Queryable)]
pub(super) struct Row {
    id: i64,
    cmd_id: Uuid,
    device_id: String,
    cmd: String,
    params: Value,
    status: String,
    detail: Option<String>,
    created_at: Time,
    created_by: String,
    expires_at: Time,
    sent_at: Option<Time>,
    delivered_at: Option<Time>,
    finished_at: Option<Time>,
}

#[derive(Insertable)]
#[diesel(table_name = device_commands)]
struct New<'a> {
    cmd_id: Uuid,
    device_id: &'a str,
    cmd: &'a str,
    params: Value,
    status: &'static str,
    created_at: Time,
    created_by: &'a str,
    expires_at: Time,
}

pub(super) fn read(row: Row) -> Result<Command, Fault> {
    const CORRUPT: Fault = Fault::Corrupt("command");
    let Value::Object(params) = row.params else { return Err(CORRUPT) };
    Ok(Command {
        cmd_id: CommandId(row.cmd_id),
        device: listing::device_id(&row.device_id)?,
        cmd: row.cmd,
        params,
        status: CommandStatus::from_name(&row.status).ok_or(CORRUPT)?,
        detail: row.detail,
        created_at: row.created_at.0,
        created_by: row.created_by,
        expires_at: row.expires_at.0,
        sent_at: row.sent_at.map(|at| at.0),
        delivered_at: row.delivered_at.map(|at| at.0),
        finished_at: row.finished_at.map(|at| at.0),
    })
}

/// See [`Store::create_command`](crate::store::Store::create_command).
pub(super) fn create(connection: &mut PgConnection, new: &NewCommand) -> Result<Option<Command>, Fault> {
    if !devices::exists(connection, &new.device)? {
        return Ok(None);
    }
    let row = New {
        cmd_id: new.cmd_id.0,
        device_id: new.device.as_str(),
        cmd: &text::plain(&new.cmd),
        params: text::object(&new.params),
        status: CommandStatus::Pending.name(),
        created_at: Time(new.created_at),
        created_by: &text::plain(&new.created_by),
        expires_at: Time(new.expires_at),
    };
    let row: Row = diesel::insert_into(dsl::device_commands).values(row).get_result(connection)?;
    read(row).map(Some)
}

/// One command.
pub(super) fn find(connection: &mut PgConnection, id: CommandId) -> Result<Option<Command>, Fault> {
    let row: Option<Row> = dsl::device_commands.filter(dsl::cmd_id.eq(id.0)).first(connection).optional()?;
    row.map(read).transpose()
}

/// Those of many that are there.
pub(super) fn find_many(connection: &mut PgConnection, ids: &[CommandId]) -> Result<Vec<Command>, Fault> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<Row> = dsl::device_commands.filter(dsl::cmd_id.eq_any(ids)).load(connection)?;
    rows.into_iter().map(read).collect()
}

/// See [`Store::commands`](crate::store::Store::commands).
pub(super) fn list(
    connection: &mut PgConnection,
    filter: &CommandFilter,
    page: Page,
) -> Result<Listing<Command>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let rows = behind(matching(filter), &part).load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

/// The commands a filter lets through.
pub(super) fn matching(filter: &CommandFilter) -> device_commands::BoxedQuery<'_, Pg> {
    let mut query = dsl::device_commands.into_boxed();
    if let Some(device) = &filter.device {
        query = query.filter(dsl::device_id.eq(device.as_str()));
    }
    if let Some(status) = filter.status {
        query = query.filter(dsl::status.eq(status.name()));
    }
    query
}

/// A part of a query, newest first.
pub(super) fn behind<'a>(
    query: device_commands::BoxedQuery<'a, Pg>,
    part: &Part,
) -> device_commands::BoxedQuery<'a, Pg> {
    let query = query.order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    match part.behind {
        Some(Place(id, _)) => query.filter(dsl::id.lt(id)),
        None => query,
    }
}

/// See [`Store::deliverable_commands`](crate::store::Store::deliverable_commands).
pub(super) fn deliverable(connection: &mut PgConnection, id: &DeviceId, now: Timestamp) -> Result<Vec<Command>, Fault> {
    let (pending, sent) = (CommandStatus::Pending.name(), CommandStatus::Sent.name());
    let rows: Vec<Row> = dsl::device_commands
        .filter(dsl::device_id.eq(id.as_str()))
        .filter(dsl::status.eq(pending).or(dsl::status.eq(sent)))
        .filter(dsl::expires_at.gt(Time(now)))
        .order(dsl::id.asc())
        .limit(i64::try_from(COMMANDS_AT_ONCE).unwrap_or(i64::MAX))
        .load(connection)?;
    rows.into_iter().map(read).collect()
}

/// Moves commands in the order of the changes; an outcome for each. The commands are read and locked at once, in the order
/// of their ids, and written at once.
pub(super) fn advance(
    connection: &mut PgConnection,
    changes: &[CommandChange],
) -> Result<Vec<Option<Outcome<Command>>>, Fault> {
    advance_from(connection, None, changes)
}

/// The same of commands that are `from` still, where that is said.
fn advance_from(
    connection: &mut PgConnection,
    from: Option<CommandStatus>,
    changes: &[CommandChange],
) -> Result<Vec<Option<Outcome<Command>>>, Fault> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    outdate(connection, changes)?;
    let ids: Vec<Uuid> = changes.iter().map(|change| change.cmd_id.0).collect();
    let rows: Vec<Row> =
        dsl::device_commands.filter(dsl::cmd_id.eq_any(ids)).order(dsl::id.asc()).for_update().load(connection)?;
    let commands = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut commands: HashMap<CommandId, Command> = commands.into_iter().map(|c| (c.cmd_id, c)).collect();
    let (mut outcomes, mut changed, mut configured) = (Vec::with_capacity(changes.len()), Vec::new(), Vec::new());
    for change in changes {
        let command = commands.get_mut(&change.cmd_id);
        outcomes.push(command.filter(|c| change.device.as_ref().is_none_or(|device| *device == c.device)).map(
            |command| {
                let is_expected = from.is_none_or(|from| from == command.status);
                if !is_expected || !step(command, change) {
                    return Outcome::Conflict;
                }
                changed.push(change.cmd_id);
                let configures = CommandKind::from_name(&command.cmd).is_some_and(CommandKind::configures);
                if change.to == CommandStatus::Accepted && configures {
                    configured.push((command.clone(), change.at));
                }
                Outcome::Done(command.clone())
            },
        ));
    }
    changed.sort_unstable();
    changed.dedup();
    let changed: Vec<&Command> = changed.iter().filter_map(|id| commands.get(id)).collect();
    save(connection, &changed)?;
    for (command, at) in &configured {
        configure(connection, command, *at)?;
    }
    Ok(outcomes)
}

/// What nodes know of devices whose configuration may be confirmed is not the latest any more. That is said before a command
/// is locked: a commit, and whoever deletes a device, begins with the device's state too. Where the change is refused then it
/// does no harm.
fn outdate(connection: &mut PgConnection, changes: &[CommandChange]) -> QueryResult<()> {
    let accepted = changes.iter().filter(|change| change.to == CommandStatus::Accepted);
    let accepted: Vec<Uuid> = accepted.map(|change| change.cmd_id.0).collect();
    if accepted.is_empty() {
        return Ok(());
    }
    let kinds = CommandKind::ALL.into_iter().filter(|kind| kind.configures());
    let kinds: Vec<&str> = kinds.map(CommandKind::name).collect();
    let devices: Vec<String> = dsl::device_commands
        .filter(dsl::cmd_id.eq_any(accepted))
        .filter(dsl::cmd.eq_any(kinds))
        .select(dsl::device_id)
        .load(connection)?;
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    locks::outdate_all(connection, &devices)
}

/// Moves a command when its state allows it.
fn step(command: &mut Command, change: &CommandChange) -> bool {
    if !may_advance(command.status, change.to) {
        return false;
    }
    command.status = change.to;
    let detail = change.detail.as_deref().map(|detail| text::plain(detail).into_owned());
    command.detail = detail.or(command.detail.take());
    match change.to {
        CommandStatus::Sent => command.sent_at = Some(change.at),
        CommandStatus::Delivered => {
            command.sent_at = command.sent_at.or(Some(change.at));
            command.delivered_at = Some(change.at);
        }
        to if to.is_final() || to == CommandStatus::Expired => command.finished_at = Some(change.at),
        _ => {}
    }
    true
}

fn save(connection: &mut PgConnection, commands: &[&Command]) -> QueryResult<()> {
    if commands.is_empty() {
        return Ok(());
    }
    let times = |time: fn(&Command) -> Option<Timestamp>| -> Vec<Option<Time>> {
        commands.iter().map(|command| optional(time(command))).collect()
    };
    sql_query(
        "UPDATE device_commands AS c SET status = n.s, detail = n.d, sent_at = n.a, delivered_at = n.b, \
         finished_at = n.f FROM unnest($1, $2, $3, $4, $5, $6) AS n (id, s, d, a, b, f) WHERE c.cmd_id = n.id",
    )
    .bind::<Array<UuidType>, _>(commands.iter().map(|c| c.cmd_id.0).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(commands.iter().map(|c| c.status.name()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(commands.iter().map(|c| c.detail.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(times(|c| c.sent_at))
    .bind::<Array<Nullable<Timestamptz>>, _>(times(|c| c.delivered_at))
    .bind::<Array<Nullable<Timestamptz>>, _>(times(|c| c.finished_at))
    .execute(connection)
    .map(drop)
}

/// What the meter is configured to from now on, where the command it has accepted says something about that.
fn configure(connection: &mut PgConnection, command: &Command, at: Timestamp) -> QueryResult<usize> {
    match CommandKind::from_name(&command.cmd) {
        Some(CommandKind::UpdateConfig) => merge_config(connection, command, at),
        Some(CommandKind::FactoryReset) => sql_query("DELETE FROM device_configs WHERE device_id = $1 COLLATE \"C\"")
            .bind::<Text, _>(command.device.as_str())
            .execute(connection),
        _ => Ok(0),
    }
}

/// The meter has taken the parameters over: from now on they are its configuration. What was not named stays.
fn merge_config(connection: &mut PgConnection, command: &Command, at: Timestamp) -> QueryResult<usize> {
    let number = |name: &str| command.params.get(name).and_then(Value::as_i64);
    sql_query(
        "INSERT INTO device_configs AS c \
         (device_id, sampling_cadence_ms, send_interval_s, hello_interval_s, brokers, updated_at) \
         SELECT device_id, $1, $2, $3, $4, $5 FROM devices WHERE device_id = $6 COLLATE \"C\" \
         ON CONFLICT (device_id) DO UPDATE SET \
         sampling_cadence_ms = coalesce(excluded.sampling_cadence_ms, c.sampling_cadence_ms), \
         send_interval_s = coalesce(excluded.send_interval_s, c.send_interval_s), \
         hello_interval_s = coalesce(excluded.hello_interval_s, c.hello_interval_s), \
         brokers = coalesce(excluded.brokers, c.brokers), updated_at = excluded.updated_at",
    )
    .bind::<Nullable<BigInt>, _>(number("sampling_cadence_ms"))
    .bind::<Nullable<BigInt>, _>(number("send_interval_s"))
    .bind::<Nullable<BigInt>, _>(number("hello_interval_s"))
    .bind::<Nullable<Jsonb>, _>(command.params.get("brokers"))
    .bind::<Timestamptz, _>(Time(at))
    .bind::<Text, _>(command.device.as_str())
    .execute(connection)
}

/// See [`Store::expire_commands`](crate::store::Store::expire_commands).
pub(super) fn expire(
    connection: &mut PgConnection,
    now: Timestamp,
    delivered_before: Timestamp,
) -> Result<usize, Fault> {
    let (pending, sent) = (CommandStatus::Pending.name(), CommandStatus::Sent.name());
    let overdue = dsl::device_commands
        .filter(dsl::status.eq(pending).or(dsl::status.eq(sent)))
        .filter(dsl::expires_at.le(Time(now)));
    let expired = diesel::update(overdue)
        .set((dsl::status.eq(CommandStatus::Expired.name()), dsl::finished_at.eq(Some(Time(now)))))
        .execute(connection)?;
    let unanswered = dsl::device_commands
        .filter(dsl::status.eq(CommandStatus::Delivered.name()))
        .filter(dsl::delivered_at.lt(Time(delivered_before)));
    let timed_out =
        diesel::update(unanswered).set(dsl::status.eq(CommandStatus::Timeout.name())).execute(connection)?;
    Ok(expired + timed_out)
}
