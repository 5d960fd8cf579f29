//! What operators see of the running process: logs, metrics (one catalogue), traces and the task board.
//!
//! Used by all rooms that do input or output; knows none of them. A room counts by naming a metric of the catalogue:
//! `observe::metrics::MESSAGES_PROCESSED.increment(&[("kind", "telemetry")], 1)`; what is logged and counted goes through
//! `counted!`.

pub mod backoff;
pub mod board;
pub mod catalogue;
mod exemplars;
mod labels;
pub mod log;
pub mod metrics;
mod openmetrics;
mod process;
mod seldom;
pub mod trace;

pub use board::{Board, Progress, TaskState};
pub use seldom::Seldom;

/// Logs an event and counts it, so that the two cannot disagree: level, counter, its labels, how many, then the event as for
/// [`tracing`]. `level if condition` counts always and logs only what is news.
macro_rules! counted {
    ($level:ident, $counter:expr, [$($label:expr),*], $count:expr, $($event:tt)+) => {
        $crate::observe::counted!($level if true, $counter, [$($label),*], $count, $($event)+)
    };
    ($level:ident if $is_news:expr, $counter:expr, [$($label:expr),*], $count:expr, $($event:tt)+) => {{
        $counter.increment(&[$($label),*], $count);
        if $is_news {
            ::tracing::$level!($($event)+);
        }
    }};
}
pub(crate) use counted;
