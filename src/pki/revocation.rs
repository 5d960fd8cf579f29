//! Lists of revoked certificates (RFC 5280 section 5): made for others, and read from an external CA.

use std::time::Duration;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::authority::{Ca, since_epoch};
use super::facts::blocks;
use super::{Error, facts};
use crate::domain::Timestamp;

/// A revoked certificate of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revoked {
    /// Its serial number, hex.
    pub serial: String,
    /// When.
    pub at: Timestamp,
}

/// A list that was read; its signature is not checked here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crl {
    /// The list in DER form.
    pub der: Vec<u8>,
    /// Serials of what is revoked, lower-case hex.
    pub serials: Vec<String>,
    /// Until when it wants to be replaced.
    pub next_update: Option<Timestamp>,
}

impl Crl {
    /// Reads the lists of a file: PEM, any number, or one in DER form.
    pub fn read(bytes: &[u8]) -> Result<Vec<Self>, Error> {
        let ders = match blocks(bytes, "X509 CRL") {
            Some(ders) if !ders.is_empty() => ders,
            _ => vec![bytes.to_vec()],
        };
        ders.into_iter().map(Self::of_der).collect()
    }

    fn of_der(der: Vec<u8>) -> Result<Self, Error> {
        let (serials, next_update) = {
            let (rest, list) = CertificateRevocationList::from_der(&der).map_err(|_| Error::NoCrl)?;
            if !rest.is_empty() {
                return Err(Error::NoCrl);
            }
            let serial = |raw: &[u8]| hex::encode(facts::without_zeros(raw));
            let serials = list.iter_revoked_certificates().map(|c| serial(c.raw_serial())).collect();
            (serials, list.next_update().map(|at| Timestamp(at.timestamp().saturating_mul(1_000_000))))
        };
        Ok(Self { der, serials, next_update })
    }
}

impl Ca {
    /// The signed list of what is revoked, in PEM form, good for `life`. Serials that are none are left out.
    pub fn crl(&self, revoked: &[Revoked], now: Timestamp, life: Duration) -> Result<String, Error> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let entry = |revoked: &Revoked| {
            let serial = hex::decode(&revoked.serial).ok()?;
            Some(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&serial),
                revocation_time: epoch + since_epoch(revoked.at),
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            })
        };
        let list = CertificateRevocationListParams {
            this_update: epoch + since_epoch(now),
            next_update: epoch + since_epoch(now.plus(life)),
            // Grows with time on every node, whoever makes it.
            crl_number: SerialNumber::from(u64::try_from(now.micros()).unwrap_or(0)),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().filter_map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(self.issuer()).map_err(Error::Library)?;
        signed.pem().map_err(Error::Library)
    }
}
