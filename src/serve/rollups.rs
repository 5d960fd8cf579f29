//! The task that rolls up long ranges.

use std::time::Duration;

use tokio::sync::watch;

use super::Parts;
use super::supervise::Tasks;
use crate::config::Settings;
use crate::history::History;
use crate::keeper::rollups;

/// Starts it.
pub(super) fn start(
    settings: &Settings,
    parts: &Parts,
    history: &History,
    stopping: &watch::Receiver<bool>,
    tasks: &mut Tasks,
) {
    let work = rollups::Rollups {
        history: history.clone(),
        telemetry: Duration::from_secs(settings.retention.telemetry_days * 86_400),
        progress: parts.collector_progress.clone(),
    };
    let (board, stop) = (parts.board.clone(), stopping.clone());
    tasks.spawn(rollups::TASK, async move {
        rollups::run(work, board, stop).await;
        Ok(())
    });
}
