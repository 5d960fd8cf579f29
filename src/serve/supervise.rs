//! Watching the process's tasks: none may end before it is told to.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How much lower the priority of such threads is (`nice`).
const BEHIND_INTAKE: i32 = 10;

/// The running tasks by name. The first one to end, or to fail, ends the process.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
    running: Vec<&'static str>,
}

impl Tasks {
    /// Starts an async task.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.running.push(name);
        self.set.spawn(async move { (name, task.await) });
    }

    /// Starts a blocking loop on a thread of its own. It gives way to intake: while meters send in a burst, they are
    /// acknowledged first and their messages are stored a little later.
    pub fn spawn_thread(
        &mut self,
        name: &'static str,
        task: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let (done, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // On Linux the priority is the thread's own. Not allowed = not lower, nothing else.
                let _ = rustix::process::nice(BEHIND_INTAKE);
                // Nobody waits any more only when the process is past its deadline.
                let _ = done.send(task());
            })
            .with_context(|| format!("cannot start the {name} thread"))?;
        self.spawn(name, async move { ended.await.unwrap_or_else(|_| Err(anyhow!("the thread panicked"))) });
        Ok(())
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The names of those that have not ended.
    pub fn names(&self) -> Vec<&'static str> {
        self.running.clone()
    }

    fn ended(&mut self, name: &'static str) {
        if let Some(at) = self.running.iter().position(|n| *n == name) {
            self.running.swap_remove(at);
        }
    }

    /// Waits for the first task to end: that is always unexpected. Never returns while there is none.
    pub async fn first_end(&mut self) -> anyhow::Error {
        match self.set.join_next().await {
            Some(Ok((name, result))) => {
                self.ended(name);
                match result {
                    Ok(()) => anyhow!("the {name} ended unexpectedly"),
                    Err(error) => error.context(format!("the {name} failed")),
                }
            }
            Some(Err(panic)) => anyhow!("a task panicked: {panic}"),
            None => std::future::pending().await,
        }
    }

    /// Waits until all have ended, at most `limit`; the failures of those that did.
    pub async fn drain(&mut self, limit: Duration) -> Vec<anyhow::Error> {
        let end = tokio::time::Instant::now() + limit;
        let mut failures = Vec::new();
        while let Ok(Some(ended)) = tokio::time::timeout_at(end, self.set.join_next()).await {
            match ended {
                Ok((name, result)) => {
                    self.ended(name);
                    failures.extend(result.err().map(|error| error.context(format!("the {name} failed"))));
                }
                Err(panic) => failures.push(anyhow!("a task panicked: {panic}")),
            }
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_task_to_end_is_named_whether_it_failed_returned_or_panicked() {
        let mut tasks = Tasks::default();
        tasks.spawn("sleeper", std::future::pending());
        tasks.spawn("returner", async { Ok(()) });
        assert_eq!(tasks.first_end().await.to_string(), "the returner ended unexpectedly");
        tasks.spawn("failer", async { Err(anyhow!("disk on fire")) });
        let error = tasks.first_end().await;
        assert_eq!(format!("{error:#}"), "the failer failed: disk on fire");
        tasks.spawn_thread("thread", || panic!("told to")).unwrap();
        assert_eq!(format!("{:#}", tasks.first_end().await), "the thread failed: the thread panicked");
        assert!(tasks.drain(Duration::from_millis(1)).await.is_empty());
        assert_eq!(tasks.names(), ["sleeper"]);
    }
}
