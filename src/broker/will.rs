//! The last will takes the way of any publish: a meter's goes to the journal first, then to subscribers.
//!
//! Invariants: a will that waits for its time is in its session and nowhere else, no task waits with it; one of a client
//! that only the process before has judged goes out only if that client still might leave it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::auth::{Denied, Identity};
use super::slot::Slot;
use super::{Shared, acl};
use crate::journal::{Entry, Flags};
use crate::mqtt::packet::Will;
use crate::mqtt::{Publish, Session};
use crate::payload::parse_topic;

/// How long the end of a connection waits for its will, so that it comes before what the client says on its next
/// connection. Afterwards the will goes on by itself (the journal is full).
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes a waiting will takes beside its texts.
const OVERHEAD: usize = 512;

/// Publishes the will `[MQTT-3.1.2-8]`. While the journal is full clients come, hear nothing, and go, again and again: what
/// waits is bounded, and a will for which there is no room goes unsaid.
pub(super) async fn fire(shared: &Arc<Shared>, identity: Identity, will: Will) {
    let until = tokio::time::Instant::now() + PATIENCE;
    let room = Arc::clone(&shared.will_room).acquire_many_owned(bytes(shared, &will));
    let Ok(Ok(room)) = tokio::time::timeout_at(until, room).await else {
        shared.count(|c| &c.wills_dropped);
        return;
    };
    let (done_tx, done) = tokio::sync::oneshot::channel::<()>();
    let this = Arc::clone(shared);
    shared.spawn(async move {
        publish(&this, &identity, will).await;
        drop((room, done_tx));
    });
    let _ = tokio::time::timeout_at(until, done).await;
}

/// What a will takes while it waits; no more than there is room for at all.
fn bytes(shared: &Shared, will: &Will) -> u32 {
    let bytes = (will.topic.len() + will.payload.len() + OVERHEAD).min(shared.options.max_waiting_will_bytes);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Publishes the wills of offline sessions that are due (MQTT 5 section 3.1.3.2.2), and waits for none of them.
pub(super) async fn fire_due(shared: &Arc<Shared>, offline: &[Arc<Slot>], now: Instant) {
    let mut can_judge = true;
    for slot in offline {
        if shared.is_stopping() {
            return;
        }
        if slot.with_session(|session| has_due(session, now)) != Some(true) {
            continue;
        }
        if slot.is_unjudged() {
            // While the store is away it is asked once a round; these wills wait for it.
            can_judge = can_judge && judge(shared, slot).await;
            if !can_judge {
                continue;
            }
        }
        let mut room = None;
        let will = slot.with_session(|session| {
            let will = session.start().will.as_ref().filter(|_| has_due(session, now))?;
            // Without room it waits where it is.
            room = Some(Arc::clone(&shared.will_room).try_acquire_many_owned(bytes(shared, will)).ok()?);
            session.take_will()
        });
        if let Some(will) = will.flatten() {
            shared.hub.changes.mark(slot);
            let (this, identity) = (Arc::clone(shared), slot.identity.clone());
            shared.spawn(async move {
                publish(&this, &identity, will).await;
                drop(room);
            });
        }
    }
}

fn has_due(session: &Session, now: Instant) -> bool {
    session.start().will.is_some() && session.will_due().is_some_and(|due| due <= now)
}

/// Judges a client that only the process before has judged: of one that is gone the session ends, and a will that it may
/// not leave any more goes unsaid. `false` = that cannot be found out now.
async fn judge(shared: &Shared, slot: &Arc<Slot>) -> bool {
    let denied = match shared.authenticator.recall(&slot.identity).await {
        Ok(identity) => {
            let forbidden = slot.with_session(|session| {
                let may = |will: &Will| acl::may_will(&identity, &will.topic);
                let is_forbidden = slot.is_unjudged() && !session.start().will.as_ref().is_none_or(may);
                if is_forbidden { session.take_will() } else { None }
            });
            if forbidden.flatten().is_none() {
                return true;
            }
            shared.hub.changes.mark(slot);
            Denied::NotAuthorized
        }
        Err(Denied::Unavailable) => return false,
        Err(denied) => {
            shared.hub.remove_if(slot, |_| slot.is_unjudged());
            denied
        }
    };
    let device_id = slot.identity.name();
    tracing::info!(client_id = &*slot.client_id, device_id, reason = %denied, "a last will is not published");
    true
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
