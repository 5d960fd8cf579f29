//! SUBSCRIBE: each filter is judged, told to the hub and answered; its retained messages follow.
//!
//! Invariants: what one packet costs is bounded by the subscriptions a session may have, however often it names a filter.
//! One that is named again counts where it came first, as it was said last, and brings its retained messages once. These are
//! looked for in small steps, between which others get their turn, and not further ahead than the client takes them.

use std::collections::HashMap;

use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::connection::Connection;
use super::hub;
use super::refusals::Action;
use super::routes::Awaited;
use super::rules;
use crate::mqtt::packet::{Filter, SubscribeOptions, SubscriptionId};
use crate::mqtt::session::Subscription;
use crate::mqtt::{Packet, PacketId, Reason};

/// Topics that are looked at in one go for retained messages; and how many of these may wait for the client.
const STEPS: usize = 256;
const RETAINED_AHEAD: usize = 256;

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
            let awaited = self.shared.hub.subscribe(&self.slot, &mut self.session, filter, subscription);
            awaited.map(|awaited| self.expect(filter, awaited)).err()
        });
        match refusal {
            None => self.events.extend(hub::ready(&self.identity, filter)),
            Some(Reason::NotAuthorized) => self.note_refused(Action::Subscribe, filter),
            Some(_) => {}
        }
        refusal
    }

    /// Retained messages are looked for anew, if the subscription asks for them.
    fn expect(&mut self, filter: &ByteString, awaited: Option<Awaited>) {
        if let Some(awaited) = awaited {
            self.awaited.retain(|before| before.filter != *filter);
            self.awaited.push_back(awaited);
        }
    }

    /// Whether retained messages are to be looked for now: the client has taken most of those that were found.
    pub(super) fn is_seeking(&self) -> bool {
        !self.awaited.is_empty() && !self.is_stopping && self.session.backlog_len() < RETAINED_AHEAD
    }

    /// Looks for some of them.
    pub(super) fn seek(&mut self) {
        let now = Instant::now().into_std();
        let Some(awaited) = self.awaited.front_mut() else { return };
        if !self.shared.hub.bring(&mut self.session, awaited, STEPS, now) {
            self.awaited.pop_front();
        }
    }
}
