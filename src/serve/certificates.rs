//! The server's certificate as the settings name it; whoever reports a fault wants the key of the setting.

use std::time::Duration;

use crate::broker::{self, Tls, TlsOptions};
use crate::config::{Mqtt, Settings, TlsVersion};

const TLS_KEY_FILE: &str = "mqtt.tls_key_file";

/// A file of the certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the file of {key} cannot be used")]
pub struct CertificateFault {
    /// The setting to change.
    pub key: &'static str,
    /// What is wrong with the file it names.
    pub source: broker::Error,
}

/// The TLS side of the listeners; `None` where no listener has one.
pub fn open(settings: &Settings) -> Result<Option<Tls>, CertificateFault> {
    let Mqtt { tls_listen, wss_listen, tls_cert_file, tls_key_file, .. } = &settings.mqtt;
    let (Some(cert_file), Some(key_file)) = (tls_cert_file, tls_key_file) else { return Ok(None) };
    if tls_listen.is_none() && wss_listen.is_none() {
        return Ok(None);
    }
    let options = TlsOptions {
        cert_file: cert_file.clone(),
        key_file: key_file.clone(),
        min_version: match settings.mqtt.tls_min_version {
            TlsVersion::V12 => broker::TlsVersion::V12,
            TlsVersion::V13 => broker::TlsVersion::V13,
        },
        reload_every: Duration::from_secs(settings.mqtt.tls_reload_s),
    };
    let key_of = |error: &broker::Error| match error {
        broker::Error::NoKey { .. } | broker::Error::ExposedKey { .. } | broker::Error::UnusableKey { .. } => {
            TLS_KEY_FILE
        }
        broker::Error::Unreadable { path, .. } if path == key_file && path != cert_file => TLS_KEY_FILE,
        _ => "mqtt.tls_cert_file",
    };
    Tls::open(options).map(Some).map_err(|source| CertificateFault { key: key_of(&source), source })
}
