//! Issuing: the authority's files, the signature, the row in the store, in one go away from the HTTP workers.

use actix_web::web;

use super::super::State;
use super::super::error::{ApiError, Fault};
use super::key_source;
use crate::domain::DeviceId;
use crate::observe::trace;
use crate::pki::{self, Ca, Validity, pem_of};
use crate::store::{Certificate, Issuance, MAX_GOOD_CERTIFICATES};
use crate::tls::OwnCa;

/// What is wanted.
pub(super) struct Wish {
    /// For the key of this request …
    pub(super) csr: Option<String>,
    /// … else for that of this certificate, DER; else for a new one.
    pub(super) certificate: Option<Vec<u8>>,
    /// The serial of the one that is renewed.
    pub(super) follows: Option<String>,
    pub(super) days: Option<u32>,
}

/// Issues and stores; the certificate, its chain, and the key where it was made here.
pub(super) async fn issue(
    state: &web::Data<State>,
    device: DeviceId,
    wish: Wish,
    by: String,
) -> Result<(Certificate, String, Option<String>), ApiError> {
    let (pki, store) = (state.services.pki.clone(), state.services.store.clone());
    let now = state.services.clock.now();
    let work = move || {
        let ca = authority(&pki.own)?;
        let validity = Validity { now, days: wish.days.unwrap_or(pki.device_days) };
        let before = wish.certificate.as_deref().map(pem_of);
        let key = key_source(wish.csr.as_deref(), before.as_deref());
        let issued = ca.issue_device(&device, key, validity).map_err(refused)?;
        let certificate = Certificate::new(issued.pem, issued.facts, Some(device.clone()), by, now);
        // What was read before it was signed may not be so any more.
        let issuance = store.issue_certificate(&certificate, wish.follows.as_deref())?;
        check(issuance, &device, wish.follows.is_some())?;
        Ok((certificate, ca.pem().to_owned(), issued.key_pem))
    };
    let done = tokio::task::spawn_blocking(trace::carry(work)).await;
    done.map_err(|_| ApiError::Internal("issuing a certificate panicked"))?
}

/// Whether it was kept.
fn check(issuance: Issuance, device: &DeviceId, is_renewal: bool) -> Result<(), ApiError> {
    match issuance {
        Issuance::Kept => Ok(()),
        Issuance::TooMany => Err(ApiError::Conflict(format!(
            "the device has {MAX_GOOD_CERTIFICATES} certificates that are good: revoke those it does not use any more, \
             or wait until one ends"
        ))),
        Issuance::Revoked => Err(ApiError::CertificateNeeded),
        Issuance::NoDevice | Issuance::Disabled if is_renewal => Err(ApiError::CertificateNeeded),
        Issuance::NoDevice => Err(ApiError::no_device(device.as_str())),
        Issuance::Disabled => Err(ApiError::Conflict("the device is disabled: make it active first".to_owned())),
    }
}

/// The authority, if there is one here that can sign.
pub(in crate::api) fn authority(own: &OwnCa) -> Result<Ca, ApiError> {
    own.load()?.ok_or_else(|| {
        ApiError::Conflict(
            "this server has no key of a certificate authority: certificates come from the external one".to_owned(),
        )
    })
}

/// What the asker is to blame for is told; the rest is ours.
pub(in crate::api) fn refused(error: pki::Error) -> ApiError {
    match error {
        pki::Error::NoRequest | pki::Error::RequestSignature | pki::Error::RequestName | pki::Error::KeyKind => {
            ApiError::Invalid(vec![Fault::new("csr", format!("is refused: {error}"))])
        }
        pki::Error::CaExpired => ApiError::Conflict(error.to_string()),
        _ => ApiError::Internal("a certificate could not be made"),
    }
}
