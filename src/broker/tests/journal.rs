//! A journal in memory: what was appended can be looked at, the durable mark can be held, the room can be taken away.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use crate::broker::intake::{Append, Intake};
use crate::journal::{Entry, Error, Flags, Offset};

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Stored {
    pub(crate) topic: String,
    pub(crate) identity: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) flags: Flags,
}

pub(crate) struct FakeJournal {
    state: Mutex<State>,
    has_room: watch::Sender<bool>,
}

struct State {
    stored: Vec<Stored>,
    is_held: bool,
    /// `None` = failed.
    durable: Option<watch::Sender<Offset>>,
}

impl Default for FakeJournal {
    fn default() -> Self {
        let durable = Some(watch::Sender::new(Offset(0)));
        let state = Mutex::new(State { stored: Vec::new(), is_held: false, durable });
        Self { state, has_room: watch::Sender::new(true) }
    }
}

impl FakeJournal {
    /// From now on nothing becomes durable.
    pub(crate) fn hold(&self) {
        self.state().is_held = true;
    }

    /// Everything becomes durable.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        state.is_held = false;
        state.sync();
    }

    /// The journal is full, or is no more.
    pub(crate) fn set_room(&self, has_room: bool) {
        self.has_room.send_replace(has_room);
    }

    /// A write or fsync has failed.
    pub(crate) fn fail(&self) {
        self.state().durable = None;
    }

    pub(crate) fn stored(&self) -> Vec<Stored> {
        self.state().stored.clone()
    }

    /// Topic and payload of each record, as text.
    pub(crate) fn texts(&self) -> Vec<(String, String)> {
        let text = |s: Stored| (s.topic, String::from_utf8_lossy(&s.payload).into_owned());
        self.stored().into_iter().map(text).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn sync(&self) {
        if let Some(durable) = &self.durable {
            durable.send_replace(Offset(self.stored.len() as u64));
        }
    }
}

impl Intake for FakeJournal {
    fn append<'a>(&'a self, entries: &'a [Entry<'a>]) -> Append<'a> {
        Box::pin(async move {
            self.has_room.subscribe().wait_for(|has_room| *has_room).await.map_err(|_| Error::Closed)?;
            let mut state = self.state();
            state.stored.extend(entries.iter().map(|e| Stored {
                topic: e.topic.to_owned(),
                identity: e.identity.to_owned(),
                payload: e.payload.to_vec(),
                flags: e.flags,
            }));
            if !state.is_held {
                state.sync();
            }
            Ok(Offset(state.stored.len() as u64))
        })
    }

    fn durable(&self) -> watch::Receiver<Offset> {
        match &self.state().durable {
            Some(durable) => durable.subscribe(),
            None => watch::Sender::new(Offset(0)).subscribe(),
        }
    }
}
