//! Commands to meters and how far they have come; and what a confirmed configuration command changes.

use diesel::prelude::Insertable;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, Queryable, RunQueryDsl,
    SqliteConnection, sql_query,
};

use super::fault::Fault;
use super::listing::Part;
use super::schema::device_commands::{self, dsl};
use super::{SqliteStore, devices, listing};
use crate::domain::command::{CommandKind, CommandStatus, may_advance};
use crate::domain::{CommandId, DeviceId, Timestamp};
use crate::store::{
    COMMANDS_AT_ONCE, Command, CommandChange, CommandFilter, Commands, Error, Listing, NewCommand, Outcome, Page, Place,
};

impl Commands for SqliteStore {
    fn advance_command_from(
        &self,
        from: Option<CommandStatus>,
        change: &CommandChange,
    ) -> Result<Option<Outcome<Command>>, Error> {
        self.write("advance a command", |c| advance_from(c, from, change))
    }
}

#[derive(Queryable)]
struct Row {
    id: i64,
    cmd_id: String,
    device_id: String,
    cmd: String,
    params: String,
    status: String,
    detail: Option<String>,
    created_at: i64,
    created_by: String,
    expires_at: i64,
    sent_at: Option<i64>,
    delivered_at: Option<i64>,
    finished_at: Option<i64>,
}

#[derive(Insertable)]
#[diesel(table_name = device_commands)]
struct New<'a> {
    cmd_id: String,
    device_id: &'a str,
    cmd: &'a str,
    params: String,
    status: &'static str,
    created_at: i64,
    created_by: &'a str,
    expires_at: i64,
}

fn read(row: Row) -> Result<Command, Fault> {
    const CORRUPT: Fault = Fault::Corrupt("command");
    Ok(Command {
        cmd_id: CommandId::parse(&row.cmd_id).ok_or(CORRUPT)?,
        device: listing::device_id(&row.device_id)?,
        cmd: row.cmd,
        params: listing::object(&row.params, "command")?,
        status: CommandStatus::from_name(&row.status).ok_or(CORRUPT)?,
        detail: row.detail,
        created_at: Timestamp(row.created_at),
        created_by: row.created_by,
        expires_at: Timestamp(row.expires_at),
        sent_at: listing::time(row.sent_at),
        delivered_at: listing::time(row.delivered_at),
        finished_at: listing::time(row.finished_at),
    })
}

/// See [`Store::create_command`](crate::store::Store::create_command).
pub(super) fn create(connection: &mut SqliteConnection, new: &NewCommand) -> Result<Option<Command>, Fault> {
    if !devices::exists(connection, &new.device)? {
        return Ok(None);
    }
    let row = New {
        cmd_id: new.cmd_id.to_string(),
        device_id: new.device.as_str(),
        cmd: &new.cmd,
        params: serde_json::json!(new.params).to_string(),
        status: CommandStatus::Pending.name(),
        created_at: new.created_at.0,
        created_by: &new.created_by,
        expires_at: new.expires_at.0,
    };
    diesel::insert_into(dsl::device_commands).values(row).execute(connection)?;
    find(connection, new.cmd_id)
}

/// One command.
pub(super) fn find(connection: &mut SqliteConnection, id: CommandId) -> Result<Option<Command>, Fault> {
    let row = dsl::device_commands.filter(dsl::cmd_id.eq(id.to_string())).first(connection).optional()?;
    row.map(read).transpose()
}

/// See [`Store::commands`](crate::store::Store::commands).
pub(super) fn list(
    connection: &mut SqliteConnection,
    filter: &CommandFilter,
    page: Page,
) -> Result<Listing<Command>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let rows = behind(matching(filter), &part).load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

/// The commands a filter lets through.
pub(super) fn matching(filter: &CommandFilter) -> device_commands::BoxedQuery<'_, Sqlite> {
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
    query: device_commands::BoxedQuery<'a, Sqlite>,
    part: &Part,
) -> device_commands::BoxedQuery<'a, Sqlite> {
    let query = query.order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    match part.behind {
        Some(Place(id, _)) => query.filter(dsl::id.lt(id)),
        None => query,
    }
}

/// See [`Store::deliverable_commands`](crate::store::Store::deliverable_commands).
pub(super) fn deliverable(
    connection: &mut SqliteConnection,
    id: &DeviceId,
    now: Timestamp,
) -> Result<Vec<Command>, Fault> {
    let (pending, sent) = (CommandStatus::Pending.name(), CommandStatus::Sent.name());
    let rows: Vec<Row> = dsl::device_commands
        .filter(dsl::device_id.eq(id.as_str()))
        .filter(dsl::status.eq(pending).or(dsl::status.eq(sent)))
        .filter(dsl::expires_at.gt(now.0))
        .order(dsl::id.asc())
        .limit(i64::try_from(COMMANDS_AT_ONCE).unwrap_or(i64::MAX))
        .load(connection)?;
    rows.into_iter().map(read).collect()
}

/// See [`Store::advance_command`](crate::store::Store::advance_command).
pub(super) fn advance(
    connection: &mut SqliteConnection,
    change: &CommandChange,
) -> Result<Option<Outcome<Command>>, Fault> {
    advance_from(connection, None, change)
}

/// The same of a command that is `from` still, where that is said.
fn advance_from(
    connection: &mut SqliteConnection,
    from: Option<CommandStatus>,
    change: &CommandChange,
) -> Result<Option<Outcome<Command>>, Fault> {
    let Some(mut command) = find(connection, change.cmd_id)? else { return Ok(None) };
    if change.device.as_ref().is_some_and(|device| *device != command.device) {
        return Ok(None);
    }
    let is_expected = from.is_none_or(|from| from == command.status);
    if !is_expected || !may_advance(command.status, change.to) {
        return Ok(Some(Outcome::Conflict));
    }
    command.status = change.to;
    command.detail = change.detail.clone().or(command.detail);
    match change.to {
        CommandStatus::Sent => command.sent_at = Some(change.at),
        CommandStatus::Delivered => {
            command.sent_at = command.sent_at.or(Some(change.at));
            command.delivered_at = Some(change.at);
        }
        to if to.is_final() || to == CommandStatus::Expired => command.finished_at = Some(change.at),
        _ => {}
    }
    save(connection, &command)?;
    if change.to == CommandStatus::Accepted {
        configure(connection, &command, change.at)?;
    }
    Ok(Some(Outcome::Done(command)))
}

fn save(connection: &mut SqliteConnection, command: &Command) -> QueryResult<usize> {
    let micros = |time: Option<Timestamp>| time.map(|at| at.0);
    diesel::update(dsl::device_commands.filter(dsl::cmd_id.eq(command.cmd_id.to_string())))
        .set((
            dsl::status.eq(command.status.name()),
            dsl::detail.eq(&command.detail),
            dsl::sent_at.eq(micros(command.sent_at)),
            dsl::delivered_at.eq(micros(command.delivered_at)),
            dsl::finished_at.eq(micros(command.finished_at)),
        ))
        .execute(connection)
}

/// What the meter is configured to from now on, where the command it has accepted says something about that.
fn configure(connection: &mut SqliteConnection, command: &Command, at: Timestamp) -> QueryResult<usize> {
    match CommandKind::from_name(&command.cmd) {
        Some(CommandKind::UpdateConfig) => merge_config(connection, command, at),
        Some(CommandKind::FactoryReset) => sql_query("DELETE FROM device_configs WHERE device_id = ?")
            .bind::<Text, _>(command.device.as_str())
            .execute(connection),
        _ => Ok(0),
    }
}

/// The meter has taken the parameters over: from now on they are its configuration. What was not named stays.
fn merge_config(connection: &mut SqliteConnection, command: &Command, at: Timestamp) -> QueryResult<usize> {
    let number = |name: &str| command.params.get(name).and_then(serde_json::Value::as_i64);
    sql_query(
        "INSERT INTO device_configs \
         (device_id, sampling_cadence_ms, send_interval_s, hello_interval_s, brokers, updated_at) \
         SELECT device_id, ?, ?, ?, ?, ? FROM devices WHERE device_id = ? \
         ON CONFLICT (device_id) DO UPDATE SET \
         sampling_cadence_ms = coalesce(excluded.sampling_cadence_ms, sampling_cadence_ms), \
         send_interval_s = coalesce(excluded.send_interval_s, send_interval_s), \
         hello_interval_s = coalesce(excluded.hello_interval_s, hello_interval_s), \
         brokers = coalesce(excluded.brokers, brokers), updated_at = excluded.updated_at",
    )
    .bind::<Nullable<BigInt>, _>(number("sampling_cadence_ms"))
    .bind::<Nullable<BigInt>, _>(number("send_interval_s"))
    .bind::<Nullable<BigInt>, _>(number("hello_interval_s"))
    .bind::<Nullable<Text>, _>(command.params.get("brokers").map(ToString::to_string))
    .bind::<BigInt, _>(at.0)
    .bind::<Text, _>(command.device.as_str())
    .execute(connection)
}

/// See [`Store::expire_commands`](crate::store::Store::expire_commands).
pub(super) fn expire(
    connection: &mut SqliteConnection,
    now: Timestamp,
    delivered_before: Timestamp,
) -> Result<usize, Fault> {
    let (pending, sent) = (CommandStatus::Pending.name(), CommandStatus::Sent.name());
    let overdue =
        dsl::device_commands.filter(dsl::status.eq(pending).or(dsl::status.eq(sent))).filter(dsl::expires_at.le(now.0));
    let expired = diesel::update(overdue)
        .set((dsl::status.eq(CommandStatus::Expired.name()), dsl::finished_at.eq(Some(now.0))))
        .execute(connection)?;
    let unanswered = dsl::device_commands
        .filter(dsl::status.eq(CommandStatus::Delivered.name()))
        .filter(dsl::delivered_at.lt(delivered_before.0));
    let timed_out =
        diesel::update(unanswered).set(dsl::status.eq(CommandStatus::Timeout.name())).execute(connection)?;
    Ok(expired + timed_out)
}
