//! What operators see of the running process: logs, metrics (one catalogue) and the task board.
//!
//! Used by all rooms that do input or output; knows none of them.

pub mod board;

pub use board::{Board, Progress, TaskState};
