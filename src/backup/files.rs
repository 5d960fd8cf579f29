//! The files of a data directory that belong into a backup as they are.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, UNFINISHED};

/// What has its own way into a backup, or no place in it. (`run/` is of the running process.)
const NOT_THESE: [&str; 4] = ["journal", "run", "archive", UNFINISHED];

/// The files below `root` but for `without`: the name from there, with `/` between its parts, and the path. Sorted.
pub(super) fn of_data_dir(root: &Path, without: &[PathBuf]) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut found = below(root, &|name, path| {
        let is_other = NOT_THESE.contains(&name) || without.iter().any(|other| other == path);
        !is_other && !name.ends_with(".part")
    })?;
    found.sort();
    Ok(found)
}

/// All files below `root` that are not in `known` yet.
pub(super) fn new_below(root: &Path, known: &BTreeSet<String>) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut found = below(root, &|_, _| true)?;
    found.retain(|(name, _)| !known.contains(name));
    found.sort();
    Ok(found)
}

fn below(root: &Path, wants: &dyn Fn(&str, &Path) -> bool) -> Result<Vec<(String, PathBuf)>, Error> {
    let (mut found, mut dirs) = (Vec::new(), vec![(String::new(), root.to_owned())]);
    while let Some((prefix, dir)) = dirs.pop() {
        let listed = match fs::read_dir(&dir) {
            // It went while the others were listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir != root => continue,
            listed => listed.map_err(Error::io("list", &dir))?,
        };
        for item in listed {
            let item = item.map_err(Error::io("list", &dir))?;
            let path = item.path();
            let name = item.file_name().into_string().map_err(|_| Error::Name { path: path.clone() })?;
            let name = format!("{prefix}{name}");
            if !wants(&name, &path) {
                continue;
            }
            let kind = item.file_type().map_err(Error::io("inspect", &path))?;
            if kind.is_dir() {
                dirs.push((format!("{name}/"), path));
            } else if kind.is_file() {
                found.push((name, path));
            }
        }
    }
    Ok(found)
}

/// Bytes free for this user on the disk of `path`, or of the next directory above it that is there.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let found = rustix::fs::statvfs(there).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Refuses to begin what cannot be finished.
pub(super) fn need(path: &Path, needed_bytes: u64) -> Result<(), Error> {
    match free_bytes(path) {
        Some(free_bytes) if free_bytes < needed_bytes => {
            Err(Error::NoSpace { path: path.to_owned(), needed_bytes, free_bytes })
        }
        _ => Ok(()),
    }
}
