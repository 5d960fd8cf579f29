//! Our own authority, in two files: `ca.pem` and `ca.key`. Read each time it is needed, which is seldom: it may have been
//! made or replaced by somebody else meanwhile.

use std::path::{Path, PathBuf};

use super::Error;
use super::files::read;
use crate::domain::Timestamp;
use crate::pki::{Ca, Facts};

/// See the module.
#[derive(Clone, Debug)]
pub struct OwnCa {
    dir: PathBuf,
}

impl OwnCa {
    /// In that directory, be it there or not.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The file of its certificate.
    pub fn cert_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The file of its key.
    pub fn key_file(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    /// Whether there is one, with its key or without.
    pub fn exists(&self) -> bool {
        self.cert_file().exists()
    }

    /// The authority; `None` = there is none here that could sign.
    pub fn load(&self) -> Result<Option<Ca>, Error> {
        if !self.exists() || !self.key_file().exists() {
            return Ok(None);
        }
        let (cert, _) = read(&self.cert_file())?;
        let (key, mode) = read(&self.key_file())?;
        if mode & 0o004 != 0 {
            return Err(Error::ExposedKey { path: self.key_file() });
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let loaded = Ca::load(&text(&cert), &text(&key));
        loaded.map(Some).map_err(|source| Error::UnusableOwnCa { path: self.cert_file(), source })
    }

    /// When its certificate ends; `None` = there is none.
    pub fn not_after(&self) -> Result<Option<Timestamp>, Error> {
        let facts = self.pem()?.map(|pem| Facts::of_pem(&pem)).transpose();
        let facts = facts.map_err(|source| Error::UnusableOwnCa { path: self.cert_file(), source })?;
        Ok(facts.map(|facts| facts.not_after))
    }

    /// Its certificate in PEM form; `None` = there is none.
    pub fn pem(&self) -> Result<Option<String>, Error> {
        if !self.exists() {
            return Ok(None);
        }
        let (cert, _) = read(&self.cert_file())?;
        Ok(Some(String::from_utf8_lossy(&cert).into_owned()))
    }
}
