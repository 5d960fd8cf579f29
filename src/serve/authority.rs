//! The certificates this server makes itself, in `<data_dir>/pki`: an authority at the first start, and its own certificate,
//! which it renews before it ends. The command line makes them by the same calls.
//!
//! Invariants: a key is written before its certificate, so what has a certificate has its key; keys are 0600.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::datadir::write_private;
use crate::config::{AutoListen, Settings};
use crate::domain::Timestamp;
use crate::pki::{self, Ca, Facts, Issued, Validity};
use crate::tls::OwnCa;

/// The server's own certificate and its key.
pub const SERVER_CERT: &str = "server.pem";
/// See [`SERVER_CERT`].
pub const SERVER_KEY: &str = "server.key";

/// What was missing and is there now.
#[derive(Debug, Default)]
pub struct Made {
    /// The authority.
    pub authority: Option<Facts>,
    /// The server's certificate.
    pub server: Option<Issued>,
}

/// What is missing is made.
pub fn prepare(dir: &Path, settings: &Settings, now: Timestamp) -> anyhow::Result<Made> {
    let is_missing = !OwnCa::at(dir).exists() && settings.mqtt.tls_client_ca_file.is_none();
    let made = is_missing.then(|| make_ca(dir, Validity { now, days: settings.pki.ca_days })).transpose()?;
    let authority = made.map(|ca| ca.facts().clone());
    Ok(Made { authority, server: renew_server_if_due(dir, settings, now)? })
}

/// Makes an authority; one that is there is replaced.
pub fn make_ca(dir: &Path, validity: Validity) -> anyhow::Result<Ca> {
    let own = OwnCa::at(dir);
    // Authorities of two servers must not be taken for one another.
    let name = format!("iot-meter CA {}", hex::encode(&uuid::Uuid::new_v4().as_bytes()[..4]));
    let (ca, key) = Ca::make(&name, validity)?;
    write_private(&own.key_file(), key.as_bytes())?;
    write_private(&own.cert_file(), ca.pem().as_bytes())?;
    tracing::info!(name, path = %own.cert_file().display(), "certificate authority made");
    Ok(ca)
}

/// Renews the server's own certificate when a third of its time is left, or when it lacks a name or is of another
/// authority. Nothing is done where a certificate is configured, or where nobody here can sign.
pub fn renew_server_if_due(dir: &Path, settings: &Settings, now: Timestamp) -> anyhow::Result<Option<Issued>> {
    if settings.mqtt.tls_cert_file.is_some() {
        return Ok(None);
    }
    let Some(ca) = OwnCa::at(dir).load()? else { return Ok(None) };
    let names = server_names(settings);
    let there = std::fs::read_to_string(dir.join(SERVER_CERT)).ok().and_then(|pem| Facts::of_pem(&pem).ok());
    if there.is_some_and(|facts| !is_due(&facts, &ca, &names, now)) && dir.join(SERVER_KEY).exists() {
        return Ok(None);
    }
    make_server(dir, &ca, &names, Validity { now, days: settings.pki.server_days }).map(Some)
}

/// How long the certificate is good in all.
pub fn lifetime(there: &Facts) -> Duration {
    there.not_after.since(there.not_before)
}

/// Whether a server's certificate should have been renewed by now, here or by whoever else does it: less than a quarter of
/// its time is left.
pub fn is_overdue(there: &Facts, now: Timestamp) -> bool {
    now.plus(lifetime(there) / 4) > there.not_after
}

fn is_due(there: &Facts, ca: &Ca, names: &[String], now: Timestamp) -> bool {
    let third = lifetime(there) / 3;
    // What ends with its authority is not made any longer by another try.
    let ends_with_ca = there.not_after == ca.facts().not_after && now < there.not_after;
    (now.plus(third) >= there.not_after && !ends_with_ca)
        || there.issuer_key_id != ca.facts().key_id
        || !names.iter().all(|name| there.names.contains(name))
}

/// Makes the server's own certificate; one that is there is replaced.
pub fn make_server(dir: &Path, ca: &Ca, names: &[String], validity: Validity) -> anyhow::Result<Issued> {
    let mut issued = ca.issue_server(names, validity)?;
    let key = issued.key_pem.take().context("a server's key is made with its certificate")?;
    write_private(&dir.join(SERVER_KEY), key.as_bytes())?;
    // With its authority behind it: clients that were given nothing can at least see who it is.
    write_private(&dir.join(SERVER_CERT), format!("{}{}", issued.pem, ca.pem()).as_bytes())?;
    tracing::info!(until = %issued.facts.not_after, names = names.join(" "), "server certificate made");
    Ok(issued)
}

/// Names and addresses under which this server is reached.
pub fn server_names(settings: &Settings) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mqtts = match settings.mqtt.tls_listen {
        AutoListen::At(address) => Some(address),
        AutoListen::Auto | AutoListen::Off => None,
    };
    let listeners = [mqtts, settings.mqtt.wss_listen, settings.http.tls_listen].into_iter().flatten();
    let addresses = listeners.map(|a| a.ip()).filter(|ip: &IpAddr| !ip.is_unspecified()).map(|ip| ip.to_string());
    for name in settings.pki.server_names.iter().cloned().chain(addresses).chain([host]) {
        let name = name.parse::<IpAddr>().map_or(name, |ip| ip.to_string());
        if pki::is_server_name(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flag, Sources, load};

    const DAY_US: i64 = 86_400_000_000;

    /// The server's new certificate, where there is one.
    fn prepare(dir: &Path, settings: &Settings, now: Timestamp) -> anyhow::Result<Option<Issued>> {
        super::prepare(dir, settings, now).map(|made| made.server)
    }

    fn settings(flags: &[(&str, &str)]) -> Settings {
        let flag = |(key, value): &(&str, &str)| Flag {
            flag: (*key).to_owned(),
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        let flags = flags.iter().map(flag).collect();
        load(&Sources { flags, working_dir: "/srv".into(), ..Sources::default() }).unwrap().settings
    }

    #[test]
    fn what_is_there_stays_until_a_third_of_its_time_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp(1_770_890_400_000_000);
        let first = prepare(dir.path(), &settings(&[]), now).unwrap().unwrap();
        let ca = OwnCa::at(dir.path()).pem().unwrap();
        let due = |days: i64| prepare(dir.path(), &settings(&[]), now.plus_us(days * DAY_US)).unwrap();
        assert!(due(0).is_none() && due(59).is_none());
        let second = due(61).unwrap();
        assert_ne!(second.facts.serial, first.facts.serial);
        assert_eq!(OwnCa::at(dir.path()).pem().unwrap(), ca, "the authority stays");
        use std::os::unix::fs::PermissionsExt;
        for key in ["ca.key", SERVER_KEY] {
            let mode = std::fs::metadata(dir.path().join(key)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{key}");
        }
    }

    #[test]
    fn a_renewal_is_due_with_a_third_left_and_overdue_with_less_than_a_quarter() {
        let now = Timestamp(1_770_890_400_000_000);
        let (ca, _) = Ca::make("Test CA", Validity { now, days: 7300 }).unwrap();
        let names = ["localhost".to_owned()];
        for days in [1, 30, 90, 365, 3650] {
            let made = ca.issue_server(&names, Validity { now, days }).unwrap().facts;
            let check = |twelfths_left: u32, expected: (bool, bool)| {
                let at = made.not_before.plus(lifetime(&made) / 12 * (12 - twelfths_left));
                let found = (is_due(&made, &ca, &names, at), is_overdue(&made, at));
                assert_eq!(found, expected, "{days} days, {twelfths_left} twelfths left");
            };
            check(5, (false, false));
            check(4, (true, false));
            check(3, (true, false));
            check(2, (true, true));
            check(0, (true, true));
        }
    }

    #[test]
    fn a_new_name_or_a_new_authority_makes_a_new_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp(1_770_890_400_000_000);
        prepare(dir.path(), &settings(&[]), now).unwrap().unwrap();
        let named = settings(&[("pki.server_names", "meters.example,10.1.2.3")]);
        let issued = prepare(dir.path(), &named, now).unwrap().unwrap();
        assert!(
            ["localhost", "meters.example", "10.1.2.3"].iter().all(|n| issued.facts.names.contains(&(*n).to_owned()))
        );
        assert!(prepare(dir.path(), &named, now).unwrap().is_none());
        make_ca(dir.path(), Validity { now, days: 40 }).unwrap();
        let short = prepare(dir.path(), &named, now).unwrap().unwrap();
        assert_eq!(short.facts.not_after, now.plus_us(40 * DAY_US), "not longer than the authority");
        assert!(prepare(dir.path(), &named, now.plus_us(39 * DAY_US)).unwrap().is_none(), "no use in trying");
    }

    #[test]
    fn an_authority_is_made_once_also_where_the_server_has_a_certificate_from_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let given = settings(&[("mqtt.tls_cert_file", "/server.pem"), ("mqtt.tls_key_file", "/server.key")]);
        let made = super::prepare(dir.path(), &given, Timestamp(1_770_890_400_000_000)).unwrap();
        assert!(made.authority.is_some() && made.server.is_none(), "{made:?}");
        let again = super::prepare(dir.path(), &given, Timestamp(1_770_890_400_000_000)).unwrap();
        assert!(again.authority.is_none() && again.server.is_none(), "{again:?}");
    }

    #[test]
    fn with_an_external_authority_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let external = settings(&[("mqtt.tls_client_ca_file", "/ca.pem")]);
        assert!(prepare(dir.path(), &external, Timestamp(0)).unwrap().is_none());
        assert!(!OwnCa::at(dir.path()).exists());
    }
}
