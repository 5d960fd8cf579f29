//! The certificate authority: made or loaded, and what it issues.
//!
//! Invariants: keys made here are ECDSA P-256; serials are 127 random bits, positive; nothing outlives the CA. What is
//! issued to a device has its id as the only name and may be a TLS client; what is issued to a server may be a TLS server.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rand::RngCore as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};

use super::facts::{Facts, first_certificate};
use super::{Error, request};
use crate::domain::{DeviceId, Timestamp};

/// Bytes of a serial number.
pub const SERIAL_BYTES: usize = 16;

/// Certificates begin a little before they are made: clocks differ.
const HEAD_START: Duration = Duration::from_secs(300);

/// How long something is to be good, from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// Now.
    pub now: Timestamp,
    /// For so long.
    pub days: u32,
}

impl Validity {
    fn from(self) -> Timestamp {
        self.now.plus_us(-i64::try_from(HEAD_START.as_micros()).unwrap_or(0))
    }

    fn until(self) -> Timestamp {
        self.now.plus(Duration::from_secs(u64::from(self.days) * 86_400))
    }
}

/// Whose public key a certificate is to be for.
#[derive(Clone, Copy, Debug)]
pub enum KeySource<'a> {
    /// That of a request in PEM form.
    Request(&'a str),
    /// That of a certificate in PEM form.
    Certificate(&'a str),
    /// A new one, made here.
    New,
}

/// What was issued.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate in PEM form.
    pub pem: String,
    /// What it says.
    pub facts: Facts,
    /// The private key in PEM form, where it was made here. Given on and forgotten.
    pub key_pem: Option<String>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("serial", &self.facts.serial).finish_non_exhaustive()
    }
}

/// A certificate authority with its key.
pub struct Ca {
    pem: String,
    facts: Facts,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("name", &self.facts.common_name).finish_non_exhaustive()
    }
}

impl Ca {
    /// Makes a CA with this name, and its key in PEM form.
    pub fn make(name: &str, validity: Validity) -> Result<(Self, String), Error> {
        let key = KeyPair::generate().map_err(Error::Library)?;
        let mut params = params(name, validity.from(), validity.until());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(Error::Library)?.pem();
        let key_pem = key.serialize_pem();
        Ok((Self::load(&pem, &key_pem)?, key_pem))
    }

    /// Takes a CA and its key in PEM form; the first certificate counts.
    pub fn load(pem: &str, key_pem: &str) -> Result<Self, Error> {
        let facts = Facts::of_pem(pem)?;
        if !facts.is_ca {
            return Err(Error::NotCa);
        }
        let key = KeyPair::from_pem(key_pem).map_err(|_| Error::NoKey)?;
        let der = first_certificate(pem)?;
        if facts.public_key != key.subject_public_key_info() {
            return Err(Error::OtherKey);
        }
        let issuer = Issuer::from_ca_cert_der(&der.into(), key).map_err(Error::Library)?;
        Ok(Self { pem: pem.to_owned(), facts, issuer })
    }

    /// The CA's certificate in PEM form.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What its certificate says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// A certificate for a device.
    pub fn issue_device(&self, device: &DeviceId, key: KeySource<'_>, validity: Validity) -> Result<Issued, Error> {
        let mut params = self.leaf(device.as_str(), validity)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        match key {
            KeySource::Request(pem) => self.sign(&params, &request::public_key(pem, device)?, None),
            KeySource::Certificate(pem) => {
                let facts = Facts::of_pem(pem)?;
                let key = SubjectPublicKeyInfo::from_der(&facts.public_key).map_err(|_| Error::KeyKind)?;
                self.sign(&params, &key, None)
            }
            KeySource::New => {
                let key = KeyPair::generate().map_err(Error::Library)?;
                self.sign(&params, &key, Some(key.serialize_pem()))
            }
        }
    }

    /// A certificate for a server with these names and addresses, the first of which is its common name; the key is made
    /// here.
    pub fn issue_server(&self, names: &[String], validity: Validity) -> Result<Issued, Error> {
        let first = names.first().map_or("localhost", String::as_str);
        let mut params = self.leaf(first, validity)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = names.iter().map(|name| server_name(name)).collect::<Result<_, _>>()?;
        let key = KeyPair::generate().map_err(Error::Library)?;
        self.sign(&params, &key, Some(key.serialize_pem()))
    }

    fn leaf(&self, name: &str, validity: Validity) -> Result<CertificateParams, Error> {
        if validity.now >= self.facts.not_after {
            return Err(Error::CaExpired);
        }
        let mut params = params(name, validity.from(), validity.until().min(self.facts.not_after));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
        key_pem: Option<String>,
    ) -> Result<Issued, Error> {
        let pem = params.signed_by(key, &self.issuer).map_err(Error::Library)?.pem();
        Ok(Issued { facts: Facts::of_pem(&pem)?, pem, key_pem })
    }
}

fn params(name: &str, from: Timestamp, until: Timestamp) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&serial()));
    params.not_before = epoch + since_epoch(from);
    params.not_after = epoch + since_epoch(until);
    params
}

/// Whole seconds since the epoch, as certificates have times.
pub(super) fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_secs(at.since(Timestamp(0)).as_secs())
}

/// Whether a server's certificate can have that name or address.
pub fn is_server_name(name: &str) -> bool {
    server_name(name).is_ok()
}

fn server_name(name: &str) -> Result<SanType, Error> {
    let refused = || Error::ServerName { name: name.chars().take(128).collect() };
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let rest = name.strip_prefix("*.").unwrap_or(name);
    if name.len() > 253 || !rest.split('.').all(is_label) {
        return Err(refused());
    }
    name.try_into().map(SanType::DnsName).map_err(|_| refused())
}

/// Random, positive, never of fewer bytes than it has.
fn serial() -> [u8; SERIAL_BYTES] {
    let mut bytes = [0; SERIAL_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    bytes
}
