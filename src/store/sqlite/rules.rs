//! Alert rules, and the alerts that come and go by them.
//!
//! There is one writer: between a look at the rules and what is written after it nobody changes them.

use diesel::prelude::{AsChangeset, Insertable};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, Queryable, RunQueryDsl, SqliteConnection};

use super::fault::Fault;
use super::schema::alert_rules::{self, dsl};
use super::schema::{alert_rule_set, device_alerts};
use super::{SqliteStore, devices};
use crate::domain::Timestamp;
use crate::domain::rule::{ClearReason, MAX_RULES, RuleId, RuleSet};
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
    created_at: i64,
    created_by: String,
    updated_at: i64,
}

fn row(rule: &AlertRule) -> Row {
    let words = Words::of(&rule.text);
    Row {
        id: rule.id.0,
        version: rule.version,
        generation: rule.generation,
        name: words.name,
        metric: words.metric,
        op: words.op,
        threshold: words.threshold,
        clear_threshold: words.clear_threshold,
        for_s: words.for_s,
        devices: words.devices,
        device_type: words.device_type,
        severity: words.severity,
        message: words.message,
        is_enabled: words.is_enabled,
        created_at: rule.created_at.0,
        created_by: rule.created_by.clone(),
        updated_at: rule.updated_at.0,
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
        created_at: Timestamp(row.created_at),
        created_by: row.created_by,
        updated_at: Timestamp(row.updated_at),
    })
}

impl Rules for SqliteStore {
    fn create_rule(&self, new: &RuleText, by: &str, now: Timestamp) -> Result<RuleOutcome, Error> {
        self.write("create an alert rule", |c| create(c, new, by, now))
    }

    fn rule(&self, id: RuleId) -> Result<Option<AlertRule>, Error> {
        self.read("read an alert rule", |c| find(c, id))
    }

    fn rules(&self, filter: &RuleFilter, page: Page) -> Result<Listing<AlertRule>, Error> {
        self.read("list alert rules", |c| Ok(page_of(all(c)?, filter, page)))
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
        self.read("read the revision of the alert rules", |c| Ok(revision(c)?))
    }

    fn rule_set(&self) -> Result<(RuleSet, u64), Error> {
        self.read("read the alert rules", |c| Ok(set_of(revision(c)?, all(c)?)))
    }
}

fn revision(connection: &mut SqliteConnection) -> QueryResult<i64> {
    alert_rule_set::table.find(1).select(alert_rule_set::revision).first(connection)
}

fn next_revision(connection: &mut SqliteConnection) -> QueryResult<i64> {
    let next = revision(connection)? + 1;
    diesel::update(alert_rule_set::table.find(1)).set(alert_rule_set::revision.eq(next)).execute(connection)?;
    Ok(next)
}

fn all(connection: &mut SqliteConnection) -> Result<Vec<AlertRule>, Fault> {
    dsl::alert_rules.load::<Row>(connection)?.into_iter().map(read).collect()
}

fn find(connection: &mut SqliteConnection, id: RuleId) -> Result<Option<AlertRule>, Fault> {
    dsl::alert_rules.find(id.0).first::<Row>(connection).optional()?.map(read).transpose()
}

fn is_taken(connection: &mut SqliteConnection, name: &str, by_another_than: Option<RuleId>) -> QueryResult<bool> {
    let holder = dsl::alert_rules.filter(dsl::name.eq(name)).select(dsl::id).first::<i64>(connection).optional()?;
    Ok(holder.is_some_and(|id| Some(RuleId(id)) != by_another_than))
}

fn create(connection: &mut SqliteConnection, new: &RuleText, by: &str, now: Timestamp) -> Result<RuleOutcome, Fault> {
    if is_taken(connection, &new.name, None)? {
        return Ok(RuleOutcome::NameTaken);
    }
    let stored: i64 = dsl::alert_rules.count().get_result(connection)?;
    if usize::try_from(stored).is_ok_and(|stored| stored >= MAX_RULES) {
        return Ok(RuleOutcome::TooMany);
    }
    let number = next_revision(connection)?;
    let rule = AlertRule::made(number, new, by, now);
    diesel::insert_into(alert_rules::table).values(row(&rule)).execute(connection)?;
    Ok(RuleOutcome::Done(rule))
}

fn replace(
    connection: &mut SqliteConnection,
    id: RuleId,
    text: &RuleText,
    expected: Option<i64>,
    now: Timestamp,
) -> Result<Option<RuleOutcome>, Fault> {
    let Some(before) = find(connection, id)? else { return Ok(None) };
    if expected.is_some_and(|expected| expected != before.version) {
        return Ok(Some(RuleOutcome::Stale));
    }
    if is_taken(connection, &text.name, Some(id))? {
        return Ok(Some(RuleOutcome::NameTaken));
    }
    let number = next_revision(connection)?;
    let (rule, voided) = before.put(number, text, now);
    diesel::update(dsl::alert_rules.find(id.0)).set(row(&rule)).execute(connection)?;
    if let Some(reason) = voided {
        clear_all(connection, id, reason, now)?;
    }
    Ok(Some(RuleOutcome::Done(rule)))
}

fn delete(
    connection: &mut SqliteConnection,
    id: RuleId,
    expected: Option<i64>,
    now: Timestamp,
) -> Result<Option<RuleOutcome>, Fault> {
    let Some(rule) = find(connection, id)? else { return Ok(None) };
    if expected.is_some_and(|expected| expected != rule.version) {
        return Ok(Some(RuleOutcome::Stale));
    }
    next_revision(connection)?;
    diesel::delete(dsl::alert_rules.find(id.0)).execute(connection)?;
    clear_all(connection, id, ClearReason::Deleted, now)?;
    Ok(Some(RuleOutcome::Done(rule)))
}

fn clear_all(connection: &mut SqliteConnection, id: RuleId, reason: ClearReason, now: Timestamp) -> QueryResult<usize> {
    use device_alerts::dsl as alerts;
    let open = alerts::device_alerts.filter(alerts::rule_id.eq(id.0)).filter(alerts::cleared_at.is_null());
    diesel::update(open)
        .set((alerts::cleared_at.eq(Some(now.0)), alerts::cleared_reason.eq(Some(reason.name()))))
        .execute(connection)
}

#[derive(Insertable)]
#[diesel(table_name = device_alerts)]
struct Fired<'a> {
    device_id: &'a str,
    alert_type: &'a str,
    severity: &'a str,
    message: &'a str,
    is_builtin: bool,
    created_at: i64,
    rule_id: i64,
}

/// Applies changes in order. An alert about a device that is no longer registered is nobody's, and is not raised.
pub(super) fn change_alerts(connection: &mut SqliteConnection, changes: &[RuleAlert]) -> Result<(), Fault> {
    use device_alerts::dsl as alerts;
    for change in changes {
        match change {
            RuleAlert::Fire { device, rule, generation, name, severity, message, at } => {
                let current = dsl::alert_rules.find(rule.0).select(dsl::generation).first::<i64>(connection);
                if current.optional()? != Some(*generation) || !devices::exists(connection, device)? {
                    continue;
                }
                let row = Fired {
                    device_id: device.as_str(),
                    alert_type: name,
                    severity: severity.name(),
                    message,
                    is_builtin: false,
                    created_at: at.0,
                    rule_id: rule.0,
                };
                diesel::insert_into(alerts::device_alerts).values(row).on_conflict_do_nothing().execute(connection)?;
            }
            RuleAlert::Clear { device, rule, reason, at } => {
                let open = alerts::device_alerts
                    .filter(alerts::rule_id.eq(rule.0))
                    .filter(alerts::device_id.eq(device.as_str()))
                    .filter(alerts::cleared_at.is_null());
                diesel::update(open)
                    .set((alerts::cleared_at.eq(Some(at.0)), alerts::cleared_reason.eq(reason.map(ClearReason::name))))
                    .execute(connection)?;
            }
        }
    }
    Ok(())
}
