//! A certificate signing request (PKCS #10, RFC 2986): all that is taken of it is the public key.
//!
//! Invariant: the key is taken only where the sender has signed with it, where it is strong enough, and where the request
//! names nobody but the device. Extensions that are asked for are nobody's business: what is issued is ours to say.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};
use x509_parser::public_key::PublicKey;

use super::Error;
use super::facts::{blocks, common_name};
use crate::domain::DeviceId;

/// Largest request read, PEM and all.
pub const MAX_REQUEST_BYTES: usize = 16 << 10;

/// Sizes of RSA keys taken, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Points on P-256 and P-384, not compressed.
const EC_POINTS: [usize; 2] = [65, 97];

/// The public key of a request for `device`.
pub(super) fn public_key(pem: &str, device: &DeviceId) -> Result<SubjectPublicKeyInfo, Error> {
    if pem.len() > MAX_REQUEST_BYTES {
        return Err(Error::NoRequest);
    }
    let of_name = |name| blocks(pem.as_bytes(), name).and_then(|all| all.into_iter().next());
    // OpenSSL of old writes the second.
    let der = of_name("CERTIFICATE REQUEST").or_else(|| of_name("NEW CERTIFICATE REQUEST")).ok_or(Error::NoRequest)?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| Error::NoRequest)?;
    if !rest.is_empty() {
        return Err(Error::NoRequest);
    }
    let info = &request.certification_request_info;
    let is_strong = match info.subject_pki.parsed() {
        Ok(PublicKey::RSA(key)) => RSA_BITS.contains(&key.key_size()),
        Ok(PublicKey::EC(point)) => EC_POINTS.contains(&point.data().len()),
        Ok(PublicKey::Unknown(_)) => true, // Ed25519, or none that the next line knows
        _ => false,
    };
    let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|_| Error::KeyKind)?;
    if !is_strong {
        return Err(Error::KeyKind);
    }
    request.verify_signature().map_err(|_| Error::RequestSignature)?;
    let has_name = info.subject.iter_common_name().next().is_some();
    match common_name(&info.subject) {
        None if !has_name => Ok(key),
        Some(name) if name == device.as_str() => Ok(key),
        _ => Err(Error::RequestName),
    }
}
