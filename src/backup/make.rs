//! Making a backup, beside a server that goes on working.
//!
//! Invariant: the journal is taken hold of before the snapshot of the database begins (see the front page).

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::files;
use super::keys::{self, Passphrase};
use super::manifest::{FORMAT, JournalRange, Manifest, SecretsForm};
use super::write::{Writer, part_of};
use super::{Error, UNFINISHED};
use crate::domain::Timestamp;
use crate::journal::{self, Copied};
use crate::store::{self, CopyError, Outgoing};
use crate::vault::Keyring;

/// A key file has no more.
pub(super) const MAX_SECRET_BYTES: u64 = 1 << 20;

/// What becomes of keys.
pub enum Secrets {
    /// They are sealed.
    Sealed(Passphrase),
    /// They go in as they are.
    Clear,
    /// They are left out.
    LeftOut,
}

/// What to make a backup of.
pub struct Source<'a> {
    /// The data directory.
    pub data_dir: &'a Path,
    /// The database.
    pub database_url: &'a str,
    /// The database is left out: it has its own means.
    pub without_database: bool,
    /// The archive's URL, when it is wanted too.
    pub archive_url: Option<&'a str>,
    /// The settings, as a file of settings, without secrets.
    pub settings: &'a str,
    /// Of Postgres, also measurements and events.
    pub has_telemetry: bool,
    /// What becomes of keys.
    pub secrets: Secrets,
    /// The version of the program.
    pub program: &'a str,
    /// Now.
    pub now: Timestamp,
}

/// A backup that was made.
#[derive(Debug)]
pub struct Made {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The file's length; `None` on standard output.
    pub size_bytes: Option<u64>,
}

/// Makes a backup and writes it to a new file, or with `None` to standard output.
pub fn make(source: Source<'_>, to: Option<&Path>, on_progress: &mut dyn FnMut(u64, u64)) -> Result<Made, Error> {
    let archive = source.archive_url.map(archive_dir).transpose()?;
    if source.data_dir.join(UNFINISHED).exists() {
        return Err(Error::Unfinished { dir: source.data_dir.to_owned() });
    }
    let journal = journal::copy(&source.data_dir.join("journal"))?;
    let scratch = Scratch::make(source.data_dir, to)?;
    let database_bytes = if source.without_database { 0 } else { store::size_estimate(source.database_url) };
    files::need(&scratch.dir, database_bytes)?;
    let (id, dialect) = (uuid::Uuid::new_v4(), store::dialect(source.database_url)?);
    let (secrets, sealing) = match &source.secrets {
        Secrets::Sealed(passphrase) => (SecretsForm::Sealed, Some(passphrase.derive(id))),
        Secrets::Clear => (SecretsForm::Clear, None),
        Secrets::LeftOut => (SecretsForm::None, None),
    };
    let (derivation, ring) = sealing.unzip();
    let journal_bytes: u64 = journal.iter().flat_map(|copied| &copied.segments).map(|segment| segment.bytes).sum();
    let expected = if dialect == "sqlite" || source.without_database { database_bytes + journal_bytes } else { 0 };
    let time_s = u64::try_from(source.now.0 / 1_000_000).unwrap_or(0);
    let mut writer = Writer::begin(to, expected, time_s, on_progress)?;
    let mut manifest = Manifest {
        format: FORMAT,
        id,
        program: source.program.to_owned(),
        begun_at: source.now.to_string(),
        node_id: journal.as_ref().map(|copied| copied.node_id),
        dialect: (!source.without_database).then(|| dialect.to_owned()),
        schema: Vec::new(),
        has_telemetry: !source.without_database && (source.has_telemetry || dialect == "sqlite"),
        has_archive: archive.is_some(),
        journal: journal.as_ref().map(|copied| JournalRange { first: copied.first.0, head: copied.head.0 }),
        secrets,
        derivation,
        entries: Default::default(),
    };
    writer.add_bytes("settings.toml", source.settings.as_bytes())?;
    add_journal(&mut writer, journal)?;
    let form = Form { id, secrets, ring: ring.as_ref() };
    let mut known = BTreeSet::new();
    add_files(&mut writer, &source, &form, "", &mut known)?;
    add_node_file(&mut writer, &source, &scratch.dir)?;
    if !source.without_database {
        manifest.schema = add_database(&mut writer, &source, &scratch.dir)?;
        // An image has its file before its row: with what has come meanwhile, each row of the snapshot has its file.
        while !add_files(&mut writer, &source, &form, "firmware/", &mut known)? {}
    }
    if let Some(dir) = archive {
        add_archive(&mut writer, &dir)?;
    }
    manifest.entries.clone_from(&writer.entries);
    let size_bytes = writer.finish(&manifest)?;
    Ok(Made { manifest, size_bytes })
}

/// The directory of an archive that is one.
fn archive_dir(url: &str) -> Result<PathBuf, Error> {
    let dir = crate::archive::dir_of(url).ok_or_else(|| Error::ArchiveElsewhere { url: url.to_owned() })?;
    std::fs::read_dir(&dir).map(drop).map_err(Error::io("read", &dir))?;
    Ok(dir)
}

/// Adds a file as it is now; `false` = it is there no more.
fn add_file(writer: &mut Writer<'_>, name: &str, path: &Path) -> Result<bool, Error> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let size = file.metadata().map_err(Error::io("inspect", path))?.len();
    writer.add(name, size, &mut file).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Changed { path: path.to_owned() },
        _ => writer.fault(error),
    })?;
    Ok(true)
}

fn add_journal(writer: &mut Writer<'_>, journal: Option<Copied>) -> Result<(), Error> {
    for mut segment in journal.into_iter().flat_map(|copied| copied.segments) {
        let name = format!("journal/{}", segment.name);
        writer.add(&name, segment.bytes, &mut segment.file).map_err(|error| writer.fault(error))?;
    }
    Ok(())
}

/// How keys go in.
struct Form<'a> {
    id: uuid::Uuid,
    secrets: SecretsForm,
    ring: Option<&'a Keyring>,
}

/// Adds the files whose names begin with `place` and that are not `known` yet; `false` = one of them is there no more, or
/// has another name by now.
fn add_files(
    writer: &mut Writer<'_>,
    source: &Source<'_>,
    form: &Form<'_>,
    place: &str,
    known: &mut BTreeSet<String>,
) -> Result<bool, Error> {
    let mut is_complete = true;
    for (name, path) in files::of_data_dir(source.data_dir, &database_files(source))? {
        if !name.starts_with(place) || !known.insert(name.clone()) {
            continue;
        }
        if keys::is_secret(&name) {
            add_secret(writer, &name, &path, form)?;
        } else {
            is_complete &= add_file(writer, &format!("files/{name}"), &path)?;
        }
    }
    Ok(is_complete)
}

fn add_secret(writer: &mut Writer<'_>, name: &str, path: &Path, form: &Form<'_>) -> Result<(), Error> {
    if form.secrets == SecretsForm::None {
        return Ok(());
    }
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut clear = Zeroizing::new(Vec::new());
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut clear).map_err(Error::io("read", path))?;
    if clear.len() as u64 > MAX_SECRET_BYTES {
        return Err(Error::KeyTooLarge { path: path.to_owned(), max_bytes: MAX_SECRET_BYTES });
    }
    let entry = format!("secrets/{name}");
    match form.ring {
        Some(ring) => writer.add_bytes(&entry, &keys::seal(ring, form.id, name, &clear)),
        None => writer.add_bytes(&entry, &clear),
    }
}

/// The files of SQLite databases, by their real paths: the URL may name them from elsewhere, or through a link.
fn database_files(source: &Source<'_>) -> Vec<PathBuf> {
    let database = source.database_url.strip_prefix("sqlite://").map(|path| files::real(Path::new(path)));
    let of_node = files::real(&source.data_dir.join(store::NODE_FILE));
    database.iter().chain([&of_node]).flat_map(|path| files::of_sqlite(path)).collect()
}

/// What a node keeps for itself beside a database on another machine, as a snapshot: others write to it.
fn add_node_file(writer: &mut Writer<'_>, source: &Source<'_>, scratch: &Path) -> Result<(), Error> {
    let path = source.data_dir.join(store::NODE_FILE);
    if !store::may_be_away(source.database_url) || !path.exists() {
        return Ok(());
    }
    let url = format!("sqlite://{}", path.display());
    let from = Outgoing { url: &url, scratch, has_telemetry: false };
    let name = format!("files/{}", store::NODE_FILE);
    let copied = store::copy_out(from, &mut |part| writer.add(&name, part.size, part.content));
    copied.map(drop).map_err(|error| cannot_copy(writer, scratch, error))
}

fn add_database(writer: &mut Writer<'_>, source: &Source<'_>, scratch: &Path) -> Result<Vec<String>, Error> {
    let from = Outgoing { url: source.database_url, scratch, has_telemetry: source.has_telemetry };
    let copied =
        store::copy_out(from, &mut |part| writer.add(&format!("database/{}", part.name), part.size, part.content));
    copied.map_err(|error| cannot_copy(writer, scratch, error))
}

fn cannot_copy(writer: &Writer<'_>, scratch: &Path, error: CopyError) -> Error {
    match error {
        CopyError::Io(error) => writer.fault(error),
        error if is_full(&error) => Error::DiskFull { path: scratch.to_owned() },
        error => Error::Database(error),
    }
}

/// Whether SQLite found no room for its copy.
fn is_full(error: &CopyError) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.to_string().contains("database or disk is full") {
            return true;
        }
        source = error.source();
    }
    false
}

/// Objects may be joined into others meanwhile: what has come instead is listed until nothing is missing any more.
fn add_archive(writer: &mut Writer<'_>, dir: &Path) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    loop {
        let mut is_complete = true;
        for (name, path) in files::new_below(dir, &known)? {
            is_complete &= add_file(writer, &format!("archive/{name}"), &path)?;
            known.insert(name);
        }
        if is_complete {
            return Ok(());
        }
    }
}

/// A private directory for the copy of the database, beside the backup; gone with this value.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn make(data_dir: &Path, to: Option<&Path>) -> Result<Self, Error> {
        let dir = match to {
            Some(path) => part_of(&path.with_added_extension("database")),
            None => data_dir.join(format!("backup-{}.part", std::process::id())),
        };
        // What one that was killed has left.
        let _ = fs::remove_dir_all(&dir);
        DirBuilder::new().mode(0o700).create(&dir).map_err(Error::io("create", &dir))?;
        Ok(Self { dir })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
