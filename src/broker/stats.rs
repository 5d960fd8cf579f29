//! The broker's figures: counted by atomics where things happen, read by the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Totals since the start.
        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub(super) $name: AtomicU64,)+ }

        /// Figures of one moment: gauges, then totals since the start.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Stats {
            /// Clients connected (accepted CONNECT).
            pub connections: u64,
            /// Sessions, connected or not.
            pub sessions: u64,
            /// Subscriptions of all sessions.
            pub subscriptions: u64,
            /// Messages in flight to connected subscribers: sent at QoS 1 or 2 and not yet complete.
            pub inflight: u64,
            /// Messages waiting for subscribers.
            pub queued: u64,
            /// Bytes of these.
            pub queued_bytes: u64,
            /// Retained messages.
            pub retained: u64,
            /// Bytes of these.
            pub retained_bytes: u64,
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            pub(super) fn totals(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)+ ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Bytes read from clients.
    bytes_in,
    /// Bytes written to clients.
    bytes_out,
    /// PUBLISH packets taken from clients (repetitions of QoS 2 not counted).
    publishes_in,
    /// Of these, messages of meters given to the journal.
    meter_messages,
    /// PUBLISH packets written to clients.
    publishes_out,
    /// Messages dropped at QoS 0 because a subscriber's queue was full.
    dropped_qos0,
    /// Messages dropped at QoS 1 or 2 because a subscriber's queue was full.
    dropped_queued,
    /// Messages not delivered because they had expired.
    dropped_expired,
    /// Messages not delivered because the client takes no packets of their size.
    dropped_too_large,
    /// Messages the client has answered with a refusal.
    dropped_refused,
    /// Messages not retained because the store was full.
    retained_refused,
    /// Connections accepted by the listeners.
    accepted,
    /// Connections closed at once because there were too many.
    refused_connection_limit,
    /// Connections closed at once because there were too many of their address.
    refused_address_limit,
    /// Connections closed at once because their address connects too often.
    refused_address_rate,
    /// Connections without a good TLS handshake.
    refused_tls,
    /// Connections without a good WebSocket handshake.
    refused_websocket,
    /// Connections that had to wait before they could log in.
    connects_delayed,
    /// New certificates taken from their files while running.
    tls_reloads,
    /// Looks at the files of the certificate that found no good one.
    tls_reload_failures,
    /// CONNECTs refused because there were too many sessions.
    refused_session_limit,
    /// Connections without a whole CONNECT in time.
    refused_connect_timeout,
    /// CONNECTs of another protocol version.
    refused_version,
    /// CONNECTs with an unacceptable client id.
    refused_client_id,
    /// CONNECTs with an unknown user name or a wrong password.
    refused_credentials,
    /// CONNECTs of clients (or with wills) that are not allowed.
    refused_not_authorized,
    /// CONNECTs that could not be judged.
    refused_unavailable,
    /// CONNECTs with a will larger than the limit.
    refused_will_size,
    /// Publishes answered with a refusal (MQTT 5; 3.1.1 closes).
    refused_publishes,
    /// Subscriptions answered with a refusal.
    refused_subscriptions,
    /// Connections closed for a malformed packet or one out of place.
    closed_malformed,
    /// Connections closed for a publish that is not allowed.
    closed_not_allowed,
    /// Connections closed for silence beyond the keep-alive.
    closed_keep_alive,
    /// Connections closed because the client took no data.
    closed_stalled,
    /// Connections closed because the client connected again.
    closed_taken_over,
    /// Connections closed because their certificate was revoked, or has expired.
    closed_certificate,
    /// Last wills published.
    wills_fired,
    /// Last wills that went unsaid, as too many waited for the journal.
    wills_dropped,
}
