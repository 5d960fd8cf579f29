//! Logs: for people on a terminal, one JSON object a line otherwise. Always on stderr; stdout is for answers.
//!
//! Events carry `device_id` and `request_id` as fields, never inside the text. Does not know what is logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// The HTTP library's own talk about its workers is not news, and what it could not read is logged by the API (strangers
/// could fill the log with errors otherwise). A filter that names it wins.
const QUIET: &str = "actix_server=warn,actix_http::h1=off";

/// Shape of the lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// Text when stderr is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One object a line; an event's fields are members of it.
    Json,
}

impl Format {
    /// As written in the settings, in the order of the enum.
    pub const NAMES: [&'static str; 3] = ["auto", "text", "json"];

    /// Reads the settings' word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auto, Self::Text, Self::Json].into_iter().zip(Self::NAMES).find(|(_, n)| *n == name).map(|(f, _)| f)
    }
}

/// The filter is not one; the text says where.
#[derive(Debug, thiserror::Error)]
#[error("`{filter}` is neither a level (off error warn info debug trace) nor a list of target=level")]
pub struct BadFilter {
    filter: String,
    #[source]
    source: Option<tracing_subscriber::filter::ParseError>,
}

/// Checks a filter as `log.level` and `IOT_METER_LOG` take it: a level, or `target=level` separated by commas.
pub fn check_filter(filter: &str) -> Result<(), BadFilter> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    let bad = |source| BadFilter { filter: filter.to_owned(), source };
    // A lone unknown word would be read as a target's name and silence everything.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_known = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim().to_ascii_lowercase();
        levels.contains(&level.as_str())
    };
    if !filter.split(',').all(is_known) {
        return Err(bad(None));
    }
    EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|source| bad(Some(source)))
}

/// Starts logging for the whole process. A second call (tests) leaves the first one's subscriber in place.
pub fn init(filter: &str, format: Format) -> Result<(), BadFilter> {
    let filter = parse(filter)?;
    let is_terminal = std::io::stderr().is_terminal();
    let json = match format {
        Format::Auto => !is_terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(is_terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()));
    let set = match json {
        true => tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish()),
        false => tracing::subscriber::set_global_default(builder.finish()),
    };
    if set.is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
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
    fn starting_twice_is_harmless() {
        init("warn", Format::Json).expect("a good filter");
        init("warn", Format::Text).expect("a good filter");
    }
}
