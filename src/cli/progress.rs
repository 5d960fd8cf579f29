//! A bar of bytes for what takes long. Drawn on stderr, and only when that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that knows nothing yet.
pub(super) fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or(ProgressStyle::default_bar()))
}

/// Shows how much of all is done.
pub(super) fn show(bar: &ProgressBar, done: u64, all: u64) {
    // (How much there is may turn out to be more than was thought.)
    bar.set_length(all.max(done));
    bar.set_position(done);
}
