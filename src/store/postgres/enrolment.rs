//! Sealed secrets of devices, claims, and taking devices in.

use diesel::prelude::Insertable;
use diesel::{ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable, RunQueryDsl};

use super::connection::View;
use super::schema::{claims, device_enrolments, device_secrets, devices as device_table};
use super::text::plain;
use super::types::{Time, optional};
use super::{PostgresStore, certificates, credentials, devices, services};
use crate::domain::{DeviceId, DevicePattern, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing;
use crate::store::{
    Claim, Device, DeviceChange, Enrolment, Error, NewEnrolment, Outcome, Revocation, Sealed, ServiceAccount,
    ServiceChange,
};

#[derive(Queryable, Insertable)]
#[diesel(table_name = claims)]
struct Row {
    prefix: String,
    token_sha256: Vec<u8>,
    name: String,
    devices: String,
    max_uses: i64,
    uses: i64,
    created_at: Time,
    created_by: String,
    expires_at: Time,
    revoked_at: Option<Time>,
}

/// The columns of [`Row`].
macro_rules! claim_columns {
    () => {
        (
            claims::prefix,
            claims::token_sha256,
            claims::name,
            claims::devices,
            claims::max_uses,
            claims::uses,
            claims::created_at,
            claims::created_by,
            claims::expires_at,
            claims::revoked_at,
        )
    };
}

impl From<&Claim> for Row {
    fn from(claim: &Claim) -> Self {
        Self {
            prefix: claim.prefix.clone(),
            token_sha256: claim.token_sha256.to_vec(),
            name: plain(&claim.name).into_owned(),
            devices: claim.devices.to_string(),
            max_uses: claim.max_uses.into(),
            uses: claim.uses.into(),
            created_at: Time(claim.created_at),
            created_by: plain(&claim.created_by).into_owned(),
            expires_at: Time(claim.expires_at),
            revoked_at: optional(claim.revoked_at),
        }
    }
}

impl Row {
    fn read(self) -> Result<Claim, Fault> {
        let count = |n: i64| u32::try_from(n).map_err(|_| Fault::Corrupt("claim"));
        Ok(Claim {
            prefix: self.prefix,
            token_sha256: listing::digest(self.token_sha256)?,
            name: self.name,
            devices: DevicePattern::parse(&self.devices).ok_or(Fault::Corrupt("claim"))?,
            max_uses: count(self.max_uses)?,
            uses: count(self.uses)?,
            created_at: self.created_at.0,
            created_by: self.created_by,
            expires_at: self.expires_at.0,
            revoked_at: self.revoked_at.map(|at| at.0),
        })
    }
}

impl Enrolment for PostgresStore {
    fn device_secret(&self, id: &DeviceId, purpose: &str) -> Result<Option<Vec<u8>>, Error> {
        self.read("read a device's secret", View::Statement, |c| {
            let row = device_secrets::table.find((id.as_str(), purpose)).select(device_secrets::sealed);
            Ok(row.first(c).optional()?)
        })
    }

    fn set_device_secret(&self, id: &DeviceId, purpose: &str, sealed: &Sealed, now: Timestamp) -> Result<bool, Error> {
        self.write("keep a device's secret", |c| {
            // Locked, lest it goes before its secret is there to go with it.
            let device = device_table::table.filter(device_table::device_id.eq(id.as_str()));
            let is_there = device.select(device_table::id).for_share().first::<i64>(c).optional()?.is_some();
            if is_there {
                keep_secret(c, id, purpose, sealed, now)?;
            }
            Ok(is_there)
        })
    }

    fn sealing_keys(&self) -> Result<Vec<String>, Error> {
        let query = device_secrets::table.select(device_secrets::key_id).distinct();
        self.read("read the ids of sealing keys", View::Statement, |c| Ok(query.load(c)?))
    }

    fn secrets_not_of(
        &self,
        key_id: &str,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<(String, String, Vec<u8>)>, Error> {
        use diesel::BoolExpressionMethods;
        let mut query = device_secrets::table.filter(device_secrets::key_id.ne(key_id)).into_boxed();
        if let Some((device, purpose)) = after {
            let same = device_secrets::device_id.eq(device).and(device_secrets::purpose.gt(purpose));
            query = query.filter(device_secrets::device_id.gt(device).or(same));
        }
        let columns = (device_secrets::device_id, device_secrets::purpose, device_secrets::sealed);
        let query = query.order((device_secrets::device_id, device_secrets::purpose)).limit(limit.into());
        self.read("read sealed secrets", View::Statement, |c| Ok(query.select(columns).load(c)?))
    }

    fn replace_secret(&self, device: &str, purpose: &str, old: &[u8], new: &Sealed) -> Result<bool, Error> {
        let row = device_secrets::table.find((device, purpose)).filter(device_secrets::sealed.eq(old));
        let values = (device_secrets::key_id.eq(&new.key_id), device_secrets::sealed.eq(&new.envelope));
        self.write("seal a secret anew", |c| Ok(diesel::update(row).set(values).execute(c)? == 1))
    }

    fn create_claim(&self, claim: &Claim) -> Result<(), Error> {
        self.write("create a claim", |c| {
            Ok(diesel::insert_into(claims::table).values(Row::from(claim)).execute(c).map(drop)?)
        })
    }

    fn claims(&self) -> Result<Vec<Claim>, Error> {
        self.read("list claims", View::Statement, |c| {
            let rows: Vec<Row> = claims::table.order(claims::id.desc()).select(claim_columns!()).load(c)?;
            rows.into_iter().map(Row::read).collect()
        })
    }

    fn revoke_claim(&self, prefix: &str, now: Timestamp) -> Result<bool, Error> {
        self.write("revoke a claim", |c| {
            let valid = claims::table.filter(claims::prefix.eq(plain(prefix))).filter(claims::revoked_at.is_null());
            diesel::update(valid).set(claims::revoked_at.eq(Some(Time(now)))).execute(c)?;
            Ok(find_claim(c, prefix)?.is_some())
        })
    }

    fn claim_for(&self, prefix: &str, id: &DeviceId) -> Result<(Option<Claim>, bool), Error> {
        self.read("read a claim", View::Snapshot, |c| {
            let enrolment = enrolments(id).first(c).optional()?;
            Ok((find_claim(c, prefix)?, may_enrol(c, id, enrolment)?))
        })
    }

    fn enrol(&self, new: &NewEnrolment, now: Timestamp) -> Result<Outcome<Device>, Error> {
        self.write("take a device in", |c| enrol(c, new, now))
    }

    fn allow_enrolment(&self, id: &DeviceId, now: Timestamp) -> Result<bool, Error> {
        self.write("allow an enrolment", |c| {
            let has_enrolled = enrolments(id).first::<Option<Time>>(c).optional()?.is_some();
            if !has_enrolled && !devices::exists(c, id)? {
                return Ok(false);
            }
            let allowed = device_enrolments::allowed_at.eq(Some(Time(now)));
            diesel::insert_into(device_enrolments::table)
                .values((device_enrolments::device_id.eq(id.as_str()), allowed))
                .on_conflict(device_enrolments::device_id)
                .do_update()
                .set(allowed)
                .execute(c)?;
            Ok(true)
        })
    }

    fn create_service(&self, new: &ServiceAccount) -> Result<Outcome<()>, Error> {
        self.write("create a service account", |c| services::create(c, new))
    }

    fn service(&self, name: &str) -> Result<Option<ServiceAccount>, Error> {
        self.read("read a service account", View::Statement, |c| services::find(c, name))
    }

    fn services(&self) -> Result<Vec<ServiceAccount>, Error> {
        self.read("list service accounts", View::Statement, services::list)
    }

    fn update_service(&self, name: &str, change: &ServiceChange) -> Result<Option<ServiceAccount>, Error> {
        self.write("change a service account", |c| services::update(c, name, change))
    }

    fn delete_service(&self, name: &str) -> Result<bool, Error> {
        self.write("remove a service account", |c| Ok(services::delete(c, name)?))
    }

    fn note_service_use(&self, name: &str, at: Timestamp) -> Result<(), Error> {
        self.write("note a log-in", |c| Ok(services::note_use(c, name, at)?))
    }
}

fn keep_secret(
    connection: &mut PgConnection,
    id: &DeviceId,
    purpose: &str,
    sealed: &Sealed,
    now: Timestamp,
) -> QueryResult<()> {
    let values = (
        device_secrets::device_id.eq(id.as_str()),
        device_secrets::purpose.eq(purpose),
        device_secrets::key_id.eq(&sealed.key_id),
        device_secrets::sealed.eq(&sealed.envelope),
        device_secrets::created_at.eq(Time(now)),
    );
    diesel::insert_into(device_secrets::table)
        .values(values)
        .on_conflict((device_secrets::device_id, device_secrets::purpose))
        .do_update()
        .set(values)
        .execute(connection)
        .map(drop)
}

fn find_claim(connection: &mut PgConnection, prefix: &str) -> Result<Option<Claim>, Fault> {
    let row: Option<Row> =
        claims::table.filter(claims::prefix.eq(plain(prefix))).select(claim_columns!()).first(connection).optional()?;
    row.map(Row::read).transpose()
}

/// When the device was allowed to enrol again, if it has enrolled, was removed or was ever allowed to.
type Allowed = Option<Option<Time>>;

/// The row with that.
#[diesel::dsl::auto_type(no_type_alias)]
fn enrolments<'a>(id: &'a DeviceId) -> _ {
    let name: &'a str = id.as_str();
    device_enrolments::table.find(name).select(device_enrolments::allowed_at)
}

/// A device that nobody knows may, or one that is allowed to. Who is registered and has never enrolled may not: a claim
/// would take it over.
fn may_enrol(connection: &mut PgConnection, id: &DeviceId, enrolment: Allowed) -> QueryResult<bool> {
    match enrolment {
        Some(allowed_at) => Ok(allowed_at.is_some()),
        None => Ok(!devices::exists(connection, id)?),
    }
}

/// Notes that a device was removed: it does not come back by a claim, whether it had enrolled or not.
pub(super) fn removed(connection: &mut PgConnection, id: &DeviceId) -> QueryResult<()> {
    let not_allowed = device_enrolments::allowed_at.eq(None::<Time>);
    diesel::insert_into(device_enrolments::table)
        .values((device_enrolments::device_id.eq(id.as_str()), not_allowed))
        .on_conflict(device_enrolments::device_id)
        .do_update()
        .set(not_allowed)
        .execute(connection)
        .map(drop)
}

/// See [`Enrolment::enrol`]. The claim's row and the device's are locked in this order: of several who take the last use, or
/// the same device, at once, one does, and the others see what it did.
fn enrol(connection: &mut PgConnection, new: &NewEnrolment, now: Timestamp) -> Result<Outcome<Device>, Fault> {
    let NewEnrolment { claim_prefix, device, secret: (purpose, sealed), certificate } = new;
    let id = &device.device_id;
    let claim = claims::table.filter(claims::prefix.eq(plain(claim_prefix)));
    claim.clone().select(claims::id).for_update().first::<i64>(connection).optional()?;
    let is_admitted = find_claim(connection, claim_prefix)?.is_some_and(|claim| claim.admits(id, now));
    let enrolment: Allowed = enrolments(id).for_update().first(connection).optional()?;
    if !is_admitted || !may_enrol(connection, id, enrolment)? {
        return Ok(Outcome::Conflict);
    }
    let is_new = devices::register(connection, &[(device, now)])? == 1;
    if !is_new && enrolment.is_none() {
        // Somebody has just registered it.
        return Ok(Outcome::Conflict);
    }
    diesel::update(claim).set(claims::uses.eq(claims::uses + 1)).execute(connection)?;
    if !is_new {
        let change = DeviceChange { is_active: Some(true), ..DeviceChange::default() };
        devices::update(connection, id, &change, None, now)?;
        credentials::set_token(connection, id, device.token_sha256)?;
    }
    let revocation = Revocation { at: now, by: format!("claim:{claim_prefix}"), reason: "enrolled anew".to_owned() };
    certificates::revoke_all(connection, id, &revocation)?;
    if let Some(certificate) = certificate {
        certificates::add(connection, certificate)?;
    }
    keep_secret(connection, id, purpose, sealed, now)?;
    let enrolled = (
        device_enrolments::device_id.eq(id.as_str()),
        device_enrolments::claim_prefix.eq(Some(claim_prefix)),
        device_enrolments::enrolled_at.eq(Some(Time(now))),
        device_enrolments::allowed_at.eq(None::<Time>),
    );
    diesel::insert_into(device_enrolments::table)
        .values(enrolled)
        .on_conflict(device_enrolments::device_id)
        .do_update()
        .set(enrolled)
        .execute(connection)?;
    let device = devices::find(connection, id)?.ok_or(Fault::Sql(diesel::result::Error::NotFound))?;
    Ok(Outcome::Done(device))
}
