//! Alerts the system raises and clears by itself. At most one open alert a device and kind, also where a newer one takes its place.

use super::rule::Severity;

/// The built-in kinds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AlertKind {
    /// No message within the presence timeout, or the last will arrived.
    DeviceOffline,
    /// Messages are missing between two that arrived.
    SequenceGap,
}

impl AlertKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::DeviceOffline, Self::SequenceGap];

    /// The alert's `alert_type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeviceOffline => "device_offline",
            Self::SequenceGap => "sequence_gap",
        }
    }

    /// The alert's `severity`.
    pub const fn severity(self) -> Severity {
        match self {
            Self::DeviceOffline => Severity::Warning,
            Self::SequenceGap => Severity::Info,
        }
    }

    /// Whether each raise tells of something new: then it takes the place of an open alert that somebody has seen. (A loss may
    /// never heal, and shall not hide the next one.)
    pub const fn is_raised_anew(self) -> bool {
        matches!(self, Self::SequenceGap)
    }
}

/// Why an alert was cleared whose place a newer one has taken, as in the API and the store.
pub const SUPERSEDED: &str = "superseded";
