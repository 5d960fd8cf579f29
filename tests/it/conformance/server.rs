//! The server under test: this one, with `--open` and the settings the suite needs, or another one by its address.

use std::net::{SocketAddr, ToSocketAddrs};

use iot_meter::config::{self, Flag, Sources};
use iot_meter::domain::Clock;
use iot_meter::serve::{self, Start};

/// A filter nobody may subscribe to.
pub const REFUSED_FILTER: &str = "test/nosubscribe";

/// A running server; stops when dropped.
pub struct Server {
    address: SocketAddr,
    own: Option<Own>,
}

struct Own {
    runtime: tokio::runtime::Runtime,
    running: Option<serve::Running>,
    _dir: tempfile::TempDir,
}

impl Server {
    /// With [`REFUSED_FILTER`] refused.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With further settings.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        if let Ok(address) = std::env::var("CONFORMANCE_ADDRESS") {
            let address = address.to_socket_addrs().ok().and_then(|mut found| found.next());
            return Self { address: address.expect("CONFORMANCE_ADDRESS is host:port"), own: None };
        }
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data").display().to_string();
        let own = [
            ("data_dir", data_dir.as_str()),
            ("http.listen", "127.0.0.1:0"),
            ("mqtt.listen", "127.0.0.1:0"),
            ("mqtt.refused_filters", REFUSED_FILTER),
        ];
        let flag = |&(key, value): &(&str, &str)| Flag { flag: key.into(), key: key.into(), value: value.into() };
        let flags = own.iter().chain(settings).map(flag).collect();
        let settings = config::load(&Sources { flags, ..Sources::default() }).expect("good settings").settings;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let start = Start { settings, open: true, clock: Clock::system(), demo: 0 };
        let running = runtime.block_on(serve::start(start)).unwrap_or_else(|e| panic!("the server starts: {e:#}"));
        let address = running.addresses().mqtt;
        Self { address, own: Some(Own { runtime, running: Some(running), _dir: dir }) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends in good order, as at SIGTERM; clients may watch it.
    pub fn stop(&mut self) {
        let Some(own) = &mut self.own else { return };
        let Some(running) = own.running.take() else { return };
        if let Err(error) = own.runtime.block_on(running.stop())
            && !std::thread::panicking()
        {
            panic!("the server stops: {error:#}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
