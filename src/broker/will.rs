//! The last will takes the way of any publish: a meter's goes to the journal first, then to subscribers.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::auth::Identity;
use crate::journal::{Entry, Flags};
use crate::mqtt::packet::Will;
use crate::payload::parse_topic;

/// How long the end of a connection waits for its will, so that it comes before what the client says on its next
/// connection. Afterwards the will goes on by itself (the journal is full).
const PATIENCE: Duration = Duration::from_secs(2);

/// Publishes the will `[MQTT-3.1.2-8]`.
pub(super) async fn fire(shared: &Arc<Shared>, identity: Identity, will: Will) {
    let (done_tx, done) = tokio::sync::oneshot::channel::<()>();
    let this = Arc::clone(shared);
    shared.spawn(async move {
        publish(&this, &identity, &will).await;
        drop(done_tx);
    });
    let _ = tokio::time::timeout(PATIENCE, done).await;
}

async fn publish(shared: &Shared, identity: &Identity, will: &Will) {
    if parse_topic(&will.topic).is_some() {
        let entry = Entry {
            received_at: shared.clock.now(),
            topic: &will.topic,
            identity: identity.name(),
            content_type: "",
            flags: Flags { qos: will.qos.level(), retain: will.retain, dup: false },
            payload: &will.payload,
        };
        let mut durable = shared.intake.durable();
        let mut stop = shared.stop.subscribe();
        let stored = async {
            let end = shared.intake.append(&[entry]).await.ok()?;
            durable.wait_for(|mark| *mark >= end).await.ok().map(|_| ())
        };
        let is_stored = tokio::select! {
            stored = stored => stored.is_some(),
            _ = stop.changed() => false,
        };
        if !is_stored {
            return;
        }
        shared.count(|c| &c.meter_messages);
    }
    shared.count(|c| &c.wills_fired);
    shared.hub.publish(&will.topic, &will.payload, will.qos, will.retain, &mut Vec::new());
}
