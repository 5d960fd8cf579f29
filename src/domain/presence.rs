//! Presence: is the meter there? By what it says and by its silence.

/// Connection status as the API shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(missing_docs)]
pub enum Connection {
    Online,
    Offline,
    #[default]
    Unknown,
}

impl Connection {
    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the API's word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Online, Self::Offline, Self::Unknown].into_iter().find(|c| c.name() == name)
    }
}
