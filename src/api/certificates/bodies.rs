//! What goes in and out about a certificate.

use garde::Validate;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::body::{Contract, Fields, Rule};
use crate::api::error::Fault;
use crate::api::show::{Time, time};
use crate::domain::{DeviceId, Timestamp};
use crate::pki::MAX_REQUEST_BYTES;
use crate::store::Certificate;

/// A certificate that was issued here, or one of its authority that was revoked by its serial alone.
#[derive(Serialize, ToSchema)]
pub struct CertificateBody {
    /// Lower-case hex.
    serial: String,
    /// Whose it is; none = a server's, or not known.
    device_id: Option<String>,
    /// `valid`, `expired` or `revoked`.
    state: &'static str,
    #[schema(value_type = String, format = DateTime)]
    not_before: Time,
    #[schema(value_type = String, format = DateTime)]
    not_after: Time,
    /// SHA-256 of the certificate, lower-case hex; empty where only the serial is known.
    fingerprint: String,
    #[schema(value_type = String, format = DateTime)]
    issued_at: Time,
    issued_by: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Time>,
    revoked_by: Option<String>,
    revoke_reason: Option<String>,
    /// The certificate, PEM; empty where only the serial is known.
    certificate: String,
}

impl CertificateBody {
    /// As it is at `now`.
    pub fn new(c: Certificate, now: Timestamp) -> Self {
        let state = match &c.revocation {
            Some(_) => "revoked",
            None if now > c.not_after => "expired",
            None => "valid",
        };
        let (revoked_at, revoked_by, reason) = match c.revocation {
            Some(r) => (Some(r.at), Some(r.by), Some(r.reason)),
            None => (None, None, None),
        };
        Self {
            serial: c.serial,
            device_id: c.device.map(|device| device.to_string()),
            state,
            not_before: Time(c.not_before),
            not_after: Time(c.not_after),
            fingerprint: c.fingerprint,
            issued_at: Time(c.issued_at),
            issued_by: c.issued_by,
            revoked_at: time(revoked_at),
            revoked_by,
            revoke_reason: reason.filter(|reason| !reason.is_empty()),
            certificate: c.pem,
        }
    }
}

/// A new certificate.
#[derive(Serialize, ToSchema)]
pub struct IssuedBody {
    #[serde(flatten)]
    pub(super) certificate: CertificateBody,
    /// Certificates of the issuers, PEM.
    pub(super) chain: String,
    /// The private key, PEM; only where no request was given, and only in this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) private_key: Option<String>,
}

/// What a certificate is wanted for.
#[derive(Debug, Validate, ToSchema)]
pub struct IssueCertificate {
    /// The device, which must be registered.
    #[garde(required)]
    #[schema(value_type = String)]
    pub(super) device_id: Option<DeviceId>,
    /// A certificate signing request (PKCS #10, PEM) of the device. Only its public key is taken. Without one a key is made,
    /// and given in the answer.
    #[garde(inner(length(min = 1, max = MAX_REQUEST_BYTES)))]
    pub(super) csr: Option<String>,
    /// Days that it is good; as configured by default.
    #[garde(inner(range(min = 1, max = 3650)))]
    pub(super) days: Option<u32>,
}

impl Contract for IssueCertificate {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        let text = fields.text("device_id");
        let device_id = text.as_deref().and_then(DeviceId::parse);
        if text.is_some() && device_id.is_none() {
            fields.fault(Fault::new("device_id", "must be a device id"));
        }
        Self { device_id, csr: fields.text("csr"), days: fields.take("days", "a positive integer") }
    }
}

/// What a device may say when it renews its certificate.
#[derive(Debug, Validate, ToSchema)]
pub struct RenewCertificate {
    /// A request for a new key; without one the certificate is for the key of the old one.
    #[garde(inner(length(min = 1, max = MAX_REQUEST_BYTES)))]
    pub(super) csr: Option<String>,
}

impl Contract for RenewCertificate {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        Self { csr: fields.text("csr") }
    }
}

/// Why a certificate is revoked.
#[derive(Debug, Validate, ToSchema)]
pub struct RevokeCertificate {
    /// For people.
    #[garde(inner(length(chars, max = 256)))]
    pub(super) reason: Option<String>,
}

impl Contract for RevokeCertificate {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        Self { reason: fields.text("reason") }
    }
}
