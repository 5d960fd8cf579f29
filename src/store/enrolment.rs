//! What devices and services are let in with: sealed command keys, claims, service accounts.
//!
//! Invariant: no secret is here in clear, only digests and envelopes that are sealed by somebody else.

use super::{Certificate, Device, Error, NewDevice, Outcome};
use crate::domain::{DeviceId, DevicePattern, Timestamp};

/// Part of the [`Store`](super::Store).
pub trait Enrolment {
    /// A device's sealed secret; `None` = it has none.
    fn device_secret(&self, id: &DeviceId, purpose: &str) -> Result<Option<Vec<u8>>, Error>;
    /// Keeps a sealed secret in place of an earlier one. `false` = no such device.
    fn set_device_secret(&self, id: &DeviceId, purpose: &str, sealed: &Sealed, now: Timestamp) -> Result<bool, Error>;
    /// The ids of all keys that something kept here is sealed by.
    fn sealing_keys(&self) -> Result<Vec<String>, Error>;
    /// At most `limit` secrets that are **not** sealed by `key_id`: (device, purpose, envelope), ordered, behind `after`.
    fn secrets_not_of(
        &self,
        key_id: &str,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<(String, String, Vec<u8>)>, Error>;
    /// Puts another envelope in the place of `old`; `false` = it is not there any more.
    fn replace_secret(&self, device: &str, purpose: &str, old: &[u8], new: &Sealed) -> Result<bool, Error>;

    /// Adds a claim.
    fn create_claim(&self, claim: &Claim) -> Result<(), Error>;
    /// All claims, newest first.
    fn claims(&self) -> Result<Vec<Claim>, Error>;
    /// Revokes a claim for good; `false` = there is none with that prefix.
    fn revoke_claim(&self, prefix: &str, now: Timestamp) -> Result<bool, Error>;
    /// The claim with that prefix, and whether the device may enrol at all: it is new, or an administrator allows it.
    fn claim_for(&self, prefix: &str, id: &DeviceId) -> Result<(Option<Claim>, bool), Error>;
    /// Takes a device in, in one transaction: the claim is good and one of its uses is taken, the device may enrol and is
    /// registered (or, where it is allowed again, is active and has the new credentials only), its command key and its
    /// certificate are kept.
    /// `Conflict` = one of that does not hold, and nothing is done.
    fn enrol(&self, new: &NewEnrolment, now: Timestamp) -> Result<Outcome<Device>, Error>;
    /// Lets a device enrol once more; `false` = it is neither registered nor has it ever enrolled.
    fn allow_enrolment(&self, id: &DeviceId, now: Timestamp) -> Result<bool, Error>;

    /// Adds a service account; `Conflict` = the name is taken.
    fn create_service(&self, new: &ServiceAccount) -> Result<Outcome<()>, Error>;
    /// One service account.
    fn service(&self, name: &str) -> Result<Option<ServiceAccount>, Error>;
    /// All service accounts, newest first.
    fn services(&self) -> Result<Vec<ServiceAccount>, Error>;
    /// Changes the named fields, and says so in the queue of changed credentials; `None` = there is none with that name.
    fn update_service(&self, name: &str, change: &ServiceChange) -> Result<Option<ServiceAccount>, Error>;
    /// Removes a service account, likewise; `false` = there is none with that name.
    fn delete_service(&self, name: &str) -> Result<bool, Error>;
    /// Notes that a service has logged in. Need not survive a power loss.
    fn note_service_use(&self, name: &str, at: Timestamp) -> Result<(), Error>;
}

/// A sealed value.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Sealed {
    /// Which key sealed it.
    pub key_id: String,
    pub envelope: Vec<u8>,
}

/// A claim: new devices enrol with its token, so many, until then, with such ids.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Claim {
    /// The public part of its token.
    pub prefix: String,
    /// SHA-256 of the whole token (256 random bits: no slow hash needed).
    pub token_sha256: [u8; 32],
    pub name: String,
    pub devices: DevicePattern,
    pub max_uses: u32,
    pub uses: u32,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

impl Claim {
    /// In a word: whether it is good, or why not.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match () {
            () if self.revoked_at.is_some() => "revoked",
            () if self.expires_at <= now => "expired",
            () if self.uses >= self.max_uses => "used up",
            () => "valid",
        }
    }

    /// Whether a device may be taken in by it.
    pub fn admits(&self, id: &DeviceId, now: Timestamp) -> bool {
        self.state(now) == "valid" && self.devices.admits(id.as_str())
    }
}

/// A device to be taken in.
#[derive(Clone, PartialEq)]
#[allow(missing_docs)]
pub struct NewEnrolment {
    pub claim_prefix: String,
    pub device: NewDevice,
    /// What is kept under which purpose.
    pub secret: (&'static str, Sealed),
    /// What was issued to it; whatever it had before is revoked.
    pub certificate: Option<Certificate>,
}

/// A program that logs in to MQTT.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ServiceAccount {
    pub name: String,
    /// SHA-256 of its token.
    pub token_sha256: [u8; 32],
    /// What it may subscribe to.
    pub read: Vec<String>,
    /// What it may publish to.
    pub write: Vec<String>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

impl ServiceAccount {
    /// In a word: whether it is good, or why not.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now => "expired",
            _ => "valid",
        }
    }
}

/// What is to change of a service account.
#[derive(Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct ServiceChange {
    pub token_sha256: Option<[u8; 32]>,
    pub read: Option<Vec<String>>,
    pub write: Option<Vec<String>>,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}
