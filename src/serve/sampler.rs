//! Figures that are states, not events: read every few seconds and put on the metrics page.
//!
//! Invariant: what is in this process is read whatever the store does: that may hang, and then says nothing for hours.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Parts;
use super::supervise::Tasks;
use crate::api::{Pulse, Render};
use crate::broker::Stats;
use crate::collector;
use crate::journal::Journal;
use crate::observe::{Board, Progress, TaskState, metrics};
use crate::store;

/// The name of the journal on the task board.
pub const JOURNAL: &str = "journal";

/// How often the store is asked: what it answers costs queries.
const STORE_EVERY: Duration = Duration::from_secs(15);

/// Starts what reads them, and what watches the journal; the store's pulse, for whoever else asks whether it answers.
pub fn start(parts: &Parts, stopping: &watch::Receiver<bool>, tasks: &mut Tasks) -> Pulse {
    let (sampled, stop) = (parts.clone(), stopping.clone());
    tasks.spawn("sampler", async move {
        run(sampled, stop).await;
        Ok(())
    });
    let pulse = Pulse::new(Arc::clone(&parts.store), parts.board.clock().clone());
    let (felt, sampled, mut stop) = (pulse.clone(), parts.clone(), stopping.clone());
    tasks.spawn("sampler of the database", async move {
        tokio::select! {
            () = feel(&felt) => {}
            () = sample_store(&sampled) => {}
            _ = stop.wait_for(|stopping| *stopping) => {}
        }
        Ok(())
    });
    let (board, journal, stop) = (parts.board.clone(), parts.journal.clone(), stopping.clone());
    tasks.spawn(JOURNAL, watch_journal(board, journal, stop));
    pulse
}

/// Runs until `stop` says so.
async fn run(parts: Parts, mut stop: watch::Receiver<bool>) {
    loop {
        sample(&parts);
        metrics::upkeep(&parts.board);
        tokio::select! {
            () = tokio::time::sleep(metrics::UPKEEP_EVERY) => {}
            _ = stop.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// Watches the journal: a full disk has to show on `/readyz` at once, a failed fsync ends the process.
async fn watch_journal(board: Board, journal: Journal, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    loop {
        let state = match journal.status().stalled {
            Some(reason) => TaskState::Retrying(reason),
            None => TaskState::Running,
        };
        board.set(JOURNAL, state);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(250)) => {}
            error = journal.failed() => {
                tell_failure(&board);
                return Err(error.into());
            }
            _ = stop.wait_for(|stopping| *stopping) => return Ok(()),
        }
    }
}

/// The journal has failed.
pub fn tell_failure(board: &Board) {
    board.set(JOURNAL, TaskState::Failed("the disk failed; nothing is acknowledged any more".into()));
}

/// The metrics page, with the states of the moment.
pub fn page(parts: &Parts) -> Arc<Render> {
    let parts = parts.clone();
    Arc::new(move |form| {
        sample(&parts);
        metrics::render(form)
    })
}

/// What costs nothing to ask: also at each scrape.
fn sample(parts: &Parts) {
    let journal = parts.journal.status();
    metrics::JOURNAL_HEAD.set(&[], journal.head.0 as f64);
    metrics::JOURNAL_DURABLE.set(&[], journal.durable.0 as f64);
    metrics::JOURNAL_BYTES.set(&[], journal.bytes as f64);
    metrics::JOURNAL_SEGMENTS.set(&[], journal.segments as f64);
    metrics::JOURNAL_UNRELEASED_BYTES.set(&[], journal.unreleased_bytes as f64);
    metrics::JOURNAL_LIMIT_BYTES.set(&[], journal.limit_bytes as f64);
    metrics::JOURNAL_STALLED.set(&[], f64::from(u8::from(journal.stalled.is_some())));
    let now = parts.board.clock().now();
    let reader = |name: &str, progress: &Progress| {
        let labels = [("reader", name)];
        let position = progress.position();
        metrics::READER_POSITION.set(&labels, position as f64);
        metrics::READER_LAG_RECORDS.set(&labels, journal.durable.0.saturating_sub(position) as f64);
        metrics::READER_LAG_SECONDS.set(&labels, progress.lag_s(now));
    };
    reader("collector", &parts.collector_progress);
    reader("archiver", &parts.archiver_progress);
    metrics::task_states(&parts.board);
    let tasks = parts.board.tasks();
    // One that has not said anything yet is not ready.
    for (check, of) in [("journal", JOURNAL), ("collector", collector::TASK), ("archive", "archiver")] {
        let is_ready = tasks.get(of).is_some_and(|entry| matches!(entry.state, TaskState::Running));
        metrics::READY.set(&[("check", check)], f64::from(u8::from(is_ready)));
    }
    sample_broker(&parts.broker.stats());
    let nodes = parts.peers.census();
    for (state, count) in [("alive", nodes.alive), ("dead", nodes.dead), ("stopped", nodes.stopped)] {
        metrics::NODES.set(&[("state", state)], count as f64);
    }
}

/// Whether the store answers.
async fn feel(pulse: &Pulse) {
    loop {
        let is_ready = pulse.feel().await.is_ok();
        metrics::READY.set(&[("check", "database")], f64::from(u8::from(is_ready)));
        tokio::time::sleep(STORE_EVERY).await;
    }
}

/// What the store counts. While it does not answer the last figures stay; the collector's line on the board tells why.
async fn sample_store(parts: &Parts) {
    loop {
        if let Ok((stats, rollouts)) = store::run(&parts.store, |s| Ok((s.stats()?, s.rollout_figures()?))).await {
            show(&stats, &rollouts);
        }
        tokio::time::sleep(STORE_EVERY).await;
    }
}

fn show(stats: &store::Stats, rollouts: &store::RolloutFigures) {
    // All of them: what there is none of any more is 0.
    metrics::DEVICES.set_all(|labels| count_of(&stats.device_by_status, labels[0]));
    metrics::DEVICE_CONNECTIONS.set_all(|labels| count_of(&stats.device_by_connection, labels[0]));
    metrics::COMMANDS.set_all(|labels| {
        let is_it = |(kind, status, _): &&(String, String, u64)| kind == labels[0] && status == labels[1];
        stats.commands_by_kind.iter().find(is_it).map_or(0.0, |(.., count)| *count as f64)
    });
    metrics::ROLLOUTS.set_all(|labels| count_of(&rollouts.rollouts, labels[0]));
    metrics::ROLLOUTS_PAUSED.set_all(|labels| count_of(&rollouts.paused, labels[0]));
    metrics::ROLLOUT_DEVICES.set_all(|labels| count_of(&rollouts.devices, labels[0]));
    metrics::ALERTS_UNACKNOWLEDGED.set(&[], stats.unacknowledged_alerts as f64);
}

fn count_of(counts: &[(String, u64)], name: &str) -> f64 {
    counts.iter().find(|(of, _)| of == name).map_or(0.0, |(_, count)| *count as f64)
}

fn sample_broker(stats: &Stats) {
    metrics::MQTT_CONNECTIONS.set(&[], stats.connections as f64);
    metrics::MQTT_SESSIONS.set(&[], stats.sessions as f64);
    metrics::MQTT_SUBSCRIPTIONS.set(&[], stats.subscriptions as f64);
    metrics::MQTT_INFLIGHT.set(&[], stats.inflight as f64);
    metrics::MQTT_QUEUED.set(&[], stats.queued as f64);
    metrics::MQTT_QUEUED_BYTES.set(&[], stats.queued_bytes as f64);
    metrics::MQTT_PUBLISHES_REFUSED.raise_to(&[], stats.refused_publishes);
    metrics::MQTT_RETAINED.set(&[], stats.retained as f64);
    metrics::MQTT_RETAINED_BYTES.set(&[], stats.retained_bytes as f64);
    metrics::MQTT_BYTES_IN.raise_to(&[], stats.bytes_in);
    metrics::MQTT_BYTES_OUT.raise_to(&[], stats.bytes_out);
    metrics::MQTT_MESSAGES_IN.raise_to(&[], stats.publishes_in);
    metrics::MQTT_MESSAGES_OUT.raise_to(&[], stats.publishes_out);
    metrics::MQTT_WILLS.raise_to(&[], stats.wills_fired);
    metrics::MQTT_WILLS_DROPPED.raise_to(&[], stats.wills_dropped);
    metrics::MQTT_CONNECTS_DELAYED.raise_to(&[], stats.connects_delayed);
    metrics::MQTT_TLS_RELOADS.raise_to(&[("result", "good")], stats.tls_reloads);
    metrics::MQTT_TLS_RELOADS.raise_to(&[("result", "bad")], stats.tls_reload_failures);
    metrics::MQTT_CONNECTS.raise_to(&[], stats.accepted);
    for (reason, total) in [
        ("queue_full", stats.dropped_queued),
        ("qos0_slow", stats.dropped_qos0),
        ("retained_full", stats.retained_refused),
        ("expired", stats.dropped_expired),
        ("too_large", stats.dropped_too_large),
        ("refused", stats.dropped_refused),
    ] {
        metrics::MQTT_MESSAGES_DROPPED.raise_to(&[("reason", reason)], total);
    }
    for (reason, total) in [
        ("connection_limit", stats.refused_connection_limit),
        ("address_limit", stats.refused_address_limit),
        ("address_rate", stats.refused_address_rate),
        ("session_limit", stats.refused_session_limit),
        ("connect_timeout", stats.refused_connect_timeout),
        ("tls", stats.refused_tls),
        ("websocket", stats.refused_websocket),
        ("version", stats.refused_version),
        ("client_id", stats.refused_client_id),
        ("credentials", stats.refused_credentials),
        ("not_authorized", stats.refused_not_authorized),
        ("unavailable", stats.refused_unavailable),
        ("will_size", stats.refused_will_size),
    ] {
        metrics::MQTT_REFUSED.raise_to(&[("reason", reason)], total);
    }
    for (reason, total) in [
        ("malformed", stats.closed_malformed),
        ("not_allowed", stats.closed_not_allowed),
        ("keep_alive", stats.closed_keep_alive),
        ("stalled", stats.closed_stalled),
        ("taken_over", stats.closed_taken_over),
        ("certificate", stats.closed_certificate),
    ] {
        metrics::MQTT_CLOSED.raise_to(&[("reason", reason)], total);
    }
    metrics::MQTT_SUBSCRIPTIONS_REFUSED.raise_to(&[], stats.refused_subscriptions);
}
