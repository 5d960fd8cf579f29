//! The certificates of the listeners as the settings name them, or as the server has made them; whoever reports a fault
//! wants the key of the setting.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::authority::{SERVER_CERT, SERVER_KEY};
use crate::config::{AutoListen, Settings, TLS_LISTEN, TlsVersion};
use crate::domain::Clock;
use crate::tls::{self, OwnCa, Revocations, Tls, TlsOptions};

/// A file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the file of {key} cannot be used")]
pub struct CertificateFault {
    /// The setting to change.
    pub key: &'static str,
    /// What is wrong with the file it names.
    pub source: tls::Error,
}

/// The TLS sides of the listeners.
#[derive(Clone, Debug)]
pub struct Served {
    /// Of MQTT, also over WebSocket.
    pub mqtt: Tls,
    /// Of the API. Its clients may bring a certificate, whatever those of MQTT must.
    pub https: Tls,
}

/// Whether a listener is in TLS.
pub fn are_wanted(settings: &Settings) -> bool {
    let mqtt = &settings.mqtt;
    mqtt.tls_listen != AutoListen::Off || mqtt.wss_listen.is_some() || settings.http.tls_listen.is_some()
}

/// The listeners that cannot be without a certificate, by key.
pub fn needing(settings: &Settings) -> Option<&'static str> {
    match settings.mqtt.tls_listen {
        AutoListen::At(_) => Some("mqtt.tls_listen"),
        AutoListen::Off | AutoListen::Auto => {
            let others = [("mqtt.wss_listen", settings.mqtt.wss_listen), ("http.tls_listen", settings.http.tls_listen)];
            others.into_iter().find_map(|(key, address)| address.map(|_| key))
        }
    }
}

/// Where MQTT in TLS is when nobody said so. What an open server has made itself must not let other machines in.
pub fn usual_address(settings: &Settings, is_open: bool) -> SocketAddr {
    match is_open && settings.mqtt.tls_cert_file.is_none() {
        true => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), TLS_LISTEN.port()),
        false => TLS_LISTEN,
    }
}

/// Looks whether the files that the settings name are good. Those the server makes itself are not looked at.
pub fn check(settings: &Settings) -> Result<(), CertificateFault> {
    match settings.mqtt.tls_cert_file {
        Some(_) => open(settings, false, &Revocations::default(), &Clock::system()).map(drop),
        None => Ok(()),
    }
}

/// The TLS sides of the listeners; `None` where no listener has one, or there is no certificate. Of a server without
/// authority only the configured one counts: what an earlier start has made must not open a port.
pub fn open(
    settings: &Settings,
    has_authority: bool,
    revocations: &Revocations,
    clock: &Clock,
) -> Result<Option<Served>, CertificateFault> {
    if !are_wanted(settings) || (!has_authority && settings.mqtt.tls_cert_file.is_none()) {
        return Ok(None);
    }
    let Some(options) = options(settings, &settings.data_dir.join("pki")) else { return Ok(None) };
    let open = |options: TlsOptions| {
        Tls::open(options.clone(), revocations, clock)
            .map_err(|source| CertificateFault { key: key_of(&source, &options, settings), source })
    };
    let https = TlsOptions { server: "https", is_certificate_required: false, ..options.clone() };
    Ok(Some(Served { mqtt: open(options)?, https: open(https)? }))
}

fn options(settings: &Settings, dir: &Path) -> Option<TlsOptions> {
    let mqtt = &settings.mqtt;
    let (cert_file, key_file) = match (&mqtt.tls_cert_file, &mqtt.tls_key_file) {
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        _ => (dir.join(SERVER_CERT), dir.join(SERVER_KEY)),
    };
    if mqtt.tls_cert_file.is_none() && !cert_file.exists() {
        return None;
    }
    let own = OwnCa::at(dir);
    let own = own.exists().then(|| own.cert_file());
    Some(TlsOptions {
        server: "mqtt",
        cert_file,
        key_file,
        min_version: match mqtt.tls_min_version {
            TlsVersion::V12 => tls::TlsVersion::V12,
            TlsVersion::V13 => tls::TlsVersion::V13,
        },
        own_ca_file: own.clone(),
        client_ca_files: own.into_iter().chain(mqtt.tls_client_ca_file.clone()).collect(),
        crl_file: mqtt.tls_crl_file.clone(),
        is_certificate_required: mqtt.require_client_certificate,
        reload_every: Duration::from_secs(mqtt.tls_reload_s),
    })
}

fn key_of(error: &tls::Error, options: &TlsOptions, settings: &Settings) -> &'static str {
    const KEY_FILE: &str = "mqtt.tls_key_file";
    let path = error.path();
    let is = |file: &Path| path == Some(file);
    match error {
        tls::Error::NoKey { .. } | tls::Error::ExposedKey { .. } | tls::Error::UnusableKey { .. } => KEY_FILE,
        tls::Error::UnusableCrl { .. } => "mqtt.tls_crl_file",
        _ if settings.mqtt.tls_crl_file.as_deref().is_some_and(is) => "mqtt.tls_crl_file",
        tls::Error::UnusableCa { .. } => "mqtt.tls_client_ca_file",
        _ if is(&options.cert_file) => "mqtt.tls_cert_file",
        _ if is(&options.key_file) => KEY_FILE,
        _ if settings.mqtt.tls_client_ca_file.as_deref().is_some_and(is) => "mqtt.tls_client_ca_file",
        _ => "data_dir",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flag, Sources, load};

    #[test]
    fn what_an_open_server_makes_itself_lets_no_other_machine_in() {
        let check = |files: &[(&str, &str)], is_open, expected: &str| {
            let flag =
                |(key, value): &(&str, &str)| Flag { flag: (*key).into(), key: (*key).into(), value: (*value).into() };
            let flags = files.iter().map(flag).collect();
            let settings = load(&Sources { flags, working_dir: "/srv".into(), ..Sources::default() }).unwrap().settings;
            assert_eq!(usual_address(&settings, is_open).to_string(), expected);
        };
        let files = [("mqtt.tls_cert_file", "/c.pem"), ("mqtt.tls_key_file", "/k.pem")];
        check(&[], true, "127.0.0.1:8883");
        check(&[], false, "0.0.0.0:8883");
        // Refused by the command line, unless it is intended.
        check(&files, true, "0.0.0.0:8883");
    }
}
