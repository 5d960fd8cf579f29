//! Two received messages of one device.

use super::NOW;
use crate::api::raw::{RawFuture, RawMessages};
use crate::archive::RawEntry;
use crate::domain::DeviceId;

/// What was received.
pub struct FakeRaw;

impl RawMessages for FakeRaw {
    fn list<'a>(
        &'a self,
        device: &'a DeviceId,
        category: Option<&'a str>,
        limit: usize,
    ) -> RawFuture<'a, Vec<RawEntry>> {
        let entry = |category: &str| RawEntry {
            filename: format!("{device}/{category}/2026-02-12T10:00:00Z.json"),
            size: 7,
            last_modified: NOW,
        };
        let all = if device.as_str() == "m-1" { vec![entry("telemetry"), entry("hello")] } else { Vec::new() };
        let wanted = move |e: &RawEntry| category.is_none_or(|c| e.filename.contains(c));
        Box::pin(async move { Ok(all.into_iter().filter(wanted).take(limit).collect()) })
    }
    fn read<'a>(&'a self, device: &'a DeviceId, filename: &'a str) -> RawFuture<'a, Option<(String, Vec<u8>)>> {
        let known = filename == format!("{device}/telemetry/2026-02-12T10:00:00Z.json");
        Box::pin(async move { Ok(known.then(|| ("text/html".to_owned(), b"<b>\xff".to_vec()))) })
    }
}
