//! The fake store's part for imports, of which the API knows nothing.

use super::FakeStore;
use crate::domain::{DeviceId, Sequence, Timestamp};
use crate::store::{Error, OldAlert, OldCommand, OldConfig, OldDevice, TakenOver, Takeover};

impl Takeover for FakeStore {
    fn take_over_devices(&self, devices: &[OldDevice]) -> Result<Vec<TakenOver>, Error> {
        self.real().take_over_devices(devices)
    }
    fn take_over_configs(&self, configs: &[OldConfig]) -> Result<Vec<TakenOver>, Error> {
        self.real().take_over_configs(configs)
    }
    fn take_over_alerts(&self, alerts: &[OldAlert]) -> Result<Vec<TakenOver>, Error> {
        self.real().take_over_alerts(alerts)
    }
    fn take_over_commands(&self, commands: &[OldCommand]) -> Result<Vec<TakenOver>, Error> {
        self.real().take_over_commands(commands)
    }
    fn received_at(&self, messages: &[(DeviceId, Timestamp, Sequence)]) -> Result<Vec<Option<Timestamp>>, Error> {
        self.real().received_at(messages)
    }
    fn note_archive_only(&self, before: Timestamp, measured: &[(DeviceId, Timestamp)]) -> Result<(), Error> {
        self.real().note_archive_only(before, measured)
    }
}
