//! What is logged: a filter, given at the start and changed while the process runs.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing_subscriber::EnvFilter;

/// The HTTP library's own talk about its workers is not news, and what it could not read is logged by the API (strangers
/// could fill the log with errors otherwise). A filter that names it wins.
const QUIET: &str = "actix_server=warn,actix_http::h1=off";

/// From quiet to loud.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Puts another filter in place; `false` = there is no subscriber any more.
pub(super) type Control = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

/// The process's own, with the filter that counts now.
static RUNNING: OnceLock<(Control, Mutex<String>)> = OnceLock::new();

/// The filter is not one; the text says where.
#[derive(Debug, thiserror::Error)]
#[error("`{filter}` is neither a level (off error warn info debug trace) nor a list of target=level")]
pub struct BadFilter {
    filter: String,
    #[source]
    source: Option<tracing_subscriber::filter::ParseError>,
}

/// The filter could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// It is none.
    #[error(transparent)]
    Bad(#[from] BadFilter),
    /// Whoever started the process logs in its own way (tests, other programs around the library).
    #[error("this process does not log by itself")]
    NotStarted,
}

/// Checks a filter as `log.level` and `IOT_METER_LOG` take it: a level, or `target=level` separated by commas.
pub fn check_filter(filter: &str) -> Result<(), BadFilter> {
    parse(filter).map(drop)
}

pub(super) fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    let bad = |source| BadFilter { filter: filter.to_owned(), source };
    // A lone unknown word would be read as a target's name and silence everything.
    let is_known = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim().to_ascii_lowercase();
        LEVELS.contains(&level.as_str())
    };
    if !filter.split(',').all(is_known) {
        return Err(bad(None));
    }
    EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|source| bad(Some(source)))
}

/// From now on this is what [`set_filter`] changes.
pub(super) fn take(control: Control, filter: &str) {
    // A second one has no subscriber behind it.
    let _ = RUNNING.set((control, Mutex::new(filter.to_owned())));
}

/// The filter of now; `None` = this process does not log by itself.
pub fn filter() -> Option<String> {
    RUNNING.get().map(|(_, filter)| lock(filter).clone())
}

/// Another filter, from now on; the one before.
pub fn set_filter(new: &str) -> Result<String, LevelError> {
    let parsed = parse(new)?;
    let (control, filter) = RUNNING.get().ok_or(LevelError::NotStarted)?;
    let mut filter = lock(filter);
    if !control(parsed) {
        return Err(LevelError::NotStarted);
    }
    Ok(std::mem::replace(&mut filter, new.to_owned()))
}

/// One step more, or less, for all that has no level of its own; the filter from now on.
pub fn step_filter(is_more: bool) -> Result<String, LevelError> {
    let new = stepped(&filter().ok_or(LevelError::NotStarted)?, is_more);
    set_filter(&new)?;
    Ok(new)
}

/// The filter with its general level moved; what targets have of their own stays. From `error` it goes no further down: a
/// signal is not to silence the log.
fn stepped(filter: &str, is_more: bool) -> String {
    let (own, general): (Vec<&str>, Vec<&str>) = filter.split(',').map(str::trim).partition(|part| part.contains('='));
    // Without one, a filter of targets alone shows errors of the others.
    let general = general.last().map_or("error".to_owned(), |level| level.to_ascii_lowercase());
    let at = LEVELS.iter().position(|level| *level == general).unwrap_or(1);
    let next = if is_more { (at + 1).min(LEVELS.len() - 1) } else { at.saturating_sub(1).max(1) };
    std::iter::once(LEVELS[next]).chain(own).collect::<Vec<_>>().join(",")
}

fn lock(filter: &Mutex<String>) -> MutexGuard<'_, String> {
    filter.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_targets_with_levels() {
        let check = |filter: &str, good: bool| assert_eq!(check_filter(filter).is_ok(), good, "{filter:?}");
        check("info", true);
        check("off", true);
        check("info,iot_meter::broker=debug", true);
        check("WARN", true);
        check("loud", false);
        check("", false);
        check("iot_meter=", false);
        check("iot_meter=info,", false);
    }

    #[test]
    fn a_step_moves_the_general_level_and_leaves_the_rest() {
        let check = |filter: &str, is_more: bool, expected: &str| {
            assert_eq!(stepped(filter, is_more), expected, "{filter:?} {is_more}");
            assert!(check_filter(expected).is_ok());
        };
        check("info", true, "debug");
        check("info", false, "warn");
        check("trace", true, "trace");
        check("error", false, "error");
        check("off", true, "error");
        check("off", false, "error");
        check("WARN", true, "info");
        check("info,iot_meter::broker=trace", true, "debug,iot_meter::broker=trace");
        check("iot_meter::broker=trace", true, "warn,iot_meter::broker=trace");
    }
}
