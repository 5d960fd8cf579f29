//! Simulated meters that live until the end of a test.

use iot_meter::simulate::{Error, Options, Profile, Report, run};

/// Meters at work.
pub struct Fleet {
    runtime: tokio::runtime::Runtime,
    running: tokio::task::JoinHandle<Result<Report, Error>>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Fleet {
    /// Quick ones of one kind.
    pub fn start(devices: u32, options: Options) -> Self {
        let options = Options { devices, profile: Profile::Dc750, speed: 20.0, ..options };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let running = runtime.spawn(run(options, stopping));
        Self { runtime, running, stop }
    }

    pub fn stop(self) -> Report {
        self.stop.send(true).unwrap();
        self.runtime.block_on(self.running).unwrap().unwrap()
    }
}
