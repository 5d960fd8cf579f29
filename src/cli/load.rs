//! `load`: as many datagrams as possible, or at a rate, and the proof that what was acknowledged is stored.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::global::{ApiArgs, Global, TlsArgs};
use super::output;
use super::runtime::{self, StopSignal};
use crate::config::Secret;
use crate::load::{self, Options, Pace, Qos, Report};
use crate::simulate::BrokerUrl;

/// Load a broker with datagrams, measure acknowledgements, and check that all acknowledged ones are stored
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter load --connections 50 --duration 10                 as fast as the broker acknowledges
  iot-meter load --rate 20000 --duration 60 --qos 1
  iot-meter load --messages 1000000 --window 100 --output json
  iot-meter load --broker mqtts://localhost:8883 --ca data/pki/ca.pem --connections 1000   handshakes a second, too

Prints connects/s, acknowledged/s and the acknowledgement latency (p50, p95, p99, max), then asks the API for what is stored.
Exit code 1 when an acknowledged datagram is not stored, or is stored twice.")]
pub(super) struct LoadArgs {
    /// Broker; mqtts://host:port in TLS
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    broker: BrokerUrl,
    /// Connections, each a meter
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Quality of service of the datagrams
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Unacknowledged datagrams of a connection at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Datagrams a second over all connections [default: as fast as they are acknowledged]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Seconds to send [default: 10, unless --messages is given]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    duration: Option<u64>,
    /// Datagrams to send in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Meters are called PREFIX-0001 and so on
    #[arg(long, default_value = "load")]
    prefix: String,
    /// MQTT password of meters that have no token of their own
    #[arg(long)]
    password: Option<Secret>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Neither register the meters nor ask the API afterwards
    #[arg(long)]
    no_verify: bool,
    #[command(flatten)]
    api: ApiArgs,
}

impl LoadArgs {
    fn options(&self, global: &Global, show_progress: bool) -> anyhow::Result<Options> {
        let by_default = self.messages.is_none().then_some(10);
        Ok(Options {
            broker: self.broker.clone(),
            connections: usize::try_from(self.connections)?,
            qos: Qos::from_level(self.qos).context("the level was checked to be 0, 1 or 2")?,
            window: self.window,
            // Beyond 2^53 a second nobody notices the rounding.
            pace: self.rate.map_or(Pace::Window, |rate| Pace::Rate(rate as f64)),
            duration: self.duration.or(by_default).map(Duration::from_secs),
            count: self.messages,
            api: if self.no_verify { None } else { self.api.access_or_local(global)? },
            tls: self.tls.files(&self.api),
            password: self.password.clone(),
            prefix: self.prefix.clone(),
            is_progress_shown: show_progress,
            ..Options::default()
        })
    }
}

pub(super) fn run(args: LoadArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let options = args.options(global, true)?;
    let report = runtime::block_on(async move {
        let stop = StopSignal::take()?.watched();
        Ok(load::run(options, stop).await?)
    })?;
    output::print(global.output, &report, || describe(&report))?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(report: &Report) -> String {
    let mut text = format!(
        "{} sent, {} acknowledged in {:.1} s: {:.0}/s at QoS {} over {} connections\n",
        report.sent, report.acknowledged, report.elapsed_s, report.acknowledged_per_s, report.qos, report.connections
    );
    if let Some(c) = report.connects {
        text.push_str(&format!(
            "{} connects, {:.0}/s at first; ms: p50 {:.2}, p95 {:.2}, p99 {:.2}, max {:.2}\n",
            c.count, c.first_per_s, c.latency.p50_ms, c.latency.p95_ms, c.latency.p99_ms, c.latency.max_ms
        ));
    }
    if let Some(l) = report.latency {
        text.push_str(&format!(
            "acknowledged after ms: p50 {:.2}, p95 {:.2}, p99 {:.2}, max {:.2}\n",
            l.p50_ms, l.p95_ms, l.p99_ms, l.max_ms
        ));
    }
    text.push_str(&format!(
        "{} unacknowledged, {} sent again, {} connections lost, {} connects failed\n",
        report.unacknowledged, report.retransmitted, report.lost_connections, report.connect_failures
    ));
    match report.verification {
        Some(v) => text.push_str(&format!(
            "stored: {} of {} devices; acknowledged and missing: {}; stored twice: {}; stored though not acknowledged: {}\n",
            v.stored, v.devices, v.missing, v.duplicated, v.unacknowledged_but_stored
        )),
        None => text.push_str("not verified: the store was not asked\n"),
    }
    text
}
