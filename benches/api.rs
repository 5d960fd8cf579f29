//! The REST API under the load of `tests/performance/scenario.json`, over a demo fleet: the 95th percentile of each kind of
//! call beside its limit. `tests/performance/api.js` is the same for k6.
//!
//! `cargo bench --bench api [-- [seconds] [--enforce]]`; with `--enforce` (`make performance`) a limit that is not kept is an error,
//! as k6 takes it. Clients and server share the machine and the process.

#[path = "../tests/performance/harness.rs"]
mod harness;

use std::time::{Duration, Instant};

use anyhow::ensure;
use iot_meter::config::{self, Flag, Sources};
use iot_meter::domain::Clock;
use iot_meter::serve::{self, Start};
use iot_meter::store::{DeviceFilter, Page};

const DEVICES: u32 = 20;

fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().skip(1).find_map(|a| a.parse().ok());
    let is_enforced = std::env::args().any(|a| a == "--enforce");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let flag = |key: &str, value: &str| Flag { flag: key.into(), key: key.into(), value: value.into() };
    let flags = vec![
        flag("data_dir", &dir.path().display().to_string()),
        flag("http.listen", "127.0.0.1:0"),
        flag("mqtt.listen", "127.0.0.1:0"),
        flag("mqtt.tls_listen", "off"),
    ];
    let settings = config::load(&Sources { flags, ..Sources::default() })?.settings;
    let running =
        runtime.block_on(serve::start(Start { settings, open: true, clock: Clock::system(), demo: DEVICES }))?;
    let devices = fleet(&running)?;
    let url = format!("http://{}", running.addresses().http);
    let time = seconds.map(Duration::from_secs_f64);
    let report = harness::run(&harness::Load { url: &url, devices: &devices, clients: None, time });
    print!("{report}");
    runtime.block_on(running.stop())?;
    ensure!(report.is_good(), "more requests failed than may");
    let over = report.over();
    ensure!(!is_enforced || over.is_empty(), "slower than they may be: {}", over.join(", "));
    Ok(())
}

/// The ids of the fleet, once all of it has said hello.
fn fleet(running: &serve::Running) -> anyhow::Result<Vec<String>> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let known = running.store().devices(&DeviceFilter::default(), Page::behind(None, 500))?.items;
        if known.len() >= DEVICES as usize {
            return Ok(known.into_iter().map(|device| device.device_id.to_string()).collect());
        }
        ensure!(Instant::now() < end, "the demo fleet does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
