//! `simulate`: a fleet of meters over real MQTT.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::global::{ApiArgs, Global, TlsArgs};
use super::output;
use super::runtime::{self, StopSignal};
use crate::config::Secret;
use crate::simulate::{self, BrokerUrl, Faults, Options, Report};

/// Simulate a fleet of meters that speaks the whole meter protocol
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter simulate --devices 100                                   meters of all kinds at mqtt://127.0.0.1:1883
  iot-meter simulate --devices 10 --profile ac15 --duration 60 --seed 7
  iot-meter simulate --broker mqtts://a.example --broker mqtts://b.example --ca ca.pem \\
      --api https://a.example:8443 --key iotm_…
  iot-meter simulate --devices 5 --prefix depot7 --api http://127.0.0.1:8080 --claim iotc_…
  iot-meter simulate --broker mqtts://meters.example --ca ca.pem --cert-dir certs      as `pki issue --out certs` makes them
  iot-meter simulate --faults drop=0.01,dup=0.02,reorder=0.01,reboot=0.001,clock=0.001")]
pub(super) struct SimulateArgs {
    /// How many meters
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    devices: u32,
    /// Their line
    #[arg(long, default_value = "mix", value_parser = ["dc750", "dc1500", "dc3000", "ac15", "ac25", "mix"])]
    profile: String,
    /// Broker, mqtts://host:port in TLS; repeat it and every meter sends every message to each (up to 5)
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    broker: Vec<BrokerUrl>,
    /// Real seconds to run [default: until stopped]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    duration: Option<u64>,
    /// How much faster than real the meters live, 0.1 to 1000
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// The same seed gives the same trains, values and faults
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Faults on the way, each with its probability a message: drop, dup, reorder, reboot, clock
    #[arg(long, value_name = "NAME=P,…", default_value = "")]
    faults: Faults,
    /// Meters are called PREFIX-PROFILE-0001 and so on
    #[arg(long, default_value = "sim")]
    prefix: String,
    /// Claim token [default: IOT_METER_CLAIM]: the meters enrol with it themselves (at --api) and judge their commands by
    /// the key they get
    #[arg(long, value_name = "TOKEN", requires = "api")]
    claim: Option<Secret>,
    /// MQTT password of meters that have no token of their own
    #[arg(long)]
    password: Option<Secret>,
    #[command(flatten)]
    tls: TlsArgs,
    /// With --api (and a key, unless the server is open) the meters are registered first and get their tokens; those that
    /// exist already get new ones
    #[command(flatten)]
    api: ApiArgs,
}

fn speed(text: &str) -> Result<f64, String> {
    let factor = text.parse::<f64>().ok().filter(|factor| (0.1..=1000.0).contains(factor));
    factor.ok_or_else(|| "must be 0.1 to 1000".to_owned())
}

impl SimulateArgs {
    fn options(&self, global: &Global) -> anyhow::Result<Options> {
        Ok(Options {
            devices: self.devices,
            profile: self.profile.parse()?,
            brokers: self.broker.clone(),
            duration: self.duration.map(Duration::from_secs),
            speed: self.speed,
            seed: self.seed,
            faults: self.faults,
            api: self.api.access(global)?,
            claim: self.claim.clone().or_else(|| std::env::var("IOT_METER_CLAIM").ok().map(Secret::new)),
            tls: self.tls.files(&self.api),
            password: self.password.clone(),
            prefix: self.prefix.clone(),
            ..Options::default()
        })
    }
}

pub(super) fn run(args: SimulateArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let options = args.options(global)?;
    let report = runtime::block_on(async move {
        let stop = StopSignal::take()?.watched();
        Ok(simulate::run(options, stop).await?)
    })?;
    output::print(global.output, &report, || describe(&report))?;
    anyhow::ensure!(report.connects > 0, "no meter could connect to any of the brokers");
    Ok(ExitCode::SUCCESS)
}

fn describe(report: &Report) -> String {
    let row = |(kind, n): (&&str, &simulate::Counts)| {
        vec![(*kind).to_owned(), n.made.to_string(), n.sent.to_string(), n.acked.to_string()]
    };
    let table = output::table(
        &["MESSAGE", "MADE", "SENT", "ACKNOWLEDGED"],
        &report.messages.iter().map(row).collect::<Vec<_>>(),
    );
    format!(
        "{table}{} meters, {:.1} s, {} connects, {} connections lost, {} commands, {} reboots\n",
        report.devices,
        report.elapsed_s,
        report.connects,
        report.lost_connections,
        report.commands_received,
        report.reboots
    )
}
