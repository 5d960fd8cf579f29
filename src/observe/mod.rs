//! What operators see of the running process: logs, metrics (one catalogue) and the task board.
//!
//! Used by all rooms that do input or output; knows none of them. A room counts by naming a metric of the catalogue:
//! `observe::metrics::MESSAGES_PROCESSED.increment(&[("kind", "telemetry")], 1)`.

pub mod backoff;
pub mod board;
pub mod catalogue;
pub mod log;
pub mod metrics;
mod process;
mod seldom;

pub use board::{Board, Progress, TaskState};
pub use seldom::Seldom;
