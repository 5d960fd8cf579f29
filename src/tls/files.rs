//! The files of a [`Tls`](super::Tls), as they are at one moment.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::{Error, TlsOptions};

/// Nobody's file of certificates is larger.
const MAX_BYTES: u64 = 64 << 20;

/// All files as they are.
pub(super) struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    pub(super) client_cas: Vec<Vec<u8>>,
    pub(super) crl: Option<Vec<u8>>,
    /// Whether every user of the machine may read the key.
    is_exposed: bool,
}

impl Files {
    pub(super) fn read(options: &TlsOptions) -> Result<Self, Error> {
        let (cert, _) = read(&options.cert_file)?;
        let (key, mode) = read(&options.key_file)?;
        let client_cas = options.client_ca_files.iter().map(|path| Ok(read(path)?.0)).collect::<Result<_, Error>>()?;
        let crl = options.crl_file.as_ref().map(|path| Ok::<_, Error>(read(path)?.0)).transpose()?;
        Ok(Self { cert, key, client_cas, crl, is_exposed: mode & 0o004 != 0 })
    }

    /// The server's certificates and key, if they can be used.
    pub(super) fn certified(&self, options: &TlsOptions, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
        let chain = certificates(&self.cert);
        if chain.is_empty() {
            return Err(Error::NoCertificate { path: options.cert_file.clone() });
        }
        let path = options.key_file.clone();
        // The parser's words could repeat what is in the file.
        let Ok(key) = PrivateKeyDer::from_pem_slice(&self.key) else { return Err(Error::NoKey { path }) };
        if self.is_exposed {
            return Err(Error::ExposedKey { path });
        }
        CertifiedKey::from_der(chain, key, provider).map_err(|source| Error::UnusableKey { path, source })
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let all = [&self.cert, &self.key].into_iter().chain(&self.client_cas).chain(&self.crl);
        for bytes in all {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        }
        digest.finalize().into()
    }
}

/// The certificates of a PEM text; none where one of them is broken.
pub(super) fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap_or_default()
}

/// The content, and who may read it.
pub(super) fn read(path: &Path) -> Result<(Vec<u8>, u32), Error> {
    let read = || -> io::Result<(Vec<u8>, u32)> {
        let file = File::open(path)?;
        let (mut bytes, mode) = (Vec::new(), file.metadata()?.mode());
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok((bytes, mode))
    };
    read().map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}
