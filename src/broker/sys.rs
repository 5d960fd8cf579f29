//! The `$SYS` tree: figures of the broker as retained messages, by the names other brokers use.
//!
//! They are published while somebody is subscribed to them or may come to be; who may read them is `acl`'s matter.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, Stats};
use crate::mqtt::{Publish, QoS};

/// Between two sets of figures.
const PERIOD: Duration = Duration::from_secs(10);

/// Publishes until the broker stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let started = tokio::time::Instant::now();
    let mut last: Vec<(&'static str, String)> = Vec::new();
    loop {
        let now = tokio::time::Instant::now();
        let figures = figures(&shared.hub.stats(), (now - started).as_secs());
        for (name, value) in figures.iter().filter(|figure| !last.contains(figure)) {
            let publish = Publish {
                topic: format!("$SYS/broker/{name}").into(),
                payload: value.clone().into(),
                retain: true,
                qos: QoS::AtMostOnce,
                ..Publish::default()
            };
            shared.hub.publish(None, &publish, now.into_std(), &mut Vec::new());
        }
        last = figures;
        if tokio::time::timeout(PERIOD, stop.wait_for(|stops| *stops)).await.is_ok() {
            return;
        }
    }
}

fn figures(stats: &Stats, uptime_s: u64) -> Vec<(&'static str, String)> {
    let dropped = stats.dropped_qos0 + stats.dropped_queued + stats.dropped_expired + stats.dropped_too_large;
    vec![
        ("version", format!("iot-meter {}", env!("CARGO_PKG_VERSION"))),
        ("uptime", format!("{uptime_s} seconds")),
        ("clients/connected", stats.connections.to_string()),
        ("clients/disconnected", stats.sessions.saturating_sub(stats.connections).to_string()),
        ("clients/total", stats.sessions.to_string()),
        ("subscriptions/count", stats.subscriptions.to_string()),
        ("retained messages/count", stats.retained.to_string()),
        ("store/messages/count", stats.queued.to_string()),
        ("store/messages/bytes", stats.queued_bytes.to_string()),
        ("messages/received", stats.publishes_in.to_string()),
        ("messages/sent", stats.publishes_out.to_string()),
        ("publish/messages/received", stats.publishes_in.to_string()),
        ("publish/messages/sent", stats.publishes_out.to_string()),
        ("publish/messages/dropped", dropped.to_string()),
        ("bytes/received", stats.bytes_in.to_string()),
        ("bytes/sent", stats.bytes_out.to_string()),
    ]
}
