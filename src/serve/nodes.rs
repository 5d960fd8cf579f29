//! This node among others on its database, put together of the settings.

use std::time::Duration;

use tokio::sync::watch;

use super::Parts;
use super::datadir::Addresses;
use super::supervise::Tasks;
use crate::config::Settings;
use crate::domain::Timestamp;
use crate::keeper::{self, Heart};
use crate::store::Beat;

/// What it says of itself.
pub fn said(settings: &Settings, addresses: &Addresses, parts: &Parts) -> Beat {
    let others = [("https", addresses.https), ("mqtts", addresses.mqtts), ("ws", addresses.ws), ("wss", addresses.wss)];
    let all = [("http", Some(addresses.http)), ("mqtt", Some(addresses.mqtt))].into_iter().chain(others);
    Beat {
        name: name(settings),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        addresses: all.filter_map(|(of, at)| Some((of.to_owned(), at?.to_string()))).collect(),
        started_at: parts.board.started_at(),
        // What an earlier life of this node received may not be stored yet: known when the collector has caught up.
        stored_until: Timestamp(0),
    }
}

/// Starts the heartbeat, where other nodes may use the database too.
pub fn start(settings: &Settings, said: &Beat, parts: &Parts, stopping: &watch::Receiver<bool>, tasks: &mut Tasks) {
    if !parts.store.is_shared() {
        return;
    }
    let heart = Heart {
        store: parts.store.clone(),
        board: parts.board.clone(),
        journal: parts.journal.clone(),
        collector: parts.collector_progress.clone(),
        said: said.clone(),
        every: Duration::from_secs(settings.nodes.heartbeat_s),
        peers: parts.peers.clone(),
    };
    let stop = stopping.clone();
    tasks.spawn(keeper::HEARTBEAT, async move {
        heart.run(stop).await;
        Ok(())
    });
}

/// As configured, else the machine's.
fn name(settings: &Settings) -> String {
    match settings.nodes.name.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        name => name.to_owned(),
    }
}
