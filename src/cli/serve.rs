//! `serve`: everything in one process. Here: flags, settings, logging, and the refusal to be open to other machines.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use rustix::process::{Resource, Rlimit};

use super::global::{Global, Output};
use super::runtime::{StopSignal, block_on, heed_log_signals};
use super::{live, output};
use crate::config::{ConfigError, Fault, Flag, Loaded, ServeOptions, Source};
use crate::domain::{Clock, DeviceId};
use crate::observe::log;
use crate::serve::{self, Addresses, CertificateFault, Running, Start};

/// Run everything: broker, collector, API, console and metrics
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter serve --demo 20 --open                     look around: simulated meters, no credentials, this machine only
  iot-meter serve --data-dir /var/lib/iot-meter        with credentials; the first start writes admin.key there
  iot-meter serve --https-listen 0.0.0.0:8443 --set pki.server_names=meters.example     for other machines, in TLS
  iot-meter serve --set retention.telemetry_days=90 --set mqtt.max_connections=50000

Settings come from flags, then the environment, then the file, then defaults; see `iot-meter check-config`.")]
pub(super) struct ServeArgs {
    /// Run this many simulated meters inside, on an otherwise empty data directory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    demo: Option<u32>,
    /// Ask nobody for credentials; refused unless every listener is on loopback, or with =i-understand
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "loopback",
          value_parser = ["loopback", "i-understand"])]
    open: Option<String>,
    /// Where the database is [database.url]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Where the archive is [archive.url]
    #[arg(long, value_name = "URL")]
    archive_url: Option<String>,
    /// Address of the API and the console [http.listen]
    #[arg(long, value_name = "ADDR:PORT")]
    http_listen: Option<String>,
    /// Address of the API and the console in TLS, or off [http.tls_listen]
    #[arg(long, value_name = "ADDR:PORT")]
    https_listen: Option<String>,
    /// Address of the MQTT broker [mqtt.listen]
    #[arg(long, value_name = "ADDR:PORT")]
    mqtt_listen: Option<String>,
    /// Address for MQTT in TLS, or off [mqtt.tls_listen]
    #[arg(long, value_name = "ADDR:PORT")]
    mqtts_listen: Option<String>,
    /// Address for MQTT over WebSocket, or off [mqtt.ws_listen]
    #[arg(long, value_name = "ADDR:PORT")]
    ws_listen: Option<String>,
    /// Address for MQTT over WebSocket in TLS, or off [mqtt.wss_listen]
    #[arg(long, value_name = "ADDR:PORT")]
    wss_listen: Option<String>,
    /// Address of a metrics listener of its own, or off [metrics.listen]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_listen: Option<String>,
    /// Any other setting; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

impl ServeArgs {
    /// The given flags as settings.
    fn flags(&self) -> Vec<Flag> {
        let named = [
            ("--database-url", "database.url", &self.database_url),
            ("--archive-url", "archive.url", &self.archive_url),
            ("--http-listen", "http.listen", &self.http_listen),
            ("--https-listen", "http.tls_listen", &self.https_listen),
            ("--mqtt-listen", "mqtt.listen", &self.mqtt_listen),
            ("--mqtts-listen", "mqtt.tls_listen", &self.mqtts_listen),
            ("--ws-listen", "mqtt.ws_listen", &self.ws_listen),
            ("--wss-listen", "mqtt.wss_listen", &self.wss_listen),
            ("--metrics-listen", "metrics.listen", &self.metrics_listen),
        ];
        let flag = |flag: String, key: &str, value: &str| Flag { flag, key: key.to_owned(), value: value.to_owned() };
        let set = self.set.iter().map(|(key, value)| flag(format!("--set {key}"), key, value));
        let named = named.into_iter().filter_map(|(f, key, value)| Some(flag(f.to_owned(), key, value.as_deref()?)));
        set.chain(named).collect()
    }

    fn options(&self, loaded: &Loaded) -> Result<ServeOptions, ConfigError> {
        if self.open.as_deref() == Some("loopback") {
            refuse_public_listeners(loaded)?;
        }
        check_files(loaded)?;
        if self.open.is_some() && self.demo.is_none() {
            refuse_tls_without_certificate(loaded)?;
        }
        Ok(ServeOptions { settings: loaded.settings.clone(), open: self.open.is_some(), demo: self.demo })
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("write KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// `--open` means that anybody who can connect may do everything: only for this machine.
fn refuse_public_listeners(loaded: &Loaded) -> Result<(), ConfigError> {
    let fault = |(key, addr): (&str, std::net::SocketAddr)| Fault {
        key: key.to_owned(),
        source: loaded.source_of(key),
        message: format!(
            "{addr} can be reached from other machines and --open asks nobody for credentials; listen on loopback, or say --open=i-understand"
        ),
    };
    let faults: Vec<Fault> = loaded.settings.public_listeners().into_iter().map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(ConfigError { faults }) }
}

/// With `--open` the server makes itself no certificate, but for a demo.
fn refuse_tls_without_certificate(loaded: &Loaded) -> Result<(), ConfigError> {
    let needing = serve::needing_certificate(&loaded.settings);
    let Some(key) = needing.filter(|_| loaded.settings.mqtt.tls_cert_file.is_none()) else { return Ok(()) };
    let message = "needs mqtt.tls_cert_file and mqtt.tls_key_file: with --open no certificate is made (but for --demo)"
        .to_owned();
    Err(ConfigError { faults: vec![Fault { key: key.to_owned(), source: loaded.source_of(key), message }] })
}

/// A file of the settings that cannot be used is a fault of the configuration, found before anything starts.
pub(super) fn check_files(loaded: &Loaded) -> Result<(), ConfigError> {
    let fault = |key: &str, message| Fault { key: key.to_owned(), source: loaded.source_of(key), message };
    let mut faults = Vec::new();
    if let Err(CertificateFault { key, source }) = serve::check_certificates(&loaded.settings) {
        faults.push(fault(key, format!("{:#}", anyhow::Error::from(source))));
    }
    if let Some(file) = &loaded.settings.auth.keys_file
        && let Err(error) = std::fs::File::open(file)
    {
        faults.push(fault("auth.keys_file", format!("{}: {error}", file.display())));
    }
    if faults.is_empty() { Ok(()) } else { Err(ConfigError { faults }) }
}

/// Whoever finds a fault of the configuration at the start does not know where the value came from.
fn with_sources(error: anyhow::Error, loaded: &Loaded) -> anyhow::Error {
    match error.downcast::<ConfigError>() {
        Ok(mut config) => {
            for fault in &mut config.faults {
                fault.source = loaded.source_of(&fault.key);
            }
            config.into()
        }
        Err(other) => other,
    }
}

pub(super) fn run(args: ServeArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let loaded = global.load(args.flags())?;
    let options = args.options(&loaded)?;
    log::init(&options.settings.log.level, options.settings.log.format)?;
    for (key, value, source) in loaded.effective.iter().filter(|(_, _, source)| *source != Source::Default) {
        tracing::debug!(key, %value, set_by = %source, "setting");
    }
    raise_open_files(options.settings.mqtt.max_connections + options.settings.http.max_connections);
    let ServeOptions { settings, open, demo } = options;
    block_on(async {
        let mut stop = StopSignal::take()?;
        heed_log_signals()?;
        let start = Start { settings, open, clock: Clock::system(), demo: demo.unwrap_or(0) };
        let key_file = start.settings.data_dir.join("admin.key");
        let running = serve::start(start).await.map_err(|error| with_sources(error, &loaded))?;
        output::print(global.output, &greeting_json(&running)?, || greeting(&running, open, demo, &key_file))?;
        let live = demo.filter(|_| global.output == Output::Text).and_then(|_| DeviceId::parse(DEMO_DEVICE));
        let live = live.map(|device| tokio::spawn(live::show(running.store(), device)));
        let outcome = running.serve(stop.wait()).await;
        if let Some(live) = live {
            live.abort();
        }
        outcome
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Open files beside the connections of clients: segments, the database, listeners.
const OTHER_FILES: u64 = 256;

/// A socket counts as an open file, and many systems allow 1024 until a process asks for more.
fn raise_open_files(max_connections: usize) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = max_connections as u64 + OTHER_FILES;
    let Some(soft) = limit.current.filter(|soft| *soft < wanted) else { return };
    let allowed = limit.maximum.map_or(wanted, |hard| hard.min(wanted));
    let raised = Rlimit { current: Some(allowed), maximum: limit.maximum };
    let now = if rustix::process::setrlimit(Resource::Nofile, raised).is_ok() { allowed } else { soft };
    if now < wanted {
        tracing::warn!(
            allowed = now,
            wanted,
            "fewer open files are allowed than mqtt.max_connections and http.max_connections need"
        );
    }
}

/// For scripts: the addresses, and the admin key when this start made it.
fn greeting_json(running: &Running) -> anyhow::Result<serde_json::Value> {
    let mut value = serde_json::to_value(running.addresses())?;
    if let Some(key) = running.admin_key() {
        value["admin_key"] = key.into();
    }
    Ok(value)
}

/// The first meter of every demo fleet.
const DEMO_DEVICE: &str = "demo-dc750-0001";

/// Where everything is; the admin key, when this start made it, once.
fn greeting(running: &Running, open: bool, demo: Option<u32>, key_file: &Path) -> String {
    let Addresses { http, https, mqtt, mqtts, ws, wss, metrics } = running.addresses();
    let mut text = format!(
        "iot-meter {} is ready{}\n\n  console  http://{http}/\n  API      http://{http}/api  (described at http://{http}/api/docs/)\n  MQTT     mqtt://{mqtt}\n",
        env!("CARGO_PKG_VERSION"),
        if open { ", open to everybody who reaches it" } else { "" },
    );
    for (scheme, address, path) in [("mqtts", mqtts, ""), ("ws", ws, "/mqtt"), ("wss", wss, "/mqtt")] {
        if let Some(address) = address {
            text += &format!("           {scheme}://{address}{path}\n");
        }
    }
    if let Some(https) = https {
        text += &format!("  in TLS   https://{https}/\n");
    }
    if let Some(metrics) = metrics {
        text += &format!("  metrics  http://{metrics}/metrics\n");
    }
    if let Some(key) = running.admin_key() {
        text += &format!("\nThe admin key, shown this once (also in {}):\n\n  {key}\n", key_file.display());
    }
    if let Some(count) = demo {
        let key = format!("-H \"Authorization: Bearer $(cat {})\" ", key_file.display());
        let auth = if open { "" } else { &key };
        let device = DEMO_DEVICE;
        text += &format!(
            "\n{count} simulated meters are connecting. See what they measure:\n\n  curl {auth}http://{http}/api/devices/{device}/latest\n  curl {auth}'http://{http}/api/devices/{device}/metrics?start=-1m&metric=active_power'\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};
    use clap::Parser as _;

    fn parse(args: &[&str]) -> ServeArgs {
        let args = ["iot-meter", "serve"].iter().chain(args);
        match super::super::Cli::try_parse_from(args).expect("good usage").command {
            super::super::Command::Serve(args) => args,
            other => unreachable!("asked for serve, got {other:?}"),
        }
    }

    fn options(args: &[&str]) -> Result<ServeOptions, ConfigError> {
        let args = parse(args);
        args.options(&load(&Sources { flags: args.flags(), working_dir: "/srv".into(), ..Sources::default() })?)
    }

    #[test]
    fn open_is_refused_on_a_listener_that_others_can_reach() {
        assert!(options(&["--open"]).is_ok_and(|o| o.open));
        assert!(!options(&[]).expect("is good").open);
        let public = ["--http-listen", "0.0.0.0:8080", "--metrics-listen", "[::]:9100"];
        let error = options(&[&["--open"], &public[..]].concat()).expect_err("is refused");
        let keys: Vec<_> = error.faults.iter().map(|f| (f.key.as_str(), f.source.to_string())).collect();
        assert_eq!(
            keys,
            [("http.listen", "flag --http-listen".to_owned()), ("metrics.listen", "flag --metrics-listen".to_owned())]
        );
        assert!(options(&[&["--open=i-understand"], &public[..]].concat()).is_ok_and(|o| o.open));
        assert!(options(&public).is_ok_and(|o| !o.open));
    }

    #[test]
    fn open_is_refused_where_a_certificate_opens_the_usual_port_to_others() {
        let files = ["--set", "mqtt.tls_cert_file=/c.pem", "--set", "mqtt.tls_key_file=/k.pem"];
        let error = options(&[&["--open"], &files[..]].concat()).expect_err("is refused");
        let keys: Vec<_> = error.faults.iter().map(|f| (f.key.as_str(), f.source.to_string())).collect();
        assert_eq!(keys, [("mqtt.tls_listen", "default".to_owned())]);
        let error = options(&files).expect_err("there are no such files");
        assert_eq!(error.faults[0].key, "mqtt.tls_cert_file");
        assert!(options(&[&["--mqtts-listen", "off", "--open"], &files[..]].concat()).is_ok(), "nobody needs them");
    }

    #[test]
    fn every_file_that_cannot_be_used_is_a_fault_with_its_source() {
        let files = ["mqtt.tls_cert_file=/no/c.pem", "mqtt.tls_key_file=/no/k.pem", "auth.keys_file=/no/keys"];
        let error = options(&files.map(|file| ["--set", file]).concat()).expect_err("there are no such files");
        let found: Vec<_> = error.faults.iter().map(|f| (f.key.as_str(), f.source.to_string())).collect();
        let source = |key: &str| format!("flag --set {key}");
        let keys = ["mqtt.tls_cert_file", "auth.keys_file"];
        assert_eq!(found, keys.map(|key| (key, source(key))));
        assert!(error.faults[1].message.starts_with("/no/keys: "), "{error}");
    }

    #[test]
    fn a_fault_that_the_start_finds_gets_its_source() {
        let flags = parse(&["--set", "auth.keys_file=/keys"]).flags();
        let loaded = load(&Sources { flags, working_dir: "/srv".into(), ..Sources::default() }).expect("is good");
        let fault = Fault { key: "auth.keys_file".into(), source: Source::Default, message: "line 1 is bad".into() };
        let error = with_sources(ConfigError { faults: vec![fault] }.into(), &loaded);
        let found = error.downcast_ref::<ConfigError>().expect("is one").faults[0].source.to_string();
        assert_eq!(found, "flag --set auth.keys_file");
        assert_eq!(with_sources(anyhow::anyhow!("no room"), &loaded).to_string(), "no room");
    }

    #[test]
    fn only_a_demo_makes_certificates_of_an_open_server() {
        let tls = ["--open", "--mqtts-listen", "127.0.0.1:0"];
        let error = options(&tls).expect_err("there is no certificate");
        assert_eq!(error.faults[0].key, "mqtt.tls_listen");
        assert!(options(&[&tls[..], &["--demo", "2"]].concat()).is_ok_and(|o| o.open));
        let public = ["--open", "--demo", "2", "--mqtts-listen", "0.0.0.0:0"];
        assert_eq!(options(&public).expect_err("others can reach it").faults[0].key, "mqtt.tls_listen");
    }

    #[test]
    fn open_does_not_swallow_the_next_argument() {
        let args = parse(&["--open", "--demo", "20"]);
        assert_eq!((args.open.as_deref(), args.demo), (Some("loopback"), Some(20)));
    }

    #[test]
    fn any_key_is_a_flag_and_the_named_flag_wins() {
        let options =
            options(&["--set", "http.workers=3", "--set", "mqtt.listen=127.0.0.1:1", "--mqtt-listen", "127.0.0.1:2"]);
        let settings = options.expect("is good").settings;
        assert_eq!((settings.http.workers, settings.mqtt.listen.port()), (3, 2));
    }
}
