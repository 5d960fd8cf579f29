//! The async runtime of the subcommands that need one, and the wish to stop.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Runs a future to its end on a new runtime with a thread a processor.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(future);
    // Blocking calls still under way (a long read of somebody who has gone) do not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
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
