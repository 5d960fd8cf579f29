//! How a duty is fulfilled: which it is that a PUBLISH fulfils, whether it may be its turn, and what must be gone by then.

use super::{Duty, Message, Oracle, Owed, State};
use crate::mqtt::{PacketId, Publish, QoS};

impl Oracle {
    /// A PUBLISH is written to the client; gives what it fulfils.
    pub(in super::super) fn publish_sent(&mut self, who: usize, publish: &Publish) -> Duty {
        let s = self.session(who);
        let link = s.link;
        self.skip_too_large(who);
        if publish.dup {
            let duty =
                self.next_unsent(who).unwrap_or_else(|| panic!("c{who}: nothing is to be repeated: {publish:?}"));
            let owed = &self.duties[duty.0];
            let State::Sent(id, _) = owed.state else { panic!("c{who}: PUBREL is to be repeated, not {publish:?}") };
            assert_eq!(publish.packet_id, Some(id), "c{who}: repeated in the order of the first sending: {owed:?}");
            assert!(self.is_right(who, owed, publish), "c{who}: {publish:?} is not {owed:?}");
            self.duties[duty.0].state = State::Sent(id, link);
            self.note("repeated");
            self.check_quota(who);
            return duty;
        }
        assert_eq!(self.next_unsent(who), None, "c{who}: new before what is to be repeated: {publish:?}");
        let duty = self.own(who, publish).or_else(|| self.shared(who, publish));
        let duty = duty.unwrap_or_else(|| panic!("c{who} is not owed {publish:?}; but {:#?}", self.waiting(who)));
        let owed = &self.duties[duty.0];
        self.note(match (owed.is_kept, &owed.share) {
            (true, _) => "sent, retained",
            (_, Some(share)) if share.is_passed_on => "sent, shared, perhaps passed on",
            (_, Some(_)) => "sent, shared",
            (_, None) => "sent",
        });
        match publish.packet_id {
            None => self.over(who, duty),
            Some(id) => {
                let is_free = self.session(who).window.clone().into_iter().all(|d| self.id_of(d) != Some(id));
                assert!(is_free, "c{who}: packet id {id} is in use");
                let owed = &mut self.duties[duty.0];
                owed.state = State::Sent(id, link);
                owed.is_repeatable |= publish.qos == QoS::AtLeastOnce;
                self.session(who).window.push(duty);
                self.check_quota(who);
            }
        }
        duty
    }

    /// Finds it among what the session itself waits for; earlier ones of the same publisher and topic must be gone
    /// `[MQTT-4.6.0-6]`, and so must earlier retained ones.
    fn own(&mut self, who: usize, publish: &Publish) -> Option<Duty> {
        let s = self.sessions[who].as_ref()?;
        let waiting: Vec<_> = s.owed.iter().copied().filter(|d| self.duties[d.0].state == State::Waiting).collect();
        let right: Vec<_> =
            waiting.iter().copied().filter(|d| self.is_right(who, &self.duties[d.0], publish)).collect();
        let overtaken = |duty: &Duty| {
            let earlier = waiting.iter().take_while(|d| *d != duty).copied();
            earlier.filter(|d| keeps_order(&self.duties[d.0], &self.duties[duty.0])).collect::<Vec<_>>()
        };
        let is_in_order = |duty: &Duty| overtaken(duty).iter().all(|d| self.is_hopeless(who, &self.duties[d.0]));
        let preference = |duty: &Duty| {
            // The same one may be there twice, and the first be gone.
            (self.duties[duty.0].may_be_gone, *duty)
        };
        let first = *right.first()?;
        let Some(found) = right.iter().copied().filter(is_in_order).min_by_key(preference) else {
            panic!("c{who}: {publish:?} has overtaken {:?}", self.duties[overtaken(&first)[0].0]);
        };
        for duty in overtaken(&found) {
            self.duties[duty.0].may_be_gone = true;
        }
        Some(found)
    }

    fn is_right(&self, who: usize, owed: &Owed, publish: &Publish) -> bool {
        let is_v5 = self.sessions[who].as_ref().is_some_and(|s| s.is_v5);
        let mut ids: Vec<_> = publish.subscription_ids.iter().map(|id| id.get()).collect();
        ids.sort_unstable();
        let left_s = owed.expires_at.map(|at| u32::try_from(at.saturating_duration_since(self.now).as_secs()).unwrap());
        let is_in_time = publish.dup || left_s != Some(0);
        let has_properties = owed.ids.as_ref().is_none_or(|owed| *owed == ids) && publish.expiry_s == left_s;
        is_same(&owed.message, publish, is_v5)
            && (publish.qos, publish.retain) == (owed.qos, owed.retain)
            && is_in_time
            && (!is_v5 || has_properties)
    }

    /// Whether it will not be sent any more.
    fn is_hopeless(&self, who: usize, owed: &Owed) -> bool {
        let is_too_large = self.sessions[who].as_ref().is_some_and(|s| s.takes_small_only) && owed.message.is_big();
        is_too_large || owed.may_be_gone || owed.expires_at.is_some_and(|at| at <= self.now)
    }

    /// The first in flight that was not sent again on this connection.
    fn next_unsent(&self, who: usize) -> Option<Duty> {
        let window = &self.sessions[who].as_ref()?.window;
        window.iter().copied().find(|duty| !self.is_on_this_link(who, *duty))
    }

    /// What would be sent again and is too large for the client now is given up: at QoS 2 the client, which may have it,
    /// must still be told to forget its id.
    pub(in super::super) fn skip_too_large(&mut self, who: usize) {
        while let Some(duty) = self.next_unsent(who) {
            let (s, owed) = (self.sessions[who].as_ref().expect("there is one"), &self.duties[duty.0]);
            let State::Sent(id, link) = owed.state else { return };
            if !(owed.message.is_big() && s.takes_small_only) || self.on_this_link(who) >= s.quota {
                return;
            }
            if owed.qos < QoS::ExactlyOnce {
                self.over(who, duty);
                continue;
            }
            self.duties[duty.0].state = State::Released(id, link);
            self.note("exactly once, too large to repeat");
            return self.duties[duty.0].may_be_gone = true;
        }
    }

    fn on_this_link(&self, who: usize) -> usize {
        let window = self.sessions[who].iter().flat_map(|s| &s.window);
        window.filter(|duty| self.is_on_this_link(who, **duty)).count()
    }

    /// PUBREL is sent without a PUBREC.
    pub(super) fn released_again(&mut self, who: usize, id: PacketId) {
        self.skip_too_large(who);
        let duty = self.next_unsent(who).unwrap_or_else(|| panic!("c{who}: PUBREL {id} for nothing"));
        let link = self.session(who).link;
        let owed = &mut self.duties[duty.0];
        assert!(matches!(owed.state, State::Released(of, _) if of == id), "c{who}: PUBREL {id} before {owed:?}");
        owed.state = State::Released(id, link);
        self.check_quota(who);
    }

    /// The server has written what it could. `is_all`: no budget has ended it.
    pub(in super::super) fn pulled(&mut self, who: usize, is_all: bool) {
        self.skip_too_large(who);
        let s = self.sessions[who].as_ref().expect("there is a session");
        let (in_flight, quota) = (s.window.len(), s.quota);
        if let Some(unsent) = self.next_unsent(who) {
            self.note("repeated in portions");
            return assert_eq!(
                self.on_this_link(who),
                quota,
                "c{who}: there is room to repeat {:?}",
                self.duties[unsent.0]
            );
        }
        let mut waiting = s.owed.clone();
        waiting.retain(|d| self.duties[d.0].state == State::Waiting);
        for duty in waiting {
            let is_hopeless = self.is_hopeless(who, &self.duties[duty.0]);
            if is_all && in_flight < quota {
                assert!(is_hopeless, "c{who}: there was room for {:?}", self.duties[duty.0]);
                self.note("expired or too large");
                self.over(who, duty);
            }
            self.duties[duty.0].may_be_gone |= is_hopeless;
        }
    }

    fn is_on_this_link(&self, who: usize, duty: Duty) -> bool {
        let current = self.sessions[who].as_ref().map(|s| s.link);
        matches!(self.duties[duty.0].state, State::Sent(_, link) | State::Released(_, link) if Some(link) == current)
    }

    /// `[MQTT-3.3.4-9]`: not more at a time than the client takes.
    fn check_quota(&mut self, who: usize) {
        let (in_flight, quota) = (self.on_this_link(who), self.session(who).quota);
        assert!(in_flight <= quota, "c{who}: {in_flight} in flight, {quota} allowed");
    }

    fn id_of(&self, duty: Duty) -> Option<PacketId> {
        match self.duties[duty.0].state {
            State::Sent(id, _) | State::Released(id, _) => Some(id),
            State::Waiting | State::Over => None,
        }
    }

    pub(super) fn in_flight(&mut self, who: usize, id: PacketId) -> Duty {
        let window = self.session(who).window.clone();
        let found = window.into_iter().find(|d| self.id_of(*d) == Some(id));
        found.unwrap_or_else(|| panic!("c{who}: nothing is in flight with id {id}"))
    }

    pub(super) fn over(&mut self, who: usize, duty: Duty) {
        self.duties[duty.0].state = State::Over;
        let s = self.session(who);
        s.owed.retain(|d| *d != duty);
        s.window.retain(|d| *d != duty);
    }

    /// The application of a client has got it.
    pub(in super::super) fn seen(&mut self, duty: Duty) {
        let owed = &mut self.duties[duty.0];
        owed.seen += 1;
        assert!(owed.is_repeatable || owed.seen == 1, "not more than once: {owed:?}");
    }

    fn waiting(&self, who: usize) -> Vec<&Owed> {
        let s = self.sessions[who].as_ref().expect("there is a session");
        s.owed.iter().chain(&self.pool).map(|d| &self.duties[d.0]).filter(|o| o.state == State::Waiting).collect()
    }

    /// Everybody is connected and everything has been written and acknowledged: nothing is left.
    pub(in super::super) fn check_all_done(&self) {
        for (who, s) in self.sessions.iter().enumerate().filter_map(|(who, s)| Some((who, s.as_ref()?))) {
            let left: Vec<_> = s.owed.iter().chain(&s.window).map(|d| &self.duties[d.0]).collect();
            assert!(left.is_empty(), "c{who} has not got {left:#?}");
        }
        for duty in &self.pool {
            let owed = &self.duties[duty.0];
            let is_expired = owed.expires_at.is_some_and(|at| at <= self.now);
            let is_excused = owed.share.as_ref().is_some_and(|share| share.is_excused);
            assert!(is_expired || is_excused, "no member has got {owed:#?}");
        }
    }
}

/// What keeps its order: the retained ones of a session, what one client publishes on one topic, and a topic's retained
/// message among the others of the topic, so that the newest comes last.
fn keeps_order(a: &Owed, b: &Owed) -> bool {
    let is_same_topic = a.message.topic == b.message.topic;
    let is_same_client = a.message.from == b.message.from;
    a.is_kept && b.is_kept || is_same_topic && (is_same_client || a.is_kept || b.is_kept)
}

pub(super) fn is_same(message: &Message, publish: &Publish, is_v5: bool) -> bool {
    let content_type = publish.properties.as_ref().and_then(|p| p.content_type.as_deref());
    message.topic == &*publish.topic
        && message.payload == *publish.payload
        && content_type == message.content_type.as_deref().filter(|_| is_v5)
}
