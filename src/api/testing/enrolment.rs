//! The part of the fake store that is real: what devices and services are let in with.

use super::FakeStore;
use crate::domain::{DeviceId, Timestamp};
use crate::store::*;

impl Enrolment for FakeStore {
    fn device_secret(&self, id: &DeviceId, purpose: &str) -> Result<Option<Vec<u8>>, Error> {
        self.real().device_secret(id, purpose)
    }
    fn set_device_secret(&self, id: &DeviceId, purpose: &str, sealed: &Sealed, now: Timestamp) -> Result<bool, Error> {
        self.real().set_device_secret(id, purpose, sealed, now)
    }
    fn sealing_keys(&self) -> Result<Vec<String>, Error> {
        self.real().sealing_keys()
    }
    fn secrets_not_of(
        &self,
        key_id: &str,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<(String, String, Vec<u8>)>, Error> {
        self.real().secrets_not_of(key_id, after, limit)
    }
    fn replace_secret(&self, device: &str, purpose: &str, old: &[u8], new: &Sealed) -> Result<bool, Error> {
        self.real().replace_secret(device, purpose, old, new)
    }
    fn create_claim(&self, claim: &Claim) -> Result<(), Error> {
        self.real().create_claim(claim)
    }
    fn claims(&self) -> Result<Vec<Claim>, Error> {
        self.real().claims()
    }
    fn revoke_claim(&self, prefix: &str, now: Timestamp) -> Result<bool, Error> {
        self.real().revoke_claim(prefix, now)
    }
    fn claim_for(&self, prefix: &str, id: &DeviceId) -> Result<(Option<Claim>, bool), Error> {
        self.real().claim_for(prefix, id)
    }
    fn enrol(&self, new: &NewEnrolment, now: Timestamp) -> Result<Outcome<Device>, Error> {
        self.real().enrol(new, now)
    }
    fn allow_enrolment(&self, id: &DeviceId, now: Timestamp) -> Result<bool, Error> {
        self.real().allow_enrolment(id, now)
    }
    fn create_service(&self, new: &ServiceAccount) -> Result<Outcome<()>, Error> {
        self.real().create_service(new)
    }
    fn service(&self, name: &str) -> Result<Option<ServiceAccount>, Error> {
        self.real().service(name)
    }
    fn services(&self) -> Result<Vec<ServiceAccount>, Error> {
        self.real().services()
    }
    fn update_service(&self, name: &str, change: &ServiceChange) -> Result<Option<ServiceAccount>, Error> {
        self.real().update_service(name, change)
    }
    fn delete_service(&self, name: &str) -> Result<bool, Error> {
        self.real().delete_service(name)
    }
    fn note_service_use(&self, name: &str, at: Timestamp) -> Result<(), Error> {
        self.real().note_service_use(name, at)
    }
}
