//! Firmware images in the object store: written as they come, read in pieces.
//!
//! Promise: an image is complete, and survives power loss, when [`Upload::finish`] returns; an upload that is dropped leaves
//! nothing (in buckets: nothing but parts that the bucket's own rules clear away). At most two parts of an image are in
//! memory. Does not know versions, nor who may have what.

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::Error;
use super::bucket::{Bucket, CloudOptions};
use crate::domain::Timestamp;

/// One part of an upload; object stores want five MiB at least.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// Where images are kept. Clones share it.
#[derive(Clone)]
pub struct Images {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Images({})", self.store)
    }
}

/// An image that is complete.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Stored {
    pub object: String,
    pub size_bytes: u64,
    pub sha256: [u8; 32],
}

impl Images {
    /// Images beside the archive of that URL: in its folder `firmware` where it is a bucket, else in `dir`. What a crash left
    /// of unfinished uploads in `dir` is removed. Blocking.
    pub fn open(archive_url: &str, dir: &FilePath, options: &CloudOptions, runtime: Handle) -> Result<Self, Error> {
        let bucket = match archive_url.starts_with("file:") {
            true => Bucket::open_dir(dir, runtime)?,
            false => Bucket::open(&format!("{}/firmware", archive_url.trim_end_matches('/')), options, runtime)?,
        };
        if archive_url.starts_with("file:") {
            sweep(dir).map_err(|source| Error::Directory { dir: PathBuf::from(dir), source })?;
        }
        Ok(Self::over(&bucket))
    }

    fn over(bucket: &Bucket) -> Self {
        Self { store: bucket.store(), runtime: bucket.runtime().clone() }
    }

    /// Runs on the runtime that drives the store's connections, whoever waits.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        object: &str,
        call: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, Error> {
        let done = self.runtime.spawn(call).await.map_err(|_| Error::Interrupted)?;
        done.map_err(|source| Error::Store { operation, key: object.to_owned(), source })
    }

    /// Begins an image under a new name.
    pub async fn begin(&self) -> Result<Upload, Error> {
        let object = uuid::Uuid::new_v4().simple().to_string();
        let (store, key) = (Arc::clone(&self.store), Path::from(object.as_str()));
        let upload = self.run("begin", &object, async move { store.put_multipart(&key).await }).await?;
        let (buffer, hash) = (BytesMut::new(), Sha256::new());
        Ok(Upload { images: self.clone(), object, upload: Some(upload), buffer, hash, size_bytes: 0 })
    }

    /// Bytes of an image.
    pub async fn read(&self, object: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let (store, key) = (Arc::clone(&self.store), Path::from(object));
        self.run("read", object, async move { store.get_range(&key, range).await }).await
    }

    /// Removes an image; one that is not there is no error.
    pub async fn remove(&self, object: &str) -> Result<(), Error> {
        let (store, key) = (Arc::clone(&self.store), Path::from(object));
        let removed = async move {
            match store.delete(&key).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                other => other,
            }
        };
        self.run("remove", object, removed).await
    }

    /// Names of images that are older than `age`: what no image is known by was left by a crash.
    pub async fn older_than(&self, age: Duration, now: Timestamp) -> Result<Vec<String>, Error> {
        let store = Arc::clone(&self.store);
        let listed = async move {
            match store.list(None).try_collect::<Vec<_>>().await {
                Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
                other => other,
            }
        };
        let objects = self.run("list", "firmware", listed).await?;
        let end = now.plus_us(-i64::try_from(age.as_micros()).unwrap_or(i64::MAX)).0;
        let is_old = |meta: &object_store::ObjectMeta| meta.last_modified.timestamp_micros() < end;
        Ok(objects.into_iter().filter(is_old).map(|meta| meta.location.to_string()).collect())
    }
}

/// Removes what unfinished uploads left: files named `<object>#<number>`. Nobody is uploading yet.
fn sweep(dir: &FilePath) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_leftover =
            |name: &str| name.rsplit_once('#').is_some_and(|(_, number)| number.bytes().all(|b| b.is_ascii_digit()));
        if entry.file_name().to_str().is_some_and(is_leftover) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// An image on its way in.
pub struct Upload {
    images: Images,
    object: String,
    upload: Option<Box<dyn MultipartUpload>>,
    buffer: BytesMut,
    hash: Sha256,
    size_bytes: u64,
}

impl Upload {
    /// Bytes so far.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// More of it.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.size_bytes += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= PART_BYTES {
            let part = self.buffer.split_to(PART_BYTES).freeze();
            self.put(part).await?;
        }
        Ok(())
    }

    async fn put(&mut self, part: Bytes) -> Result<(), Error> {
        let upload = self.upload.as_mut().ok_or(Error::Interrupted)?;
        let writing = upload.put_part(part.into());
        self.images.run("write", &self.object, writing).await
    }

    /// Ends it.
    pub async fn finish(mut self) -> Result<Stored, Error> {
        let last = self.buffer.split().freeze();
        if !last.is_empty() {
            self.put(last).await?;
        }
        let mut upload = self.upload.take().ok_or(Error::Interrupted)?;
        let completing = async move {
            let done = upload.complete().await;
            if done.is_err() {
                // The error that is told is the first one.
                let _ = upload.abort().await;
            }
            done
        };
        self.images.run("complete", &self.object, completing).await?;
        let sha256 = std::mem::take(&mut self.hash).finalize().into();
        Ok(Stored { object: std::mem::take(&mut self.object), size_bytes: self.size_bytes, sha256 })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            self.images.runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a broken upload could not be cleared away"
                    );
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(dir: &FilePath) -> Images {
        Images::open("file:///elsewhere", dir, &CloudOptions::default(), Handle::current()).unwrap()
    }

    fn files(dir: &FilePath) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_image_of_several_parts_is_hashed_on_its_way_and_read_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let images = images(dir.path());
        let bytes: Vec<u8> = (0..PART_BYTES * 2 + 777).map(|n| (n % 251) as u8).collect();
        let mut upload = images.begin().await.unwrap();
        for piece in bytes.chunks(100_000) {
            upload.write(piece).await.unwrap();
        }
        let stored = upload.finish().await.unwrap();
        assert_eq!((stored.size_bytes, stored.sha256), (bytes.len() as u64, Sha256::digest(&bytes).into()));
        assert_eq!(images.read(&stored.object, 250..PART_BYTES as u64 + 9).await.unwrap(), bytes[250..PART_BYTES + 9]);
        images.remove(&stored.object).await.unwrap();
        images.remove(&stored.object).await.unwrap();
        assert_eq!(files(dir.path()), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_upload_that_breaks_off_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let images = images(dir.path());
        let mut upload = images.begin().await.unwrap();
        upload.write(&vec![1; PART_BYTES + 1]).await.unwrap();
        assert_eq!(files(dir.path()), 1, "something is on its way");
        drop(upload);
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while files(dir.path()) > 0 {
            assert!(std::time::Instant::now() < end, "the unfinished file is still there");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_crash_left_goes_at_the_next_start_and_old_images_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let mut upload = images(dir.path()).begin().await.unwrap();
        upload.write(b"image").await.unwrap();
        let stored = upload.finish().await.unwrap();
        std::fs::write(dir.path().join("0a#1"), b"half").unwrap();
        let images = images(dir.path());
        assert_eq!(files(dir.path()), 1);
        let now = crate::domain::Clock::system().now();
        assert!(images.older_than(Duration::from_secs(3600), now).await.unwrap().is_empty());
        let later = now.plus(Duration::from_secs(3601));
        assert_eq!(images.older_than(Duration::from_secs(3600), later).await.unwrap(), [stored.object]);
    }
}
