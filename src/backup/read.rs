//! Reading a backup: first all of it, to see whether it is what was written; then entry by entry.
//!
//! Invariant: a name from the file never leads out of the directory it is joined to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::Error;
use super::manifest::{Entry, FORMAT, Manifest, NAME};

/// A manifest is smaller than this: entries of a terabyte.
const MAX_MANIFEST_BYTES: u64 = 256 << 20;
/// Where entries lie.
const PLACES: [&str; 5] = ["journal/", "files/", "secrets/", "database/", "archive/"];

/// A file being read.
pub(super) type Unpacker = tar::Archive<zstd::Decoder<'static, BufReader<Counted>>>;

/// Counts what was read of the file.
pub(super) struct Counted {
    file: File,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Opens a backup; also gives how many bytes of how many were read.
pub(super) fn open(path: &Path) -> Result<(Unpacker, Arc<AtomicU64>, u64), Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let size = file.metadata().map_err(Error::io("inspect", path))?.len();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Counted { file, count: Arc::clone(&count) };
    let decoder = zstd::Decoder::new(counted).map_err(Error::io("read", path))?;
    Ok((tar::Archive::new(decoder), count, size))
}

/// Reads a backup through and compares everything with its manifest.
pub fn check(path: &Path, on_progress: &mut dyn FnMut(u64, u64)) -> Result<Manifest, Error> {
    let (mut archive, count, size) = open(path)?;
    let bad = |error: io::Error| Error::damaged(path, error.to_string());
    let (mut found, mut manifest) = (BTreeMap::new(), None);
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let name = name_of(&entry, path)?;
        if manifest.is_some() {
            return Err(Error::damaged(path, format!("{name} stands behind its end")));
        }
        if name == NAME {
            manifest = Some(read_manifest(&mut entry, path)?);
            continue;
        }
        let digest = digest(&mut entry, &mut |_| on_progress(count.load(Ordering::Relaxed), size)).map_err(bad)?;
        if found.insert(name.clone(), digest).is_some() {
            return Err(Error::damaged(path, format!("{name} is there twice")));
        }
    }
    // The checksum of the whole stands behind the last entry.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(bad)?;
    let manifest = manifest.ok_or_else(|| Error::damaged(path, "its end is missing"))?;
    compare(&found, &manifest, path)?;
    Ok(manifest)
}

fn compare(found: &BTreeMap<String, Entry>, manifest: &Manifest, path: &Path) -> Result<(), Error> {
    let differing = manifest.entries.iter().find(|(name, entry)| found.get(*name) != Some(entry));
    if let Some((name, _)) = differing {
        let what = if found.contains_key(name) { "is not what was written" } else { "is missing" };
        return Err(Error::damaged(path, format!("{name} {what}")));
    }
    match found.keys().find(|name| !manifest.entries.contains_key(*name)) {
        Some(name) => Err(Error::damaged(path, format!("{name} does not belong to it"))),
        None => Ok(()),
    }
}

fn read_manifest(entry: &mut dyn Read, path: &Path) -> Result<Manifest, Error> {
    let mut text = Vec::new();
    entry.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).map_err(|error| Error::damaged(path, error.to_string()))?;
    let unreadable = || Error::damaged(path, "its manifest cannot be read");
    let any: serde_json::Value = serde_json::from_slice(&text).map_err(|_| unreadable())?;
    let found = any.get("format").and_then(serde_json::Value::as_u64).and_then(|n| u32::try_from(n).ok());
    match found {
        Some(FORMAT) => serde_json::from_value(any).map_err(|_| unreadable()),
        Some(found) => Err(Error::Format { path: path.to_owned(), found, known: FORMAT }),
        None => Err(unreadable()),
    }
}

/// The entry's name, if it is one that a backup has.
pub(super) fn name_of<R: Read>(entry: &tar::Entry<'_, R>, path: &Path) -> Result<String, Error> {
    let strange = || Error::damaged(path, "an entry has a strange name");
    let name = entry.path().ok().and_then(|name| name.to_str().map(str::to_owned)).ok_or_else(strange)?;
    let is_plain = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
    let is_known = name == NAME || name == "settings.toml" || PLACES.iter().any(|place| name.starts_with(place));
    let is_file = entry.header().entry_type() == tar::EntryType::Regular;
    if is_plain && is_known && is_file { Ok(name) } else { Err(strange()) }
}

/// Reads to the end.
fn digest(content: &mut dyn Read, on_read: &mut dyn FnMut(u64)) -> io::Result<Entry> {
    copy_hashed(content, &mut io::sink(), on_read)
}

/// Copies to the end, and says what it was.
pub(super) fn copy_hashed(
    from: &mut dyn Read,
    to: &mut dyn io::Write,
    on_read: &mut dyn FnMut(u64),
) -> io::Result<Entry> {
    let (mut sha, mut size_bytes, mut buffer) = (Sha256::new(), 0, vec![0; 128 << 10]);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(Entry { size_bytes, sha256: hex::encode(sha.finalize()) });
        }
        sha.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        size_bytes += count as u64;
        on_read(size_bytes);
    }
}
