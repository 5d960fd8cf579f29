//! A broker that is not ours, inside this process: `rumqttd`. It cannot be stopped and ends with the tests.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

use super::{Client, Connect, eventually};

/// Where it listens, for each version of the protocol.
#[derive(Clone, Copy)]
pub struct Foreign {
    pub v4: SocketAddr,
    pub v5: SocketAddr,
}

/// A port that nobody listens on and that the system gives to nobody: outside the range of the ephemeral ones.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = (std::process::id() as u16).wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], 12_000 + offset % 18_000));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn server(name: &str, listen: SocketAddr) -> HashMap<String, ServerSettings> {
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 1 << 20,
        max_inflight_count: 100,
        auth: Some(HashMap::from([("bridge".to_owned(), "secret".to_owned())])),
        external_auth: None,
        dynamic_filters: false,
    };
    let settings =
        ServerSettings { name: name.to_owned(), listen, tls: None, next_connection_delay_ms: 1, connections };
    HashMap::from([(name.to_owned(), settings)])
}

impl Foreign {
    /// Where one could be; nobody is there.
    pub fn nowhere() -> Self {
        Self { v4: free_port(), v5: free_port() }
    }

    /// Starts it there.
    pub fn start(self) -> Self {
        let router = RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: 10 << 20,
            max_segment_count: 10,
            ..RouterConfig::default()
        };
        let (v4, v5) = (Some(server("v4", self.v4)), Some(server("v5", self.v5)));
        let mut broker = Broker::new(Config { router, v4, v5, ..Config::default() });
        std::thread::spawn(move || broker.start().unwrap());
        for address in [self.v4, self.v5] {
            eventually("the other broker listens", || std::net::TcpStream::connect(address).is_ok());
        }
        self
    }

    /// Connects a meter; it also says whether the broker had its session.
    pub fn meter(&self, client_id: &str) -> Client {
        // A keep-alive of 0 is refused.
        let how = Connect { keep_alive_s: 60, ..Connect::id(client_id).login("bridge", "secret") };
        Client::connect(self.v4, &how).0
    }
}
