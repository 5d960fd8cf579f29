//! A line now and then that shows what a simulated meter measures right now: `serve --demo` is there to be looked at.

use std::fmt::Write as _;
use std::time::Duration;

use super::output;
use crate::domain::{DeviceId, DeviceState, Timestamp};
use crate::store::{self, SharedStore};

const EVERY: Duration = Duration::from_secs(5);

/// Prints until it is dropped, or nobody reads any more.
pub(super) async fn show(store: SharedStore, device: DeviceId) {
    loop {
        tokio::time::sleep(EVERY).await;
        let id = device.clone();
        let read = store::run(&store, move |s| Ok((s.device_states(&[id])?, s.stats()?))).await;
        let Ok((states, stats)) = read else { continue };
        let online = stats.device_by_connection.iter().find(|(name, _)| name == "online").map_or(0, |(_, n)| *n);
        let Some((id, state)) = states.first() else { continue };
        if output::print_text(&line(id, state, online)).is_err() {
            return;
        }
    }
}

/// `10:00:05Z  demo-dc750-0001  voltage_dc 751.5 V  current_dc 309.2 A  (20 meters online)`
fn line(id: &DeviceId, state: &DeviceState, online: u64) -> String {
    let newest = state.latest.values().map(|latest| latest.ts).max().unwrap_or_default();
    let mut text = format!("{}  {id}", time_of_day(newest));
    for (metric, latest) in state.latest.iter().filter(|(_, latest)| latest.ts == newest) {
        let unit = latest.unit.as_deref().or(metric.unit()).unwrap_or_default();
        let _ = write!(text, "  {} {} {unit}", metric.name(), latest.value);
    }
    let _ = writeln!(text, "  ({online} meters online)");
    text
}

fn time_of_day(ts: Timestamp) -> String {
    let whole = Timestamp(ts.0 / 1_000_000 * 1_000_000).to_string();
    whole.split_once('T').map_or(whole.clone(), |(_, time)| time.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Metric;
    use crate::domain::device::Latest;

    #[test]
    fn the_line_shows_the_values_of_the_newest_sample() {
        let mut state = DeviceState::default();
        let at = |text: &str| Timestamp::parse_rfc3339(text).expect("a time");
        let mut add = |name: &str, value: f64, ts: &str| {
            state.latest.insert(Metric::parse(name).expect("a name"), Latest { ts: at(ts), value, unit: None })
        };
        add("voltage_dc", 751.5, "2026-02-12T10:00:05.250Z");
        add("current_dc", 309.25, "2026-02-12T10:00:05.250Z");
        add("battery", 27.0, "2026-02-12T10:00:00Z");
        let id = DeviceId::parse("m1").expect("an id");
        let expected = "10:00:05Z  m1  voltage_dc 751.5 V  current_dc 309.25 A  (20 meters online)\n";
        assert_eq!(line(&id, &state, 20), expected);
    }
}
