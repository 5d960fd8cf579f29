//! Bringing a backup back: into an empty data directory and an empty database, or not at all.
//!
//! Everything is made ready in `restore.part` inside the data directory, which is named away last: a server does not start
//! on a directory that has it. (Inside, and not beside: the directory may be a mount point.) It is made before the backup is
//! read, and only one can make it. A Postgres database is filled in one transaction before it is named away.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::keys::{self, Passphrase};
use super::make::MAX_SECRET_BYTES;
use super::manifest::{Entry, Manifest, NAME, SecretsForm};
use super::read::{self, copy_hashed, read_whole};
use super::write::{part_of, sync_parent};
use super::{Error, UNFINISHED, files};
use crate::store;
#[cfg(feature = "postgres")]
use crate::store::CopyError;
use crate::vault::Keyring;
use crate::{journal, store::dialect};

/// The settings of the original, for people to look at.
pub(super) const SETTINGS: &str = "restored-settings.toml";

/// A sealed key has no more: the envelope is some bytes.
const MAX_SEALED_BYTES: u64 = MAX_SECRET_BYTES + 1024;
/// Rows of one part: about a mebibyte, or one row that is larger.
#[cfg(feature = "postgres")]
const MAX_PART_BYTES: u64 = 256 << 20;

/// Where to restore to, and what.
pub struct Target<'a> {
    /// An empty directory, or one that is not there yet.
    pub data_dir: &'a Path,
    /// A database that is empty, or not there yet; `None` = only the data directory is restored.
    pub database_url: Option<&'a str>,
    /// Opens sealed keys; a backup whose keys are not sealed is refused then.
    pub passphrase: Option<Passphrase>,
    /// Keys are left out, whatever the backup has.
    pub without_secrets: bool,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// Tables in it that are none of ours, and were left out.
    pub tables_left_out: Vec<String>,
    /// Where the settings of the original are now.
    pub settings_file: PathBuf,
}

/// Checks the backup and the target, then restores.
pub fn restore(path: &Path, target: Target<'_>, on_progress: &mut dyn FnMut(u64, u64)) -> Result<Restored, Error> {
    refuse_used_dir(target.data_dir)?;
    let mut stage = Stage::make(target.data_dir)?;
    let manifest = read::check(path, on_progress)?;
    let database = target.database_url.map(|url| place_database(&mut stage, &manifest, url)).transpose()?;
    let ring = ring(&target, &manifest)?;
    files::need(target.data_dir, manifest.size_bytes())?;
    let work = Work { path, manifest: &manifest, target: &target, ring, stage: &stage, database: database.as_ref() };
    work.unpack(on_progress)?;
    work.go_on_behind()?;
    // A server keeps away from the stage, but not every command does: what came meanwhile stays.
    refuse_others(target.data_dir)?;
    let tables_left_out = work.fill_database()?;
    stage.publish()?;
    let settings_file = target.data_dir.join(SETTINGS);
    Ok(Restored { manifest, tables_left_out, settings_file })
}

fn refuse_used_dir(dir: &Path) -> Result<(), Error> {
    match dir.join(UNFINISHED).exists() {
        true => Err(Error::Unfinished { dir: dir.to_owned() }),
        false => refuse_others(dir),
    }
}

/// Refuses what lies in the directory beside a stage.
fn refuse_others(dir: &Path) -> Result<(), Error> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(Error::io("list", dir))?,
    };
    let mut names = listed.flatten().map(|item| item.file_name().to_string_lossy().into_owned());
    match names.find(|name| !["lost+found", UNFINISHED].contains(&name.as_str())) {
        Some(what) => Err(Error::NotEmpty { dir: dir.to_owned(), what }),
        None => Ok(()),
    }
}

/// Refuses a place where there is any file of a database: a log alone would be taken for one of what is restored beside it.
fn refuse_database(path: &Path) -> Result<(), Error> {
    match files::of_sqlite(path).into_iter().find(|file| fs::symlink_metadata(file).is_ok()) {
        Some(path) => Err(Error::Exists { path }),
        None => Ok(()),
    }
}

/// Where the database goes.
enum Database<'a> {
    /// By its real path.
    Sqlite(PathBuf),
    Postgres(#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "the URL is refused before"))] &'a str),
}

fn place_database<'a>(stage: &mut Stage, manifest: &Manifest, url: &'a str) -> Result<Database<'a>, Error> {
    let wanted = dialect(url)?;
    let found = manifest.dialect.as_deref().ok_or(Error::NoDatabase)?;
    if found != wanted {
        return Err(Error::Dialect { found: found.to_owned(), wanted: wanted.to_owned() });
    }
    store::check_schema(wanted, &manifest.schema)?;
    let Some(path) = url.strip_prefix("sqlite://") else {
        check_empty(url)?;
        return Ok(Database::Postgres(url));
    };
    let path = files::real(Path::new(path));
    stage.begin_database(&path)?;
    Ok(Database::Sqlite(path))
}

#[cfg(feature = "postgres")]
fn check_empty(url: &str) -> Result<(), Error> {
    store::check_empty(url).map_err(Error::Database)
}

/// Never asked: the kind of database is checked before.
#[cfg(not(feature = "postgres"))]
fn check_empty(url: &str) -> Result<(), Error> {
    dialect(url).map(drop).map_err(Error::from)
}

fn ring(target: &Target<'_>, manifest: &Manifest) -> Result<Option<Keyring>, Error> {
    if target.without_secrets {
        return Ok(None);
    }
    if manifest.secrets != SecretsForm::Sealed {
        // Whoever names one counts on it: only who knows it can have made what is restored.
        return match target.passphrase {
            Some(_) => Err(Error::NotSealed { form: manifest.secrets.words() }),
            None => Ok(None),
        };
    }
    let passphrase = target.passphrase.as_ref().ok_or(Error::PassphraseMissing)?;
    let how = manifest.derivation.as_ref().ok_or(Error::PassphraseWrong)?;
    passphrase.derive_again(manifest.id, how).map(Some)
}

struct Work<'a> {
    path: &'a Path,
    manifest: &'a Manifest,
    target: &'a Target<'a>,
    ring: Option<Keyring>,
    stage: &'a Stage,
    database: Option<&'a Database<'a>>,
}

impl Work<'_> {
    /// Writes all files, and syncs them.
    fn unpack(&self, on_progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
        let (mut archive, ..) = read::open(self.path)?;
        let (all, mut done) = (self.manifest.size_bytes(), 0);
        for entry in read::entries(&mut archive, self.path)? {
            let (name, mut entry) = entry?;
            let Some(to) = self.place(&name)? else { continue };
            let written = match name.strip_prefix("secrets/").zip(self.ring.as_ref()) {
                Some((secret, ring)) => self.open_secret(secret, ring, &mut entry, &to)?,
                None => write_file(&mut entry, &to, &mut |now| on_progress(done + now, all))?,
            };
            self.compare(&name, &written)?;
            done += written.size_bytes;
        }
        Ok(())
    }

    /// Where an entry goes; `None` = nowhere, or into the database.
    fn place(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        let (place, rest) = name.split_once('/').unwrap_or((name, ""));
        let to = match place {
            NAME => return Ok(None),
            "secrets" if self.target.without_secrets => return Ok(None),
            "database" => {
                return Ok(match self.database {
                    Some(Database::Sqlite(path)) => Some(self.stage.staged(path)),
                    Some(Database::Postgres(_)) | None => None,
                });
            }
            "settings.toml" => return Ok(Some(self.stage.dir.join(SETTINGS))),
            "files" | "secrets" => self.stage.dir.join(rest),
            _ => self.stage.dir.join(name),
        };
        if !to.starts_with(&self.stage.dir) {
            return Err(read::strange_name(self.path));
        }
        Ok(Some(to).filter(|to| !self.is_taken(to)))
    }

    /// Whether a place is of something that has an entry of its own. Older backups may also have a torn copy of the database
    /// among the files, and the backup of a restored server has the settings of the one before.
    fn is_taken(&self, to: &Path) -> bool {
        let is_of_database = match self.database {
            Some(Database::Sqlite(path)) => files::of_sqlite(&self.stage.staged(path)).iter().any(|file| file == to),
            _ => false,
        };
        is_of_database || to == self.stage.dir.join(SETTINGS)
    }

    fn open_secret(&self, name: &str, ring: &Keyring, from: &mut dyn Read, to: &Path) -> Result<Entry, Error> {
        let (sealed, written) = read_whole(from, MAX_SEALED_BYTES).map_err(Error::io("read", self.path))?;
        let clear = keys::open(ring, self.manifest.id, name, &sealed)?;
        write_file(&mut clear.as_slice(), to, &mut |_| ())?;
        Ok(written)
    }

    /// The file was read before; that it is still the same is looked at again.
    fn compare(&self, name: &str, found: &Entry) -> Result<(), Error> {
        match self.manifest.entries.get(name) {
            Some(entry) if entry == found => Ok(()),
            _ => Err(Error::Changed { path: self.path.to_owned() }),
        }
    }

    /// The journal and an SQLite database as this program wants them.
    fn go_on_behind(&self) -> Result<(), Error> {
        if self.manifest.journal.is_some() {
            journal::begin_new_life(&self.stage.dir.join("journal"))?;
        }
        if let Some(Database::Sqlite(path)) = self.database {
            let staged = self.stage.staged(path);
            store::migrate(&format!("sqlite://{}", staged.display()), false)?;
            for end in ["-wal", "-shm"] {
                // Gone with its last connection already.
                let _ = fs::remove_file(format!("{}{end}", staged.display()));
            }
        }
        Ok(())
    }

    fn fill_database(&self) -> Result<Vec<String>, Error> {
        match self.database {
            Some(Database::Sqlite(path)) => {
                let staged = self.stage.staged(path);
                File::open(&staged).and_then(|file| file.sync_all()).map_err(Error::io("sync", &staged))?;
                if !staged.starts_with(&self.stage.dir) {
                    refuse_database(path)?;
                    fs::rename(&staged, path).map_err(Error::io("rename", &staged))?;
                    sync_parent(path).map_err(Error::io("sync", path))?;
                }
                Ok(Vec::new())
            }
            #[cfg(feature = "postgres")]
            Some(Database::Postgres(url)) => self.fill_postgres(url),
            _ => Ok(Vec::new()),
        }
    }

    #[cfg(feature = "postgres")]
    fn fill_postgres(&self, url: &str) -> Result<Vec<String>, Error> {
        let (mut archive, ..) = read::open(self.path)?;
        let mut entries = read::entries(&mut archive, self.path)?;
        let mut give = || {
            for entry in entries.by_ref() {
                let (name, mut entry) = entry.map_err(io::Error::other)?;
                if let Some(part) = name.strip_prefix("database/") {
                    let (bytes, found) = read_whole(&mut entry, MAX_PART_BYTES)?;
                    self.compare(&name, &found).map_err(io::Error::other)?;
                    return Ok(Some((part.to_owned(), bytes)));
                }
            }
            Ok(None)
        };
        store::copy_in(url, &self.manifest.schema, &mut give).map_err(|error| match error {
            CopyError::Io(error) => Error::io("read", self.path)(error),
            error => Error::Database(error),
        })
    }
}

/// Writes a new private file, its directories with it, and syncs it.
fn write_file(from: &mut dyn Read, to: &Path, on_read: &mut dyn FnMut(u64)) -> Result<Entry, Error> {
    make_parent(to)?;
    let open = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(to);
    let mut file = open.map_err(Error::io("create", to))?;
    let written = copy_hashed(from, &mut file, on_read).map_err(Error::io("write", to))?;
    file.sync_all().map_err(Error::io("sync", to))?;
    Ok(written)
}

/// Makes the directories that a file is to be in.
fn make_parent(path: &Path) -> Result<(), Error> {
    let Some(dir) = path.parent() else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(Error::io("create", dir))
}

/// The directory in which everything is made ready.
struct Stage {
    /// By its real path.
    data_dir: PathBuf,
    dir: PathBuf,
    /// The database in the making, where it does not belong into the data directory.
    outside: Option<PathBuf>,
    /// Whether the data directory was made by us.
    is_new: bool,
    is_published: std::cell::Cell<bool>,
}

impl Stage {
    /// Takes hold of an empty data directory, or makes it.
    fn make(data_dir: &Path) -> Result<Self, Error> {
        let is_new = !data_dir.exists();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
        made.map_err(Error::io("create", data_dir))?;
        let data_dir = files::real(data_dir);
        let dir = data_dir.join(UNFINISHED);
        DirBuilder::new().mode(0o700).create(&dir).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Unfinished { dir: data_dir.clone() },
            _ => Error::io("create", &dir)(error),
        })?;
        let stage = Self { data_dir, dir, outside: None, is_new, is_published: false.into() };
        let synced = sync_parent(&stage.dir).and_then(|()| sync_parent(&stage.data_dir));
        synced.map_err(Error::io("sync", &stage.data_dir))?;
        // Who came after the first look, and before there was a stage to see.
        refuse_others(&stage.data_dir)?;
        Ok(stage)
    }

    /// Makes sure that nothing is where a database is to be, and begins it beside that place where the place is not in here.
    fn begin_database(&mut self, path: &Path) -> Result<(), Error> {
        let staged = self.staged(path);
        refuse_database(path)?;
        if staged.starts_with(&self.dir) {
            return Ok(());
        }
        refuse_database(&staged)?;
        make_parent(&staged)?;
        let begun = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&staged);
        begun.map_err(Error::io("create", &staged))?;
        self.outside = Some(staged);
        Ok(())
    }

    /// Where a file is made ready that is to be `path`.
    fn staged(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.data_dir) {
            Ok(inside) => self.dir.join(inside),
            Err(_) => part_of(path),
        }
    }

    /// Gives everything its place; from here on it is a data directory.
    fn publish(&self) -> Result<(), Error> {
        // From here on the database may be filled: what is made ready is kept, whatever comes.
        self.is_published.set(true);
        sync_dirs(&self.dir)?;
        for item in fs::read_dir(&self.dir).map_err(Error::io("list", &self.dir))? {
            let item = item.map_err(Error::io("list", &self.dir))?;
            let to = self.data_dir.join(item.file_name());
            fs::rename(item.path(), &to).map_err(Error::io("rename", &item.path()))?;
        }
        sync_parent(&self.dir).map_err(Error::io("sync", &self.data_dir))?;
        fs::remove_dir(&self.dir).map_err(Error::io("remove", &self.dir))?;
        sync_parent(&self.dir).map_err(Error::io("sync", &self.data_dir))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.is_published.get() {
            // It failed: nothing of it is left.
            let _ = fs::remove_dir_all(&self.dir);
            for file in self.outside.iter().flat_map(|path| files::of_sqlite(path)) {
                let _ = fs::remove_file(file);
            }
            if self.is_new {
                let _ = fs::remove_dir(&self.data_dir);
            }
        }
    }
}

fn sync_dirs(root: &Path) -> Result<(), Error> {
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for item in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let item = item.map_err(Error::io("list", &dir))?;
            if item.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(item.path());
            }
        }
        File::open(&dir).and_then(|d| d.sync_all()).map_err(Error::io("sync", &dir))?;
    }
    Ok(())
}
