//! Firmware images (what is known of them, not their bytes) and staged updates.
//!
//! Invariants: of a device type there is one image of a version; a device is in one open rollout at a time; a step of a rollout
//! is one transaction, in which its devices get their commands, and two nodes that step the same rollout do so one after the
//! other.

use super::{DeviceFilter, Error, Listing, NewCommand, Outcome, Page};
use crate::domain::rollout::{
    Action, Change, Limits, Plan, Progress, RolloutState, StageFault, StageSize, Tally, UpdateReason, UpdateState,
};
use crate::domain::{CommandId, DeviceId, Timestamp};

/// Most devices of a rollout.
pub const MAX_ROLLOUT_DEVICES: usize = 1_000_000;

/// Makes the command for a device that is told.
pub type Order<'a> = dyn Fn(&Firmware, &Rollout, &DeviceId) -> NewCommand + 'a;

/// Part of the [`Store`](super::Store).
pub trait Rollouts {
    /// Adds an image whose bytes are stored; `Conflict` = there is one of that type and version.
    fn add_firmware(&self, new: &NewFirmware) -> Result<Outcome<Firmware>, Error>;
    /// One image.
    fn firmware(&self, id: i64) -> Result<Option<Firmware>, Error>;
    /// Images, newest first.
    fn firmwares(&self, filter: &FirmwareFilter, page: Page) -> Result<Listing<Firmware>, Error>;
    /// Forgets an image; `Conflict` = a rollout that is not over needs it, `None` = there is none.
    fn remove_firmware(&self, id: i64) -> Result<Option<Outcome<Firmware>>, Error>;
    /// Which of these objects an image is stored in.
    fn known_firmware(&self, objects: &[String]) -> Result<Vec<String>, Error>;

    /// Makes a rollout of the devices that are selected now, in a random order.
    fn create_rollout(&self, new: &NewRollout) -> Result<Created, Error>;
    /// One rollout, with its counts.
    fn rollout(&self, id: i64) -> Result<Option<Rollout>, Error>;
    /// Rollouts, newest first, with their counts.
    fn rollouts(&self, state: Option<RolloutState>, page: Page) -> Result<Listing<Rollout>, Error>;
    /// Devices of a rollout, in their order.
    fn rollout_devices(&self, id: i64, state: Option<UpdateState>, page: Page)
    -> Result<Listing<RolloutDevice>, Error>;
    /// Rollouts that are not over, oldest first.
    fn open_rollouts(&self) -> Result<Vec<i64>, Error>;
    /// Steps a rollout (see `domain::rollout::step`); where nothing changes nothing is written. `None` = there is none.
    fn step_rollout(&self, id: i64, now: Timestamp, order: &Order<'_>) -> Result<Option<Stepped>, Error>;
    /// Pauses, resumes or gives up a rollout. Giving up cancels commands that are pending, and lets those expire that were sent and
    /// not received. `Conflict` = its state forbids it, or it has moved on from `expected_version`, its `changed_at`.
    fn act_on_rollout(
        &self,
        id: i64,
        action: Action,
        expected_version: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<Outcome<Rollout>>, Error>;
    /// How many rollouts, and devices of those that are not over, stand where.
    fn rollout_figures(&self) -> Result<RolloutFigures, Error>;
}

/// An image to add.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct NewFirmware {
    /// Name of the object that holds its bytes.
    pub object: String,
    pub version: String,
    pub device_type: String,
    pub size_bytes: u64,
    pub sha256: [u8; 32],
    pub created_at: Timestamp,
    pub created_by: String,
}

/// An image.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Firmware {
    pub id: i64,
    pub object: String,
    pub version: String,
    pub device_type: String,
    pub size_bytes: u64,
    pub sha256: [u8; 32],
    pub created_at: Timestamp,
    pub created_by: String,
}

/// Which images.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct FirmwareFilter {
    pub device_type: Option<String>,
    pub version: Option<String>,
}

/// A rollout to make.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct NewRollout {
    pub firmware: i64,
    /// These devices only; none = all that the filter lets through.
    pub devices: Vec<DeviceId>,
    /// Of the image's device type and active they are all.
    pub filter: DeviceFilter,
    pub stages: Vec<StageSize>,
    pub limits: Limits,
    pub created_at: Timestamp,
    pub created_by: String,
}

/// What came of making one.
#[derive(Clone, PartialEq, Debug)]
pub enum Created {
    /// It runs.
    Done(Box<Rollout>),
    /// There is no such image.
    NoFirmware,
    /// No device is selected.
    NoDevices,
    /// More than [`MAX_ROLLOUT_DEVICES`].
    TooMany,
    /// These are not registered, not active, or of another type (some of them).
    NotSelectable(Vec<DeviceId>),
    /// This device is in a rollout that is not over.
    Busy(DeviceId, i64),
    /// The stages do not fit the devices.
    Stages(StageFault),
}

/// A rollout and how far it has come.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Rollout {
    pub id: i64,
    pub firmware: i64,
    pub version: String,
    pub device_type: String,
    pub plan: Plan,
    pub progress: Progress,
    /// A stage each.
    pub tally: Vec<Tally>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub changed_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// A device of a rollout.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct RolloutDevice {
    pub place: i64,
    pub device: DeviceId,
    /// From 0.
    pub stage: u32,
    pub state: UpdateState,
    pub reason: Option<UpdateReason>,
    pub detail: Option<String>,
    pub cmd_id: Option<CommandId>,
    /// Commands it was given.
    pub attempts: u32,
    /// What it said last, 0…100 %.
    pub progress_pct: Option<f64>,
    pub sent_at: Option<Timestamp>,
    pub changed_at: Timestamp,
}

/// What a step did.
#[derive(Clone, PartialEq, Debug)]
pub struct Stepped {
    /// As it is now.
    pub rollout: Rollout,
    /// Whether the rollout itself has changed.
    pub is_changed: bool,
    /// What became of devices.
    pub changes: Vec<Change>,
}

/// How many there are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RolloutFigures {
    /// (state, rollouts).
    pub rollouts: Vec<(String, u64)>,
    /// (reason, rollouts that are paused).
    pub paused: Vec<(String, u64)>,
    /// (state, devices of rollouts that are not over).
    pub devices: Vec<(String, u64)>,
}

/// Parallel, failed %, confirmed %, timeout s and soak s as stored, and the ends of the stages.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn plan_of(limits: [i64; 5], ends: &[i64]) -> Plan {
    let [max_parallel, max_failed_pct, min_confirmed_pct, device_timeout_s, soak_s] = limits;
    let percent = |stored: i64| u8::try_from(stored).unwrap_or(100).min(100);
    let seconds = |stored: i64| std::time::Duration::from_secs(u64::try_from(stored).unwrap_or(0));
    let limits = Limits {
        max_parallel: small(max_parallel),
        max_failed_pct: percent(max_failed_pct),
        min_confirmed_pct: percent(min_confirmed_pct),
        device_timeout: seconds(device_timeout_s),
        soak: seconds(soak_s),
    };
    Plan { limits, ends: ends.iter().copied().map(small).collect() }
}

/// A stored number that is never large.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn small(stored: i64) -> u32 {
    u32::try_from(stored.max(0)).unwrap_or(u32::MAX)
}

/// The devices in the order in which they are updated, and where the stages end. The order is by a hash of salt and id: a
/// stage is then a sample of all, not the lowest numbers.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn arrange(
    mut devices: Vec<String>,
    stages: &[StageSize],
    salt: u64,
) -> Result<(Vec<String>, Vec<u32>), StageFault> {
    let count = u32::try_from(devices.len()).unwrap_or(u32::MAX);
    let ends = crate::domain::rollout::stage_ends(stages, count)?;
    devices.sort_by_cached_key(|id| hash(salt, id));
    Ok((devices, ends))
}

/// FNV-1a over salt and text, with a last mix: spreads, and is the same everywhere.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn hash(salt: u64, text: &str) -> u64 {
    let bytes = salt.to_le_bytes();
    let hash = bytes
        .iter()
        .chain(text.as_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (hash >> 32)
}

/// What a meter said of its update, as the collector stores it: an `ota_status` event.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Report<'a> {
    pub cmd_id: CommandId,
    pub device: &'a DeviceId,
    pub state: &'a str,
    pub progress_pct: f64,
    pub detail: Option<&'a str>,
    pub ts: Timestamp,
    pub seq: i64,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl<'a> Report<'a> {
    /// The reports among events.
    pub(super) fn among(events: &'a [super::EventRow]) -> impl Iterator<Item = Self> {
        events.iter().filter(|event| event.kind == "ota_status").filter_map(|event| {
            let text = |name: &str| event.body.get(name).and_then(serde_json::Value::as_str);
            Some(Self {
                cmd_id: CommandId::parse(text("cmd_id")?)?,
                device: &event.device,
                state: text("ota_state")?,
                progress_pct: event.body.get("progress_pct").and_then(serde_json::Value::as_f64).unwrap_or(0.0),
                detail: text("detail"),
                ts: event.ts,
                seq: event.seq.to_i64(),
            })
        })
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_another_for_each_rollout_and_no_device_is_lost() {
        let ids: Vec<String> = (0..1000).map(|n| format!("m-{n}")).collect();
        let order = |salt| arrange(ids.clone(), &[StageSize::Percent(10), StageSize::Percent(100)], salt).unwrap();
        let ((one, ends), (two, _)) = (order(1), order(2));
        assert_eq!((ends, one.len()), (vec![100, 1000], 1000));
        assert_ne!(one, two);
        assert_ne!(one, ids);
        assert_eq!(order(1).0, one, "the same rollout, the same order");
        // A stage is a sample: of the first hundred names about ten are in it.
        let sampled = one[..100].iter().filter(|id| id.len() <= 4).count();
        assert!((3..=22).contains(&sampled), "{sampled}");
        let mut sorted = one;
        sorted.sort();
        let mut expected = ids;
        expected.sort();
        assert_eq!(sorted, expected);
    }
}
