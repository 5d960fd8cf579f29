//! Device id and token, or certificate, against the registry; a service's name and token likewise.
//!
//! Invariants: an unknown device and a wrong token get the same answer; the comparison takes the same time wherever the
//! digests differ; a revoked or changed credential counts from the next CONNECT (nothing is cached; while a database on
//! another machine is away, what it last said of devices counts). A certificate takes the place of the token, never that of
//! the registration; a token that others could read on its way is not looked at.

use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::auth::{Admitted, Answer, Authenticator, Credentials, Denied, Identity, Recalled};
use super::service_auth::{self, is_service_token};
use crate::domain::{Clock, DeviceId};
use crate::store::{self, DeviceCredential, SharedStore};
use crate::tls::Peer;

/// Look-ups at a time: a fleet that reconnects must not take all blocking threads.
const MAX_LOOKUPS: usize = 4;

/// User name = device id = client id; password = the device's token. Or a certificate whose common name is that id. Or an
/// account's name and token, and any client id.
pub struct StoreAuthenticator {
    store: SharedStore,
    clock: Clock,
    lookups: Arc<Semaphore>,
    rules: Rules,
}

/// What is asked of a device besides its credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// A token does not do.
    pub is_certificate_required: bool,
    /// A token is taken over plain connections too, from anywhere.
    pub has_plain_tokens: bool,
}

impl StoreAuthenticator {
    /// Looks devices up in `store`.
    pub fn new(store: SharedStore, clock: Clock, rules: Rules) -> Self {
        Self { store, clock, lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)), rules }
    }

    async fn check(&self, given: Credentials<'_>) -> Result<Admitted, Denied> {
        if let Some(peer) = given.certificate {
            return self.check_certificate(given, peer).await.map(Admitted::from);
        }
        let is_service = given.password.is_some_and(is_service_token);
        let rules = Rules { is_certificate_required: self.rules.is_certificate_required && !is_service, ..self.rules };
        rules.admit_token(given.is_encrypted, given.peer.ip())?;
        let (Some(name), Some(token)) = (given.username, given.password) else { return Err(Denied::BadCredentials) };
        if is_service {
            let _permit = self.lookups.acquire().await.map_err(|_| Denied::Unavailable)?;
            return service_auth::check(&self.store, name, token, self.clock.now()).await.map(Admitted::from);
        }
        let device = DeviceId::parse(name).ok_or(Denied::BadCredentials)?;
        let id = device.clone();
        let credential = self.look_up(&device, move |s| s.device_credential(&id)).await?;
        let token_sha256 = Some(judge(credential, token)?);
        if given.client_id != device.as_str() {
            return Err(Denied::ClientId);
        }
        Ok(Admitted { identity: Identity::Device(device), token_sha256 })
    }

    /// The certificate is good for TLS; whether it is still good for us only the store knows at this moment. Where it cannot be
    /// asked, what was revoked before counts: the handshake has looked there, and who is connected is looked at again.
    async fn check_certificate(&self, given: Credentials<'_>, peer: &Peer) -> Result<Identity, Denied> {
        let device = peer.common_name().and_then(DeviceId::parse).ok_or(Denied::Certificate)?;
        let (id, serial) = (device.clone(), peer.serial().to_owned());
        let look = move |s: &dyn store::Store| {
            let credential = s.device_credential(&id)?;
            let is_revoked = match s.certificate(&serial) {
                Ok(certificate) => certificate.is_some_and(|certificate| certificate.revocation.is_some()),
                Err(error) if error.is_transient() => false,
                Err(error) => return Err(error),
            };
            Ok((credential, is_revoked))
        };
        let (credential, is_revoked) = self.look_up(&device, look).await?;
        if is_revoked || !credential.is_some_and(|credential| credential.is_active) {
            return Err(Denied::Certificate);
        }
        if given.username.is_some_and(|name| name != device.as_str()) {
            return Err(Denied::BadCredentials);
        }
        if given.client_id != device.as_str() {
            return Err(Denied::ClientId);
        }
        Ok(Identity::Device(device))
    }

    async fn look_again(&self, identity: &Identity) -> Result<Identity, Denied> {
        match identity {
            Identity::Device(device) => {
                let id = device.clone();
                let credential = self.look_up(device, move |s| s.device_credential(&id)).await?;
                let is_active = credential.is_some_and(|credential| credential.is_active);
                if is_active { Ok(identity.clone()) } else { Err(Denied::NotAuthorized) }
            }
            Identity::Service(grant) => {
                let _permit = self.lookups.acquire().await.map_err(|_| Denied::Unavailable)?;
                service_auth::look_again(&self.store, &grant.name, self.clock.now()).await
            }
            Identity::Open => Err(Denied::NotAuthorized),
        }
    }

    async fn look_up<T: Send + 'static>(
        &self,
        device: &DeviceId,
        call: impl FnOnce(&dyn store::Store) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Denied> {
        let _permit = self.lookups.acquire().await.map_err(|_| Denied::Unavailable)?;
        store::run(&self.store, call).await.map_err(|error| {
            tracing::warn!(device_id = %device, %error, "cannot check a credential");
            Denied::Unavailable
        })
    }
}

impl Rules {
    /// Before anything is looked up: what is said here is the same for every name.
    fn admit_token(self, is_encrypted: bool, from: IpAddr) -> Result<(), Denied> {
        if self.is_certificate_required {
            return Err(Denied::CertificateWanted);
        }
        let is_private = is_encrypted || from.to_canonical().is_loopback();
        if is_private || self.has_plain_tokens { Ok(()) } else { Err(Denied::PlainToken) }
    }
}

impl Authenticator for StoreAuthenticator {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Answer<'a> {
        Box::pin(self.check(credentials))
    }

    fn has_kind(&self, identity: &Identity) -> bool {
        *identity != Identity::Open
    }

    fn recall<'a>(&'a self, identity: &'a Identity) -> Recalled<'a> {
        Box::pin(self.look_again(identity))
    }
}

/// The digest is computed and compared in every case; it is given where it is the right one.
fn judge(credential: Option<DeviceCredential>, token: &[u8]) -> Result<[u8; 32], Denied> {
    let given: [u8; 32] = Sha256::digest(token).into();
    let stored = credential.as_ref().and_then(|c| c.token_sha256);
    let is_equal: bool = given.ct_eq(&stored.unwrap_or([0; 32])).into();
    match credential {
        Some(c) if is_equal && stored.is_some() => {
            if c.is_active {
                Ok(given)
            } else {
                Err(Denied::NotAuthorized)
            }
        }
        _ => Err(Denied::BadCredentials),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::auth::Grant;
    use crate::domain::Timestamp;
    use crate::store::{NewDevice, ServiceAccount};

    #[test]
    fn a_token_is_taken_in_tls_and_from_this_machine_unless_told_otherwise() {
        let check = |rules: Rules, is_encrypted: bool, from: &str, expected: Result<(), Denied>| {
            assert_eq!(rules.admit_token(is_encrypted, from.parse().unwrap()), expected, "{rules:?} {from}");
        };
        let strict = Rules::default();
        check(strict, false, "127.0.0.1", Ok(()));
        check(strict, false, "::ffff:127.0.0.1", Ok(()));
        check(strict, false, "10.0.0.1", Err(Denied::PlainToken));
        check(strict, true, "10.0.0.1", Ok(()));
        check(Rules { has_plain_tokens: true, ..strict }, false, "10.0.0.1", Ok(()));
        let certificates = Rules { is_certificate_required: true, has_plain_tokens: true };
        check(certificates, true, "127.0.0.1", Err(Denied::CertificateWanted));
    }

    #[tokio::test]
    async fn who_was_let_in_before_is_looked_up_again() {
        let (dir, now) = (tempfile::tempdir().unwrap(), Timestamp(1_000_000));
        let store = store::open(&format!("sqlite://{}", dir.path().join("s.db").display())).unwrap();
        let device = |name: &str| DeviceId::parse(name).unwrap();
        for (name, is_active) in [("m1", true), ("m2", false)] {
            let new = NewDevice {
                device_id: device(name),
                device_name: name.into(),
                device_type: "dc750".into(),
                location: None,
                is_active,
                metadata: serde_json::Map::new(),
                token_sha256: None,
            };
            store.create_device(&new, now).unwrap();
        }
        let account = ServiceAccount {
            name: "s".into(),
            token_sha256: [4; 32],
            read: vec![],
            write: vec!["app/#".into()],
            created_at: now,
            created_by: "local".into(),
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        };
        store.create_service(&account).unwrap();
        let authenticator = StoreAuthenticator::new(store, Clock::manual(now), Rules::default());
        let service = |name: &str, write: &[&str]| {
            let write = write.iter().map(|filter| (*filter).to_owned()).collect();
            Identity::Service(Arc::new(Grant { name: name.into(), token_sha256: [4; 32], read: vec![], write }))
        };
        let gone: Result<Identity, Denied> = Err(Denied::NotAuthorized);
        for (before, expected) in [
            (Identity::Device(device("m1")), Ok(Identity::Device(device("m1")))),
            (Identity::Device(device("m2")), gone.clone()),
            (Identity::Device(device("m3")), gone.clone()),
            (service("s", &[]), Ok(service("s", &["app/#"]))),
            (service("x", &[]), gone.clone()),
            (Identity::Open, gone),
        ] {
            assert_eq!(authenticator.recall(&before).await, expected, "{before:?}");
        }
    }

    #[test]
    fn only_the_right_token_of_an_active_device_opens() {
        let digest = |token: &str| Some(<[u8; 32]>::from(Sha256::digest(token)));
        let check = |stored: Option<(bool, Option<[u8; 32]>)>, token: &str, expected: Result<(), Denied>| {
            let credential = stored.map(|(is_active, token_sha256)| DeviceCredential { is_active, token_sha256 });
            assert_eq!(judge(credential, token.as_bytes()), expected.map(|()| digest(token).unwrap()));
        };
        check(Some((true, digest("secret"))), "secret", Ok(()));
        check(Some((true, digest("secret"))), "wrong", Err(Denied::BadCredentials));
        check(Some((true, None)), "secret", Err(Denied::BadCredentials));
        check(None, "secret", Err(Denied::BadCredentials));
        check(Some((false, digest("secret"))), "secret", Err(Denied::NotAuthorized));
        check(Some((false, digest("secret"))), "wrong", Err(Denied::BadCredentials));
    }
}
