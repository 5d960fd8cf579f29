//! Shared subscriptions: one member gets it, and which one is not known before.

use std::rc::Rc;
use std::time::Instant;

use super::duties::is_same;
use super::{Duty, Membership, Message, Oracle, Owed, Shared, State};
use crate::mqtt::{Publish, QoS, topic};

impl Oracle {
    /// Present members of shares.
    pub(super) fn members(&self) -> impl Iterator<Item = (usize, &'static str)> {
        let sessions = self.sessions.iter().enumerate().filter_map(|(who, s)| Some((who, s.as_ref()?)));
        sessions.flat_map(|(who, s)| s.memberships.iter().filter(|m| m.until.is_none()).map(move |m| (who, m.filter)))
    }

    /// Present members of one share: who, whether connected, QoS.
    pub(super) fn memberships(&self, filter: &str) -> impl Iterator<Item = (usize, bool, QoS)> {
        let sessions = self.sessions.iter().enumerate().filter_map(|(who, s)| Some((who, s.as_ref()?)));
        sessions.flat_map(move |(who, s)| {
            let present = s.memberships.iter().filter(move |m| m.until.is_none() && m.filter == filter);
            present.map(move |m| (who, s.is_online, m.options.qos))
        })
    }

    pub(super) fn owe_share(&mut self, filter: &'static str, message: &Rc<Message>, expires_at: Option<Instant>) {
        // A member that is not there and keeps nothing is not chosen where another one keeps it.
        let is_keeper = |(.., qos): (usize, bool, QoS)| qos > QoS::AtMostOnce;
        let is_there = |(_, is_online, qos): (usize, bool, QoS)| is_online && qos == QoS::AtMostOnce;
        let keeps_all = self.memberships(filter).any(is_keeper) && !self.memberships(filter).any(is_there);
        let is_scarce = self.options.max_queued_messages < 100;
        let is_excused = !keeps_all || message.qos == QoS::AtMostOnce || message.is_big() || is_scarce;
        let share = Shared { filter, since: self.clock, is_passed_on: false, is_bound: false, is_excused };
        let share = Some(share);
        let duty = self.add(Owed { expires_at, retain: message.retain, share, ..Owed::of(message, message.qos) });
        self.pool.push(duty);
    }

    /// Finds it among what the client's shares wait for.
    pub(super) fn shared(&mut self, who: usize, publish: &Publish) -> Option<Duty> {
        let s = self.sessions[who].as_ref()?;
        let is_right = |owed: &Owed, share: &Shared| {
            s.memberships.iter().any(|m| {
                m.filter == share.filter
                    && m.until.is_none_or(|until| until > share.since)
                    && is_for_member(owed, m, publish)
                    && is_same(&owed.message, publish, s.is_v5)
                    && (!s.is_v5 || publish.subscription_ids.iter().map(|id| id.get()).eq(m.id))
                    && owed.expires_at.is_none_or(|at| at > self.now)
            })
        };
        let shared = self.pool.iter().enumerate().filter_map(|(at, d)| Some((at, d, self.duties[d.0].share.as_ref()?)));
        let right = shared.filter(|(_, d, share)| is_right(&self.duties[d.0], share));
        let (at, ..) = { right }.next()?;
        let ids = s.is_v5.then(|| publish.subscription_ids.iter().map(|id| id.get()).collect());
        let duty = self.pool.remove(at);
        let owed = &mut self.duties[duty.0];
        (owed.qos, owed.retain, owed.ids) = (publish.qos, publish.retain, ids);
        Some(duty)
    }

    /// What waits for this share may be lost from now on.
    pub(super) fn excuse(&mut self, filter: &str) {
        for duty in &self.pool {
            let share = self.duties[duty.0].share.as_mut().filter(|share| share.filter == filter);
            share.into_iter().for_each(|share| share.is_excused = true);
        }
    }

    /// A share that nobody is a member of is no more, a later one of its name another one.
    pub(super) fn forget_if_left(&mut self, filter: &str) {
        if self.memberships(filter).next().is_none() {
            let shares = self.duties.iter_mut().filter_map(|owed| owed.share.as_mut());
            let of_this = shares.filter(|share| share.filter == filter);
            of_this.for_each(|share| (share.is_excused, share.is_bound) = (true, true));
        }
    }

    /// A member is gone: another one gets what it has not acknowledged, but for what was sent at QoS 2. For now: only where
    /// another one is connected, and what it had before it left the share stays with it `[MQTT-3.10.4-3]`.
    pub(super) fn pass_on(&mut self, who: usize, for_ever: bool) {
        for duty in self.session(who).window.clone() {
            let owed = &self.duties[duty.0];
            let Some(share) = owed.share.as_ref().filter(|share| !share.is_bound) else { continue };
            let others: Vec<_> = self.memberships(share.filter).filter(|(other, ..)| *other != who).collect();
            let is_member = self.memberships(share.filter).any(|(member, ..)| member == who);
            let is_taken = for_ever || is_member && others.iter().any(|(_, is_online, _)| *is_online);
            let is_meant = matches!(owed.state, State::Sent(..)) && owed.qos == QoS::AtLeastOnce;
            if is_meant && is_taken {
                self.over(who, duty);
                if others.is_empty() {
                    continue;
                }
                self.note("taken back from a member");
                let keeps_all = others.iter().all(|(.., qos)| *qos > QoS::AtMostOnce);
                let owed = &mut self.duties[duty.0];
                // The next member knows nothing of what this one has seen.
                (owed.state, owed.seen, owed.is_repeatable) = (State::Waiting, 0, false);
                owed.share.iter_mut().for_each(|share| share.is_excused |= !keeps_all);
                self.pool.push(duty);
            }
        }
        // Who had what waits is not known here: the member that is gone, perhaps.
        for duty in self.pool.clone() {
            let Some(filter) = self.duties[duty.0].share.as_ref().map(|share| share.filter) else { continue };
            let others = self.memberships(filter).filter(|(other, ..)| *other != who);
            let keeps_all = others.map(|(.., qos)| qos).all(|qos| qos > QoS::AtMostOnce);
            if self.session(who).memberships.iter().any(|m| m.filter == filter) {
                let share = self.duties[duty.0].share.as_mut();
                share.into_iter().for_each(|s| (s.is_passed_on, s.is_excused) = (true, s.is_excused || !keeps_all));
            }
        }
    }
}

pub(super) fn shared_topic(filter: &str, name: &str) -> bool {
    topic::split_share(filter).is_some_and(|(_, filter)| topic::matches(filter, name))
}

/// Whether QoS and RETAIN are a member's.
fn is_for_member(owed: &Owed, member: &Membership, publish: &Publish) -> bool {
    let retain = owed.message.retain && member.options.retain_as_published;
    (publish.qos, publish.retain) == (owed.message.qos.min(member.options.qos), retain)
}
