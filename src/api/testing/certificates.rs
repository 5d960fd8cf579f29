//! The fake store's certificates: those of the real store behind it.

use std::path::Path;

use super::FakeStore;
use crate::api::Pki;
use crate::domain::{DeviceId, Timestamp};
use crate::store::*;
use crate::tls::{OwnCa, Revocations};

/// An authority in no directory.
pub fn pki() -> Pki {
    let (own, revocations) = (OwnCa::at(Path::new("/no/such/directory")), Revocations::default());
    Pki { own, client_ca_file: None, revocations, device_days: 365 }
}

impl Certificates for FakeStore {
    fn add_certificate(&self, certificate: &Certificate) -> Result<(), Error> {
        self.real().add_certificate(certificate)
    }
    fn issue_certificate(&self, certificate: &Certificate, follows: Option<&str>) -> Result<Issuance, Error> {
        self.real().issue_certificate(certificate, follows)
    }
    fn certificate(&self, serial: &str) -> Result<Option<Certificate>, Error> {
        self.real().certificate(serial)
    }
    fn certificates(&self, filter: &CertificateFilter, page: Page) -> Result<Listing<Certificate>, Error> {
        self.stats()?;
        self.real().certificates(filter, page)
    }
    fn revoke_certificate(
        &self,
        serial: &str,
        revocation: &Revocation,
        until: Option<Timestamp>,
    ) -> Result<Option<Certificate>, Error> {
        self.real().revoke_certificate(serial, revocation, until)
    }
    fn revoke_certificates_of(&self, device: &DeviceId, revocation: &Revocation) -> Result<Vec<String>, Error> {
        self.real().revoke_certificates_of(device, revocation)
    }
    fn revoked_certificates(&self, now: Timestamp) -> Result<Vec<RevokedCertificate>, Error> {
        self.real().revoked_certificates(now)
    }
    fn certificate_figures(&self, now: Timestamp, soon: Timestamp) -> Result<CertificateFigures, Error> {
        self.real().certificate_figures(now, soon)
    }
    fn last_credential_change(&self) -> Result<i64, Error> {
        self.real().last_credential_change()
    }
    fn credential_changes(&self, after: i64, limit: u32) -> Result<Vec<(i64, CredentialChange)>, Error> {
        self.real().credential_changes(after, limit)
    }
}
