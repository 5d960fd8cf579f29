//! Settings of every room, gathered, checked and explained.
//!
//! Promise: a [`Settings`] is complete and within range; whatever was wrong in the file, the environment or the flags is
//! reported at once, each fault with its key and where it came from. Precedence: flag, environment, file, default.
//! The table in `keys` is the only list of keys: structures, defaults, ranges, `config/default.toml` and the text of
//! `check-config` all come from it. Must not know: what a room does with its settings.
//!
//! Start from [`load()`] (pure) or [`Sources::of_process`] (reads the real file and environment).

mod document;
mod entries;
mod env;
mod from_value;
mod keys;
mod lists;
mod load;
mod rules;
mod secret;
mod suggest;
mod table;
mod texts;
mod value;

pub use document::{default_toml, effective_json, effective_text, effective_toml};
pub use entries::ExternalBroker;
pub use env::EnvFile;
pub use keys::*;
pub use load::{ConfigError, Fault, FileText, Flag, Loaded, Source, Sources, load};
pub use rules::TLS_LISTEN;
pub use secret::Secret;
pub use table::Key;
pub use texts::Rule;
pub use value::{AutoListen, Kind, MetricsAccess, TlsVersion, UnknownDevices};

/// How `serve` was asked to run, beside the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeOptions {
    /// Every setting.
    pub settings: Settings,
    /// Authentication is off.
    pub open: bool,
    /// Simulated meters to run inside, if any.
    pub demo: Option<u32>,
}
