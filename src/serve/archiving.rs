//! The archive's part of the start: its object store, the archiver, the reader and the upkeep.

use std::time::Duration;

use anyhow::Context;

use super::Parts;
use super::start::window;
use crate::archive::{self, Archiver, Bucket, CloudOptions};
use crate::config::Settings;

/// Opens the object store that is configured.
pub async fn open_archive(settings: &Settings) -> anyhow::Result<Bucket> {
    let (url, runtime) = (settings.archive.url.clone(), tokio::runtime::Handle::current());
    let options = cloud_options(settings);
    let opened = tokio::task::spawn_blocking(move || Bucket::open(&url, &options, runtime)).await;
    Ok(opened.context("opening the archive panicked")??)
}

/// How the settings reach the object store.
pub fn cloud_options(settings: &Settings) -> CloudOptions {
    CloudOptions {
        endpoint: settings.archive.endpoint.clone(),
        region: settings.archive.region.clone(),
        access_key_id: settings.archive.access_key_id.reveal().to_owned(),
        secret_access_key: settings.archive.secret_access_key.reveal().to_owned(),
        is_virtual_hosted: settings.archive.addressing == "virtual",
    }
}

/// The archiver, which takes its place in the journal, and the reader beside it.
pub(super) fn open_archiver(
    settings: &Settings,
    node: uuid::Uuid,
    bucket: Bucket,
    parts: &Parts,
) -> anyhow::Result<(Archiver, archive::Reader)> {
    let (window, progress) = (window(settings), parts.archiver_progress.clone());
    let options = archive::ArchiverOptions {
        node,
        flush_age: Duration::from_secs(settings.archive.flush_age_s),
        flush_bytes: usize::try_from(settings.archive.flush_bytes).unwrap_or(usize::MAX),
        clock: parts.board.clock().clone(),
        window,
        keep: keep(settings),
        classes: parts.classes.clone(),
        progress: progress.clone(),
        board: parts.board.clone(),
    };
    let archiver = Archiver::new(options, bucket.clone(), &parts.journal)?;
    let reader = archive::Reader::new(archive::ReaderOptions { node, window, progress }, bucket, &parts.journal);
    Ok((archiver, reader))
}

/// How long a day of receipt is kept.
fn keep(settings: &Settings) -> Option<Duration> {
    let days = settings.retention.raw_days;
    (days > 0).then(|| Duration::from_secs(days * 86_400))
}

/// What looks after the objects.
pub(super) fn archive_upkeep(settings: &Settings, node: uuid::Uuid, bucket: Bucket, parts: &Parts) -> archive::Upkeep {
    let options = archive::UpkeepOptions {
        node,
        period: Duration::from_secs(settings.archive.upkeep_s),
        compacts: settings.archive.compact,
        keep: keep(settings),
        board: parts.board.clone(),
    };
    archive::Upkeep::new(options, bucket)
}
