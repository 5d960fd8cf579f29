//! Certificates that were issued or revoked, and rights that were taken away.

use super::{Error, Listing, Page};
use crate::domain::{DeviceId, Timestamp};
use crate::pki::Facts;

/// A certificate that was issued here; or a serial that was revoked without having been.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Certificate {
    /// Lower-case hex.
    pub serial: String,
    /// Whose it is; `None` = a server's, or nobody knows.
    pub device: Option<DeviceId>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// SHA-256 of the certificate, lower-case hex.
    pub fingerprint: String,
    /// The certificate, PEM; empty where nothing but the serial is known.
    pub pem: String,
    pub issued_at: Timestamp,
    pub issued_by: String,
    pub revocation: Option<Revocation>,
}

impl Certificate {
    /// What is kept of a certificate that was just issued.
    pub fn new(pem: String, facts: Facts, device: Option<DeviceId>, issued_by: String, issued_at: Timestamp) -> Self {
        let Facts { serial, not_before, not_after, fingerprint, .. } = facts;
        Self { serial, device, not_before, not_after, fingerprint, pem, issued_at, issued_by, revocation: None }
    }

    /// What is kept of a certificate of which nothing is known but the serial, and that it cannot be good after `until`.
    pub fn unknown(serial: &str, until: Timestamp, revocation: &Revocation) -> Self {
        Self {
            serial: serial.to_owned(),
            device: None,
            not_before: revocation.at,
            not_after: until,
            fingerprint: String::new(),
            pem: String::new(),
            issued_at: revocation.at,
            issued_by: "unknown".to_owned(),
            revocation: Some(revocation.clone()),
        }
    }

    /// Whether more is known of it than its serial.
    pub fn is_known(&self) -> bool {
        !self.pem.is_empty()
    }
}

/// When, by whom and why a certificate was revoked.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Revocation {
    pub at: Timestamp,
    pub by: String,
    pub reason: String,
}

/// Which certificates.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CertificateFilter {
    /// Of this device.
    pub device: Option<DeviceId>,
    /// Of devices whose id begins so, with regard to case.
    pub id_prefix: Option<String>,
    /// Not revoked, good at the first of these times and ended before the second; of a device, only if none that was added
    /// later is good at the first: then it was renewed.
    pub expiring: Option<(Timestamp, Timestamp)>,
}

/// How many certificates of devices there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CertificateFigures {
    /// Good, also those that expire soon.
    pub valid: u64,
    /// Of these, those that should have been renewed: the newest of their device, that expire soon, and have less than a
    /// quarter of their time left.
    pub expiring: u64,
    /// Ended by themselves.
    pub expired: u64,
    /// Revoked, expired or not.
    pub revoked: u64,
    /// When the first of the good ones ends that are the newest of their device.
    pub next_expiry: Option<Timestamp>,
}

/// Most certificates of one device that are neither revoked nor over: more are not issued.
pub const MAX_GOOD_CERTIFICATES: i64 = 8;

/// What came of a certificate that was made for a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Issuance {
    /// It is kept, and may be given away.
    Kept,
    /// The device is not registered (any more).
    NoDevice,
    /// The device is disabled.
    Disabled,
    /// The one it was to follow is revoked.
    Revoked,
    /// The device has [`MAX_GOOD_CERTIFICATES`].
    TooMany,
}

/// A revoked certificate that would still be good.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct RevokedCertificate {
    pub serial: String,
    pub revoked_at: Timestamp,
    pub not_after: Timestamp,
}

/// A right that was taken away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CredentialChange {
    /// The certificate with this serial was revoked.
    Certificate(String),
    /// The device was disabled or deleted; it may be there again by now.
    Device(DeviceId),
    /// The device has another token, or none any more.
    Token(DeviceId),
    /// The service account with this name was changed or removed.
    Service(String),
}

/// Part of the [`Store`](super::Store).
pub trait Certificates {
    /// Adds a certificate, whatever is known of whose it is.
    fn add_certificate(&self, certificate: &Certificate) -> Result<(), Error>;
    /// Adds one that was just made for its device, to follow the one with the serial `follows` where that is given. It is kept
    /// only if the device may have it at that moment: whoever disables or removes the device, or revokes what it has, either
    /// finds it or comes before it.
    fn issue_certificate(&self, certificate: &Certificate, follows: Option<&str>) -> Result<Issuance, Error>;
    /// The certificate with that serial.
    fn certificate(&self, serial: &str) -> Result<Option<Certificate>, Error>;
    /// Certificates that match, newest first.
    fn certificates(&self, filter: &CertificateFilter, page: Page) -> Result<Listing<Certificate>, Error>;
    /// Revokes a certificate (again is fine: the first when, who and why stay) and returns it as it is. One that is not
    /// known is kept as [`Certificate::unknown`] where `until` is given; `None` = there is none with that serial.
    fn revoke_certificate(
        &self,
        serial: &str,
        revocation: &Revocation,
        until: Option<Timestamp>,
    ) -> Result<Option<Certificate>, Error>;
    /// Revokes what a device has that is not revoked yet; the serials.
    fn revoke_certificates_of(&self, device: &DeviceId, revocation: &Revocation) -> Result<Vec<String>, Error>;
    /// Certificates that are revoked and would be good at `now`.
    fn revoked_certificates(&self, now: Timestamp) -> Result<Vec<RevokedCertificate>, Error>;
    /// Serials and ends of the certificates that this node last knew as revoked, also while the database is away. None where
    /// the database is a file, which never is.
    fn last_known_revocations(&self) -> Result<Vec<(String, Timestamp)>, Error> {
        Ok(Vec::new())
    }
    /// How many there are; `soon` = what ends after it is not expiring.
    fn certificate_figures(&self, now: Timestamp, soon: Timestamp) -> Result<CertificateFigures, Error>;

    /// The number of the latest right taken away; 0 = none yet.
    fn last_credential_change(&self) -> Result<i64, Error>;
    /// Rights taken away after the one with that number, at most `limit`, with their numbers, in order.
    fn credential_changes(&self, after: i64, limit: u32) -> Result<Vec<(i64, CredentialChange)>, Error>;
}
