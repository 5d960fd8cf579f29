//! Alerts out to GitHub, put together of the settings.

use anyhow::Context;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::Parts;
use super::datadir::DataDir;
use super::supervise::Tasks;
use crate::config::Settings;
use crate::notify::{self, Desk, Options};
use crate::observe::trace::Tracer;

/// Starts the task that sends them; where they come in.
pub fn start(
    settings: &Settings,
    data: &DataDir,
    node: uuid::Uuid,
    parts: &Parts,
    tracer: &Tracer,
    stopping: &watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> anyhow::Result<Desk> {
    let github = &settings.github;
    let token = github.token.as_ref().filter(|_| github.dry_run != Some(true));
    let options = Options {
        repository: github.repository.clone(),
        api_url: github.api_url.trim_end_matches('/').to_owned(),
        token: token.map(|token| Zeroizing::new(token.reveal().to_owned())),
        node: node.to_string(),
    };
    let desk = Desk::open(parts.store.clone(), &data.path(""), parts.board.clock().clone(), options.is_dry())
        .context("the alerts kept in the data directory cannot be read")?;
    let (sending, board, tracer, stop) = (desk.clone(), parts.board.clone(), tracer.clone(), stopping.clone());
    tasks.spawn(notify::TASK, async move {
        notify::run(sending, options, board, tracer, stop).await;
        Ok(())
    });
    Ok(desk)
}
