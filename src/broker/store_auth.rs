//! Device id and token against the registry; a service's name and token likewise.
//!
//! Invariants: an unknown device and a wrong token get the same answer; the comparison takes the same time wherever the
//! digests differ; a revoked or changed credential counts from the next CONNECT (nothing is cached).

use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::auth::{Answer, Authenticator, Credentials, Denied, Identity};
use super::service_auth::{self, is_service_token};
use crate::domain::{Clock, DeviceId};
use crate::store::{self, DeviceCredential, SharedStore};

/// Look-ups at a time: a fleet that reconnects must not take all blocking threads.
const MAX_LOOKUPS: usize = 4;

/// User name = device id = client id; password = the device's token. Or an account's name and token, and any client id.
pub struct StoreAuthenticator {
    store: SharedStore,
    clock: Clock,
    lookups: Arc<Semaphore>,
}

impl StoreAuthenticator {
    /// Looks devices up in `store`.
    pub fn new(store: SharedStore, clock: Clock) -> Self {
        Self { store, clock, lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }

    async fn check(&self, given: Credentials<'_>) -> Result<Identity, Denied> {
        let (Some(name), Some(token)) = (given.username, given.password) else { return Err(Denied::BadCredentials) };
        if is_service_token(token) {
            let _permit = self.lookups.acquire().await.map_err(|_| Denied::Unavailable)?;
            return service_auth::check(&self.store, name, token, self.clock.now()).await;
        }
        let device = DeviceId::parse(name).ok_or(Denied::BadCredentials)?;
        let credential = {
            let _permit = self.lookups.acquire().await.map_err(|_| Denied::Unavailable)?;
            let id = device.clone();
            store::run(&self.store, move |s| s.device_credential(&id)).await.map_err(|error| {
                tracing::warn!(device_id = %device, %error, "cannot check a credential");
                Denied::Unavailable
            })?
        };
        judge(credential, token)?;
        if given.client_id != device.as_str() {
            return Err(Denied::ClientId);
        }
        Ok(Identity::Device(device))
    }
}

impl Authenticator for StoreAuthenticator {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Answer<'a> {
        Box::pin(self.check(credentials))
    }
}

/// The digest is computed and compared in every case.
fn judge(credential: Option<DeviceCredential>, token: &[u8]) -> Result<(), Denied> {
    let given: [u8; 32] = Sha256::digest(token).into();
    let stored = credential.as_ref().and_then(|c| c.token_sha256);
    let is_equal: bool = given.ct_eq(&stored.unwrap_or([0; 32])).into();
    match credential {
        Some(c) if is_equal && stored.is_some() => {
            if c.is_active {
                Ok(())
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

    #[test]
    fn only_the_right_token_of_an_active_device_opens() {
        let digest = |token: &str| Some(<[u8; 32]>::from(Sha256::digest(token)));
        let check = |stored: Option<(bool, Option<[u8; 32]>)>, token: &str, expected: Result<(), Denied>| {
            let credential = stored.map(|(is_active, token_sha256)| DeviceCredential { is_active, token_sha256 });
            assert_eq!(judge(credential, token.as_bytes()), expected);
        };
        check(Some((true, digest("secret"))), "secret", Ok(()));
        check(Some((true, digest("secret"))), "wrong", Err(Denied::BadCredentials));
        check(Some((true, None)), "secret", Err(Denied::BadCredentials));
        check(None, "secret", Err(Denied::BadCredentials));
        check(Some((false, digest("secret"))), "secret", Err(Denied::NotAuthorized));
        check(Some((false, digest("secret"))), "wrong", Err(Denied::BadCredentials));
    }
}
