//! Alert rules, and the alerts that come and go by them.
//!
//! Invariants: one change of the rules at a time, in the order of their revisions. Whoever raises or clears alerts holds
//! their rules first, shared and in the order of their numbers; whoever changes a rule waits for those, and then for nobody
//! that waits for it.

use std::collections::HashMap;

use diesel::prelude::{AsChangeset, Insertable};
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable, QueryableByName, RunQueryDsl,
    sql_query,
};

use super::PostgresStore;
use super::alerts::turns;
use super::connection::View;
use super::schema::alert_rules::{self, dsl};
use super::schema::{alert_rule_set, device_alerts};
use super::text;
use super::types::Time;
use crate::domain::rule::{ClearReason, MAX_RULES, RuleId, RuleSet};
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::rule_rows::{Words, page_of, set_of};
use crate::store::{AlertRule, Error, Listing, Page, RuleAlert, RuleFilter, RuleOutcome, RuleText, Rules};

#[derive(Queryable, Insertable, AsChangeset)]
#[diesel(table_name = alert_rules, treat_none_as_null = true)]
struct Row {
    id: i64,
    version: i64,
    generation: i64,
    name: String,
    metric: String,
    op: String,
    threshold: f64,
    clear_threshold: Option<f64>,
    for_s: i64,
    devices: Option<String>,
    device_type: Option<String>,
    severity: String,
    message: Option<String>,
    is_enabled: bool,
    created_at: Time,
    created_by: String,
    updated_at: Time,
}

fn row(rule: &AlertRule) -> Row {
    let words = Words::of(&rule.text);
    let plain = |text: String| text::plain(&text).into_owned();
    Row {
        id: rule.id.0,
        version: rule.version,
        generation: rule.generation,
        name: plain(words.name),
        metric: words.metric,
        op: words.op,
        threshold: words.threshold,
        clear_threshold: words.clear_threshold,
        for_s: words.for_s,
        devices: words.devices,
        device_type: words.device_type.map(plain),
        severity: words.severity,
        message: words.message.map(plain),
        is_enabled: words.is_enabled,
        created_at: Time(rule.created_at),
        created_by: plain(rule.created_by.clone()),
        updated_at: Time(rule.updated_at),
    }
}

fn read(row: Row) -> Result<AlertRule, Fault> {
    let words = Words {
        name: row.name,
        metric: row.metric,
        op: row.op,
        threshold: row.threshold,
        clear_threshold: row.clear_threshold,
        for_s: row.for_s,
        devices: row.devices,
        device_type: row.device_type,
        severity: row.severity,
        message: row.message,
        is_enabled: row.is_enabled,
    };
    Ok(AlertRule {
        id: RuleId(row.id),
        version: row.version,
        generation: row.generation,
        text: words.read()?,
        created_at: row.created_at.0,
        created_by: row.created_by,
        updated_at: row.updated_at.0,
    })
}

impl Rules for PostgresStore {
    fn create_rule(&self, new: &RuleText, by: &str, now: Timestamp) -> Result<RuleOutcome, Error> {
        self.write("create an alert rule", |c| create(c, new, by, now))
    }

    fn rule(&self, id: RuleId) -> Result<Option<AlertRule>, Error> {
        self.read("read an alert rule", View::Statement, |c| find(c, id))
    }

    fn rules(&self, filter: &RuleFilter, page: Page) -> Result<Listing<AlertRule>, Error> {
        self.read("list alert rules", View::Statement, |c| Ok(page_of(all(c)?, filter, page)))
    }

    fn replace_rule(
        &self,
        id: RuleId,
        text: &RuleText,
        expected: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<RuleOutcome>, Error> {
        self.write("change an alert rule", |c| replace(c, id, text, expected, now))
    }

    fn delete_rule(&self, id: RuleId, expected: Option<i64>, now: Timestamp) -> Result<Option<RuleOutcome>, Error> {
        self.write("remove an alert rule", |c| delete(c, id, expected, now))
    }

    fn rules_revision(&self) -> Result<i64, Error> {
        self.read("read the revision of the alert rules", View::Statement, |c| Ok(revision(c)?))
    }

    fn rule_set(&self) -> Result<(RuleSet, u64), Error> {
        self.read("read the alert rules", View::Snapshot, |c| Ok(set_of(revision(c)?, all(c)?)))
    }
}

fn revision(connection: &mut PgConnection) -> QueryResult<i64> {
    alert_rule_set::table.find(1).select(alert_rule_set::revision).first(connection)
}

/// The revision of the next change; until the end of the transaction nobody else makes one.
fn lock_revision(connection: &mut PgConnection) -> QueryResult<i64> {
    let row = alert_rule_set::table.find(1).select(alert_rule_set::revision);
    Ok(row.for_update().first::<i64>(connection)? + 1)
}

fn set_revision(connection: &mut PgConnection, revision: i64) -> QueryResult<usize> {
    diesel::update(alert_rule_set::table.find(1)).set(alert_rule_set::revision.eq(revision)).execute(connection)
}

fn all(connection: &mut PgConnection) -> Result<Vec<AlertRule>, Fault> {
    dsl::alert_rules.load::<Row>(connection)?.into_iter().map(read).collect()
}

fn find(connection: &mut PgConnection, id: RuleId) -> Result<Option<AlertRule>, Fault> {
    dsl::alert_rules.find(id.0).first::<Row>(connection).optional()?.map(read).transpose()
}

fn is_taken(connection: &mut PgConnection, name: &str, by_another_than: Option<RuleId>) -> QueryResult<bool> {
    let name = text::plain(name);
    let named = dsl::alert_rules.filter(dsl::name.eq(&*name));
    let holder = named.select(dsl::id).first::<i64>(connection).optional()?;
    Ok(holder.is_some_and(|id| Some(RuleId(id)) != by_another_than))
}

fn create(connection: &mut PgConnection, new: &RuleText, by: &str, now: Timestamp) -> Result<RuleOutcome, Fault> {
    let number = lock_revision(connection)?;
    if is_taken(connection, &new.name, None)? {
        return Ok(RuleOutcome::NameTaken);
    }
    let stored: i64 = dsl::alert_rules.count().get_result(connection)?;
    if usize::try_from(stored).is_ok_and(|stored| stored >= MAX_RULES) {
        return Ok(RuleOutcome::TooMany);
    }
    set_revision(connection, number)?;
    let rule = AlertRule::made(number, new, by, now);
    let row: Row = diesel::insert_into(alert_rules::table).values(row(&rule)).get_result(connection)?;
    read(row).map(RuleOutcome::Done)
}

fn replace(
    connection: &mut PgConnection,
    id: RuleId,
    text: &RuleText,
    expected: Option<i64>,
    now: Timestamp,
) -> Result<Option<RuleOutcome>, Fault> {
    let number = lock_revision(connection)?;
    let Some(before) = find(connection, id)? else { return Ok(None) };
    if expected.is_some_and(|expected| expected != before.version) {
        return Ok(Some(RuleOutcome::Stale));
    }
    if is_taken(connection, &text.name, Some(id))? {
        return Ok(Some(RuleOutcome::NameTaken));
    }
    set_revision(connection, number)?;
    let (rule, voided) = before.put(number, text, now);
    let row: Row = diesel::update(dsl::alert_rules.find(id.0)).set(row(&rule)).get_result(connection)?;
    if let Some(reason) = voided {
        clear_all(connection, id, reason, now)?;
    }
    read(row).map(RuleOutcome::Done).map(Some)
}

fn delete(
    connection: &mut PgConnection,
    id: RuleId,
    expected: Option<i64>,
    now: Timestamp,
) -> Result<Option<RuleOutcome>, Fault> {
    let number = lock_revision(connection)?;
    let Some(rule) = find(connection, id)? else { return Ok(None) };
    if expected.is_some_and(|expected| expected != rule.version) {
        return Ok(Some(RuleOutcome::Stale));
    }
    set_revision(connection, number)?;
    diesel::delete(dsl::alert_rules.find(id.0)).execute(connection)?;
    clear_all(connection, id, ClearReason::Deleted, now)?;
    Ok(Some(RuleOutcome::Done(rule)))
}

/// After the rule's row is locked: whoever has raised an alert by it has committed.
fn clear_all(connection: &mut PgConnection, id: RuleId, reason: ClearReason, now: Timestamp) -> QueryResult<usize> {
    use device_alerts::dsl as alerts;
    let open = alerts::device_alerts.filter(alerts::rule_id.eq(id.0)).filter(alerts::cleared_at.is_null());
    diesel::update(open)
        .set((alerts::cleared_at.eq(Some(Time(now))), alerts::cleared_reason.eq(Some(reason.name()))))
        .execute(connection)
}

#[derive(QueryableByName)]
struct Current {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    generation: i64,
}

const HOLD: &str = "SELECT id, generation FROM alert_rules WHERE id = ANY ($1) ORDER BY id FOR SHARE";

/// An alert about a device that is no longer registered is nobody's, and is not raised.
const FIRE: &str = "INSERT INTO device_alerts \
     (device_id, alert_type, severity, message, is_builtin, created_at, rule_id) \
     SELECT f.d, f.k, f.s, f.m, false, f.t, f.r \
     FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY AS f (d, k, s, m, t, r, n) \
     WHERE EXISTS (SELECT 1 FROM devices WHERE device_id = f.d COLLATE \"C\") ORDER BY f.n ON CONFLICT DO NOTHING";

const CLEAR: &str = "UPDATE device_alerts AS a SET cleared_at = c.t, cleared_reason = c.w \
     FROM unnest($1, $2, $3, $4) AS c (d, r, t, w) \
     WHERE a.device_id = c.d COLLATE \"C\" AND a.rule_id = c.r AND a.cleared_at IS NULL";

/// Which alert it is about, and whether it opens one.
fn key(change: &RuleAlert) -> ((&DeviceId, RuleId), bool) {
    match change {
        RuleAlert::Fire { device, rule, .. } => ((device, *rule), true),
        RuleAlert::Clear { device, rule, .. } => ((device, *rule), false),
    }
}

/// Applies changes as if in order, each turn as one statement.
pub(super) fn change_alerts(connection: &mut PgConnection, changes: &[RuleAlert]) -> QueryResult<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut rules: Vec<i64> = changes.iter().map(|change| key(change).0.1.0).collect();
    rules.sort_unstable();
    rules.dedup();
    let held: Vec<Current> = sql_query(HOLD).bind::<Array<BigInt>, _>(rules).load(connection)?;
    let current: HashMap<i64, i64> = held.into_iter().map(|rule| (rule.id, rule.generation)).collect();
    turns(changes, key).iter().try_for_each(|turn| take_turn(connection, &current, turn))
}

fn take_turn(connection: &mut PgConnection, current: &HashMap<i64, i64>, turn: &[&RuleAlert]) -> QueryResult<()> {
    let (mut fired, mut fired_at, mut fired_by) = (<[Vec<String>; 4]>::default(), Vec::new(), Vec::new());
    let (mut cleared, mut cleared_at, mut cleared_of, mut reasons) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for change in turn {
        match change {
            RuleAlert::Fire { rule, generation, .. } if current.get(&rule.0) != Some(generation) => {}
            RuleAlert::Fire { device, rule, name, severity, message, at, .. } => {
                let (name, message) = (text::plain(name), text::plain(message));
                let values = [device.as_str(), &*name, severity.name(), &*message];
                fired.iter_mut().zip(values).for_each(|(column, value)| column.push(value.to_owned()));
                fired_at.push(Time(*at));
                fired_by.push(rule.0);
            }
            RuleAlert::Clear { device, rule, reason, at } => {
                cleared.push(device.as_str());
                cleared_of.push(rule.0);
                cleared_at.push(Time(*at));
                reasons.push(reason.map(ClearReason::name));
            }
        }
    }
    if !fired_at.is_empty() {
        let [devices, names, severities, messages] = fired;
        sql_query(FIRE)
            .bind::<Array<Text>, _>(devices)
            .bind::<Array<Text>, _>(names)
            .bind::<Array<Text>, _>(severities)
            .bind::<Array<Text>, _>(messages)
            .bind::<Array<Timestamptz>, _>(fired_at)
            .bind::<Array<BigInt>, _>(fired_by)
            .execute(connection)?;
    }
    if !cleared_at.is_empty() {
        sql_query(CLEAR)
            .bind::<Array<Text>, _>(cleared)
            .bind::<Array<BigInt>, _>(cleared_of)
            .bind::<Array<Timestamptz>, _>(cleared_at)
            .bind::<Array<Nullable<Text>>, _>(reasons)
            .execute(connection)?;
    }
    Ok(())
}
