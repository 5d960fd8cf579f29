//! The real executable, to be killed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::http::Api;

/// A running `iot-meter serve --open`.
pub struct Server {
    child: Child,
    pub api: Api,
    #[allow(dead_code)] // by tests of a feature
    pub http: SocketAddr,
    pub mqtt: SocketAddr,
}

const ANY_PORT: &str = "127.0.0.1:0";

/// The command line of a server on this data directory, on free ports, that asks nobody for credentials.
pub fn command(data_dir: &Path) -> Command {
    command_at(data_dir, ANY_PORT, ANY_PORT)
}

/// The same at these addresses: for a server that comes back to where it was.
pub fn command_at(data_dir: &Path, http: &str, mqtt: &str) -> Command {
    let mut command = closed_at(data_dir, http, mqtt);
    command.arg("--open");
    command
}

/// The command line of a server on this data directory, on free ports, with authentication.
#[allow(dead_code)] // by tests of a feature
pub fn closed(data_dir: &Path) -> Command {
    closed_at(data_dir, ANY_PORT, ANY_PORT)
}

/// The command line of an open server with a demo fleet, with MQTT in TLS at that address.
pub fn demo(data_dir: &Path, meters: u32, mqtts: &str) -> Command {
    let mut command = listening(data_dir, ANY_PORT, ANY_PORT, mqtts);
    command.args(["--open", "--demo", &meters.to_string()]);
    command
}

fn closed_at(data_dir: &Path, http: &str, mqtt: &str) -> Command {
    listening(data_dir, http, mqtt, "off")
}

fn listening(data_dir: &Path, http: &str, mqtt: &str, mqtts: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    command
        .args(["serve", "--http-listen", http, "--mqtt-listen", mqtt, "--mqtts-listen", mqtts, "--data-dir"])
        .arg(data_dir)
        .current_dir(std::env::temp_dir())
        .env("IOT_METER__LOG__LEVEL", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// The environment variable of a setting.
pub fn variable(key: &str) -> String {
    format!("IOT_METER__{}", key.replace('.', "__").to_ascii_uppercase())
}

impl Server {
    /// Starts it and waits until it is ready.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_with(&mut command(data_dir), data_dir)
    }

    /// Starts that command and waits until it is ready.
    pub fn start_with(command: &mut Command, data_dir: &Path) -> Self {
        let server = Self::start_unready(command, data_dir);
        super::eventually("the server is ready", || {
            server.api.try_send("GET", "/readyz", &[], None).is_ok_and(|answer| answer.status == 200)
        });
        server
    }

    /// The same, but not until it is ready.
    pub fn start_unready(command: &mut Command, data_dir: &Path) -> Self {
        let announced = data_dir.join("run/addresses.json");
        let _ = std::fs::remove_file(&announced);
        let mut child = command.spawn().expect("the executable starts");
        let mut found = None;
        super::eventually("the server announces its addresses", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended at its start: {status}");
            }
            found = std::fs::read(&announced).ok().and_then(|b| serde_json::from_slice::<serde_json::Value>(&b).ok());
            found.is_some()
        });
        let found = found.expect("set above");
        let address = |name: &str| found[name].as_str().unwrap().parse::<SocketAddr>().unwrap();
        let http = address("http");
        Self { child, api: Api::new(http, None), http, mqtt: address("mqtt") }
    }

    /// One of several nodes on a database. It is called dead after three seconds of silence.
    #[cfg(feature = "postgres")]
    pub fn start_node(dir: &Path, name: &str, database_url: &str) -> Self {
        Self::start_node_dead_after(3, dir, name, database_url)
    }

    /// The same, after so many seconds.
    #[cfg(feature = "postgres")]
    pub fn start_node_dead_after(seconds: u32, dir: &Path, name: &str, database_url: &str) -> Self {
        let data = dir.join(name);
        let mut command = command(&data);
        command.env("IOT_METER__DATABASE__URL", database_url).env("IOT_METER__NODES__NAME", name);
        command.env("IOT_METER__NODES__HEARTBEAT_S", "1").env("IOT_METER__NODES__TIMEOUT_S", seconds.to_string());
        Self::start_with(&mut command, &data)
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// `kill -STOP`: it does nothing, and keeps what it has.
    #[cfg(feature = "postgres")]
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// `kill -CONT`.
    #[cfg(feature = "postgres")]
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, which: &str) {
        assert!(Command::new("kill").args([which, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// SIGTERM; the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        self.signal("-TERM");
        let mut status = None;
        super::eventually("the server ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("set above").code()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
