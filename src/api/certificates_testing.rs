//! The fake store's certificates: a real store, made when it is first asked for.

use std::path::Path;
use std::sync::OnceLock;

use super::Pki;
use super::testing::FakeStore;
use crate::domain::{DeviceId, Timestamp};
use crate::store::*;
use crate::tls::{OwnCa, Revocations};

/// A store in a directory that goes away.
#[derive(Default)]
pub struct Real(OnceLock<(SharedStore, tempfile::TempDir)>);

impl Real {
    pub fn store(&self) -> &dyn Store {
        let (store, _) = self.0.get_or_init(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let url = format!("sqlite://{}", dir.path().join("a.db").display());
            (open(&url).expect("a database"), dir)
        });
        &**store
    }
}

/// An authority in no directory.
pub fn pki() -> Pki {
    let (own, revocations) = (OwnCa::at(Path::new("/no/such/directory")), Revocations::default());
    Pki { own, client_ca_file: None, revocations, device_days: 365 }
}

impl Certificates for FakeStore {
    fn add_certificate(&self, certificate: &Certificate) -> Result<(), Error> {
        self.1.store().add_certificate(certificate)
    }
    fn certificate(&self, serial: &str) -> Result<Option<Certificate>, Error> {
        self.1.store().certificate(serial)
    }
    fn certificates(&self, filter: &CertificateFilter, page: Page) -> Result<Listing<Certificate>, Error> {
        self.stats()?;
        self.1.store().certificates(filter, page)
    }
    fn revoke_certificate(&self, serial: &str, revocation: &Revocation) -> Result<Option<Certificate>, Error> {
        self.1.store().revoke_certificate(serial, revocation)
    }
    fn revoke_certificates_of(&self, device: &DeviceId, revocation: &Revocation) -> Result<Vec<String>, Error> {
        self.1.store().revoke_certificates_of(device, revocation)
    }
    fn revoked_certificates(&self, now: Timestamp) -> Result<Vec<RevokedCertificate>, Error> {
        self.1.store().revoked_certificates(now)
    }
    fn certificate_figures(&self, now: Timestamp, soon: Timestamp) -> Result<CertificateFigures, Error> {
        self.1.store().certificate_figures(now, soon)
    }
    fn last_credential_change(&self) -> Result<i64, Error> {
        self.1.store().last_credential_change()
    }
    fn credential_changes(&self, after: i64, limit: u32) -> Result<Vec<(i64, CredentialChange)>, Error> {
        self.1.store().credential_changes(after, limit)
    }
}
