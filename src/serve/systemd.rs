//! What a supervisor such as systemd is told (`Type=notify`, `WatchdogSec`): ready, what is not well, stopping, still alive.
//!
//! The protocol is lines in datagrams to the socket that `$NOTIFY_SOCKET` names, a path or an abstract name (`sd_notify(3)`).
//! Invariants: nobody who does not ask is told anything, and a socket that does not answer never holds the process up. Signs of
//! life stop when a task has failed and the process does not stop by itself: it is started anew. A database that is away is no
//! reason (intake goes on). Does not know what any task does.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::MissedTickBehavior;

use crate::observe::{Board, TaskState};

/// How often the status is looked at when no watchdog wants to hear more often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The supervisor of this process, if it has one; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
    /// It ends the process when it hears nothing for so long.
    watchdog: Option<Duration>,
    is_stopping: Arc<AtomicBool>,
}

/// The variables it is announced by.
#[derive(Clone, Debug, Default)]
struct Announced {
    /// `NOTIFY_SOCKET`.
    socket: Option<OsString>,
    /// `WATCHDOG_USEC`.
    watchdog_us: Option<String>,
    /// `WATCHDOG_PID`: whom the watchdog is about, where it says so.
    watchdog_pid: Option<String>,
}

impl Supervisor {
    /// The one that the environment names. One that cannot be reached is logged and done without.
    pub fn of_process() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let announced = Announced {
            socket: std::env::var_os("NOTIFY_SOCKET"),
            watchdog_us: text("WATCHDOG_USEC"),
            watchdog_pid: text("WATCHDOG_PID"),
        };
        Self::announced(&announced).unwrap_or_else(|error| {
            tracing::warn!(error = format!("{error:#}"), "the supervisor cannot be told anything");
            Self::default()
        })
    }

    fn announced(announced: &Announced) -> anyhow::Result<Self> {
        let Some(name) = announced.socket.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let socket = UnixDatagram::unbound().context("no socket")?;
        // A supervisor that does not read does not hold the process up.
        socket.set_nonblocking(true).context("no socket without waiting")?;
        let address = address(name).with_context(|| format!("NOTIFY_SOCKET={} is no socket", name.display()))?;
        socket.connect_addr(&address).with_context(|| format!("cannot reach NOTIFY_SOCKET={}", name.display()))?;
        let own_pid = std::process::id().to_string();
        let is_for_us = announced.watchdog_pid.as_ref().is_none_or(|pid| *pid == own_pid);
        let limit_us = announced.watchdog_us.as_ref().filter(|_| is_for_us).and_then(|us| us.parse().ok());
        let watchdog = limit_us.filter(|us| *us > 0).map(Duration::from_micros);
        Ok(Self { socket: Some(Arc::new(socket)), watchdog, ..Self::default() })
    }

    /// The process serves.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The process stops, by itself or because it was told to.
    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.tell("STOPPING=1\nSTATUS=Stopping");
    }

    /// Tells what is not well, whenever that changes, and gives signs of life as often as the watchdog wants them, also
    /// during the stop, which has its own deadline. To be spawned: then workers that are all stuck give no sign.
    pub async fn keep_telling(self, board: Board) {
        if self.socket.is_none() {
            return;
        }
        // Half of the limit is the protocol's advice; a third leaves room for a late one.
        let mut tick = tokio::time::interval(self.watchdog.map_or(LOOK_EVERY, |limit| (limit / 3).min(LOOK_EVERY)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            tick.tick().await;
            let is_stopping = self.is_stopping.load(Ordering::Relaxed);
            let now = status(&board);
            if now != told && !is_stopping && self.tell(&format!("STATUS={now}")) {
                told = now;
            }
            if self.watchdog.is_some() && (is_stopping || is_alive(&board)) {
                self.tell("WATCHDOG=1");
            }
        }
    }

    /// Whether it got there; not when the supervisor is behind with reading.
    fn tell(&self, what: &str) -> bool {
        let Some(socket) = &self.socket else { return false };
        let sent = socket.send(what.as_bytes());
        if let Err(error) = &sent {
            tracing::debug!(%error, reason = what, "the supervisor was not told");
        }
        sent.is_ok()
    }
}

/// A path, or `@` and an abstract name.
fn address(name: &OsStr) -> std::io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// Whether no task has failed for good.
fn is_alive(board: &Board) -> bool {
    !board.tasks().values().any(|task| matches!(task.state, TaskState::Failed(_)))
}

/// One line for `systemctl status`.
fn status(board: &Board) -> String {
    let unwell: Vec<String> = board
        .tasks()
        .into_iter()
        .filter(|(_, task)| task.state != TaskState::Running)
        .map(|(name, task)| format!("{name}: {}", task.state.reason().unwrap_or(task.state.name()).replace('\n', " ")))
        .collect();
    if unwell.is_empty() { "Serving".to_owned() } else { format!("Serving, but {}", unwell.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Clock;

    /// A supervisor's end of the socket.
    struct Heard(UnixDatagram);

    impl Heard {
        fn at(address: &SocketAddr) -> Self {
            let socket = UnixDatagram::bind_addr(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Self(socket)
        }

        fn next(&self) -> String {
            let mut buffer = [0; 1024];
            let length = self.0.recv(&mut buffer).expect("something is said");
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        }
    }

    fn announced(socket: &str) -> Announced {
        Announced { socket: Some(socket.into()), ..Announced::default() }
    }

    #[test]
    fn a_supervisor_is_told_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify").display().to_string();
        for name in [path, format!("@iot-meter-test-{}", std::process::id())] {
            let heard = Heard::at(&address(OsStr::new(&name)).unwrap());
            let supervisor = Supervisor::announced(&announced(&name)).unwrap();
            supervisor.ready();
            supervisor.stopping();
            assert_eq!([heard.next(), heard.next()], ["READY=1", "STOPPING=1\nSTATUS=Stopping"]);
        }
    }

    #[test]
    fn without_a_supervisor_nothing_is_said_and_one_that_is_not_there_is_an_error() {
        assert!(Supervisor::announced(&Announced::default()).is_ok_and(|s| s.socket.is_none()));
        assert!(Supervisor::announced(&announced("")).is_ok_and(|s| s.socket.is_none()));
        let error = Supervisor::announced(&announced("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.to_string(), "cannot reach NOTIFY_SOCKET=/nowhere/at/all");
    }

    #[test]
    fn a_watchdog_of_another_process_or_without_a_limit_is_not_ours() {
        let name = format!("@iot-meter-watchdog-{}", std::process::id());
        let _heard = Heard::at(&address(OsStr::new(&name)).unwrap());
        let own = std::process::id().to_string();
        let check = |us: &str, pid: Option<&str>, expected: Option<u64>| {
            let told =
                Announced { watchdog_us: Some(us.into()), watchdog_pid: pid.map(str::to_owned), ..announced(&name) };
            let found = Supervisor::announced(&told).unwrap().watchdog;
            assert_eq!(found, expected.map(Duration::from_micros), "{us} {pid:?}");
        };
        check("30000000", None, Some(30_000_000));
        check("30000000", Some(&own), Some(30_000_000));
        check("30000000", Some("1"), None);
        check("0", None, None);
        check("soon", None, None);
    }

    #[tokio::test]
    async fn signs_of_life_go_on_while_a_task_tries_again_and_stop_when_one_has_failed() {
        let name = format!("@iot-meter-life-{}", std::process::id());
        let heard = Heard::at(&address(OsStr::new(&name)).unwrap());
        let told = Announced { watchdog_us: Some("3000".into()), ..announced(&name) };
        let supervisor = Supervisor::announced(&told).unwrap();
        let board = Board::new(Clock::system());
        board.set("collector", TaskState::Retrying("the database\nis away".to_owned()));
        let telling = tokio::spawn(supervisor.keep_telling(board.clone()));
        // Heard on a thread of its own: the teller needs this one.
        let heard = tokio::task::spawn_blocking(move || {
            assert_eq!(heard.next(), "STATUS=Serving, but collector: the database is away");
            assert_eq!([heard.next(), heard.next()], ["WATCHDOG=1", "WATCHDOG=1"]);
            heard
        });
        let heard = heard.await.unwrap();
        board.set("collector", TaskState::Failed("it is broken".to_owned()));
        // What was on its way may still come before the word of the failure; nothing comes after it.
        let heard = tokio::task::spawn_blocking(move || {
            while heard.next() == "WATCHDOG=1" {}
            heard.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let silence = heard.0.recv(&mut [0; 64]).unwrap_err().kind();
            assert_eq!(silence, std::io::ErrorKind::WouldBlock);
        });
        heard.await.unwrap();
        telling.abort();
    }
}
