//! Writing the file: tar inside zstd, the digest of each entry on the way, the manifest last.
//!
//! Invariant: under its name the file is whole and on disk; before, it is `NAME.part`, for its owner alone.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Error;
use super::manifest::{Entry, Manifest, NAME};

/// What zstd itself takes for a good bargain.
const LEVEL: i32 = 3;

type Packer = tar::Builder<zstd::Encoder<'static, Box<dyn Write>>>;

/// A backup being written.
pub(super) struct Writer<'a> {
    tar: Packer,
    to: Destination,
    pub entries: std::collections::BTreeMap<String, Entry>,
    written: u64,
    expected: u64,
    on_progress: &'a mut dyn FnMut(u64, u64),
    time_s: u64,
}

enum Destination {
    Stdout,
    File { path: PathBuf, part: PathBuf, handle: File },
}

impl Destination {
    fn path(&self) -> &Path {
        match self {
            Self::Stdout => Path::new("standard output"),
            Self::File { path, .. } => path,
        }
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Self::File { part, .. } = self {
            // After the rename there is nothing of that name; after an error nothing is to be left.
            let _ = fs::remove_file(part);
        }
    }
}

/// The name of a file in the making.
pub(super) fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

impl<'a> Writer<'a> {
    /// Begins; `None` writes to standard output.
    pub fn begin(
        path: Option<&Path>,
        expected: u64,
        time_s: u64,
        on_progress: &'a mut dyn FnMut(u64, u64),
    ) -> Result<Self, Error> {
        let (out, to): (Box<dyn Write>, _) = match path {
            None => (Box::new(io::stdout()), Destination::Stdout),
            Some(path) => {
                if path.exists() {
                    return Err(Error::Exists { path: path.to_owned() });
                }
                let part = part_of(path);
                let file = take_part(path, &part)?;
                let handle = file.try_clone().map_err(Error::io("create", &part))?;
                let buffered = BufWriter::with_capacity(1 << 20, file);
                (Box::new(buffered), Destination::File { path: path.to_owned(), part, handle })
            }
        };
        let fault = |error| Error::io("write", to.path())(error);
        let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(fault)?;
        encoder.include_checksum(true).map_err(fault)?;
        let tar = tar::Builder::new(encoder);
        Ok(Self { tar, to, entries: Default::default(), written: 0, expected, on_progress, time_s })
    }

    /// Adds an entry of exactly `size` bytes.
    pub fn add(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(self.time_s);
        header.set_entry_type(tar::EntryType::Regular);
        let before = self.written;
        let (expected, on_progress) = (self.expected, &mut *self.on_progress);
        let on_read = &mut |done: u64| on_progress(before + done, expected);
        let mut content = Hashed { inner: content.take(size), sha: Sha256::new(), done: 0, on_read };
        self.tar.append_data(&mut header, name, &mut content)?;
        if content.done != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{name} became shorter while it was read"),
            ));
        }
        let sha256 = hex::encode(content.sha.finalize());
        self.written += size;
        self.entries.insert(name.to_owned(), Entry { size_bytes: size, sha256 });
        Ok(())
    }

    /// [`add`](Self::add), of bytes.
    pub fn add_bytes(&mut self, name: &str, mut bytes: &[u8]) -> Result<(), Error> {
        let size = bytes.len() as u64;
        self.add(name, size, &mut bytes).map_err(|error| self.fault(error))
    }

    /// What writing ran into.
    pub fn fault(&self, error: io::Error) -> Error {
        Error::io("write", self.to.path())(error)
    }

    /// Writes the manifest, makes all of it durable and gives it its name. Returns the file's length, if it is one.
    pub fn finish(mut self, manifest: &Manifest) -> Result<Option<u64>, Error> {
        let text = serde_json::to_vec(manifest).map_err(|error| self.fault(error.into()))?;
        self.add_bytes(NAME, &text)?;
        let Self { tar, to, .. } = self;
        let fault = |error| Error::io("write", to.path())(error);
        let mut out = tar.into_inner().and_then(zstd::Encoder::finish).map_err(fault)?;
        out.flush().map_err(fault)?;
        drop(out);
        let Destination::File { path, part, handle } = &to else { return Ok(None) };
        handle.sync_all().map_err(fault)?;
        let size = handle.metadata().map_err(fault)?.len();
        fs::rename(part, path).map_err(fault)?;
        sync_parent(path).map_err(fault)?;
        Ok(Some(size))
    }
}

/// Opens the file in the making, empty; what an earlier one that was killed has left is used again.
fn take_part(path: &Path, part: &Path) -> Result<File, Error> {
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(part);
    let file = open.map_err(Error::io("create", part))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(Error::Busy { path: path.to_owned() }),
        Err(fs::TryLockError::Error(error)) => return Err(Error::io("lock", part)(error)),
    }
    // Who had it until now may have given it its name.
    if path.exists() {
        return Err(Error::Exists { path: path.to_owned() });
    }
    file.set_permissions(Permissions::from_mode(0o600))
        .and_then(|()| file.set_len(0))
        .map_err(Error::io("create", part))?;
    Ok(file)
}

/// Makes a name durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

struct Hashed<'a, R> {
    inner: R,
    sha: Sha256,
    done: u64,
    on_read: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sha.update(&buffer[..count]);
        self.done += count as u64;
        (self.on_read)(self.done);
        Ok(count)
    }
}
