//! What devices log in with and which certificates are revoked, as it was last seen: for the time while the database is away,
//! when a meter that comes back from a tunnel must not be turned away, whether this process was there before or not.
//!
//! Invariant: what the database says counts whenever it can be asked. Bounded; in memory, and where there is a file of the
//! node, in that as well.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::sqlite::NodeFile;
use crate::store::{Certificate, DeviceCredential, Error, RevokedCertificate};

/// Devices at most: who comes first.
const DEVICES: usize = 100_000;

/// The last answers of the database.
pub(super) struct Remembered {
    file: Option<NodeFile>,
    devices: RwLock<HashMap<DeviceId, DeviceCredential>>,
    revoked: RwLock<HashSet<String>>,
}

impl Remembered {
    /// What was remembered in the node's file; without one, nothing.
    pub(super) fn open(file: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = file else {
            return Ok(Self { file: None, devices: RwLock::default(), revoked: RwLock::default() });
        };
        let file = NodeFile::open(path)?;
        let read = |fault: Fault| fault.during("read what this node knows");
        let devices = file.credentials().map_err(read)?.into_iter().collect();
        let revoked = file.revoked().map_err(read)?.into_iter().map(|(serial, _)| serial).collect();
        Ok(Self { file: Some(file), devices: RwLock::new(devices), revoked: RwLock::new(revoked) })
    }

    /// The node's file.
    pub(super) fn file(&self) -> Result<&NodeFile, Error> {
        let none = || Error::Open { path: String::new(), source: "no file of this node was named".into() };
        self.file.as_ref().ok_or_else(none)
    }

    /// Takes in what the database says; where it says nothing, what it said last.
    pub(super) fn or_last(
        &self,
        id: &DeviceId,
        said: Result<Option<DeviceCredential>, Error>,
    ) -> Result<Option<DeviceCredential>, Error> {
        match said {
            Ok(credential) => {
                self.note_device(id, credential.as_ref());
                Ok(credential)
            }
            // Not «no such device»: of one never seen nothing is known.
            Err(error) if error.is_transient() => self.device(id).map(Some).ok_or(error),
            Err(error) => Err(error),
        }
    }

    fn device(&self, id: &DeviceId) -> Option<DeviceCredential> {
        self.devices.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn note_device(&self, id: &DeviceId, now: Option<&DeviceCredential>) {
        if self.device(id).as_ref() == now {
            return;
        }
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        let before = match now {
            Some(_) if devices.len() >= DEVICES && !devices.contains_key(id) => return,
            Some(credential) => devices.insert(id.clone(), credential.clone()),
            None => devices.remove(id),
        };
        // Under the lock: of two changes the later one is in the file, too.
        self.keep(|file| file.keep_credential(id, now, before.is_some()));
    }

    /// Takes in what the database says of a certificate.
    pub(super) fn note_certificate(&self, certificate: &Certificate) {
        let is_new = |revoked: &HashSet<String>| !revoked.contains(&certificate.serial);
        if certificate.revocation.is_none() || !is_new(&self.revoked.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.insert(certificate.serial.clone());
        self.keep(|file| file.keep_revoked(&[(&certificate.serial, certificate.not_after)], false));
    }

    /// Takes in all revoked certificates.
    pub(super) fn note_revoked(&self, all: &[RevokedCertificate]) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        if revoked.len() == all.len() && all.iter().all(|certificate| revoked.contains(&certificate.serial)) {
            return;
        }
        *revoked = all.iter().map(|certificate| certificate.serial.clone()).collect();
        let rows: Vec<_> = all.iter().map(|certificate| (&*certificate.serial, certificate.not_after)).collect();
        self.keep(|file| file.keep_revoked(&rows, true));
    }

    /// The certificates that the database last called revoked, with their ends.
    pub(super) fn revoked(&self) -> Result<Vec<(String, Timestamp)>, Error> {
        let read = |file: &NodeFile| file.revoked().map_err(|fault| fault.during("read what this node knows"));
        self.file.as_ref().map_or_else(|| Ok(Vec::new()), read)
    }

    /// A file that cannot be written is no reason to refuse what the database allows.
    fn keep(&self, write: impl FnOnce(&NodeFile) -> Result<(), Fault>) {
        let written = self.file.as_ref().map_or(Ok(()), write);
        if let Err(error) = written.map_err(|fault| fault.during("keep what the database said")) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what the database said of a credential is not in this node's file"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Result<Option<DeviceCredential>, Error> {
        Err(Error::Unavailable { operation: "x", source: "away".into() })
    }

    #[test]
    fn the_last_answer_counts_only_while_there_is_none_and_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.db");
        let (a, b) = (DeviceId::parse("a").unwrap(), DeviceId::parse("b").unwrap());
        let credential = |n| DeviceCredential { is_active: true, token_sha256: Some([n; 32]) };
        for file in [None, Some(&*path)] {
            let remembered = Remembered::open(file).unwrap();
            let answer = |said| remembered.or_last(&a, said).unwrap().and_then(|c| c.token_sha256);
            assert!(remembered.or_last(&a, away()).is_err());
            assert_eq!(answer(Ok(Some(credential(1)))), Some([1; 32]));
            assert_eq!(answer(away()), Some([1; 32]));
            assert_eq!(answer(Ok(Some(credential(2)))), Some([2; 32]));
            assert_eq!(answer(away()), Some([2; 32]));
            assert!(remembered.or_last(&b, away()).is_err());
            assert!(remembered.or_last(&b, Ok(Some(credential(3)))).is_ok());
            assert!(remembered.or_last(&b, Ok(None)).unwrap().is_none());
            assert!(remembered.or_last(&b, away()).is_err());
        }
        let remembered = Remembered::open(Some(&path)).unwrap();
        assert!(remembered.or_last(&a, away()).unwrap() == Some(credential(2)));
        assert!(remembered.or_last(&b, away()).is_err());
    }

    #[test]
    fn revocations_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.db");
        let revoked = |serial: &str| RevokedCertificate {
            serial: serial.to_owned(),
            revoked_at: Timestamp(1),
            not_after: Timestamp(9),
        };
        let remembered = Remembered::open(Some(&path)).unwrap();
        remembered.note_revoked(&[revoked("01"), revoked("02")]);
        remembered.note_revoked(&[revoked("02")]);
        drop(remembered);
        let known = Remembered::open(Some(&path)).unwrap().revoked().unwrap();
        assert_eq!(known, [("02".to_owned(), Timestamp(9))]);
    }
}
