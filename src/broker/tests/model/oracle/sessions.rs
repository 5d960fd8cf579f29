//! Sessions: how they begin, part, come back and end.

use std::rc::Rc;
use std::time::Duration;

use super::{CLIENTS, Message, Oracle, Owed, State};
use crate::broker::tests::model::ops::Asks;
use crate::mqtt::QoS;

impl Oracle {
    /// A CONNECT is accepted; gives whether there is a session, and the will of one that ends here.
    pub(in super::super) fn connected(
        &mut self,
        who: usize,
        asks: &Asks,
        will: Option<Rc<Message>>,
    ) -> (bool, Option<Rc<Message>>) {
        let is_present = self.has_session(who) && !asks.is_clean;
        self.note(if is_present { "session resumed" } else { "session begun" });
        let mut old_will = None;
        if !is_present {
            old_will = self.sessions[who].as_mut().and_then(|s| s.will.take()).map(|(will, _)| will);
            self.end(who);
        }
        let limits = self.options.session_limits();
        let asked_s = if asks.is_v5 {
            asks.expiry_s
        } else if asks.is_clean {
            0
        } else {
            u32::MAX
        };
        let expiry = self.expiry(asked_s);
        let s = self.sessions[who].get_or_insert_default();
        (s.is_online, s.is_parked) = (true, false);
        s.is_v5 = asks.is_v5;
        s.takes_small_only = asks.is_v5 && asks.takes_small_only;
        let asked = if asks.is_v5 && asks.receive_maximum > 0 { asks.receive_maximum.into() } else { usize::MAX };
        s.quota = limits.max_inflight.min(asked);
        s.expiry = expiry;
        s.offline_since = None;
        s.link += 1;
        s.will = will.map(|will| (will, Duration::from_secs(if asks.is_v5 { asks.will_delay_s.into() } else { 0 })));
        s.will_due = None;
        (is_present, old_will)
    }

    /// DISCONNECT.
    pub(in super::super) fn goodbye(&mut self, who: usize, expiry_s: Option<u32>, with_will: bool) {
        let expiry = expiry_s.map(|s| self.expiry(s));
        let s = self.session(who);
        s.expiry = expiry.unwrap_or(s.expiry);
        if !with_will {
            s.will = None;
        }
    }

    /// The connection is ending. Gives the will if it is due.
    pub(in super::super) fn parting(&mut self, who: usize, is_silent: bool) -> Option<Rc<Message>> {
        let now = self.now;
        let s = self.session(who);
        s.inbound = std::mem::take(&mut s.inbound).after_the_connection();
        s.offline_since = Some(now);
        if is_silent {
            s.will = None;
        }
        let delay = s.will.as_ref()?.1.min(s.expiry);
        s.will_due = Some(now + delay);
        if delay.is_zero() { s.will.take().map(|(will, _)| will) } else { None }
    }

    /// From now on nothing of QoS 0 waits for it.
    pub(in super::super) fn offline(&mut self, who: usize) {
        self.session(who).is_online = false;
        self.give_up(who, |owed| owed.state == State::Waiting && owed.qos == QoS::AtMostOnce && !owed.is_kept);
    }

    /// The session is back in its place, or ends.
    pub(in super::super) fn released(&mut self, who: usize) {
        self.session(who).is_parked = true;
        if self.session(who).expiry.is_zero() {
            self.end(who);
        } else {
            self.pass_on(who, false);
        }
    }

    /// Wills that are due.
    pub(in super::super) fn due_wills(&mut self) -> Vec<(usize, Rc<Message>)> {
        let now = self.now;
        let sessions = self.sessions.iter_mut().enumerate().filter_map(|(who, s)| Some((who, s.as_mut()?)));
        let due = sessions.filter(|(_, s)| s.is_parked && s.will_due.is_some_and(|due| due <= now));
        due.filter_map(|(who, s)| Some((who, s.will.take()?.0))).collect()
    }

    pub(in super::super) fn expire(&mut self) {
        let now = self.now;
        self.retained.retain(|_, kept| kept.expires_at.is_none_or(|at| at > now));
        for who in 0..CLIENTS {
            if self.sessions[who].as_ref().is_some_and(|s| s.is_parked && s.is_over(now)) {
                self.note("session expired");
                self.end(who);
            }
        }
    }

    /// The server has been started again. Retained messages that waited to be sent are saved at QoS 1 and 2, as far as the
    /// queue takes them; what a member of a share had is its own from now on, and goes with it.
    pub(in super::super) fn restarted(&mut self) {
        self.note("restart");
        for who in 0..CLIENTS {
            if self.sessions[who].is_some() {
                let is_kept = |owed: &Owed| owed.state == State::Waiting && owed.is_kept;
                self.give_up(who, |owed| is_kept(owed) && owed.qos == QoS::AtMostOnce);
            }
        }
        let is_scarce = self.options.max_queued_messages < 100;
        for owed in &mut self.duties {
            match owed.state {
                State::Waiting => {
                    owed.share.iter_mut().for_each(|share| (share.is_excused, share.is_bound) = (true, true));
                }
                _ => owed.share = None,
            }
            owed.may_be_gone |= is_scarce && owed.is_kept && owed.state == State::Waiting;
        }
        for who in 0..CLIENTS {
            if self.sessions[who].as_ref().is_some_and(|s| s.is_over(self.now)) {
                self.end(who);
            }
        }
    }

    /// The session ends.
    pub(super) fn end(&mut self, who: usize) {
        if self.sessions[who].is_none() {
            return;
        }
        self.pass_on(who, true);
        self.give_up(who, |_| true);
        for duty in self.session(who).window.clone() {
            self.over(who, duty);
        }
        let filters: Vec<_> = self.session(who).memberships.iter().map(|m| m.filter).collect();
        self.sessions[who] = None;
        for filter in filters {
            self.forget_if_left(filter);
        }
    }

    fn give_up(&mut self, who: usize, is_meant: impl Fn(&Owed) -> bool) {
        for duty in self.session(who).owed.clone() {
            if is_meant(&self.duties[duty.0]) {
                self.over(who, duty);
            }
        }
    }
}
