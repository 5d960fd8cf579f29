//! Certificates, and the queue of rights that were taken away.
//!
//! Invariant: whatever takes a right away writes its line into the queue in the same transaction.

use diesel::prelude::Insertable;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::sqlite::Sqlite;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, Queryable, QueryableByName,
    RunQueryDsl, SqliteConnection, sql_query,
};

use super::SqliteStore;
use super::fault::Fault;
use super::listing::{self, Part};
use super::schema::{certificates, credential_changes, devices};
use crate::domain::{DeviceId, Timestamp};
use crate::store::{
    Certificate, CertificateFigures, CertificateFilter, Certificates, CredentialChange, Error, Issuance, Listing,
    MAX_GOOD_CERTIFICATES, Page, Place, Revocation, RevokedCertificate,
};

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
    not_before: i64,
    not_after: i64,
    fingerprint: String,
    pem: String,
    issued_at: i64,
    issued_by: String,
    revoked_at: Option<i64>,
    revoked_by: Option<String>,
    revoke_reason: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = certificates)]
struct New<'a> {
    serial: &'a str,
    kind: &'static str,
    device_id: Option<&'a str>,
    not_before: i64,
    not_after: i64,
    fingerprint: &'a str,
    pem: &'a str,
    issued_at: i64,
    issued_by: &'a str,
    revoked_at: Option<i64>,
    revoked_by: Option<&'a str>,
    revoke_reason: Option<&'a str>,
}

fn read(row: Row) -> Result<Certificate, Fault> {
    let (by, reason) = (row.revoked_by.unwrap_or_default(), row.revoke_reason.unwrap_or_default());
    Ok(Certificate {
        serial: row.serial,
        device: row.device_id.as_deref().map(listing::device_id).transpose()?,
        not_before: Timestamp(row.not_before),
        not_after: Timestamp(row.not_after),
        fingerprint: row.fingerprint,
        pem: row.pem,
        issued_at: Timestamp(row.issued_at),
        issued_by: row.issued_by,
        revocation: row.revoked_at.map(|at| Revocation { at: Timestamp(at), by, reason }),
    })
}

/// Adds a certificate.
pub(super) fn add(connection: &mut SqliteConnection, certificate: &Certificate) -> Result<(), Fault> {
    let revocation = certificate.revocation.as_ref();
    let row = New {
        serial: &certificate.serial,
        kind: match certificate.device {
            Some(_) => DEVICE,
            None if certificate.is_known() => SERVER,
            None => UNKNOWN,
        },
        device_id: certificate.device.as_ref().map(DeviceId::as_str),
        not_before: certificate.not_before.0,
        not_after: certificate.not_after.0,
        fingerprint: &certificate.fingerprint,
        pem: &certificate.pem,
        issued_at: certificate.issued_at.0,
        issued_by: &certificate.issued_by,
        revoked_at: revocation.map(|r| r.at.0),
        revoked_by: revocation.map(|r| r.by.as_str()),
        revoke_reason: revocation.map(|r| r.reason.as_str()),
    };
    diesel::insert_into(certificates::table).values(row).execute(connection)?;
    Ok(())
}

/// See [`Certificates::issue_certificate`].
fn issue(
    connection: &mut SqliteConnection,
    certificate: &Certificate,
    follows: Option<&str>,
) -> Result<Issuance, Fault> {
    let Some(device) = &certificate.device else { return add(connection, certificate).map(|()| Issuance::Kept) };
    let row = devices::table.filter(devices::device_id.eq(device.as_str())).select(devices::is_active);
    match row.first::<bool>(connection).optional()? {
        None => return Ok(Issuance::NoDevice),
        Some(false) => return Ok(Issuance::Disabled),
        Some(true) => {}
    }
    if let Some(serial) = follows
        && find(connection, serial)?.is_some_and(|before| before.revocation.is_some())
    {
        return Ok(Issuance::Revoked);
    }
    let good: i64 = certificates::table
        .filter(certificates::device_id.eq(device.as_str()))
        .filter(certificates::revoked_at.is_null())
        .filter(certificates::not_after.ge(certificate.issued_at.0))
        .count()
        .get_result(connection)?;
    if good >= MAX_GOOD_CERTIFICATES {
        return Ok(Issuance::TooMany);
    }
    add(connection, certificate)?;
    Ok(Issuance::Kept)
}

fn find(connection: &mut SqliteConnection, serial: &str) -> Result<Option<Certificate>, Fault> {
    let row: Option<Row> = certificates::table.filter(certificates::serial.eq(serial)).first(connection).optional()?;
    row.map(read).transpose()
}

/// The certificates a filter lets through.
pub(super) fn matching(filter: &CertificateFilter) -> certificates::BoxedQuery<'_, Sqlite> {
    let mut query = certificates::table.into_boxed();
    if let Some(device) = &filter.device {
        query = query.filter(certificates::device_id.eq(device.as_str()));
    }
    if let Some(prefix) = &filter.id_prefix {
        let within = certificates::device_id.ge(prefix).and(certificates::device_id.lt(listing::end_of(prefix)));
        query = query.filter(within);
    }
    if let Some((from, before)) = filter.expiring {
        let ends = certificates::not_after.ge(from.0).and(certificates::not_after.lt(before.0));
        query = query.filter(ends.and(certificates::revoked_at.is_null())).filter(is_newest(from));
    }
    query
}

/// Whether its device has no later one that is good at that time. (A server's has no device.)
fn is_newest(at: Timestamp) -> Box<dyn diesel::BoxableExpression<certificates::table, Sqlite, SqlType = Bool>> {
    Box::new(
        diesel::dsl::sql::<Bool>(
            "NOT EXISTS (SELECT 1 FROM certificates AS later WHERE later.device_id = certificates.device_id \
             AND later.id > certificates.id AND later.revoked_at IS NULL AND later.not_after >= ",
        )
        .bind::<BigInt, _>(at.0)
        .sql(")"),
    )
}

/// A part of a query, newest first.
pub(super) fn behind<'a>(
    query: certificates::BoxedQuery<'a, Sqlite>,
    part: &Part,
) -> certificates::BoxedQuery<'a, Sqlite> {
    let query = query.order(certificates::id.desc()).limit(part.limit).offset(part.offset);
    match part.behind {
        Some(Place(id, _)) => query.filter(certificates::id.lt(id)),
        None => query,
    }
}

fn list(
    connection: &mut SqliteConnection,
    filter: &CertificateFilter,
    page: Page,
) -> Result<Listing<Certificate>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let rows = behind(matching(filter), &part).load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

fn revoke(connection: &mut SqliteConnection, serial: &str, revocation: &Revocation) -> QueryResult<bool> {
    let valid = certificates::table.filter(certificates::serial.eq(serial)).filter(certificates::revoked_at.is_null());
    let changed = diesel::update(valid)
        .set((
            certificates::revoked_at.eq(Some(revocation.at.0)),
            certificates::revoked_by.eq(Some(&revocation.by)),
            certificates::revoke_reason.eq(Some(&revocation.reason)),
        ))
        .execute(connection)?;
    if changed > 0 {
        note(connection, CERTIFICATE, serial)?;
    }
    Ok(changed > 0)
}

/// Revokes what a device has.
pub(super) fn revoke_all(
    connection: &mut SqliteConnection,
    device: &DeviceId,
    revocation: &Revocation,
) -> Result<Vec<String>, Fault> {
    let serials: Vec<String> = certificates::table
        .filter(certificates::device_id.eq(device.as_str()))
        .filter(certificates::revoked_at.is_null())
        .select(certificates::serial)
        .load(connection)?;
    for serial in &serials {
        revoke(connection, serial, revocation)?;
    }
    Ok(serials)
}

/// What is older than a day by the same clock goes: never what nobody had the time to read.
fn note(connection: &mut SqliteConnection, kind: &str, subject: &str) -> QueryResult<()> {
    sql_query("DELETE FROM credential_changes WHERE at < (unixepoch() - 86400) * 1000000").execute(connection)?;
    sql_query("INSERT INTO credential_changes (at, kind, subject) VALUES (unixepoch() * 1000000, ?, ?)")
        .bind::<Text, _>(kind)
        .bind::<Text, _>(subject)
        .execute(connection)
        .map(drop)
}

/// The device was disabled or deleted: every node is to hear of it.
pub(super) fn note_device(connection: &mut SqliteConnection, device: &DeviceId) -> QueryResult<()> {
    note(connection, DEVICE, device.as_str())
}

/// The device has another token, or none: likewise.
pub(super) fn note_token(connection: &mut SqliteConnection, device: &DeviceId) -> QueryResult<()> {
    note(connection, TOKEN, device.as_str())
}

/// The service account was changed or removed: likewise.
pub(super) fn note_service(connection: &mut SqliteConnection, name: &str) -> QueryResult<()> {
    note(connection, SERVICE, name)
}

fn changes(connection: &mut SqliteConnection, after: i64, limit: u32) -> Result<Vec<(i64, CredentialChange)>, Fault> {
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
    #[diesel(sql_type = diesel::sql_types::Nullable<BigInt>)]
    next_expiry: Option<i64>,
}

/// The certificates of devices, from the index `certificates_device` alone. (Columns beside `max` are those of its row.)
pub(super) const FIGURES: &str = "WITH newest AS (SELECT max(id), not_before, not_after FROM certificates \
     WHERE device_id IS NOT NULL AND revoked_at IS NULL AND not_after >= ?1 GROUP BY device_id) \
     SELECT count(*) FILTER (WHERE revoked_at IS NULL AND not_after >= ?1) AS valid, \
     (SELECT count(*) FROM newest \
     WHERE not_after < ?2 AND not_after < ?1 + (not_after - not_before) / 4) AS expiring, \
     count(*) FILTER (WHERE revoked_at IS NULL AND not_after < ?1) AS expired, \
     count(*) FILTER (WHERE revoked_at IS NOT NULL) AS revoked, \
     (SELECT min(not_after) FROM newest) AS next_expiry \
     FROM certificates WHERE device_id IS NOT NULL";

fn figures(connection: &mut SqliteConnection, now: Timestamp, soon: Timestamp) -> Result<CertificateFigures, Fault> {
    let found: Figures =
        sql_query(FIGURES).bind::<BigInt, _>(now.0).bind::<BigInt, _>(soon.0).get_result(connection)?;
    Ok(CertificateFigures {
        valid: listing::count(found.valid),
        expiring: listing::count(found.expiring),
        expired: listing::count(found.expired),
        revoked: listing::count(found.revoked),
        next_expiry: listing::time(found.next_expiry),
    })
}

impl Certificates for SqliteStore {
    fn add_certificate(&self, certificate: &Certificate) -> Result<(), Error> {
        self.write("add a certificate", |c| add(c, certificate))
    }

    fn issue_certificate(&self, certificate: &Certificate, follows: Option<&str>) -> Result<Issuance, Error> {
        self.write("add a certificate", |c| issue(c, certificate, follows))
    }

    fn certificate(&self, serial: &str) -> Result<Option<Certificate>, Error> {
        self.read("read a certificate", |c| find(c, serial))
    }

    fn certificates(&self, filter: &CertificateFilter, page: Page) -> Result<Listing<Certificate>, Error> {
        self.read("list certificates", |c| list(c, filter, page))
    }

    fn revoke_certificate(
        &self,
        serial: &str,
        revocation: &Revocation,
        until: Option<Timestamp>,
    ) -> Result<Option<Certificate>, Error> {
        self.write("revoke a certificate", |c| {
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
        self.read("list revoked certificates", |c| {
            let rows: Vec<(String, Option<i64>, i64)> = certificates::table
                .filter(certificates::revoked_at.is_not_null())
                .filter(certificates::not_after.ge(now.0))
                .select((certificates::serial, certificates::revoked_at, certificates::not_after))
                .load(c)?;
            let read = |(serial, revoked_at, not_after): (String, Option<i64>, i64)| RevokedCertificate {
                serial,
                revoked_at: Timestamp(revoked_at.unwrap_or_default()),
                not_after: Timestamp(not_after),
            };
            Ok(rows.into_iter().map(read).collect())
        })
    }

    fn certificate_figures(&self, now: Timestamp, soon: Timestamp) -> Result<CertificateFigures, Error> {
        self.read("count certificates", |c| figures(c, now, soon))
    }

    fn last_credential_change(&self) -> Result<i64, Error> {
        self.read("read changes of credentials", |c| {
            let last: Option<i64> =
                credential_changes::table.select(diesel::dsl::max(credential_changes::id)).first(c)?;
            Ok(last.unwrap_or(0))
        })
    }

    fn credential_changes(&self, after: i64, limit: u32) -> Result<Vec<(i64, CredentialChange)>, Error> {
        self.read("read changes of credentials", |c| changes(c, after, limit))
    }
}
