//! What passes with time: sessions and retained messages that expire.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, will};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Forgets what has expired until the broker stops. A will that was still waiting goes out with its session
/// `[MQTT-3.1.3.2.2]`.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let period = PERIOD.min(shared.options.session_expiry / 4).max(Duration::from_millis(50));
    while tokio::time::timeout(period, stop.wait_for(|stops| *stops)).await.is_err() {
        let now = tokio::time::Instant::now().into_std();
        shared.hub.expire_retained(now);
        for slot in shared.hub.offline() {
            if let Some(will) = shared.hub.remove_if(&slot, |session| session.expires_at() <= now) {
                will::fire(&shared, slot.identity.clone(), will).await;
            }
        }
    }
}
