//! Reading a backup: first all of it, to see whether it is what was written; then entry by entry.
//!
//! Invariants: a name from the file never leads out of the directory it is joined to; nothing of it is in memory as a whole
//! but under a limit, whoever wrote it. So long names are read here, and not by the tar library, which takes any length.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::Error;
use super::manifest::{Entry, FORMAT, Manifest, NAME};

/// A manifest is smaller than this: entries of a terabyte.
const MAX_MANIFEST_BYTES: u64 = 256 << 20;
/// What an entry takes in a manifest beside its name, at least: `"":{"size_bytes":0,"sha256":"…"},`.
const LISTED_BYTES: u64 = 96;
/// No path is longer.
const MAX_NAME_BYTES: u64 = 4096;
/// Where entries lie.
const PLACES: [&str; 5] = ["journal/", "files/", "secrets/", "database/", "archive/"];

type Decoder = zstd::Decoder<'static, BufReader<Counted>>;
/// A file being read.
pub(super) type Unpacker = tar::Archive<Decoder>;

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

/// The entries of a backup: the name of each, and its content.
pub(super) struct Entries<'a> {
    inner: tar::Entries<'a, Decoder>,
    path: &'a Path,
}

/// Begins at the first entry.
pub(super) fn entries<'a>(archive: &'a mut Unpacker, path: &'a Path) -> Result<Entries<'a>, Error> {
    // Raw: extensions are entries like any other, to be looked at before they are read.
    let inner = archive.entries().map_err(|error| Error::damaged(path, error.to_string()))?.raw(true);
    Ok(Entries { inner, path })
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(String, tar::Entry<'a, Decoder>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.find().transpose()
    }
}

impl<'a> Entries<'a> {
    fn find(&mut self) -> Result<Option<(String, tar::Entry<'a, Decoder>)>, Error> {
        let path = self.path;
        let mut long_name = None;
        for entry in self.inner.by_ref() {
            let mut entry = entry.map_err(|error| Error::damaged(path, error.to_string()))?;
            match entry.header().entry_type() {
                tar::EntryType::Regular => {
                    let name = long_name.unwrap_or_else(|| entry.path_bytes().into_owned());
                    return Ok(Some((judge_name(name, path)?, entry)));
                }
                // The only extension that a backup has: a name that is too long for the header of the entry behind it.
                tar::EntryType::GNULongName if long_name.is_none() => long_name = Some(read_name(&mut entry, path)?),
                _ => return Err(strange_name(path)),
            }
        }
        match long_name {
            Some(_) => Err(strange_name(path)),
            None => Ok(None),
        }
    }
}

/// Reads a backup through and compares everything with its manifest.
pub fn check(path: &Path, on_progress: &mut dyn FnMut(u64, u64)) -> Result<Manifest, Error> {
    let (mut archive, count, size) = open(path)?;
    let bad = |error: io::Error| Error::damaged(path, error.to_string());
    let (mut found, mut manifest, mut listed_bytes) = (BTreeMap::new(), None, 0);
    for entry in entries(&mut archive, path)? {
        let (name, mut entry) = entry?;
        if manifest.is_some() {
            return Err(Error::damaged(path, format!("{name} stands behind its end")));
        }
        if name == NAME {
            manifest = Some(read_manifest(&mut entry, path)?);
            continue;
        }
        listed_bytes += name.len() as u64 + LISTED_BYTES;
        if listed_bytes > MAX_MANIFEST_BYTES {
            return Err(Error::damaged(path, "it has more entries than a manifest can list"));
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

/// What manifests of all formats have.
#[derive(serde::Deserialize)]
struct Head {
    format: u32,
}

fn read_manifest(entry: &mut dyn Read, path: &Path) -> Result<Manifest, Error> {
    let mut text = Vec::new();
    entry.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).map_err(|error| Error::damaged(path, error.to_string()))?;
    let unreadable = || Error::damaged(path, "its manifest cannot be read");
    let head: Head = serde_json::from_slice(&text).map_err(|_| unreadable())?;
    match head.format {
        FORMAT => serde_json::from_slice(&text).map_err(|_| unreadable()),
        found => Err(Error::Format { path: path.to_owned(), found, known: FORMAT }),
    }
}

pub(super) fn strange_name(path: &Path) -> Error {
    Error::damaged(path, "an entry has a strange name")
}

/// The name, if it is one that a backup has. Looked at as text: as a path, `files//etc` would have two parts.
fn judge_name(name: Vec<u8>, path: &Path) -> Result<String, Error> {
    let name = String::from_utf8(name).map_err(|_| strange_name(path))?;
    let is_plain = !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let is_known = name == NAME || name == "settings.toml" || PLACES.iter().any(|place| name.starts_with(place));
    if is_plain && is_known { Ok(name) } else { Err(strange_name(path)) }
}

/// The content of an entry that is the name of the next one.
fn read_name(entry: &mut dyn Read, path: &Path) -> Result<Vec<u8>, Error> {
    let (mut name, _) = read_whole(entry, MAX_NAME_BYTES).map_err(|_| strange_name(path))?;
    name.pop_if(|last| *last == 0);
    Ok(name)
}

/// Reads to the end what is small, and says what it was.
pub(super) fn read_whole(content: &mut dyn Read, max_bytes: u64) -> io::Result<(Vec<u8>, Entry)> {
    let mut bytes = Vec::new();
    let entry = copy_hashed(&mut content.take(max_bytes + 1), &mut bytes, &mut |_| ())?;
    match entry.size_bytes > max_bytes {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, format!("an entry has more than {max_bytes} bytes"))),
        false => Ok((bytes, entry)),
    }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tar::EntryType::{GNULongName, Regular, XHeader};

    use super::*;
    use crate::backup::SecretsForm;
    use crate::backup::write::Writer;

    /// A file of these entries; the names stand in their headers as they are.
    fn file(dir: &Path, entries: &[(tar::EntryType, &str, &[u8])]) -> PathBuf {
        let path = dir.join("b");
        let mut tar = tar::Builder::new(zstd::Encoder::new(File::create(&path).unwrap(), 3).unwrap());
        for (kind, name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    fn fault(entries: &[(tar::EntryType, &str, &[u8])]) -> String {
        let dir = tempfile::tempdir().unwrap();
        match check(&file(dir.path(), entries), &mut |_, _| ()) {
            Err(Error::Damaged { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    const STRANGE: &str = "an entry has a strange name";
    const NO_END: &str = "its end is missing";

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["files/x", "secrets/pki/ca.pem", "settings.toml", "database/devices/00000000.json"] {
            assert_eq!(fault(&[(Regular, name, b"x")]), NO_END, "{name}");
        }
        for name in [
            "files//abs",
            "secrets//abs",
            "journal//abs",
            "archive//abs",
            "/files/x",
            "files/./x",
            "files/../x",
            "files/x/..",
            "files/x/",
            "files/",
            "../x",
            "./files/x",
            "other/x",
            "",
        ] {
            assert_eq!(fault(&[(Regular, name, b"x")]), STRANGE, "{name}");
            let long = [(GNULongName, "././@LongLink", name.as_bytes()), (Regular, "files/x", b"x".as_slice())];
            assert_eq!(fault(&long), STRANGE, "{name}, as a long one");
        }
    }

    #[test]
    fn only_long_names_that_are_not_too_long_are_read_beside_entries() {
        let long = |bytes: usize| format!("files/{}", "n".repeat(bytes - 6));
        let check = |name: &str, expected: &str| {
            let found = fault(&[(GNULongName, "././@LongLink", name.as_bytes()), (Regular, "files/n", b"x")]);
            assert_eq!(found, expected, "{} bytes", name.len());
        };
        check(&long(4096), NO_END);
        check(&long(4097), STRANGE);
        check(&long(8 << 20), STRANGE);
        let name = long(200);
        let named = (GNULongName, "././@LongLink", name.as_bytes());
        assert_eq!(fault(&[named]), STRANGE, "of nothing");
        assert_eq!(fault(&[named, named, (Regular, "files/n", b"x")]), STRANGE, "twice");
        let pax = (XHeader, "files/pax", b"16 path=files/y\n".as_slice());
        assert_eq!(fault(&[pax, (Regular, "files/x", b"x")]), STRANGE, "no backup has that");
    }

    #[test]
    fn names_of_all_lengths_come_back_from_what_this_program_writes() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut on_progress) = (dir.path().join("b"), |_: u64, _: u64| ());
        let mut writer = Writer::begin(Some(&path), 0, 0, &mut on_progress).unwrap();
        for bytes in [1, 93, 94, 95, 149, 150, 249, 500, 4000] {
            writer.add_bytes(&format!("files/{}", "n".repeat(bytes)), b"x").unwrap();
        }
        writer.add_bytes(&format!("files/{}", "d/".repeat(200) + "x"), b"x").unwrap();
        let manifest = Manifest {
            format: FORMAT,
            id: uuid::Uuid::nil(),
            program: "0.0.0".to_owned(),
            begun_at: String::new(),
            node_id: None,
            dialect: None,
            schema: Vec::new(),
            has_telemetry: false,
            has_archive: false,
            journal: None,
            secrets: SecretsForm::None,
            derivation: None,
            entries: writer.entries.clone(),
        };
        writer.finish(&manifest).unwrap();
        assert_eq!(check(&path, &mut |_, _| ()).unwrap(), manifest);
        assert_eq!(manifest.entry_count(), 10);
    }
}
