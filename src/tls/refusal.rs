//! Why a handshake came to nothing, in few words: for counters and for the log.

use std::io;

use rustls::CertificateError;

use super::peer::Unfit;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// What came is no TLS.
    #[error("it speaks no TLS")]
    NotTls,
    /// No version or cipher suite in common.
    #[error("no version of TLS or cipher suite in common")]
    Incompatible,
    /// A certificate is wanted.
    #[error("the client has no certificate")]
    NoCertificate,
    /// Of an authority that is not trusted.
    #[error("the client's certificate is of an authority that is not trusted")]
    UnknownCa,
    /// Its time is over, or has not come.
    #[error("the client's certificate has expired, or is not good yet")]
    Expired,
    /// It was revoked.
    #[error("the client's certificate was revoked")]
    Revoked,
    /// It cannot be read, is for another purpose, or its key did not sign.
    #[error("the client's certificate is no good")]
    BadCertificate,
    /// The client does not want this server.
    #[error("the client has refused the server")]
    Alert,
    /// The connection broke off, or anything else.
    #[error("the handshake broke off")]
    Other,
}

impl Refusal {
    /// All words of [`name`](Self::name) are in the metrics' catalogue.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::NoCertificate => "no_certificate",
            Self::UnknownCa => "unknown_ca",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::BadCertificate => "bad_certificate",
            Self::Alert => "alert",
            Self::Other => "other",
        }
    }

    /// Whether a certificate was brought and refused: worth remembering.
    pub const fn is_of_certificate(self) -> bool {
        matches!(self, Self::UnknownCa | Self::Expired | Self::Revoked | Self::BadCertificate)
    }

    pub(super) fn of(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Other;
        };
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::Revoked => Self::Revoked,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::UnknownIssuer => Self::UnknownCa,
                _ => Self::BadCertificate,
            },
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::PeerIncompatible(_) => Self::Incompatible,
            rustls::Error::AlertReceived(_) => Self::Alert,
            rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => Self::NotTls,
            _ => Self::Other,
        }
    }
}

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Revoked => Self::Revoked,
            Unfit::Expired => Self::Expired,
            Unfit::NotTrusted => Self::UnknownCa,
        }
    }
}
