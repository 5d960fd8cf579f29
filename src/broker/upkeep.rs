//! What passes with time: wills that are due, sessions and retained messages that expire.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, will};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Fires the wills that are due and forgets what has expired, until the broker stops. A will is due at the end of its
/// session at the latest `[MQTT-3.1.3.2.2]`; a session whose will cannot go out yet stays until it can.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let period = PERIOD.min(shared.options.session_expiry / 4).max(Duration::from_millis(50));
    while tokio::time::timeout(period, stop.wait_for(|stops| *stops)).await.is_err() {
        let now = tokio::time::Instant::now().into_std();
        shared.hub.expire_retained(now);
        let offline = shared.hub.offline();
        will::fire_due(&shared, &offline, now).await;
        for slot in &offline {
            shared.hub.remove_if(slot, |session| session.expires_at() <= now && session.start().will.is_none());
        }
    }
}
