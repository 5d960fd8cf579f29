//! Sealed secrets of devices, claims, and taking devices in.

use diesel::prelude::Insertable;
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, Queryable, RunQueryDsl, SqliteConnection};

use super::fault::Fault;
use super::schema::{claims, device_enrolments, device_secrets};
use super::{SqliteStore, certificates, credentials, devices, listing, services};
use crate::domain::{DeviceId, DevicePattern, Timestamp};
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
    created_at: i64,
    created_by: String,
    expires_at: i64,
    revoked_at: Option<i64>,
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
            name: claim.name.clone(),
            devices: claim.devices.to_string(),
            max_uses: claim.max_uses.into(),
            uses: claim.uses.into(),
            created_at: claim.created_at.0,
            created_by: claim.created_by.clone(),
            expires_at: claim.expires_at.0,
            revoked_at: claim.revoked_at.map(|at| at.0),
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
            created_at: Timestamp(self.created_at),
            created_by: self.created_by,
            expires_at: Timestamp(self.expires_at),
            revoked_at: listing::time(self.revoked_at),
        })
    }
}

impl Enrolment for SqliteStore {
    fn device_secret(&self, id: &DeviceId, purpose: &str) -> Result<Option<Vec<u8>>, Error> {
        self.read("read a device's secret", |c| {
            let row = device_secrets::table.find((id.as_str(), purpose)).select(device_secrets::sealed);
            Ok(row.first(c).optional()?)
        })
    }

    fn set_device_secret(&self, id: &DeviceId, purpose: &str, sealed: &Sealed, now: Timestamp) -> Result<bool, Error> {
        self.write("keep a device's secret", |c| {
            let is_there = devices::exists(c, id)?;
            if is_there {
                keep_secret(c, id, purpose, sealed, now)?;
            }
            Ok(is_there)
        })
    }

    fn sealing_keys(&self) -> Result<Vec<String>, Error> {
        let query = device_secrets::table.select(device_secrets::key_id).distinct();
        self.read("read the ids of sealing keys", |c| Ok(query.load(c)?))
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
        self.read("read sealed secrets", |c| Ok(query.select(columns).load(c)?))
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
        self.read("list claims", |c| {
            let rows: Vec<Row> = claims::table.order(claims::id.desc()).select(claim_columns!()).load(c)?;
            rows.into_iter().map(Row::read).collect()
        })
    }

    fn revoke_claim(&self, prefix: &str, now: Timestamp) -> Result<bool, Error> {
        self.write("revoke a claim", |c| {
            let valid = claims::table.filter(claims::prefix.eq(prefix)).filter(claims::revoked_at.is_null());
            diesel::update(valid).set(claims::revoked_at.eq(Some(now.0))).execute(c)?;
            Ok(find_claim(c, prefix)?.is_some())
        })
    }

    fn claim_for(&self, prefix: &str, id: &DeviceId) -> Result<(Option<Claim>, bool), Error> {
        self.read("read a claim", |c| Ok((find_claim(c, prefix)?, may_enrol(c, id)?)))
    }

    fn enrol(&self, new: &NewEnrolment, now: Timestamp) -> Result<Outcome<Device>, Error> {
        self.write("take a device in", |c| enrol(c, new, now))
    }

    fn allow_enrolment(&self, id: &DeviceId, now: Timestamp) -> Result<bool, Error> {
        self.write("allow an enrolment", |c| {
            let has_enrolled = enrolment(c, id)?.is_some();
            if !has_enrolled && !devices::exists(c, id)? {
                return Ok(false);
            }
            let allowed = device_enrolments::allowed_at.eq(Some(now.0));
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
        self.read("read a service account", |c| services::find(c, name))
    }

    fn services(&self) -> Result<Vec<ServiceAccount>, Error> {
        self.read("list service accounts", services::list)
    }

    fn update_service(&self, name: &str, change: &ServiceChange) -> Result<Option<ServiceAccount>, Error> {
        self.write("change a service account", |c| services::update(c, name, change))
    }

    fn delete_service(&self, name: &str) -> Result<bool, Error> {
        self.write("remove a service account", |c| Ok(services::delete(c, name)?))
    }

    fn note_service_use(&self, name: &str, at: Timestamp) -> Result<(), Error> {
        let noted = self.connections.write(super::Sync::Lazy, |c| Ok(services::note_use(c, name, at)?));
        noted.map_err(|fault| fault.during("note a log-in"))
    }
}

fn keep_secret(
    connection: &mut SqliteConnection,
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
        device_secrets::created_at.eq(now.0),
    );
    diesel::replace_into(device_secrets::table).values(values).execute(connection).map(drop)
}

fn find_claim(connection: &mut SqliteConnection, prefix: &str) -> Result<Option<Claim>, Fault> {
    let row: Option<Row> =
        claims::table.filter(claims::prefix.eq(prefix)).select(claim_columns!()).first(connection).optional()?;
    row.map(Row::read).transpose()
}

/// When the device was allowed to enrol again, if it has enrolled, was removed or was ever allowed to.
fn enrolment(connection: &mut SqliteConnection, id: &DeviceId) -> QueryResult<Option<Option<i64>>> {
    device_enrolments::table.find(id.as_str()).select(device_enrolments::allowed_at).first(connection).optional()
}

/// A device that nobody knows may, or one that is allowed to. Who is registered and has never enrolled may not: a claim
/// would take it over.
fn may_enrol(connection: &mut SqliteConnection, id: &DeviceId) -> QueryResult<bool> {
    match enrolment(connection, id)? {
        Some(allowed_at) => Ok(allowed_at.is_some()),
        None => Ok(!devices::exists(connection, id)?),
    }
}

/// Notes that a device was removed: it does not come back by a claim, whether it had enrolled or not.
pub(super) fn removed(connection: &mut SqliteConnection, id: &DeviceId) -> QueryResult<()> {
    let not_allowed = device_enrolments::allowed_at.eq(None::<i64>);
    diesel::insert_into(device_enrolments::table)
        .values((device_enrolments::device_id.eq(id.as_str()), not_allowed))
        .on_conflict(device_enrolments::device_id)
        .do_update()
        .set(not_allowed)
        .execute(connection)
        .map(drop)
}

/// See [`Enrolment::enrol`].
fn enrol(connection: &mut SqliteConnection, new: &NewEnrolment, now: Timestamp) -> Result<Outcome<Device>, Fault> {
    let NewEnrolment { claim_prefix, device, secret: (purpose, sealed), certificate } = new;
    let id = &device.device_id;
    let is_admitted = find_claim(connection, claim_prefix)?.is_some_and(|claim| claim.admits(id, now));
    if !is_admitted || !may_enrol(connection, id)? {
        return Ok(Outcome::Conflict);
    }
    let claim = claims::table.filter(claims::prefix.eq(claim_prefix));
    diesel::update(claim).set(claims::uses.eq(claims::uses + 1)).execute(connection)?;
    if !devices::register(connection, device, now)? {
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
        device_enrolments::enrolled_at.eq(Some(now.0)),
        device_enrolments::allowed_at.eq(None::<i64>),
    );
    diesel::replace_into(device_enrolments::table).values(enrolled).execute(connection)?;
    let device = devices::find(connection, id)?.ok_or(Fault::Sql(diesel::result::Error::NotFound))?;
    Ok(Outcome::Done(device))
}
