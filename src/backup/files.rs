//! The files of a data directory that belong into a backup as they are.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, UNFINISHED};

/// What has its own way into a backup, or no place in it. (`run/` is of the running process.)
const NOT_THESE: [&str; 5] = ["journal", "run", "archive", UNFINISHED, LOST_AND_FOUND];
/// The file system's own, in the root of a disk; only root may read it.
const LOST_AND_FOUND: &str = "lost+found";

/// The files below `root` but for `without`, which are real paths: the name from there, with `/` between its parts, and the
/// path. Sorted.
pub(super) fn of_data_dir(root: &Path, without: &[PathBuf]) -> Result<Vec<(String, PathBuf)>, Error> {
    // No link is followed below it, so whatever is found has its real path.
    let mut found = below(&real(root), &|name, path| {
        let is_other = NOT_THESE.contains(&name) || without.iter().any(|other| other == path);
        !is_other && !name.ends_with(".part")
    })?;
    found.sort();
    Ok(found)
}

/// All files below `root` that are not in `known` yet.
pub(super) fn new_below(root: &Path, known: &BTreeSet<String>) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut found = below(root, &|name, _| name != LOST_AND_FOUND)?;
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

/// The path without links; of what is not there yet, as far as it is there.
pub(super) fn real(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let resolve = |there: &Path| {
        let (real, rest) = (there.canonicalize().ok()?, whole.strip_prefix(there).ok()?);
        Some(real.iter().chain(rest).collect::<PathBuf>())
    };
    whole.ancestors().find_map(resolve).unwrap_or_else(|| whole.clone())
}

/// The files of the SQLite database at `path`.
pub(super) fn of_sqlite(path: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_file_systems_own_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["lost+found", "pki"] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("x"), "x").unwrap();
        }
        let names = |found: Vec<(String, PathBuf)>| found.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(of_data_dir(root, &[]).unwrap()), ["pki/x"]);
        assert_eq!(names(new_below(root, &BTreeSet::new()).unwrap()), ["pki/x"]);
    }

    #[test]
    fn a_path_is_real_behind_links_and_where_nothing_is_yet() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("there")).unwrap();
        std::os::unix::fs::symlink("there", root.join("link")).unwrap();
        let check = |path: &str, expected: &str| assert_eq!(real(&root.join(path)), root.join(expected), "{path}");
        check("there", "there");
        check("link", "there");
        check("link/new/b.db", "there/new/b.db");
        check("there/../link/./b.db", "there/b.db");
        check("new/b.db", "new/b.db");
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(real(Path::new("not-there.db")), here.join("not-there.db"));
        // SQLite is given it as text: a slash at its end would be another file.
        assert_eq!(real(&root.join("link")).as_os_str(), root.join("there").as_os_str());
    }
}
