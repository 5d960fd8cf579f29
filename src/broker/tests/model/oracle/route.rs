//! Subscriptions, and who must get a message because of them.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::shares::shared_topic;
use super::{CLIENTS, Duty, Kept, Membership, Message, Oracle, Owed, Session};
use crate::mqtt::packet::{RetainHandling, SubscribeOptions};
use crate::mqtt::{QoS, topic};

impl Oracle {
    /// A message is routed. `is_full`: a session has no room for another. Gives whether anybody is subscribed.
    pub(in super::super) fn route(&mut self, message: &Rc<Message>, is_full: impl Fn(usize) -> bool) -> bool {
        self.clock += 1;
        self.note(if message.from.is_some() { "routed" } else { "routed, a will" });
        let expires_at = message.expiry_s.map(|s| self.now + Duration::from_secs(s.into()));
        if message.retain {
            self.keep(message, expires_at);
        }
        let mut is_wanted = false;
        for who in 0..CLIENTS {
            let Some(session) = &self.sessions[who] else { continue };
            is_wanted |= session.subscriptions.keys().any(|filter| topic::matches(filter, message.topic));
            let Some(mut owed) = session.wants(who, message) else { continue };
            owed.expires_at = expires_at;
            let is_lost = owed.qos == QoS::AtMostOnce && !session.is_online;
            if is_lost {
                self.note("not wanted: QoS 0 and nobody there");
            } else if is_full(who) {
                self.note("dropped: full");
            } else {
                self.owe(who, owed);
            }
        }
        let shares: BTreeSet<_> =
            self.members().map(|(_, filter)| filter).filter(|f| shared_topic(f, message.topic)).collect();
        for filter in &shares {
            self.owe_share(filter, message, expires_at);
        }
        is_wanted || !shares.is_empty()
    }

    fn keep(&mut self, message: &Rc<Message>, expires_at: Option<Instant>) {
        self.retained.remove(message.topic);
        if !message.payload.is_empty() && self.retained.len() < self.options.max_retained_messages {
            self.retained.insert(message.topic, Kept { message: Rc::clone(message), expires_at });
        }
    }

    pub(super) fn owe(&mut self, who: usize, owed: Owed) {
        let duty = self.add(owed);
        self.session(who).owed.push(duty);
    }

    pub(super) fn add(&mut self, owed: Owed) -> Duty {
        self.duties.push(owed);
        Duty(self.duties.len() - 1)
    }

    /// A filter of a SUBSCRIBE is granted, or not. `room`: how many more retained messages may wait.
    pub(in super::super) fn subscribe(
        &mut self,
        who: usize,
        filter: &'static str,
        options: SubscribeOptions,
        id: Option<u32>,
        room: &mut usize,
    ) -> bool {
        self.clock += 1;
        let (clock, max) = (self.clock, self.options.max_subscriptions);
        let s = self.session(who);
        let is_new = !s.subscriptions.contains_key(filter);
        if is_new && s.subscriptions.len() >= max {
            self.note("subscription refused");
            return false;
        }
        s.subscriptions.insert(filter, (options, id));
        if filter.starts_with("$share/") && options.qos == QoS::AtMostOnce {
            self.excuse(filter);
        }
        let s = self.session(who);
        if filter.starts_with("$share/") {
            s.memberships.push(Membership { filter, options, id, until: None });
            let len = s.memberships.len();
            s.memberships[..len - 1]
                .iter_mut()
                .filter(|m| m.filter == filter && m.until.is_none())
                .for_each(|m| m.until = Some(clock));
            return true;
        }
        let brings = match options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => is_new,
            RetainHandling::Never => false,
        };
        if brings {
            self.owe_retained(who, filter, options.qos, id, room);
        }
        true
    }

    fn owe_retained(&mut self, who: usize, filter: &str, qos: QoS, id: Option<u32>, room: &mut usize) {
        let now = self.now;
        let is_meant =
            |topic: &str, kept: &Kept| topic::matches(filter, topic) && kept.expires_at.is_none_or(|at| at > now);
        let found = self.retained.iter().filter(|(topic, kept)| is_meant(topic, kept)).take(*room);
        let owed: Vec<_> = found
            .map(|(_, kept)| Owed {
                expires_at: kept.expires_at,
                retain: true,
                ids: Some(id.into_iter().collect()),
                is_kept: true,
                ..Owed::of(&kept.message, kept.message.qos.min(qos))
            })
            .collect();
        *room -= owed.len();
        owed.into_iter().for_each(|owed| self.owe(who, owed));
    }

    /// An UNSUBSCRIBE; gives whether there was such a subscription. What waits stays `[MQTT-3.10.4-3]`.
    pub(in super::super) fn unsubscribe(&mut self, who: usize, filter: &'static str) -> bool {
        self.clock += 1;
        let clock = self.clock;
        let s = self.session(who);
        let was_there = s.subscriptions.remove(filter).is_some();
        s.memberships
            .iter_mut()
            .filter(|m| m.filter == filter && m.until.is_none())
            .for_each(|m| m.until = Some(clock));
        self.forget_if_left(filter);
        was_there
    }
}

impl Session {
    /// What this session is owed of a message, by its own subscriptions.
    fn wants(&self, who: usize, message: &Rc<Message>) -> Option<Owed> {
        let is_meant = |filter: &str, no_local: bool| {
            topic::matches(filter, message.topic) && !(no_local && message.from == Some(who)) // [MQTT-3.8.3-3]
        };
        let found: Vec<_> = self.subscriptions.iter().filter(|(f, (o, _))| is_meant(f, o.no_local)).collect();
        let qos = found.iter().map(|(_, (options, _))| options.qos).max()?; // [MQTT-3.3.4-2]
        let mut ids: Vec<_> = found.iter().filter_map(|(_, (_, id))| *id).collect();
        ids.sort_unstable();
        let retain = message.retain && found.iter().any(|(_, (o, _))| o.retain_as_published); // [MQTT-3.3.1-12], [-13]
        Some(Owed { retain, ids: Some(ids), ..Owed::of(message, qos.min(message.qos)) })
    }
}
