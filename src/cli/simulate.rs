//! `simulate`: a fleet of meters over real MQTT.

use std::process::ExitCode;

use clap::Args;

use super::global::{ApiArgs, Global};

/// Simulate a fleet of meters that speaks the whole meter protocol
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter simulate --devices 100                                   meters of all kinds at mqtt://127.0.0.1:1883
  iot-meter simulate --devices 10 --profile ac15 --duration 60 --seed 7
  iot-meter simulate --broker mqtt://10.0.0.1 --broker mqtt://10.0.0.2 --api http://10.0.0.1:8080 --key iotm_…
  iot-meter simulate --faults drop=0.01,dup=0.02,reorder=0.01,reboot=0.001,clock=0.001")]
pub(super) struct SimulateArgs {
    /// How many meters
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) devices: u32,
    /// Their line
    #[arg(long, default_value = "mix", value_parser = ["dc750", "dc1500", "dc3000", "ac15", "ac25", "mix"])]
    pub(super) profile: String,
    /// Broker; repeat it and every meter sends every message to each (up to 5)
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    pub(super) broker: Vec<String>,
    /// Real seconds to run [default: until stopped]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) duration: Option<u64>,
    /// How much faster than real the meters live, 0.1 to 1000
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub(super) speed: f64,
    /// The same seed gives the same trains, values and faults
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Faults on the way, each with its probability a message: drop, dup, reorder, reboot, clock
    #[arg(long, value_name = "NAME=P,…", default_value = "")]
    pub(super) faults: String,
    /// Meters are called PREFIX-PROFILE-0001 and so on
    #[arg(long, default_value = "sim")]
    pub(super) prefix: String,
    /// MQTT password of meters that have no token of their own
    #[arg(long)]
    pub(super) password: Option<String>,
    /// With --api (and a key, unless the server is open) the meters are registered first and get their tokens
    #[command(flatten)]
    pub(super) api: ApiArgs,
}

pub(super) fn run(_args: SimulateArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    anyhow::bail!("the simulator is not part of this build yet")
}
