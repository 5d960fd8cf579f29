//! What every object store must do: a directory, one in memory, and those of the clouds.

use std::sync::Arc;
use std::sync::Barrier;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use tokio::runtime::Runtime;

use super::*;

#[cfg(feature = "s3-tests")]
#[path = "../../../tests/it/support/cloud/mod.rs"]
#[allow(dead_code)] // it does more, for other tests
mod stores;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Where objects lie, with the characters that are in real names.
const HOUR: &str = "raw/v1/date=2026-02-12/hour=10";

fn key(name: &str) -> Path {
    Path::from(format!("{HOUR}/{name}.parquet"))
}

fn names(objects: &[ObjectMeta]) -> Vec<&str> {
    let mut names: Vec<_> = objects.iter().map(|object| object.location.filename().unwrap()).collect();
    names.sort_unstable();
    names
}

fn check(bucket: &Bucket) {
    an_object_is_written_once_and_never_replaced(bucket);
    of_two_writers_of_a_name_one_has_written(bucket);
    a_large_object_goes_up_in_parts(bucket);
    objects_are_listed_and_deleted(bucket);
}

fn an_object_is_written_once_and_never_replaced(bucket: &Bucket) {
    let key = key("node-0001");
    assert_eq!(bucket.size(&key).unwrap(), None);
    assert!(bucket.get(&key).is_err());
    assert!(bucket.put_new(&key, Bytes::from_static(b"one")).unwrap());
    assert!(!bucket.put_new(&key, Bytes::from_static(b"two!")).unwrap());
    assert_eq!(bucket.get(&key).unwrap(), "one");
    assert_eq!(bucket.get_range(&key, 1..3).unwrap(), "ne");
    assert_eq!(bucket.size(&key).unwrap(), Some(3));
}

fn of_two_writers_of_a_name_one_has_written(bucket: &Bucket) {
    for round in 0..5 {
        let (key, start) = (key(&format!("race-{round}")), Barrier::new(2));
        let write = |who: &'static [u8]| {
            start.wait();
            bucket.put_new(&key, Bytes::from_static(who)).unwrap()
        };
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(|| write(b"second"));
            (write(b"first"), other.join().unwrap())
        });
        assert!(first != second, "{first} {second}");
        assert_eq!(bucket.get(&key).unwrap(), if first { "first" } else { "second" });
        bucket.delete(&key).unwrap();
    }
}

fn a_large_object_goes_up_in_parts(bucket: &Bucket) {
    // (A directory takes everything at once.)
    let single_put_bytes = if bucket.dir.is_some() { usize::MAX } else { 10 };
    let bucket = Bucket { single_put_bytes, ..bucket.clone() };
    let bytes: Bytes = (0..2 * PART_BYTES + 5).map(|n| (n % 251) as u8).collect();
    let key = key("node-0002");
    assert!(bucket.put_new(&key, bytes.clone()).unwrap());
    assert!(!bucket.put_new(&key, Bytes::from_static(b"another large one")).unwrap());
    assert_eq!(bucket.size(&key).unwrap(), Some(bytes.len() as u64));
    assert!(bucket.get(&key).unwrap() == bytes);
    let border = PART_BYTES as u64;
    assert!(bucket.get_range(&key, border - 3..border + 3).unwrap() == bytes[PART_BYTES - 3..PART_BYTES + 3]);
}

fn objects_are_listed_and_deleted(bucket: &Bucket) {
    let (folder, days) = (Path::from(HOUR), Path::from("raw/v1"));
    let later = Path::from("raw/v1/date=2026-02-13/hour=00/node-0003.parquet");
    assert!(bucket.put_new(&later, Bytes::from_static(b"three")).unwrap());
    assert_eq!(names(&bucket.objects(&folder).unwrap()), ["node-0001.parquet", "node-0002.parquet"]);
    let day = |day: &str| Path::from(format!("raw/v1/date=2026-02-{day}"));
    assert_eq!(bucket.folders(&days).unwrap(), [day("12"), day("13")]);
    assert_eq!(names(&bucket.objects_from(&days, &day("12")).unwrap()).len(), 3);
    assert_eq!(names(&bucket.objects_from(&days, &day("13")).unwrap()), ["node-0003.parquet"]);
    let each = bucket.get_all(&[later.clone(), key("node-0001"), key("none")]);
    assert_eq!(
        each[..2].iter().map(|got| got.as_ref().unwrap().as_ref()).collect::<Vec<_>>(),
        [b"three" as &[u8], b"one"]
    );
    assert!(each[2].is_err());
    let mut all = Vec::new();
    let mut each = |object| {
        all.push(object);
        Ok::<_, Error>(())
    };
    bucket.each_object(&mut each).unwrap();
    assert_eq!(all.len(), 3);
    for key in [&later, &later, &key("node-0001"), &key("node-0002")] {
        bucket.delete(key).unwrap();
    }
    assert_eq!(bucket.size(&later).unwrap(), None);
    for folder in [folder, days, Path::from("none")] {
        assert!(bucket.objects(&folder).unwrap().is_empty());
        bucket.remove_empty(&folder).unwrap();
    }
    assert!(bucket.folders(&Path::from("none")).unwrap().is_empty());
}

#[test]
fn a_directory_does_all_that_is_wanted() {
    let (runtime, dir) = (runtime(), tempfile::tempdir().unwrap());
    let url = format!("file://{}/a%20b/c", dir.path().display());
    let bucket = Bucket::open(&url, &CloudOptions::default(), runtime.handle().clone()).unwrap();
    check(&bucket);
    assert!(bucket.put_new(&key("node-0001"), Bytes::from_static(b"one")).unwrap());
    assert_eq!(std::fs::read(dir.path().join("a b/c").join(HOUR).join("node-0001.parquet")).unwrap(), b"one");
}

#[test]
fn a_store_in_memory_does_all_that_is_wanted() {
    let runtime = runtime();
    check(&Bucket::over(Arc::new(InMemory::new()), runtime.handle().clone()));
}

#[cfg(feature = "s3-tests")]
fn check_cloud(kind: stores::Kind) {
    let (runtime, store) = (runtime(), stores::Bucket::start(kind));
    // Also where a folder's name has to be written another way in a URL.
    for folder in ["", "/fleet north+1"] {
        let settings = store.settings(folder);
        let setting = |name: &str| {
            let key = format!("archive.{name}");
            settings.iter().find(|(k, _)| *k == key).unwrap().1.clone()
        };
        let options = CloudOptions {
            endpoint: setting("endpoint"),
            region: setting("region"),
            access_key_id: setting("access_key_id"),
            secret_access_key: setting("secret_access_key"),
            is_virtual_hosted: false,
        };
        check(&Bucket::open(&setting("url"), &options, runtime.handle().clone()).unwrap());
    }
}

#[cfg(feature = "s3-tests")]
#[test]
fn s3_does_all_that_is_wanted() {
    check_cloud(stores::Kind::S3);
}

#[cfg(all(feature = "s3-tests", feature = "azure"))]
#[test]
fn azure_does_all_that_is_wanted() {
    check_cloud(stores::Kind::Azure);
}

#[cfg(all(feature = "s3-tests", feature = "gcs"))]
#[test]
fn google_does_all_that_is_wanted() {
    check_cloud(stores::Kind::Google);
}
