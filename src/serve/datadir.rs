//! The data directory: who owns it, what is in it, who may read it.
//!
//! Invariant: at most one process holds it (an advisory lock that ends with the process, so a crash leaves nothing
//! behind); directories are 0700, secrets 0600.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

/// Who has just ended may have the lock a moment longer, in a child that is about to become another program …
const GRACE: Duration = Duration::from_secs(1);
/// … so it is asked for again, so far apart.
const PAUSE: Duration = Duration::from_millis(20);

/// A locked data directory.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// Held, not used: the locks (of the whole, and of the journal, which may lie elsewhere) end when the files are closed.
    _locks: [File; 2],
}

/// The addresses really bound, as written to `run/addresses.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Addresses {
    pub http: std::net::SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https: Option<std::net::SocketAddr>,
    pub mqtt: std::net::SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtts: Option<std::net::SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ws: Option<std::net::SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wss: Option<std::net::SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<std::net::SocketAddr>,
}

impl DataDir {
    /// Makes the directory and its parts where they are missing, and locks it.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !root.join(crate::backup::UNFINISHED).exists(),
            "the data directory {} holds a restore that was cut short; remove everything in it and restore again",
            root.display()
        );
        for part in ["", "journal", "run", "pki"] {
            let dir = root.join(part);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .with_context(|| format!("cannot make the directory {}", dir.display()))?;
        }
        let path = root.join("run/lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match lock_soon(&lock) {
            Ok(()) => {
                let journal = hold_journal(&root.join("journal"))?;
                Ok(Self { root: root.to_owned(), _locks: [lock, journal] })
            }
            Err(fs::TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(root.join("run/pid")).unwrap_or_default();
                bail!(
                    "the data directory {} is in use by another iot-meter process{}; stop it first, or start this one with \
                     another --data-dir",
                    root.display(),
                    if pid.is_empty() { String::new() } else { format!(" (pid {})", pid.trim()) }
                )
            }
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Makes sure that no process writes a journal while the answer is held, by whatever way its directory is named. Makes
    /// nothing.
    pub fn journal_at_rest(journal: &Path) -> anyhow::Result<[Option<File>; 2]> {
        let journal = fs::canonicalize(journal).with_context(|| format!("cannot find {}", journal.display()))?;
        let dir = hold_journal(&journal)?;
        // Where directories cannot be locked, the lock beside it is all there is.
        let path = journal.with_file_name("run").join("lock");
        let lock = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok([Some(dir), None]),
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        };
        match lock_soon(&lock) {
            Ok(()) => Ok([Some(dir), Some(lock)]),
            Err(fs::TryLockError::WouldBlock) => Err(journal_in_use(&journal)),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Whether a process holds the directory, as far as can be seen.
    pub fn is_held(root: &Path) -> bool {
        File::open(root.join("run/lock"))
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    /// A path inside.
    pub fn path(&self, part: &str) -> PathBuf {
        self.root.join(part)
    }

    /// This node's id; made at the first start.
    pub fn node_id(&self) -> anyhow::Result<uuid::Uuid> {
        let path = self.path("node-id");
        match fs::read_to_string(&path) {
            Ok(text) => uuid::Uuid::try_parse(text.trim())
                .with_context(|| format!("{} does not hold a node id (a UUID)", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = uuid::Uuid::new_v4();
                write_private(&path, format!("{id}\n").as_bytes())?;
                Ok(id)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes `run/pid` and `run/addresses.json`: the process is about to serve.
    pub fn announce(&self, addresses: &Addresses) -> anyhow::Result<()> {
        write_private(&self.path("run/pid"), format!("{}\n", std::process::id()).as_bytes())?;
        write_private(&self.path("run/addresses.json"), &serde_json::to_vec(addresses)?)
    }

    /// Takes the announcement back.
    pub fn withdraw(&self) {
        for name in ["run/addresses.json", "run/pid"] {
            // Missing is as good as removed.
            let _ = fs::remove_file(self.path(name));
        }
    }
}

/// Locks a journal's directory, where the file system has locks of directories.
fn hold_journal(dir: &Path) -> anyhow::Result<File> {
    let file = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    match lock_soon(&file) {
        Err(fs::TryLockError::WouldBlock) => Err(journal_in_use(dir)),
        Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(file),
    }
}

fn journal_in_use(dir: &Path) -> anyhow::Error {
    anyhow::anyhow!("the journal {} is in use by another iot-meter process; stop it first", dir.display())
}

fn lock_soon(file: &File) -> Result<(), fs::TryLockError> {
    let end = Instant::now() + GRACE;
    loop {
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(PAUSE),
            result => return result,
        }
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let part = path.with_extension("part");
    let write = || -> io::Result<()> {
        // Not reused: a leftover could have other permissions.
        let _ = fs::remove_file(&part);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_by_name_and_admitted_when_the_first_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let refused = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("in use by another iot-meter process"), "{refused}");
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_journal_is_at_rest_for_one_of_us_by_whatever_way_it_is_named() {
        let (dir, fast) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let journal = dir.path().join("journal");
        std::os::unix::fs::symlink(fast.path(), &journal).unwrap();
        let server = DataDir::open(dir.path()).unwrap();
        assert!(DataDir::is_held(dir.path()));
        for way in [journal.as_path(), &journal.join("."), fast.path()] {
            let refused = DataDir::journal_at_rest(way).unwrap_err().to_string();
            assert!(refused.contains("stop it first"), "{}: {refused}", way.display());
        }
        drop(server);
        assert!(!DataDir::is_held(dir.path()));
        let at_rest = DataDir::journal_at_rest(fast.path()).unwrap();
        assert!(DataDir::open(dir.path()).unwrap_err().to_string().contains("the journal"));
        drop(at_rest);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn the_node_id_stays_and_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("new")).unwrap();
        assert_eq!(data.node_id().unwrap(), data.node_id().unwrap());
        let mode = |part: &str| fs::metadata(data.path(part)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("node-id"), 0o600);
        assert_eq!(mode(""), 0o700);
        assert_eq!(mode("journal"), 0o700);
    }
}
