//! `pki`: the certificate authority of this server and what it issues, in the data directory and the database of this machine.
//!
//! Not through the API: it works while nothing runs, and beside a running server, which takes over a
//! revocation within a second and a new authority at its next look at the files (`mqtt.tls_reload_s`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::desk::{LOCAL, note};
use super::global::{Global, make_data_dir};
use super::output;
use crate::config::Settings;
use crate::domain::{Clock, DeviceId, Timestamp};
use crate::pki::{Ca, Issued, KeySource, Validity, serial_of};
use crate::serve::{authority, write_private};
use crate::store::{
    self, Certificate, CertificateFilter, Issuance, MAX_GOOD_CERTIFICATES, Page, Revocation, SharedStore,
};
use crate::tls::OwnCa;

/// Make a certificate authority, issue, renew, revoke and list certificates
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter pki init                                       the authority and the server's certificate (serve does it by itself)
  iot-meter pki issue --device m1 --out /media/stick       a key and a certificate for a meter
  iot-meter pki issue --device m1 --csr m1.csr             a certificate for a key that the meter has made
  iot-meter pki issue --server --name meters.example       the server's own certificate, with one more name
  iot-meter pki list --expiring-within-days 30
  iot-meter pki renew 4f0a…                                the same key, good for another year
  iot-meter pki revoke 4f0a… --reason \"stolen\"             a running server disconnects it within a second")]
pub(super) struct PkiArgs {
    #[command(subcommand)]
    command: PkiCommand,
}

#[derive(Debug, Subcommand)]
enum PkiCommand {
    /// Make the certificate authority and the server's certificate
    #[command(after_help = "\
Example:
  iot-meter pki init --days 3650")]
    Init {
        /// Days the authority is good [default: pki.ca_days]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
        /// Replace the authority that is there: nothing it has issued is good any more
        #[arg(long)]
        force: bool,
    },
    /// Issue a certificate for a meter, or for this server
    Issue(IssueArgs),
    /// Revoke a certificate, or all of a meter, for good
    Revoke(RevokeArgs),
    /// List certificates
    #[command(after_help = "\
Example:
  iot-meter pki list --expiring-within-days 30")]
    List {
        /// Only those of this meter
        #[arg(long, value_name = "ID")]
        device: Option<String>,
        /// Only those good now that end within so many days, and that the meter has not renewed
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=36_500))]
        expiring_within_days: Option<u32>,
    },
    /// Issue a certificate like another one: the same meter, the same key
    Renew(RenewArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter pki issue --device m1 --out /media/stick     a key and a certificate for a meter
  iot-meter pki issue --device m1 --csr m1.csr           a certificate for a key that the meter has made
  iot-meter pki issue --server --name meters.example     the server's own certificate, with one more name")]
struct IssueArgs {
    /// For this meter, which must be registered
    #[arg(long, value_name = "ID", required_unless_present = "server", conflicts_with = "server")]
    device: Option<String>,
    /// A certificate signing request (PEM) of the meter; without one a key is made
    #[arg(long, value_name = "FILE", requires = "device")]
    csr: Option<PathBuf>,
    /// For this server
    #[arg(long)]
    server: bool,
    /// A name or address of this server, besides the usual ones; repeatable
    #[arg(long, value_name = "NAME", requires = "server")]
    name: Vec<String>,
    /// Days it is good [default: pki.device_days or pki.server_days]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: Option<u32>,
    /// Where the files go [default: what was issued is printed]
    #[arg(long, value_name = "DIR", requires = "device")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter pki revoke 4f0a… --reason \"stolen\"
  iot-meter pki revoke --device m1                all of this meter")]
struct RevokeArgs {
    /// Its serial number, as listed; also of one that the authority's key has signed elsewhere
    #[arg(required_unless_present = "device", conflicts_with = "device", value_parser = serial)]
    serial: Option<String>,
    /// All of this meter
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Why, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  iot-meter pki renew 4f0a… --out /media/stick")]
struct RenewArgs {
    /// Serial number of the one to renew, as listed
    #[arg(value_parser = serial)]
    serial: String,
    /// Days it is good [default: pki.device_days]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: Option<u32>,
    /// Where the file goes [default: what was issued is printed]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What every subcommand works on.
struct Office<'a> {
    global: &'a Global,
    settings: Settings,
    store: SharedStore,
    now: Timestamp,
}

pub(super) fn run(args: PkiArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let settings = global.load(Vec::new())?.settings;
    make_data_dir(&settings.data_dir)?;
    make_data_dir(&settings.data_dir.join("pki"))?;
    let url = &settings.database.url;
    let store = store::open(url.reveal()).with_context(|| format!("cannot open {}", url.redacted()))?;
    let office = Office { global, settings, store, now: Clock::system().now() };
    match args.command {
        PkiCommand::Init { days, force } => office.init(days, force)?,
        PkiCommand::Issue(args) if args.server => office.issue_server(&args)?,
        PkiCommand::Issue(args) => office.issue_device(&args)?,
        PkiCommand::Revoke(args) => office.revoke(&args)?,
        PkiCommand::List { device, expiring_within_days } => office.list(device.as_deref(), expiring_within_days)?,
        PkiCommand::Renew(args) => office.renew(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn device_id(text: &str) -> anyhow::Result<DeviceId> {
    DeviceId::parse(text).with_context(|| format!("{text:?} is not a device id"))
}

impl Office<'_> {
    fn dir(&self) -> PathBuf {
        self.settings.data_dir.join("pki")
    }

    fn authority(&self) -> anyhow::Result<Ca> {
        OwnCa::at(&self.dir()).load()?.with_context(|| {
            format!("{} holds no certificate authority with its key; make one with `pki init`", self.dir().display())
        })
    }

    fn init(&self, days: Option<u32>, force: bool) -> anyhow::Result<()> {
        let (dir, own) = (self.dir(), OwnCa::at(&self.dir()));
        ensure!(
            force || !own.exists(),
            "there is an authority in {}; --force replaces it, and nothing it has issued is good any more",
            dir.display()
        );
        let validity = Validity { now: self.now, days: days.unwrap_or(self.settings.pki.ca_days) };
        let is_replaced = own.exists();
        let ca = authority::make_ca(&dir, validity)?;
        let name = ca.facts().common_name.as_deref().unwrap_or_default();
        let detail = format!("{name}{}", if is_replaced { ", in place of another" } else { "" });
        note(&self.store, "authority.create", &ca.facts().serial, detail, self.now)?;
        if let Some(issued) = authority::renew_server_if_due(&dir, &self.settings, self.now)? {
            self.keep(&issued, None, None)?;
        }
        let (file, until) = (own.cert_file().display().to_string(), ca.facts().not_after.to_string());
        output::print(self.global.output, &json!({"ca": file, "not_after": until}), || {
            format!("{file}\n(give it to the meters; good until {until}. Keep ca.key beside it to yourself.)\n")
        })
    }

    fn issue_server(&self, args: &IssueArgs) -> anyhow::Result<()> {
        let mut names = authority::server_names(&self.settings);
        names.extend(args.name.iter().cloned());
        let days = args.days.unwrap_or(self.settings.pki.server_days);
        let issued = authority::make_server(&self.dir(), &self.authority()?, &names, Validity { now: self.now, days })?;
        self.keep(&issued, None, None)?;
        let file = self.dir().join(authority::SERVER_CERT).display().to_string();
        let shown = json!({"serial": issued.facts.serial, "certificate_file": file, "names": issued.facts.names});
        output::print(self.global.output, &shown, || {
            let (names, end) = (issued.facts.names.join(" "), issued.facts.not_after);
            format!("{file}\n({names}; until {end}. To have the names at every renewal, set pki.server_names.)\n")
        })
    }

    fn issue_device(&self, args: &IssueArgs) -> anyhow::Result<()> {
        let device = device_id(args.device.as_deref().unwrap_or_default())?;
        let known = self.store.device(&device).context("cannot look the device up")?;
        ensure!(known.is_some(), "there is no device {device}; register it first (iot-meter device add {device})");
        let request = args
            .csr
            .as_ref()
            .map(|path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())));
        let request = request.transpose()?;
        let key = request.as_deref().map_or(KeySource::New, KeySource::Request);
        self.issue(&device, key, None, args.days, args.out.as_deref())
    }

    fn renew(&self, args: &RenewArgs) -> anyhow::Result<()> {
        let before = self.store.certificate(&args.serial).context("cannot look the certificate up")?;
        let before = before.with_context(|| format!("there is no certificate {}", args.serial))?;
        if before.revocation.is_some() {
            bail!("{} was revoked: its key is not to be trusted any more", before.serial);
        }
        ensure!(before.is_known(), "nothing is known of {} but its serial", before.serial);
        let device = before.device.context("it is a server's: `pki issue --server` makes another one")?;
        let follows = Some(before.serial.as_str());
        self.issue(&device, KeySource::Certificate(&before.pem), follows, args.days, args.out.as_deref())
    }

    fn issue(
        &self,
        device: &DeviceId,
        key: KeySource<'_>,
        follows: Option<&str>,
        days: Option<u32>,
        out: Option<&Path>,
    ) -> anyhow::Result<()> {
        let ca = self.authority()?;
        let validity = Validity { now: self.now, days: days.unwrap_or(self.settings.pki.device_days) };
        let issued = ca.issue_device(device, key, validity)?;
        self.keep(&issued, Some(device.clone()), follows)?;
        let mut shown = json!({
            "serial": issued.facts.serial, "device_id": device.as_str(), "not_after": issued.facts.not_after.to_string(),
        });
        let Some(out) = out else {
            shown["certificate"] = json!(issued.pem);
            shown["chain"] = json!(ca.pem());
            if let Some(key) = &issued.key_pem {
                shown["private_key"] = json!(key);
            }
            return output::print(self.global.output, &shown, || {
                format!("{}{}", issued.pem, issued.key_pem.as_deref().unwrap_or_default())
            });
        };
        make_data_dir(out)?;
        let mut files = vec![(format!("{device}.pem"), issued.pem.as_str()), ("ca.pem".to_owned(), ca.pem())];
        files.extend(issued.key_pem.as_deref().map(|key| (format!("{device}.key"), key)));
        for (name, content) in &files {
            write_private(&out.join(name), content.as_bytes())?;
        }
        let paths: Vec<String> = files.iter().map(|(name, _)| out.join(name).display().to_string()).collect();
        shown["files"] = json!(paths);
        output::print(self.global.output, &shown, || {
            format!("{}\n(serial {}, until {})\n", paths.join("\n"), issued.facts.serial, issued.facts.not_after)
        })
    }

    fn keep(&self, issued: &Issued, device: Option<DeviceId>, follows: Option<&str>) -> anyhow::Result<()> {
        let row = Certificate::new(issued.pem.clone(), issued.facts.clone(), device, LOCAL.to_owned(), self.now);
        let of = row.device.as_ref().map_or("this server", DeviceId::as_str).to_owned();
        match self.store.issue_certificate(&row, follows).context("cannot store the certificate")? {
            Issuance::Kept => {}
            Issuance::NoDevice => bail!("there is no device {of}; register it first (iot-meter device add {of})"),
            Issuance::Disabled => bail!("the device {of} is disabled; make it active first"),
            Issuance::Revoked => {
                bail!("{} was revoked: its key is not to be trusted any more", follows.unwrap_or("it"))
            }
            Issuance::TooMany => bail!(
                "{of} has {MAX_GOOD_CERTIFICATES} certificates that are good; revoke those it does not use any more \
                 (iot-meter pki list --device {of})"
            ),
        }
        note(&self.store, "certificate.issue", &row.serial, of, self.now)
    }

    fn revoke(&self, args: &RevokeArgs) -> anyhow::Result<()> {
        let revocation = Revocation { at: self.now, by: LOCAL.to_owned(), reason: args.reason.clone() };
        let mut is_known = true;
        let serials = match (&args.serial, &args.device) {
            (Some(serial), _) => {
                // One that is not known here is one that the authority's key has signed elsewhere.
                let until = OwnCa::at(&self.dir()).not_after()?;
                let revoked = self.store.revoke_certificate(serial, &revocation, until);
                let revoked = revoked.context("cannot revoke the certificate")?;
                let revoked = revoked.with_context(|| format!("there is no certificate {serial}"))?;
                is_known = revoked.is_known();
                vec![revoked.serial]
            }
            (None, Some(device)) => {
                let device = device_id(device)?;
                self.store.revoke_certificates_of(&device, &revocation).context("cannot revoke the certificates")?
            }
            (None, None) => Vec::new(),
        };
        for serial in &serials {
            note(&self.store, "certificate.revoke", serial, args.reason.clone(), self.now)?;
        }
        output::print(self.global.output, &json!({"revoked": serials}), || {
            let remark = if is_known { "" } else { " (it was not issued here: look whether the number is right)" };
            serials.iter().map(|serial| format!("{serial} is revoked{remark}\n")).collect()
        })
    }

    fn list(&self, device: Option<&str>, expiring_within_days: Option<u32>) -> anyhow::Result<()> {
        let soon = |days: u32| self.now.plus(Duration::from_secs(u64::from(days) * 86_400));
        let filter = CertificateFilter {
            device: device.map(device_id).transpose()?,
            id_prefix: None,
            expiring: expiring_within_days.map(|days| (self.now, soon(days))),
        };
        let (mut all, mut behind) = (Vec::new(), None);
        loop {
            let part =
                self.store.certificates(&filter, Page::behind(behind, 500)).context("cannot list certificates")?;
            all.extend(part.items);
            behind = part.next;
            if behind.is_none() {
                break;
            }
        }
        let shown: Vec<Value> = all.iter().map(|certificate| to_json(certificate, self.now)).collect();
        output::print(self.global.output, &shown, || listed(&all, self.now))
    }
}

fn serial(text: &str) -> Result<String, String> {
    serial_of(text).ok_or_else(|| "is not a serial number: up to 40 hexadecimal digits".to_owned())
}

fn state(certificate: &Certificate, now: Timestamp) -> &'static str {
    match &certificate.revocation {
        Some(_) => "revoked",
        None if now > certificate.not_after => "expired",
        None => "valid",
    }
}

fn to_json(certificate: &Certificate, now: Timestamp) -> Value {
    let revocation = certificate.revocation.as_ref();
    json!({
        "serial": certificate.serial,
        "device_id": certificate.device.as_ref().map(DeviceId::as_str),
        "state": state(certificate, now),
        "not_before": certificate.not_before.to_string(),
        "not_after": certificate.not_after.to_string(),
        "fingerprint": certificate.fingerprint,
        "issued_at": certificate.issued_at.to_string(),
        "issued_by": certificate.issued_by,
        "revoked_at": revocation.map(|r| r.at.to_string()),
        "revoked_by": revocation.map(|r| r.by.as_str()),
        "revoke_reason": revocation.map(|r| r.reason.as_str()),
    })
}

fn listed(certificates: &[Certificate], now: Timestamp) -> String {
    let row = |c: &Certificate| {
        let nobody = if c.is_known() { "(server)" } else { "(unknown)" };
        let whose = c.device.as_ref().map_or(nobody, DeviceId::as_str).to_owned();
        let (end, by) = (c.not_after.to_string(), c.issued_by.clone());
        vec![c.serial.clone(), whose, state(c, now).to_owned(), end, by]
    };
    let head = ["SERIAL", "DEVICE", "STATE", "UNTIL", "ISSUED BY"];
    output::table(&head, &certificates.iter().map(row).collect::<Vec<_>>())
}
