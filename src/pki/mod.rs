//! Certificates, from bytes to bytes: a certificate authority, what it issues, and what a certificate says of itself.
//!
//! Promises: a device certificate is for the device id it was asked for and for nothing else (not a server, not a CA);
//! of a request only the public key is taken, after its signature was checked; no private key shows in `Debug` or in an
//! error. Must not know: files, sockets, databases; what a device may do.
//!
//! Start from [`Ca`]; [`Facts`] is what the other rooms know of a certificate.

mod authority;
mod facts;
mod request;
mod revocation;

pub use authority::{Ca, Issued, KeySource, SERIAL_BYTES, Validity, is_server_name};
pub use facts::{Facts, pem_certificates, pem_of, serial_of};
pub use request::MAX_REQUEST_BYTES;
pub use revocation::{Crl, Revoked};

/// A certificate, a request or a key is not what it should be. Never repeats what it read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no certificate.
    #[error("is no certificate in PEM form")]
    NoCertificate,
    /// It is no private key.
    #[error("is no private key in PEM form of a kind that can sign here")]
    NoKey,
    /// The key is another certificate's.
    #[error("the private key is not that of the certificate")]
    OtherKey,
    /// It may not issue certificates.
    #[error("the certificate is not that of a certificate authority (CA:TRUE, keyCertSign)")]
    NotCa,
    /// The CA itself has ended.
    #[error("the certificate authority has expired")]
    CaExpired,
    /// It is no request.
    #[error("is no certificate signing request (PKCS #10) in PEM form")]
    NoRequest,
    /// The sender does not have the key, or the request was changed.
    #[error("the signature of the request is not good")]
    RequestSignature,
    /// The request is for somebody else.
    #[error("the common name of the request is not the device id")]
    RequestName,
    /// The key is too weak, or of an unknown kind.
    #[error("the key must be ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits")]
    KeyKind,
    /// A name of a server that cannot be one.
    #[error("{name:?} can be in no certificate")]
    ServerName {
        /// The name.
        name: String,
    },
    /// It is no list of revoked certificates.
    #[error("is no certificate revocation list in PEM or DER form")]
    NoCrl,
    /// The library refused.
    #[error("the certificate cannot be made")]
    Library(#[source] rcgen::Error),
}

#[cfg(test)]
mod tests;
