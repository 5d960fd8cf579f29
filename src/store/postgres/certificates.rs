//! Certificates, and the queue of rights that were taken away.
//!
//! Invariant: whatever takes a right away writes its line into the queue in the same transaction. Lines become visible in
//! the order of their numbers: who writes one holds a lock until the end of its transaction, and touches no other rows
//! that somebody who waits for that lock may hold. A line is kept for a day by the database's clock: a node that does not look for
//! so long has to start anew.

use diesel::pg::Pg;
use diesel::prelude::Insertable;
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable,
    QueryableByName, RunQueryDsl, sql_query,
};

use super::PostgresStore;
use super::connection::View;
use super::schema::{certificates, credential_changes, devices};
use super::text::plain;
use super::types::Time;
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing::{self, Part};
use crate::store::{
    Certificate, CertificateFigures, CertificateFilter, Certificates, CredentialChange, Error, Issuance, Listing,
    MAX_GOOD_CERTIFICATES, Page, Place, Revocation, RevokedCertificate,
};

/// The advisory lock of whoever writes into the queue.
const LOCK: i64 = 0x0069_6f74_2d63_6864;

const DEVICE: &str = "device";
const SERVER: &str = "server";
const UNKNOWN: &str = "unknown";
const TOKEN: &str = "token";
const CERTIFICATE: &str = "certificate";
const SERVICE: &str = "service";

#[derive(Queryable)]
struct Row {
    id: i64,
    serial: String,
    _kind: String,
    device_id: Option<String>,
    not_before: Time,
    not_after: Time,
    fingerprint: String,
    pem: String,
    issued_at: Time,
    issued_by: String,
    revoked_at: Option<Time>,
    revoked_by: Option<String>,
    revoke_reason: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = certificates)]
struct New<'a> {
    serial: &'a str,
    kind: &'static str,
    device_id: Option<&'a str>,
    not_before: Time,
    not_after: Time,
    fingerprint: &'a str,
    pem: &'a str,
    issued_at: Time,
    issued_by: &'a str,
    revoked_at: Option<Time>,
    revoked_by: Option<&'a str>,
    revoke_reason: Option<&'a str>,
}

fn read(row: Row) -> Result<Certificate, Fault> {
    let (by, reason) = (row.revoked_by.unwrap_or_default(), row.revoke_reason.unwrap_or_default());
    Ok(Certificate {
        serial: row.serial,
        device: row.device_id.as_deref().map(listing::device_id).transpose()?,
        not_before: row.not_before.0,
        not_after: row.not_after.0,
        fingerprint: row.fingerprint,
        pem: row.pem,
        issued_at: row.issued_at.0,
        issued_by: row.issued_by,
        revocation: row.revoked_at.map(|at| Revocation { at: at.0, by, reason }),
    })
}

/// Adds a certificate.
pub(super) fn add(connection: &mut PgConnection, certificate: &Certificate) -> Result<(), Fault> {
    let revocation = certificate.revocation.as_ref();
    let (by, reason) = (revocation.map(|r| plain(&r.by)), revocation.map(|r| plain(&r.reason)));
    let row = New {
        serial: &certificate.serial,
        kind: match certificate.device {
            Some(_) => DEVICE,
            None if certificate.is_known() => SERVER,
            None => UNKNOWN,
        },
        device_id: certificate.device.as_ref().map(DeviceId::as_str),
        not_before: Time(certificate.not_before),
        not_after: Time(certificate.not_after),
        fingerprint: &certificate.fingerprint,
        pem: &certificate.pem,
        issued_at: Time(certificate.issued_at),
        issued_by: &plain(&certificate.issued_by),
        revoked_at: revocation.map(|r| Time(r.at)),
        revoked_by: by.as_deref(),
        revoke_reason: reason.as_deref(),
    };
    diesel::insert_into(certificates::table).values(row).execute(connection)?;
    Ok(())
}

/// See [`Certificates::issue_certificate`]. The device's row is locked, then the certificate's that it follows, as who disables
/// or removes the device and who revokes do: one of two comes first, and the other sees what it did.
fn issue(connection: &mut PgConnection, certificate: &Certificate, follows: Option<&str>) -> Result<Issuance, Fault> {
    let Some(device) = &certificate.device else { return add(connection, certificate).map(|()| Issuance::Kept) };
    match lock_device(connection, device)? {
        None => return Ok(Issuance::NoDevice),
        Some(false) => return Ok(Issuance::Disabled),
        Some(true) => {}
    }
    if let Some(serial) = follows {
        let before = certificates::table.filter(certificates::serial.eq(plain(serial)));
        let revoked_at =
            before.select(certificates::revoked_at).for_share().first::<Option<Time>>(connection).optional()?;
        if revoked_at.flatten().is_some() {
            return Ok(Issuance::Revoked);
        }
    }
    let good: i64 = certificates::table
        .filter(certificates::device_id.eq(device.as_str()))
        .filter(certificates::revoked_at.is_null())
        .filter(certificates::not_after.ge(Time(certificate.issued_at)))
        .count()
        .get_result(connection)?;
    if good >= MAX_GOOD_CERTIFICATES {
        return Ok(Issuance::TooMany);
    }
    add(connection, certificate)?;
    Ok(Issuance::Kept)
}

/// Locks a device until the transaction ends; whether it is active. `None` = it is not registered. Before its certificates.
fn lock_device(connection: &mut PgConnection, device: &DeviceId) -> QueryResult<Option<bool>> {
    let row = devices::table.filter(devices::device_id.eq(device.as_str())).select(devices::is_active);
    row.for_update().first::<bool>(connection).optional()
}

fn find(connection: &mut PgConnection, serial: &str) -> Result<Option<Certificate>, Fault> {
    let row: Option<Row> =
        certificates::table.filter(certificates::serial.eq(plain(serial))).first(connection).optional()?;
    row.map(read).transpose()
}

/// The certificates a filter lets through.
pub(super) fn matching(filter: &CertificateFilter) -> certificates::BoxedQuery<'_, Pg> {
    let mut query = certificates::table.into_boxed();
    if let Some(device) = &filter.device {
        query = query.filter(certificates::device_id.eq(device.as_str()));
    }
    if let Some(prefix) = &filter.id_prefix {
        let within = certificates::device_id.ge(prefix).and(certificates::device_id.lt(listing::end_of(prefix)));
        query = query.filter(within);
    }
    if let Some((from, before)) = filter.expiring {
        let ends = certificates::not_after.ge(Time(from)).and(certificates::not_after.lt(Time(before)));
        query = query.filter(ends.and(certificates::revoked_at.is_null())).filter(is_newest(from));
    }
    query
}

/// Whether its device has no later one that is good at that time. (A server's has no device.)
fn is_newest(at: Timestamp) -> Box<dyn diesel::BoxableExpression<certificates::table, Pg, SqlType = Bool>> {
    Box::new(
        diesel::dsl::sql::<Bool>(
            "NOT EXISTS (SELECT 1 FROM certificates AS later WHERE later.device_id = certificates.device_id \
             AND later.id > certificates.id AND later.revoked_at IS NULL AND later.not_after >= ",
        )
        .bind::<Timestamptz, _>(Time(at))
        .sql(")"),
    )
}

/// A part of a query, newest first.
pub(super) fn behind<'a>(query: certificates::BoxedQuery<'a, Pg>, part: &Part) -> certificates::BoxedQuery<'a, Pg> {
    let query = query.order(certificates::id.desc()).limit(part.limit).offset(part.offset);
    match part.behind {
        Some(Place(id, _)) => query.filter(certificates::id.lt(id)),
        None => query,
    }
}

fn list(connection: &mut PgConnection, filter: &CertificateFilter, page: Page) -> Result<Listing<Certificate>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let rows = behind(matching(filter), &part).load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

fn revoke(connection: &mut PgConnection, serial: &str, revocation: &Revocation) -> QueryResult<bool> {
    let valid =
        certificates::table.filter(certificates::serial.eq(plain(serial))).filter(certificates::revoked_at.is_null());
    let changed = diesel::update(valid)
        .set((
            certificates::revoked_at.eq(Some(Time(revocation.at))),
            certificates::revoked_by.eq(Some(plain(&revocation.by))),
            certificates::revoke_reason.eq(Some(plain(&revocation.reason))),
        ))
        .execute(connection)?;
    if changed > 0 {
        note(connection, CERTIFICATE, serial)?;
    }
    Ok(changed > 0)
}

/// Revokes what a device has; what is being issued to it waits, or has come before.
pub(super) fn revoke_all(
    connection: &mut PgConnection,
    device: &DeviceId,
    revocation: &Revocation,
) -> Result<Vec<String>, Fault> {
    lock_device(connection, device)?;
    let valid = certificates::table
        .filter(certificates::device_id.eq(device.as_str()))
        .filter(certificates::revoked_at.is_null());
    let serials: Vec<String> = diesel::update(valid)
        .set((
            certificates::revoked_at.eq(Some(Time(revocation.at))),
            certificates::revoked_by.eq(Some(plain(&revocation.by))),
            certificates::revoke_reason.eq(Some(plain(&revocation.reason))),
        ))
        .returning(certificates::serial)
        .get_results(connection)?;
    for serial in &serials {
        note(connection, CERTIFICATE, serial)?;
    }
    Ok(serials)
}

/// One at a time, until the transaction ends.
fn lock(connection: &mut PgConnection) -> QueryResult<()> {
    sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(connection).map(drop)
}

/// What is older than a day by the same clock goes: never what nobody had the time to read.
fn note(connection: &mut PgConnection, kind: &str, subject: &str) -> QueryResult<()> {
    lock(connection)?;
    sql_query("DELETE FROM credential_changes WHERE at < clock_timestamp() - interval '1 day'").execute(connection)?;
    sql_query("INSERT INTO credential_changes (at, kind, subject) VALUES (clock_timestamp(), $1, $2)")
        .bind::<Text, _>(kind)
        .bind::<Text, _>(subject)
        .execute(connection)
        .map(drop)
}

/// The device was disabled or deleted: every node is to hear of it.
pub(super) fn note_device(connection: &mut PgConnection, device: &DeviceId) -> QueryResult<()> {
    note(connection, DEVICE, device.as_str())
}

/// The device has another token, or none: likewise.
pub(super) fn note_token(connection: &mut PgConnection, device: &DeviceId) -> QueryResult<()> {
    note(connection, TOKEN, device.as_str())
}

/// The service account was changed or removed: likewise.
pub(super) fn note_service(connection: &mut PgConnection, name: &str) -> QueryResult<()> {
    note(connection, SERVICE, name)
}

fn changes(connection: &mut PgConnection, after: i64, limit: u32) -> Result<Vec<(i64, CredentialChange)>, Fault> {
    let rows: Vec<(i64, String, String)> = credential_changes::table
        .filter(credential_changes::id.gt(after))
        .order(credential_changes::id)
        .limit(i64::from(limit))
        .select((credential_changes::id, credential_changes::kind, credential_changes::subject))
        .load(connection)?;
    let read = |(id, kind, subject): (i64, String, String)| {
        Ok((
            id,
            match kind.as_str() {
                CERTIFICATE => CredentialChange::Certificate(subject),
                DEVICE => CredentialChange::Device(listing::device_id(&subject)?),
                TOKEN => CredentialChange::Token(listing::device_id(&subject)?),
                SERVICE => CredentialChange::Service(subject),
                _ => return Err(Fault::Corrupt("change of a credential")),
            },
        ))
    };
    rows.into_iter().map(read).collect()
}

#[derive(QueryableByName)]
struct Figures {
    #[diesel(sql_type = BigInt)]
    valid: i64,
    #[diesel(sql_type = BigInt)]
    expiring: i64,
    #[diesel(sql_type = BigInt)]
    expired: i64,
    #[diesel(sql_type = BigInt)]
    revoked: i64,
    #[diesel(sql_type = diesel::sql_types::Nullable<Timestamptz>)]
    next_expiry: Option<Time>,
}

/// The certificates of devices, from the index `certificates_device` alone, which is read backwards.
const FIGURES: &str = "WITH newest AS (SELECT DISTINCT ON (device_id) not_before, not_after FROM certificates \
     WHERE device_id IS NOT NULL AND revoked_at IS NULL AND not_after >= $1 ORDER BY device_id DESC, id DESC) \
     SELECT count(*) FILTER (WHERE revoked_at IS NULL AND not_after >= $1) AS valid, \
     (SELECT count(*) FROM newest \
     WHERE not_after < $2 AND not_after < $1 + (not_after - not_before) / 4) AS expiring, \
     count(*) FILTER (WHERE revoked_at IS NULL AND not_after < $1) AS expired, \
     count(*) FILTER (WHERE revoked_at IS NOT NULL) AS revoked, \
     (SELECT min(not_after) FROM newest) AS next_expiry \
     FROM certificates WHERE device_id IS NOT NULL";

fn figures(connection: &mut PgConnection, now: Timestamp, soon: Timestamp) -> Result<CertificateFigures, Fault> {
    let found: Figures = sql_query(FIGURES)
        .bind::<Timestamptz, _>(Time(now))
        .bind::<Timestamptz, _>(Time(soon))
        .get_result(connection)?;
    Ok(CertificateFigures {
        valid: listing::count(found.valid),
        expiring: listing::count(found.expiring),
        expired: listing::count(found.expired),
        revoked: listing::count(found.revoked),
        next_expiry: found.next_expiry.map(|at| at.0),
    })
}

impl Certificates for PostgresStore {
    fn add_certificate(&self, certificate: &Certificate) -> Result<(), Error> {
        self.write("add a certificate", |c| add(c, certificate))
    }

    fn issue_certificate(&self, certificate: &Certificate, follows: Option<&str>) -> Result<Issuance, Error> {
        self.write("add a certificate", |c| issue(c, certificate, follows))
    }

    fn certificate(&self, serial: &str) -> Result<Option<Certificate>, Error> {
        let found = self.read("read a certificate", View::Statement, |c| find(c, serial))?;
        found.iter().for_each(|certificate| self.remembered.note_certificate(certificate));
        Ok(found)
    }

    fn certificates(&self, filter: &CertificateFilter, page: Page) -> Result<Listing<Certificate>, Error> {
        self.read("list certificates", View::Snapshot, |c| list(c, filter, page))
    }

    fn revoke_certificate(
        &self,
        serial: &str,
        revocation: &Revocation,
        until: Option<Timestamp>,
    ) -> Result<Option<Certificate>, Error> {
        self.write("revoke a certificate", |c| {
            if until.is_some() {
                lock(c)?; // two nodes may do it at once: the second finds what the first has kept
            }
            revoke(c, serial, revocation)?;
            let found = find(c, serial)?;
            let Some(until) = until.filter(|_| found.is_none()) else { return Ok(found) };
            let unknown = Certificate::unknown(serial, until, revocation);
            add(c, &unknown)?;
            note(c, CERTIFICATE, serial)?;
            Ok(Some(unknown))
        })
    }

    fn revoke_certificates_of(&self, device: &DeviceId, revocation: &Revocation) -> Result<Vec<String>, Error> {
        self.write("revoke certificates", |c| revoke_all(c, device, revocation))
    }

    fn revoked_certificates(&self, now: Timestamp) -> Result<Vec<RevokedCertificate>, Error> {
        let revoked = self.read("list revoked certificates", View::Statement, |c| {
            let rows: Vec<(String, Option<Time>, Time)> = certificates::table
                .filter(certificates::revoked_at.is_not_null())
                .filter(certificates::not_after.ge(Time(now)))
                .select((certificates::serial, certificates::revoked_at, certificates::not_after))
                .load(c)?;
            let read = |(serial, revoked_at, not_after): (String, Option<Time>, Time)| RevokedCertificate {
                serial,
                revoked_at: revoked_at.map_or(Timestamp(0), |at| at.0),
                not_after: not_after.0,
            };
            Ok(rows.into_iter().map(read).collect::<Vec<_>>())
        })?;
        self.remembered.note_revoked(&revoked);
        Ok(revoked)
    }

    fn last_known_revocations(&self) -> Result<Vec<(String, Timestamp)>, Error> {
        self.remembered.revoked()
    }

    fn certificate_figures(&self, now: Timestamp, soon: Timestamp) -> Result<CertificateFigures, Error> {
        self.read("count certificates", View::Statement, |c| figures(c, now, soon))
    }

    fn last_credential_change(&self) -> Result<i64, Error> {
        self.read("read changes of credentials", View::Statement, |c| {
            let last: Option<i64> =
                credential_changes::table.select(diesel::dsl::max(credential_changes::id)).first(c)?;
            Ok(last.unwrap_or(0))
        })
    }

    fn credential_changes(&self, after: i64, limit: u32) -> Result<Vec<(i64, CredentialChange)>, Error> {
        self.read("read changes of credentials", View::Statement, |c| changes(c, after, limit))
    }
}
