//! SUBSCRIBE: each filter is judged, told to the hub and answered.
//!
//! Invariant: what one packet costs is bounded by the subscriptions a session may have, however often it names a filter.
//! One that is named again counts where it came first, as it was said last, and brings its retained messages once.

use std::collections::HashMap;

use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::connection::{Connection, ready};
use super::refusals::Action;
use super::rules;
use crate::mqtt::packet::{Filter, SubscribeOptions, SubscriptionId};
use crate::mqtt::session::Subscription;
use crate::mqtt::{Packet, PacketId, Reason};

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<S> {
    /// Decides all filters of a packet and answers each `[MQTT-3.8.4-6]`.
    pub(super) fn subscribe(&mut self, packet_id: PacketId, filters: &[Filter], id: Option<SubscriptionId>) {
        let last: HashMap<&str, SubscribeOptions> = filters.iter().map(|f| (&*f.filter, f.options)).collect();
        let mut refusals: HashMap<&str, Option<Reason>> = HashMap::with_capacity(last.len());
        let mut reasons = Vec::with_capacity(filters.len());
        for Filter { filter, options } in filters {
            let subscription = Subscription { options: last.get(&**filter).copied().unwrap_or(*options), id };
            let refusal = *refusals.entry(&**filter).or_insert_with(|| self.decide(filter, subscription));
            if refusal.is_some() {
                self.shared.count(|c| &c.refused_subscriptions);
            }
            reasons.push(refusal.unwrap_or(Reason::granted(options.qos)));
        }
        let refused = reasons.iter().find(|r| r.is_error());
        let reason_string = refused.filter(|_| self.session.start().wants_reasons).map(|r| rules::explain(*r).into());
        self.send(&Packet::SubAck { packet_id, reasons, reason_string }); // [MQTT-3.8.4-1]
    }

    /// Why a filter is not granted; `None` = it is.
    fn decide(&mut self, filter: &ByteString, subscription: Subscription) -> Option<Reason> {
        let refusal = rules::refuse_subscription(&self.shared.options, &self.identity, filter).or_else(|| {
            let now = Instant::now().into_std();
            let is_granted = self.shared.hub.subscribe(&self.slot, &mut self.session, filter, subscription, now);
            (!is_granted).then_some(Reason::QuotaExceeded)
        });
        match refusal {
            None => self.events.extend(ready(filter)),
            Some(Reason::NotAuthorized) => self.note_refused(Action::Subscribe, filter),
            Some(_) => {}
        }
        refusal
    }
}
