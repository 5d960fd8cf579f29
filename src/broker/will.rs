//! The last will takes the way of any publish: a meter's goes to the journal first, then to subscribers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use super::auth::Identity;
use super::slot::Slot;
use crate::journal::{Entry, Flags};
use crate::mqtt::Publish;
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
        publish(&this, &identity, will).await;
        drop(done_tx);
    });
    let _ = tokio::time::timeout(PATIENCE, done).await;
}

/// Publishes the will of an offline session at `due`, unless its client has come back (MQTT 5 section 3.1.3.2.2).
pub(super) fn fire_later(shared: &Arc<Shared>, slot: Arc<Slot>, due: Instant) {
    let this = Arc::clone(shared);
    shared.spawn(async move {
        let mut stop = this.stop.subscribe();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stops| *stops) => return,
            () = tokio::time::sleep_until(due.into()) => {}
        }
        let will =
            slot.with_session(|session| if session.will_due() == Some(due) { session.take_will() } else { None });
        if let Some(will) = will.flatten() {
            this.hub.changes.mark(&slot);
            publish(&this, &slot.identity, will).await;
        }
    });
}

async fn publish(shared: &Shared, identity: &Identity, will: Will) {
    let content_type = will.properties.as_ref().and_then(|p| p.content_type.as_deref()).unwrap_or("");
    if parse_topic(&will.topic).is_some() {
        let entry = Entry {
            received_at: shared.clock.now(),
            topic: &will.topic,
            identity: identity.name(),
            content_type,
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
            _ = stop.wait_for(|stops| *stops) => false,
        };
        if !is_stored {
            return;
        }
        shared.count(|c| &c.meter_messages);
    }
    shared.count(|c| &c.wills_fired);
    let Will { topic, payload, qos, retain, expiry_s, properties, .. } = will;
    let publish = Publish { topic, payload, qos, retain, expiry_s, properties, ..Publish::default() };
    shared.hub.publish(None, &publish, tokio::time::Instant::now().into_std(), &mut Vec::new());
}
