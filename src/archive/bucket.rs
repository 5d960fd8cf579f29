//! Where objects are kept: an object store chosen by URL, called from blocking threads.
//!
//! Invariant: [`Bucket::put_new`] never replaces an object, and when it returns the object survives power loss. Does not
//! know what is in an object.

mod cloud;
#[cfg(test)]
mod store_tests;

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::runtime::Handle;

use super::Error;
pub use cloud::CloudOptions;

/// Larger objects go up in parts.
const SINGLE_PUT_BYTES: usize = 64 * 1024 * 1024;
/// One of these parts.
const PART_BYTES: usize = 16 * 1024 * 1024;
/// Objects read at once when many are wanted.
const READS: usize = 16;

/// An open object store. Clones share it. Its calls block: never call them on an async worker.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    /// The directory, where the store is one.
    dir: Option<PathBuf>,
    /// What is larger goes up in parts.
    single_put_bytes: usize,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.store)
    }
}

impl Bucket {
    /// Opens the store of `url`: `file:///directory` (made if missing, mode 0700, every object synced; `%20` and the like
    /// are decoded), or `s3://bucket/folder`, `az://container/folder`, `gs://bucket/folder`, if it was built with their features.
    /// `runtime` (multi-threaded: its timers must run by themselves) drives the store's requests and must outlive it.
    pub fn open(url: &str, options: &CloudOptions, runtime: Handle) -> Result<Self, Error> {
        if let Some(opened) = cloud::open(url, options) {
            let (store, folder) = opened?;
            let store: Arc<dyn ObjectStore> = match folder.is_empty() {
                true => store,
                false => Arc::new(PrefixStore::new(store, folder)),
            };
            return Ok(Self { store, runtime, dir: None, single_put_bytes: SINGLE_PUT_BYTES });
        }
        let Some((scheme, _)) = url.split_once("://") else {
            return Err(Error::BadUrl { url: url.to_owned() });
        };
        match scheme {
            "file" => Self::open_dir(&dir_of(url).ok_or_else(|| Error::BadUrl { url: url.to_owned() })?, runtime),
            other => Err(Error::UnknownScheme { scheme: other.to_owned() }),
        }
    }

    /// Opens a store that belongs to somebody else, to be read: a directory must be there and stays as it is.
    pub fn open_foreign(url: &str, options: &CloudOptions, runtime: Handle) -> Result<Self, Error> {
        if let Some(dir) = dir_of(url)
            && let Err(source) = std::fs::read_dir(&dir)
        {
            return Err(Error::Directory { dir, source });
        }
        Self::open(url, options, runtime)
    }

    /// A directory, made if missing.
    pub(crate) fn open_dir(dir: &FilePath, runtime: Handle) -> Result<Self, Error> {
        let failed = |source| Error::Directory { dir: dir.to_owned(), source };
        make_dir(dir).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(dir).map_err(|e| failed(std::io::Error::other(e)))?;
        Ok(Self {
            store: Arc::new(store.with_fsync(true)),
            runtime,
            dir: Some(dir.to_owned()),
            single_put_bytes: usize::MAX,
        })
    }

    /// A bucket over any store, for tests.
    #[cfg(test)]
    pub(crate) fn over(store: Arc<dyn ObjectStore>, runtime: Handle) -> Self {
        Self { store, runtime, dir: None, single_put_bytes: SINGLE_PUT_BYTES }
    }

    /// The store itself.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The runtime that drives its requests.
    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Writes an object unless there is one of that name; `false` when there is.
    pub(crate) fn put_new(&self, key: &Path, bytes: Bytes) -> Result<bool, Error> {
        if bytes.len() > self.single_put_bytes {
            return self.put_parts(key, &bytes);
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.runtime.block_on(self.store.put_opts(key, bytes.into(), options)) {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(source) => Err(Error::store("write", key, source)),
        }
    }

    /// Writes a large object in parts. Parts know no condition, so the name is looked up first: names hold this node's id
    /// and an offset range, nobody else writes them.
    fn put_parts(&self, key: &Path, bytes: &Bytes) -> Result<bool, Error> {
        if self.size(key)?.is_some() {
            return Ok(false);
        }
        let write = async {
            let mut upload = self.store.put_multipart(key).await?;
            for at in (0..bytes.len()).step_by(PART_BYTES) {
                let part = bytes.slice(at..bytes.len().min(at + PART_BYTES));
                if let Err(error) = upload.put_part(part.into()).await {
                    // What cannot be cleared away now, the bucket's own rules clear away.
                    let _ = upload.abort().await;
                    return Err(error);
                }
            }
            upload.complete().await.map(drop)
        };
        self.runtime.block_on(write).map(|()| true).map_err(|source| Error::store("write", key, source))
    }

    /// Bytes of an object.
    pub(crate) fn get_range(&self, key: &Path, range: Range<u64>) -> object_store::Result<Bytes> {
        self.runtime.block_on(self.store.get_range(key, range))
    }

    /// Size of an object; `None` = no such object.
    pub(crate) fn size(&self, key: &Path) -> Result<Option<u64>, Error> {
        match self.runtime.block_on(self.store.head(key)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::store("look up", key, source)),
        }
    }

    /// The whole of an object.
    pub(crate) fn get(&self, key: &Path) -> Result<Bytes, Error> {
        let got = self.runtime.block_on(async { self.store.get(key).await?.bytes().await });
        got.map_err(|source| Error::store("read", key, source))
    }

    /// Removes an object; one that is not there is as good as removed.
    pub(crate) fn delete(&self, key: &Path) -> Result<(), Error> {
        match self.runtime.block_on(self.store.delete(key)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::store("delete", key, source)),
        }
    }

    /// Removes a folder's directories, where the store is one; what is in them stays, and keeps its directory.
    pub(crate) fn remove_empty(&self, folder: &Path) -> Result<(), Error> {
        let Some(dir) = self.dir.as_ref().map(|dir| dir.join(folder.as_ref())) else { return Ok(()) };
        let inner = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        for dir in inner.filter(|path| path.is_dir()).collect::<Vec<_>>().iter().chain([&dir]) {
            match std::fs::remove_dir(dir) {
                Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                    return Err(Error::Directory { dir: dir.clone(), source: e });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Objects of a folder's folders from `first` (a folder in it) on.
    pub(crate) fn objects_from(&self, folder: &Path, first: &Path) -> Result<Vec<ObjectMeta>, Error> {
        if self.dir.is_some() {
            let folders = self.folders(folder)?.into_iter().filter(|folder| folder >= first);
            let each = folders.map(|folder| self.objects(&folder)).collect::<Result<Vec<_>, _>>()?;
            return Ok(each.into_iter().flatten().collect());
        }
        // (Servers that speak like Azure's may not know where to begin, and list all.)
        let listed =
            self.store.list_with_offset(Some(folder), first).try_filter(|object| ready(object.location > *first));
        match self.runtime.block_on(listed.try_collect()) {
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            other => other.map_err(|source| Error::store("list", folder, source)),
        }
    }

    /// Objects in a folder and below.
    pub(crate) fn objects(&self, folder: &Path) -> Result<Vec<ObjectMeta>, Error> {
        let listed = self.runtime.block_on(self.store.list(Some(folder)).try_collect());
        match listed {
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            other => other.map_err(|source| Error::store("list", folder, source)),
        }
    }

    /// Calls `each` with every object of the store, in no order, until it fails.
    pub(crate) fn each_object<E: From<Error>>(
        &self,
        mut each: impl FnMut(ObjectMeta) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut listed = self.store.list(None);
        while let Some(meta) = self.runtime.block_on(listed.next()) {
            each(meta.map_err(|source| Error::store("list", &Path::default(), source))?)?;
        }
        Ok(())
    }

    /// The bytes of many objects, in their order; a few requests run at once.
    pub(crate) fn get_all(&self, keys: &[Path]) -> Vec<Result<Bytes, Error>> {
        let get = |key: &Path| {
            let (store, key) = (Arc::clone(&self.store), key.clone());
            async move {
                let got = async { store.get(&key).await?.bytes().await };
                got.await.map_err(|source| Error::store("read", &key, source))
            }
        };
        let all: Vec<_> = keys.iter().map(get).collect();
        self.runtime.block_on(futures_util::stream::iter(all).buffered(READS).collect())
    }

    /// Folders directly in a folder, in order.
    pub(crate) fn folders(&self, folder: &Path) -> Result<Vec<Path>, Error> {
        let mut folders = match self.runtime.block_on(self.store.list_with_delimiter(Some(folder))) {
            Ok(listed) => listed.common_prefixes,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(source) => return Err(Error::store("list", folder, source)),
        };
        folders.sort_unstable();
        Ok(folders)
    }

    /// Removes what a crash left of unfinished writes of `node` in a folder: files named `<object>#<number>`, which
    /// listings do not show. Returns how many. Where the store is no directory there is nothing of the kind.
    pub(crate) fn sweep(&self, folder: &Path, node: &str) -> Result<usize, Error> {
        let Some(dir) = self.dir.as_ref().map(|dir| dir.join(folder.as_ref())) else { return Ok(0) };
        let failed = |source| Error::Directory { dir: dir.clone(), source };
        let entries = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(failed)?,
        };
        let mut swept = 0;
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(|name| is_leftover(name, node)) {
                std::fs::remove_file(entry.path()).map_err(failed)?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

fn is_leftover(name: &str, node: &str) -> bool {
    let Some((object, number)) = name.rsplit_once('#') else { return false };
    object.starts_with(node) && object.ends_with(".parquet") && number.bytes().all(|b| b.is_ascii_digit())
}

/// Makes a directory and its parents, private to the user, and syncs the entry.
fn make_dir(dir: &FilePath) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)?;
    match dir.parent() {
        Some(parent) if cfg!(unix) => std::fs::File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// The directory of a `file:///directory` URL; `None` for others.
pub fn dir_of(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file://").filter(|path| path.starts_with('/'));
    path.and_then(percent_decoded).map(PathBuf::from)
}

/// RFC 3986 percent-decoding; `None` when a `%` is not followed by two hex digits, or the result is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        bytes.extend(hex::decode(code).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn an_unknown_scheme_is_an_error_that_names_it() {
        let runtime = runtime();
        let check = |url: &str, expected: &str| {
            assert_eq!(
                Bucket::open(url, &CloudOptions::default(), runtime.handle().clone()).unwrap_err().to_string(),
                expected
            );
        };
        check("ftp://x/y", "the archive URL's scheme \"ftp\" is not supported (known: file, s3, az, gs)");
        for url in ["archive", "file://host/x", "file:///x%zz", "s3://", "s3://key:secret@bucket", "s3://b/x?y"] {
            let expected =
                format!("the archive URL {url:?} is not of the form file:///directory or s3://bucket/folder");
            check(url, &expected);
        }
        if cfg!(not(feature = "s3")) {
            check("s3://bucket/x", "this program was built without \"s3://\"; build it with --features s3");
        }
    }

    fn open(url: &str, runtime: &tokio::runtime::Runtime) -> Bucket {
        Bucket::open(url, &CloudOptions::default(), runtime.handle().clone()).unwrap()
    }

    #[test]
    fn a_sweep_removes_this_nodes_unfinished_writes_and_nothing_else() {
        let (runtime, dir) = (runtime(), tempfile::tempdir().unwrap());
        let bucket = open(&format!("file://{}", dir.path().display()), &runtime);
        std::fs::create_dir(dir.path().join("f")).unwrap();
        for name in ["n-1.parquet", "n-1.parquet#1", "n-2.parquet#12", "m-1.parquet#1", "n-1.txt#1"] {
            std::fs::write(dir.path().join("f").join(name), b"").unwrap();
        }
        assert_eq!(bucket.sweep(&Path::from("f"), "n").unwrap(), 2);
        assert_eq!(bucket.sweep(&Path::from("nowhere"), "n").unwrap(), 0);
        assert_eq!(std::fs::read_dir(dir.path().join("f")).unwrap().count(), 3);
    }
}
