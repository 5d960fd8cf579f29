//! Alerts the system raises and clears by itself. At most one open alert a device and kind.

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
}
