//! What a certificate says of itself.
//!
//! Invariant: reading never panics, whatever the bytes; nothing here is believed: whether the certificate is anybody's is
//! the business of whoever checks its signature.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509Name};

use super::Error;
use crate::domain::Timestamp;

/// What the other rooms know of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The one common name of the subject; `None` = it has none, or more than one.
    pub common_name: Option<String>,
    /// The serial number, lower-case hex, without leading zero bytes.
    pub serial: String,
    /// Good from.
    pub not_before: Timestamp,
    /// Good until.
    pub not_after: Timestamp,
    /// The issuer's key as the certificate names it, lower-case hex; empty where it does not.
    pub issuer_key_id: String,
    /// The id of its own key as it names it, lower-case hex; empty where it does not.
    pub key_id: String,
    /// Names and addresses of a server.
    pub names: Vec<String>,
    /// SHA-256 of the whole certificate, lower-case hex.
    pub fingerprint: String,
    /// It may issue certificates.
    pub is_ca: bool,
    /// It says that it may be used by TLS clients (`extendedKeyUsage` with `clientAuth`, RFC 5280 section 4.2.1.12).
    pub is_for_clients: bool,
    /// Whose it is (Name, DER).
    pub subject: Vec<u8>,
    /// Who has signed it (Name, DER).
    pub issuer: Vec<u8>,
    /// The public key with its kind (SubjectPublicKeyInfo, DER).
    pub public_key: Vec<u8>,
}

impl Facts {
    /// Reads a certificate in DER form.
    pub fn of_der(der: &[u8]) -> Result<Self, Error> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Error::NoCertificate)?;
        if !rest.is_empty() {
            return Err(Error::NoCertificate);
        }
        let may_sign = |extensions: &X509Certificate<'_>| match extensions.key_usage() {
            Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
            Err(_) => false,
        };
        let seconds = |at: i64| Timestamp(at.saturating_mul(1_000_000));
        Ok(Self {
            common_name: common_name(certificate.subject()),
            serial: hex::encode(without_zeros(certificate.raw_serial())),
            not_before: seconds(certificate.validity().not_before.timestamp()),
            not_after: seconds(certificate.validity().not_after.timestamp()),
            issuer_key_id: key_id(&certificate, |extension| match extension {
                ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
                _ => None,
            }),
            key_id: key_id(&certificate, |extension| match extension {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
                _ => None,
            }),
            names: names(&certificate),
            fingerprint: hex::encode(Sha256::digest(der)),
            is_ca: certificate.is_ca() && may_sign(&certificate),
            is_for_clients: matches!(certificate.extended_key_usage(), Ok(Some(usage)) if usage.value.client_auth),
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    /// Reads the first certificate of a PEM text.
    pub fn of_pem(pem: &str) -> Result<Self, Error> {
        Self::of_der(&first_certificate(pem)?)
    }
}

/// The one common name; two of them could be read differently by two readers.
pub(super) fn common_name(name: &X509Name<'_>) -> Option<String> {
    let mut names = name.iter_common_name();
    let (first, second) = (names.next()?, names.next());
    match second {
        None => first.as_str().ok().map(str::to_owned),
        Some(_) => None,
    }
}

fn key_id<'a>(
    certificate: &'a X509Certificate<'a>,
    read: impl Fn(&'a ParsedExtension<'a>) -> Option<&'a [u8]>,
) -> String {
    certificate.iter_extensions().find_map(|e| read(e.parsed_extension())).map(hex::encode).unwrap_or_default()
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(found)) = certificate.subject_alternative_name() else { return Vec::new() };
    let read = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => match (<[u8; 4]>::try_from(*octets), <[u8; 16]>::try_from(*octets)) {
            (Ok(v4), _) => Some(IpAddr::from(v4).to_string()),
            (_, Ok(v6)) => Some(IpAddr::from(v6).to_string()),
            _ => None,
        },
        _ => None,
    };
    found.value.general_names.iter().filter_map(read).collect()
}

/// Most bytes of a serial number (RFC 5280 section 4.1.2.2).
const MAX_SERIAL_BYTES: usize = 20;

/// A serial number as people write it (hex, perhaps with colons, zeros in front or capital letters) as [`Facts::serial`]
/// has it; `None` = it is none.
pub fn serial_of(text: &str) -> Option<String> {
    let digits = text.trim().replace(':', "");
    let even = if digits.len().is_multiple_of(2) { digits } else { format!("0{digits}") };
    let bytes = hex::decode(even).ok().filter(|bytes| !bytes.is_empty())?;
    let bytes = without_zeros(&bytes);
    (bytes.len() <= MAX_SERIAL_BYTES).then(|| hex::encode(bytes))
}

/// DER puts a zero byte before a number whose first bit is set.
pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len().saturating_sub(1));
    &bytes[start..]
}

pub(super) fn first_certificate(pem: &str) -> Result<Vec<u8>, Error> {
    pem_certificates(pem.as_bytes()).into_iter().next().ok_or(Error::NoCertificate)
}

/// The certificates of a PEM text, in DER form; none where one of them cannot be read.
pub fn pem_certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    blocks(pem, "CERTIFICATE").unwrap_or_default()
}

/// The contents of all blocks of that name; other blocks are passed over. `None` = a block is broken.
pub(super) fn blocks(pem: &[u8], name: &str) -> Option<Vec<Vec<u8>>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (begin, end) = (format!("-----BEGIN {name}-----"), format!("-----END {name}-----"));
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines().map(str::trim) {
        match &mut open {
            None if line == begin => open = Some(String::new()),
            None => {}
            Some(body) if line == end => {
                found.push(STANDARD.decode(body.as_bytes()).ok()?);
                open = None;
            }
            Some(body) => body.push_str(line),
        }
    }
    open.is_none().then_some(found)
}

/// A certificate in PEM form.
pub fn pem_of(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
