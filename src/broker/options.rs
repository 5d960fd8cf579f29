//! The broker's limits: every collection and every wait has one.

use std::time::Duration;

use super::gate::Rate;
use crate::mqtt::session::Limits;

/// Largest CONNECT, its will's payload aside.
const CONNECT_BYTES: usize = 8 * 1024;

/// Settings of the broker, with their units.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Largest packet a client may send, header included, in bytes.
    pub max_packet_size: usize,
    /// From accepting a connection to a complete, accepted CONNECT.
    pub connect_timeout: Duration,
    /// A client that takes no byte of what is written to it for this long is disconnected.
    pub write_timeout: Duration,
    /// Connections at a time; more are closed at once.
    pub max_connections: usize,
    /// Of these, of one address (IPv6: of one /56); more are closed at once. 0 = no limit.
    pub max_connections_per_address: usize,
    /// How many may log in; more wait for their turn. `None` = no limit.
    pub connect_rate: Option<Rate>,
    /// How many of one address may connect; more are closed at once. `None` = no limit.
    pub address_connect_rate: Option<Rate>,
    /// Largest WebSocket message a client may send, in bytes.
    pub max_ws_message_size: usize,
    /// Sessions at a time, connected or not; CONNECTs that need another are refused with code 3.
    pub max_sessions: usize,
    /// QoS 1 and 2 messages in flight to one client, 1…65535.
    pub max_inflight: usize,
    /// QoS 1 and 2 publishes of one client of MQTT 5 not yet complete, 1…65535; one more ends its connection.
    pub receive_maximum: usize,
    /// Topic aliases in use on one connection, in each direction; MQTT 5.
    pub max_topic_aliases: u16,
    /// Longest topic of a publish, and longest filter, in bytes.
    pub max_topic_length: usize,
    /// Most levels of a topic or filter.
    pub max_topic_levels: usize,
    /// Largest payload of a last will, in bytes.
    pub max_will_bytes: usize,
    /// Longest client id in bytes; every server must take 23 `[MQTT-3.1.3-5]`.
    pub max_client_id_length: usize,
    /// Messages waiting for one session; further ones are dropped and counted.
    pub max_queued_messages: usize,
    /// Bytes waiting for one session; further messages are dropped and counted.
    pub max_queued_bytes: usize,
    /// Messages waiting for all sessions together; the same.
    pub max_total_queued_messages: usize,
    /// Bytes of these; the same.
    pub max_total_queued_bytes: usize,
    /// Publishes of one connection waiting for the journal; at this many its socket is not read (backpressure).
    pub max_pending_messages: usize,
    /// Bytes of these; the same.
    pub max_pending_bytes: usize,
    /// Bytes of last wills that wait for the journal; further ones go unsaid, and are counted.
    pub max_waiting_will_bytes: usize,
    /// Filters one session may be subscribed to; further ones are refused.
    pub max_subscriptions: usize,
    /// The longest a session is kept without a connection; 3.1.1's persistent sessions are kept that long.
    pub session_expiry: Duration,
    /// Retained messages kept; further topics are delivered, not kept, and counted.
    pub max_retained_messages: usize,
    /// Bytes of these.
    pub max_retained_bytes: usize,
    /// The longest keep-alive in seconds, also for clients that ask for none; 0 = no cap. MQTT 5 tells the client; 3.1.1
    /// cannot, so one that asked for more must send something more often than it thinks.
    pub max_keep_alive_s: u16,
    /// Filters refused whoever asks, compared as text.
    pub refused_filters: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_packet_size: 256 << 10,
            connect_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_connections: 20_000,
            max_connections_per_address: 16_000,
            connect_rate: Rate::new(2000, 4000),
            address_connect_rate: Rate::new(500, 16_000),
            max_ws_message_size: 256 << 10,
            max_sessions: 100_000,
            max_inflight: 256,
            receive_maximum: 1024,
            max_topic_aliases: 10,
            max_topic_length: 65_535,
            max_topic_levels: 128,
            max_will_bytes: 8 << 10,
            max_client_id_length: 256,
            max_queued_messages: 1000,
            max_queued_bytes: 4 << 20,
            max_total_queued_messages: 1_000_000,
            max_total_queued_bytes: 256 << 20,
            max_pending_messages: 4096,
            max_pending_bytes: 4 << 20,
            max_waiting_will_bytes: 16 << 20,
            max_subscriptions: 256,
            session_expiry: Duration::from_secs(24 * 3600),
            max_retained_messages: 100_000,
            max_retained_bytes: 64 << 20,
            max_keep_alive_s: 0,
            refused_filters: Vec::new(),
        }
    }
}

impl Options {
    /// Largest CONNECT, header included, in bytes: nobody knows yet who sends it, so it is no more than a will and what
    /// names a client.
    pub(super) fn max_connect_size(&self) -> usize {
        self.max_packet_size.min(self.max_will_bytes + CONNECT_BYTES)
    }

    /// The bounds of one session.
    pub(super) const fn session_limits(&self) -> Limits {
        Limits {
            max_inflight: self.max_inflight,
            receive_maximum: self.receive_maximum,
            topic_aliases: self.max_topic_aliases,
            max_expiry: self.session_expiry,
            max_subscriptions: self.max_subscriptions,
            max_backlog: self.max_retained_messages,
        }
    }

    /// The keep-alive that a client of MQTT 5 is told to hold, where it is not the one it asked for.
    pub(super) const fn imposed_keep_alive(&self, asked_s: u16) -> Option<u16> {
        let is_over = self.max_keep_alive_s > 0 && (asked_s == 0 || asked_s > self.max_keep_alive_s);
        if is_over { Some(self.max_keep_alive_s) } else { None }
    }

    /// The keep-alive to hold a client to; `None` = none.
    pub(super) fn keep_alive(&self, asked_s: u16) -> Option<Duration> {
        let effective = match (asked_s, self.max_keep_alive_s) {
            (asked, 0) => asked,
            (0, cap) => cap,
            (asked, cap) => asked.min(cap),
        };
        (effective > 0).then(|| Duration::from_secs(effective.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keep_alive_cap_holds_for_clients_that_ask_for_none() {
        let check = |asked, cap, expected: Option<u64>| {
            let options = Options { max_keep_alive_s: cap, ..Options::default() };
            assert_eq!(options.keep_alive(asked), expected.map(Duration::from_secs), "{asked} {cap}");
        };
        check(0, 0, None);
        check(15, 0, Some(15));
        check(15, 60, Some(15));
        check(90, 60, Some(60));
        check(0, 60, Some(60));
    }
}
