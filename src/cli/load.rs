//! `load`: as many datagrams as possible, or at a rate, and the proof that what was acknowledged is stored.

use std::process::ExitCode;

use clap::Args;

use super::global::{ApiArgs, Global};

/// Load a broker with datagrams, measure acknowledgements, and check that all acknowledged ones are stored
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter load --connections 50 --duration 10                 as fast as the broker acknowledges
  iot-meter load --rate 20000 --duration 60 --qos 1
  iot-meter load --messages 1000000 --window 100 --output json

Prints acknowledged/s and the acknowledgement latency (p50, p95, p99, max), then asks the API for what is stored.
Exit code 1 when an acknowledged datagram is not stored, or is stored twice.")]
pub(super) struct LoadArgs {
    /// Broker
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    pub(super) broker: String,
    /// Connections, each a meter
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) connections: u32,
    /// Quality of service of the datagrams
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(super) qos: u8,
    /// Unacknowledged datagrams of a connection at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) window: u16,
    /// Datagrams a second over all connections [default: as fast as they are acknowledged]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rate: Option<u64>,
    /// Seconds to send
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) duration: u64,
    /// Datagrams to send instead of a duration
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) messages: Option<u64>,
    /// Sample times a datagram, each a voltage and a current
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) samples: u32,
    /// Meters are called PREFIX-0001 and so on
    #[arg(long, default_value = "load")]
    pub(super) prefix: String,
    /// Do not ask the API afterwards
    #[arg(long)]
    pub(super) no_verify: bool,
    #[command(flatten)]
    pub(super) api: ApiArgs,
}

pub(super) fn run(_args: LoadArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    anyhow::bail!("the load generator is not part of this build yet")
}
