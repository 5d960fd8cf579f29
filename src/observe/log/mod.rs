//! Logs: for people on a terminal, one JSON object a line otherwise. Always on stderr; stdout is for answers.
//!
//! Events carry `device_id` and the like as fields, never inside the text; `fields` is the list of all of them. `lines` writes
//! them, with the trace and the request they belong to; `level` changes what is logged while the process runs. Where an event
//! has a counter of its own, [`counted!`](crate::observe::counted) does both. Does not know what is logged.

pub mod fields;
mod level;
mod lines;

use std::io::IsTerminal;

use tracing_subscriber::fmt::MakeWriter;

pub use level::{BadFilter, LevelError, check_filter, filter, set_filter, step_filter};
use lines::Lines;

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

/// Starts logging for the whole process. A second call (tests) leaves the first one's subscriber in place.
pub fn init(filter: &str, format: Format) -> Result<(), BadFilter> {
    let is_terminal = std::io::stderr().is_terminal();
    let lines = match format {
        Format::Auto if is_terminal => Lines::Text,
        Format::Text => Lines::Text,
        Format::Auto | Format::Json => Lines::Json,
    };
    let is_coloured = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let (subscriber, control) = subscriber(filter, lines, is_coloured, std::io::stderr)?;
    match tracing::subscriber::set_global_default(subscriber) {
        Ok(()) => level::take(control, filter),
        Err(_) => tracing::debug!("logging was started before"),
    }
    Ok(())
}

/// What writes lines, and what changes its filter.
fn subscriber<W>(
    filter: &str,
    lines: Lines,
    is_coloured: bool,
    writer: W,
) -> Result<(impl tracing::Subscriber + Send + Sync, level::Control), BadFilter>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        // A line that cannot be written is lost; the library would tell of it where it could not be written, and panic.
        .log_internal_errors(false)
        .with_env_filter(level::parse(filter)?)
        .with_writer(writer)
        .with_ansi(is_coloured)
        .event_format(lines)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    let control: level::Control = Box::new(move |filter| handle.reload(filter).is_ok());
    Ok((builder.finish(), control))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;
    use crate::observe::metrics;
    use crate::observe::trace::{self, Context, Current, Tracer};

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `work` logs.
    fn logged(filter: &str, lines: Lines, work: impl FnOnce(&level::Control)) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let (subscriber, control) = subscriber(filter, lines, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || work(&control));
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn json_lines(text: &str) -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    fn of_request() -> Current {
        let context = Context::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None).unwrap();
        Current { context, request_id: Some("r-1".into()), tracer: Tracer::default() }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outside")]
    struct Outside(#[source] std::io::Error);

    #[test]
    fn starting_twice_is_harmless() {
        init("warn", Format::Json).expect("a good filter");
        init("warn", Format::Text).expect("a good filter");
    }

    #[test]
    fn a_line_of_json_has_the_same_members_always_and_the_events_own() {
        let text = logged("info", Lines::Json, |_| {
            let error = Outside(std::io::Error::other("inside \"x\""));
            tracing::warn!(
                device_id = %"m\n1", n = 3_u64, f = 0.5, yes = true, lag = ?Some(1),
                error = &error as &dyn std::error::Error, "two\nlines"
            );
            tracing::debug!("not this one");
        });
        let lines = json_lines(&text);
        assert_eq!(lines.len(), 1, "{text}");
        let line = lines[0].as_object().unwrap();
        let expected = serde_json::json!({
            "timestamp": line["timestamp"], "level": "WARN", "target": "iot_meter::observe::log::tests",
            "message": "two\nlines", "device_id": "m\n1", "n": 3, "f": 0.5, "yes": true, "lag": "Some(1)",
            "error": "outside: inside \"x\"",
        });
        assert_eq!(lines[0], expected);
        let time = line["timestamp"].as_str().unwrap();
        assert!(crate::domain::Timestamp::parse_rfc3339(time).is_some() && time.ends_with('Z'), "{time}");
        assert!(text.starts_with("{\"timestamp\":\""), "people and tools that cut columns find the time first: {text}");
    }

    #[tokio::test]
    async fn a_line_says_which_trace_and_which_request_it_belongs_to_also_from_another_thread() {
        let work = |_: &level::Control| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(trace::within(of_request(), async {
                tracing::info!("here");
                let dispatch = tracing::dispatcher::get_default(Clone::clone);
                let call = trace::carry(move || {
                    tracing::dispatcher::with_default(&dispatch, || tracing::info!(request_id = "own", "there"));
                });
                std::thread::spawn(call).join().unwrap();
            }));
            tracing::info!("outside of it");
        };
        let text = std::thread::spawn(move || logged("info", Lines::Json, work)).join().unwrap();
        let lines = json_lines(&text);
        for (line, request_id) in lines.iter().zip(["r-1", "own"]) {
            assert_eq!(line["trace_id"], "0af7651916cd43dd8448eb211c80319c", "{line}");
            assert_eq!(line["span_id"], "b7ad6b7169203331", "{line}");
            assert_eq!(line["request_id"], request_id, "{line}");
            assert_eq!(text.matches("request_id").count(), 2, "each once: {text}");
        }
        assert_eq!(lines[2].get("trace_id").or(lines[2].get("request_id")), None);
        let text = std::thread::spawn(move || logged("info", Lines::Text, work)).join().unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.contains(" here ") && first.contains("request_id=r-1"), "{text}");
        assert!(first.ends_with("trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_changed_filter_counts_from_then_on() {
        let text = logged("warn", Lines::Json, |control| {
            let say = |n: u64| tracing::info!(n, "said");
            say(1);
            assert!(control(level::parse("info").unwrap()));
            say(2);
            assert!(control(level::parse("error").unwrap()));
            say(3);
        });
        let said: Vec<_> = json_lines(&text).iter().map(|line| line["n"].as_u64().unwrap()).collect();
        assert_eq!(said, [2]);
    }

    #[test]
    fn a_warning_that_is_written_is_counted_by_the_room_it_comes_from() {
        let count = || {
            let page = metrics::render(metrics::Exposition::Text);
            let line =
                page.lines().find(|l| l.starts_with("iot_meter_log_messages_total{level=\"warn\",room=\"keeper\"}"));
            line.and_then(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).expect("shows from the start")
        };
        let before = count();
        logged("warn", Lines::Json, |_| {
            tracing::warn!(target: "iot_meter::keeper", "counted");
            tracing::info!(target: "iot_meter::keeper", "not written, not counted");
        });
        logged("error", Lines::Json, |_| tracing::warn!(target: "iot_meter::keeper", "not written, not counted"));
        assert_eq!(count(), before + 1);
    }

    #[test]
    fn a_line_that_cannot_be_written_is_lost_and_nothing_else() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (subscriber, _) = subscriber("info", Lines::Json, false, || Full).unwrap();
        tracing::subscriber::with_default(subscriber, || tracing::warn!("not to be read"));
    }

    #[test]
    fn an_event_with_a_counter_of_its_own_is_one_call() {
        let read = || {
            let page = metrics::render(metrics::Exposition::Text);
            let line = page.lines().find(|l| l.starts_with("iot_meter_archive_failures_total "));
            line.and_then(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).expect("shows from the start")
        };
        let before = read();
        let text = logged("warn", Lines::Json, |_| {
            crate::observe::counted!(warn, metrics::ARCHIVE_FAILURES, [], 2, key = "k", "does not work");
            crate::observe::counted!(warn if false, metrics::ARCHIVE_FAILURES, [], 1, key = "k", "said before");
        });
        assert!(read() >= before + 3);
        let lines = json_lines(&text);
        assert_eq!((lines.len(), &lines[0]["key"]), (1, &Value::from("k")));
    }
}
