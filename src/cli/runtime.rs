//! The async runtime of the subcommands that need one, and the wish to stop.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::observe::log;

/// Runs a future to its end on a new runtime with a thread a processor.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(future);
    // Blocking calls still under way (a long read of somebody who has gone) do not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

/// From now on SIGUSR1 logs a step more and SIGUSR2 a step less, as long as the runtime lives. Needs a runtime.
pub(super) fn heed_log_signals() -> anyhow::Result<()> {
    for (kind, is_more) in [(SignalKind::user_defined1(), true), (SignalKind::user_defined2(), false)] {
        let mut signals = signal(kind).context("cannot listen for signals")?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                match log::step_filter(is_more) {
                    Ok(filter) => tracing::warn!(value = filter, "a signal has changed the log level"),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "the log level stays as it is");
                    }
                }
            }
        });
    }
    Ok(())
}

/// SIGINT or SIGTERM; from now on neither ends the process by itself.
pub(super) struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    /// Takes the signals. Needs a runtime.
    pub(super) fn take() -> anyhow::Result<Self> {
        let take = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: take(SignalKind::interrupt())?, terminate: take(SignalKind::terminate())? })
    }

    /// Resolves with the first one.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Becomes true with the first one; the second one ends the process at once.
    pub(super) fn watched(mut self) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            self.wait().await;
            sender.send_replace(true);
            self.wait().await;
            std::process::exit(1);
        });
        receiver
    }
}
