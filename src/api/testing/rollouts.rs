//! Another part of the fake store that is real: firmware and rollouts.

use super::FakeStore;
use crate::archive::{CloudOptions, Images};
use crate::dispatch::rollouts::Campaigns;
use crate::domain::Timestamp;
use crate::domain::rollout::{Action, RolloutState, UpdateState};
use crate::store::*;

impl Rollouts for FakeStore {
    fn add_firmware(&self, new: &NewFirmware) -> Result<Outcome<Firmware>, Error> {
        drop(self.answer()?);
        self.real().add_firmware(new)
    }
    fn firmware(&self, id: i64) -> Result<Option<Firmware>, Error> {
        self.real().firmware(id)
    }
    fn firmwares(&self, filter: &FirmwareFilter, page: Page) -> Result<Listing<Firmware>, Error> {
        self.real().firmwares(filter, page)
    }
    fn remove_firmware(&self, id: i64) -> Result<Option<Outcome<Firmware>>, Error> {
        self.real().remove_firmware(id)
    }
    fn known_firmware(&self, objects: &[String]) -> Result<Vec<String>, Error> {
        self.real().known_firmware(objects)
    }
    fn create_rollout(&self, new: &NewRollout) -> Result<Created, Error> {
        self.real().create_rollout(new)
    }
    fn rollout(&self, id: i64) -> Result<Option<Rollout>, Error> {
        self.real().rollout(id)
    }
    fn rollouts(&self, state: Option<RolloutState>, page: Page) -> Result<Listing<Rollout>, Error> {
        self.real().rollouts(state, page)
    }
    fn rollout_devices(
        &self,
        id: i64,
        state: Option<UpdateState>,
        page: Page,
    ) -> Result<Listing<RolloutDevice>, Error> {
        self.real().rollout_devices(id, state, page)
    }
    fn open_rollouts(&self) -> Result<Vec<i64>, Error> {
        self.real().open_rollouts()
    }
    fn step_rollout(&self, id: i64, now: Timestamp, order: &Order<'_>) -> Result<Option<Stepped>, Error> {
        self.real().step_rollout(id, now, order)
    }
    fn act_on_rollout(
        &self,
        id: i64,
        action: Action,
        expected_version: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<Outcome<Rollout>>, Error> {
        self.real().act_on_rollout(id, action, expected_version, now)
    }
    fn rollout_figures(&self) -> Result<RolloutFigures, Error> {
        self.real().rollout_figures()
    }
}

/// Images in a directory, for meters that reach this server by a name.
pub fn campaigns(dir: &std::path::Path) -> Campaigns {
    let runtime = tokio::runtime::Handle::current();
    let images = Images::open("file:///", &dir.join("firmware"), &CloudOptions::default(), runtime);
    Campaigns::new(images.unwrap(), Some("http://meters.example".to_owned()))
}
