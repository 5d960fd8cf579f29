//! A firmware update as the meter goes through it: downloading → verifying → applying → success, or failed. Pure.
//!
//! Invariant: only an image of the announced size and SHA-256 is applied; anything else ends in `failed` and the old
//! firmware stays. Does not know: HTTP, time, the counter of messages.

use uuid::Uuid;

use super::wire::OtaParams;
use crate::domain::message::OtaState;

/// Largest image a simulated meter takes, bytes.
pub(super) const MAX_IMAGE_BYTES: u64 = 64 * 1024 * 1024;

/// What the download has to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Download {
    /// So much has come, 0…100 %.
    Progress(u8),
    /// All of it has come.
    Done {
        /// Bytes received.
        size_bytes: u64,
        /// SHA-256 of them, lower-case hex.
        sha256: String,
    },
    /// It broke off.
    Failed(String),
}

/// One line of progress to report.
pub(super) type Step = (OtaState, u8, Option<String>);

/// An update under way.
pub(super) struct Update {
    pub cmd_id: Uuid,
    pub params: OtaParams,
    reported_pct: u8,
}

impl Update {
    /// Accepts an order, or says why not.
    pub(super) fn order(cmd_id: Uuid, params: OtaParams) -> Result<Self, &'static str> {
        let sha_is_hex = params.fw_sha256.len() == 64 && params.fw_sha256.bytes().all(|b| b.is_ascii_hexdigit());
        if params.fw_version.is_empty() || params.fw_version.len() > 64 {
            return Err("fw_version must have 1 to 64 characters");
        }
        if !["http://", "https://"].iter().any(|scheme| params.fw_url.starts_with(scheme)) {
            return Err("fw_url must start with http:// or https://");
        }
        if !sha_is_hex {
            return Err("fw_sha256 must be 64 hex digits");
        }
        if !(1..=MAX_IMAGE_BYTES).contains(&params.fw_size_bytes) {
            return Err("fw_size_bytes must be 1 to 67108864");
        }
        Ok(Self { cmd_id, params, reported_pct: 0 })
    }

    /// Takes one word of the download; returns what to report. The update is over when the last step is `success` or
    /// `failed`. Downloading counts for 0…80 %, checking for 85, writing for 95.
    pub(super) fn handle(&mut self, download: Download) -> Vec<Step> {
        match download {
            Download::Progress(pct) => {
                let pct = (u32::from(pct.min(100)) * 80 / 100) as u8;
                if pct < self.reported_pct.saturating_add(20) {
                    return Vec::new();
                }
                self.reported_pct = pct;
                vec![(OtaState::Downloading, pct, None)]
            }
            Download::Failed(reason) => vec![(OtaState::Failed, self.reported_pct, Some(reason))],
            Download::Done { size_bytes, sha256 } => {
                let mut steps = vec![(OtaState::Verifying, 85, None)];
                let expected = self.params.fw_size_bytes;
                if size_bytes != expected {
                    let detail = format!("size {size_bytes} instead of {expected} bytes");
                    steps.push((OtaState::Failed, 85, Some(detail)));
                } else if !sha256.eq_ignore_ascii_case(&self.params.fw_sha256) {
                    steps.push((OtaState::Failed, 85, Some("SHA-256 does not match".into())));
                } else {
                    steps.extend([(OtaState::Applying, 95, None), (OtaState::Success, 100, None)]);
                }
                steps
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> OtaParams {
        OtaParams {
            fw_version: "2.0.0".into(),
            fw_url: "http://host/fw.bin".into(),
            fw_sha256: "ab".repeat(32),
            fw_size_bytes: 100,
        }
    }

    #[test]
    fn only_the_announced_image_is_applied() {
        let check = |download: Download, expected: &[&str]| {
            let mut update = Update::order(Uuid::nil(), params()).map_err(String::from).unwrap();
            let states: Vec<_> = update.handle(download).iter().map(|step| step.0.name()).collect();
            assert_eq!(states, expected);
        };
        let done = |size_bytes, sha256: &str| Download::Done { size_bytes, sha256: sha256.into() };
        check(done(100, &"ab".repeat(32)), &["verifying", "applying", "success"]);
        check(done(100, &"AB".repeat(32)), &["verifying", "applying", "success"]);
        check(done(100, &"ac".repeat(32)), &["verifying", "failed"]);
        check(done(99, &"ab".repeat(32)), &["verifying", "failed"]);
        check(Download::Failed("connection reset".into()), &["failed"]);
        check(Download::Progress(50), &["downloading"]);
        check(Download::Progress(1), &[]);
    }

    #[test]
    fn an_order_with_a_bad_parameter_is_refused() {
        let check = |change: fn(&mut OtaParams)| {
            let mut bad = params();
            change(&mut bad);
            assert!(Update::order(Uuid::nil(), bad).is_err());
        };
        check(|p| p.fw_version.clear());
        check(|p| p.fw_url = "ftp://host/fw".into());
        check(|p| p.fw_sha256 = "xyz".into());
        check(|p| p.fw_size_bytes = 0);
        check(|p| p.fw_size_bytes = MAX_IMAGE_BYTES + 1);
    }
}
