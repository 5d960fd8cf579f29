//! The part of the fake store that is real: what devices and services are let in with.

use super::FakeStore;
use crate::domain::{DeviceId, Timestamp};
use crate::store::*;

/// A real database that goes away with it.
pub struct Real {
    store: SharedStore,
    _dir: tempfile::TempDir,
}

impl Default for Real {
    fn default() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&format!("sqlite://{}", dir.path().join("enrolment.db").display())).unwrap();
        Self { store, _dir: dir }
    }
}

impl FakeStore {
    fn enrolments(&self) -> SharedStore {
        self.lock().enrolments.store.clone()
    }
}

impl Enrolment for FakeStore {
    fn device_secret(&self, id: &DeviceId, purpose: &str) -> Result<Option<Vec<u8>>, Error> {
        self.enrolments().device_secret(id, purpose)
    }
    fn set_device_secret(&self, id: &DeviceId, purpose: &str, sealed: &Sealed, now: Timestamp) -> Result<bool, Error> {
        self.enrolments().set_device_secret(id, purpose, sealed, now)
    }
    fn sealing_keys(&self) -> Result<Vec<String>, Error> {
        self.enrolments().sealing_keys()
    }
    fn secrets_not_of(
        &self,
        key_id: &str,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<(String, String, Vec<u8>)>, Error> {
        self.enrolments().secrets_not_of(key_id, after, limit)
    }
    fn replace_secret(&self, device: &str, purpose: &str, old: &[u8], new: &Sealed) -> Result<bool, Error> {
        self.enrolments().replace_secret(device, purpose, old, new)
    }
    fn create_claim(&self, claim: &Claim) -> Result<(), Error> {
        self.enrolments().create_claim(claim)
    }
    fn claims(&self) -> Result<Vec<Claim>, Error> {
        self.enrolments().claims()
    }
    fn revoke_claim(&self, prefix: &str, now: Timestamp) -> Result<bool, Error> {
        self.enrolments().revoke_claim(prefix, now)
    }
    fn claim_for(&self, prefix: &str, id: &DeviceId) -> Result<(Option<Claim>, bool), Error> {
        self.enrolments().claim_for(prefix, id)
    }
    fn enrol(&self, new: &NewEnrolment, now: Timestamp) -> Result<Outcome<Device>, Error> {
        self.enrolments().enrol(new, now)
    }
    fn allow_enrolment(&self, id: &DeviceId, now: Timestamp) -> Result<bool, Error> {
        self.enrolments().allow_enrolment(id, now)
    }
    fn create_service(&self, new: &ServiceAccount) -> Result<Outcome<()>, Error> {
        self.enrolments().create_service(new)
    }
    fn service(&self, name: &str) -> Result<Option<ServiceAccount>, Error> {
        self.enrolments().service(name)
    }
    fn services(&self) -> Result<Vec<ServiceAccount>, Error> {
        self.enrolments().services()
    }
    fn update_service(&self, name: &str, change: &ServiceChange) -> Result<Option<ServiceAccount>, Error> {
        self.enrolments().update_service(name, change)
    }
    fn delete_service(&self, name: &str) -> Result<bool, Error> {
        self.enrolments().delete_service(name)
    }
    fn note_service_use(&self, name: &str, at: Timestamp) -> Result<(), Error> {
        self.enrolments().note_service_use(name, at)
    }
}
