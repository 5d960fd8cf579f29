//! The rollouts' task: steps every rollout that is not over, and gives devices their `start_ota`.
//!
//! Promise: what a step changes and the commands it gives are one transaction, so that a crash at any moment leaves a rollout
//! as it was before or after; a command that was given and not sent is delivered when its meter connects. Of several nodes on
//! one database one steps; two that step the same rollout do so one after the other. Images that no upload finished with are
//! removed.
//! Must not know: HTTP requests, what an image holds.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, watch};

use super::{Handle, Request};
use crate::archive::{self, Images};
use crate::domain::command::CommandKind;
use crate::domain::rollout::{RolloutState, UpdateState};
use crate::domain::{CommandId, DeviceId, Timestamp};
use crate::observe::{Board, TaskState, counted, metrics};
use crate::store::{self, Duty, Firmware, Leader, NewCommand, Rollout, SharedStore, Stepped};
use crate::vault::Keyring;

/// The name on the task board.
pub const TASK: &str = "rollouts";

/// Between steps while something happens.
const BUSY: Duration = Duration::from_secs(1);
/// Between steps while nothing does: devices that are waited for come when they come.
const IDLE: Duration = Duration::from_secs(5);
/// A link outlives what the device is given by this, for a download that goes on.
const LINK_GRACE: Duration = Duration::from_secs(3600);
/// How often images that nobody knows are looked for, and how old they must be.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// What the API and the task share. Clones are the same.
#[derive(Clone, Debug)]
pub struct Campaigns {
    /// Where images are.
    pub images: Images,
    /// How meters reach this server over HTTP, without a slash at the end; `None` = nobody has said.
    pub public_url: Option<String>,
    wake: Arc<Notify>,
}

impl Campaigns {
    /// With these images, reached at that address.
    pub fn new(images: Images, public_url: Option<String>) -> Self {
        Self { images, public_url, wake: Arc::default() }
    }

    /// There is something to do.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// What the signature of a link to an image is made for.
pub fn link_of(firmware: i64) -> String {
    format!("firmware/{firmware}")
}

/// The address of an image as it may be shown to those who may not fetch it: without what opens a link of ours. That of
/// somebody else's image stays as it is.
pub fn unsigned(url: &str) -> &str {
    let is_ours = |address: &str| {
        let id = address.strip_suffix("/download").and_then(|rest| rest.rsplit_once("/api/firmware/"));
        id.is_some_and(|(_, id)| id.parse::<i64>().is_ok())
    };
    match url.split_once('?') {
        Some((address, _)) if is_ours(address) => address,
        _ => url,
    }
}

/// The task.
pub struct Rollouts {
    campaigns: Campaigns,
    store: SharedStore,
    vault: Arc<Keyring>,
    dispatch: Handle,
    board: Board,
    leader: Leader,
    swept_at: Option<Timestamp>,
}

impl Rollouts {
    /// Not yet running.
    pub fn new(campaigns: Campaigns, store: SharedStore, vault: Arc<Keyring>, dispatch: Handle, board: Board) -> Self {
        Self { campaigns, store, vault, dispatch, board, leader: Leader::new(Duty::Rollouts), swept_at: None }
    }

    /// Works until `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.board.set(TASK, TaskState::Running);
        loop {
            let pause = match self.step_all().await {
                Ok(is_busy) => {
                    let state = if is_busy.is_none() { no_address() } else { TaskState::Running };
                    self.board.set(TASK, state);
                    if is_busy == Some(true) { BUSY } else { IDLE }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "rollouts cannot be stepped; trying again"
                    );
                    self.board.set(TASK, TaskState::Retrying("the store failed to step rollouts".into()));
                    IDLE
                }
            };
            self.sweep().await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.campaigns.wake.notified() => {}
                _ = stop.wait_for(|stopping| *stopping) => break,
            }
        }
        self.leader.end().await;
        self.board.set(TASK, TaskState::Stopped);
    }

    /// Steps all of them: whether anything happened or is under way. `None` = there are some, and meters could not reach us.
    async fn step_all(&self) -> Result<Option<bool>, store::Error> {
        // Who has no address to give does not stand for it: another node may have one.
        let leader = self.campaigns.public_url.is_some().then(|| self.leader.clone());
        let look = move |s: &dyn store::Store| match leader {
            Some(leader) if !leader.leads(s)? => Ok(Vec::new()),
            _ => s.open_rollouts(),
        };
        let open = store::run(&self.store, look).await?;
        let Some(base) = self.campaigns.public_url.clone() else {
            return Ok(if open.is_empty() { Some(false) } else { None });
        };
        let mut is_busy = false;
        for id in open {
            let (now, vault, base) = (self.board.clock().now(), Arc::clone(&self.vault), base.clone());
            let step = move |s: &dyn store::Store| {
                s.step_rollout(id, now, &|image: &Firmware, rollout: &Rollout, device: &DeviceId| {
                    command(&vault, &base, image, rollout, device, now)
                })
            };
            if let Some(stepped) = store::run(&self.store, step).await? {
                let is_under_way = stepped.rollout.tally.iter().any(|stage| stage.under_way > 0);
                is_busy |= is_under_way || stepped.is_changed || !stepped.changes.is_empty();
                self.tell(stepped).await;
            }
        }
        Ok(Some(is_busy))
    }

    /// Says what a step did, and has the commands delivered.
    async fn tell(&self, Stepped { rollout, is_changed, changes }: Stepped) {
        let id = rollout.id;
        for change in changes {
            let (device, state) = (&change.device, change.to.name());
            let reason = change.reason.map(|reason| reason.name());
            match change.to {
                UpdateState::Confirmed | UpdateState::Skipped => {
                    counted!(
                        info,
                        metrics::ROLLOUT_UPDATES,
                        [("result", state)],
                        1,
                        rollout = id,
                        device_id = %device,
                        state,
                        reason,
                        "update of a device ended"
                    );
                }
                UpdateState::Failed => {
                    counted!(
                        warn,
                        metrics::ROLLOUT_UPDATES,
                        [("result", state)],
                        1,
                        rollout = id,
                        device_id = %device,
                        state,
                        reason,
                        "update of a device failed"
                    );
                }
                UpdateState::Sent => self.dispatch.ask(Request::Deliver(change.device)).await,
                _ => tracing::debug!(rollout = id, device_id = %device, state, "update of a device goes on"),
            }
        }
        if is_changed {
            let (state, stage) = (rollout.progress.state.name(), rollout.progress.stage + 1);
            match rollout.progress.pause.map(|reason| reason.name()) {
                Some(reason) if rollout.progress.state == RolloutState::Paused => {
                    tracing::warn!(rollout = id, state, reason, stage, "rollout paused by itself");
                }
                _ => tracing::info!(rollout = id, state, stage, "rollout goes on"),
            }
        }
    }

    /// Removes images that no row knows: of uploads that a crash ended between the two.
    async fn sweep(&mut self) {
        let now = self.board.clock().now();
        if self.swept_at.is_some_and(|at| now.since(at) < SWEEP_EVERY) {
            return;
        }
        match self.remove_unknown(now).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "firmware images that no upload finished with were removed"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "firmware images cannot be tidied up");
            }
        }
        self.swept_at = Some(now);
    }

    async fn remove_unknown(&self, now: Timestamp) -> Result<usize, Failed> {
        let mut count = 0;
        let old = self.campaigns.images.older_than(SWEEP_EVERY, now).await?;
        for some in old.chunks(500) {
            let asked = some.to_vec();
            let known = store::run(&self.store, move |s| s.known_firmware(&asked)).await?;
            for object in some.iter().filter(|object| !known.contains(object)) {
                self.campaigns.images.remove(object).await?;
                count += 1;
            }
        }
        Ok(count)
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Images(#[from] archive::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

fn no_address() -> TaskState {
    TaskState::Retrying("http.public_url must say how meters reach this server over HTTP".into())
}

/// The command for a device.
fn command(
    vault: &Keyring,
    base: &str,
    image: &Firmware,
    rollout: &Rollout,
    device: &DeviceId,
    now: Timestamp,
) -> NewCommand {
    let timeout = rollout.plan.limits.device_timeout;
    let expires_s = now.plus(timeout).plus(LINK_GRACE).0 / 1_000_000;
    let signature = vault.sign_link(&link_of(image.id), expires_s);
    let params = json!({
        "fw_version": image.version,
        "fw_url": format!("{base}/api/firmware/{}/download?expires={expires_s}&signature={signature}", image.id),
        "fw_sha256": hex::encode(image.sha256),
        "fw_size_bytes": image.size_bytes,
    });
    NewCommand {
        cmd_id: CommandId::random(),
        device: device.clone(),
        cmd: CommandKind::StartOta.name().to_owned(),
        params: params.as_object().cloned().unwrap_or_default(),
        created_at: now,
        created_by: format!("rollout:{}", rollout.id),
        expires_at: now.plus(timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rollout::{Limits, Plan, Progress};

    #[test]
    fn a_devices_command_is_a_valid_one_with_a_link_that_is_good_as_long_as_the_device_has() {
        let vault = Keyring::of_new_key();
        let now = Timestamp(1_770_890_400_000_000);
        let image = Firmware {
            id: 7,
            object: "ab".into(),
            version: "2.0.0".into(),
            device_type: "dc3000".into(),
            size_bytes: 1000,
            sha256: [7; 32],
            created_at: now,
            created_by: "key:a".into(),
        };
        let limits = Limits {
            max_parallel: 1,
            max_failed_pct: 10,
            min_confirmed_pct: 90,
            device_timeout: Duration::from_secs(600),
            soak: Duration::ZERO,
        };
        let rollout = Rollout {
            id: 3,
            firmware: 7,
            version: "2.0.0".into(),
            device_type: "dc3000".into(),
            plan: Plan { limits, ends: vec![1] },
            progress: Progress::START,
            tally: Vec::new(),
            created_at: now,
            created_by: "key:a".into(),
            changed_at: now,
            ended_at: None,
        };
        let device = DeviceId::parse("m-1").unwrap();
        let made = command(&vault, "https://meters.example:8443/iot", &image, &rollout, &device, now);
        crate::payload::validate_command(&made.cmd, &made.params).unwrap();
        assert_eq!((made.expires_at, made.created_by.as_str()), (now.plus_us(600_000_000), "rollout:3"));
        let url = made.params["fw_url"].as_str().unwrap();
        assert_eq!(unsigned(url), "https://meters.example:8443/iot/api/firmware/7/download");
        for foreign in ["https://cdn.example/7/download?signature=1", "https://h/api/firmware/x/download?a", "a", ""] {
            assert_eq!(unsigned(foreign), foreign);
        }
        let query = url.strip_prefix("https://meters.example:8443/iot/api/firmware/7/download?expires=").unwrap();
        let (expires_s, signature) = query.split_once("&signature=").unwrap();
        let expires_s: i64 = expires_s.parse().unwrap();
        assert!(vault.is_link_good(&link_of(7), expires_s, signature, made.expires_at));
        assert!(!vault.is_link_good(&link_of(7), expires_s, signature, made.expires_at.plus(LINK_GRACE)));
    }
}
