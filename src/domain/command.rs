//! Commands to meters: kinds, parameters, and the states a command goes through.

/// Where a command stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum CommandStatus {
    Pending,
    Sent,
    Delivered,
    Accepted,
    Rejected,
    Error,
    Unsupported,
    Expired,
    Cancelled,
    Timeout,
}

impl CommandStatus {
    /// All states.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Sent,
        Self::Delivered,
        Self::Accepted,
        Self::Rejected,
        Self::Error,
        Self::Unsupported,
        Self::Expired,
        Self::Cancelled,
        Self::Timeout,
    ];

    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Error => "error",
            Self::Unsupported => "unsupported",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
        }
    }

    /// Reads the API's word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl CommandStatus {
    /// Whether nothing more can happen to the command.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Sent | Self::Delivered | Self::Timeout)
    }
}

/// Whether a command may go from `from` to `to`.
///
/// An acknowledgement is honoured from every state it can overtake or follow: also before the delivery receipt, and
/// late, after the time-out. Nothing leaves a final state, and nothing goes back.
pub const fn may_advance(from: CommandStatus, to: CommandStatus) -> bool {
    use CommandStatus::{
        Accepted, Cancelled, Delivered, Error, Expired, Pending, Rejected, Sent, Timeout, Unsupported,
    };
    match to {
        Pending => false,
        Cancelled => matches!(from, Pending),
        Sent => matches!(from, Pending),
        Delivered => matches!(from, Pending | Sent),
        Expired => matches!(from, Pending | Sent),
        Timeout => matches!(from, Delivered),
        Accepted | Rejected | Error | Unsupported => matches!(from, Pending | Sent | Delivered | Timeout),
    }
}

impl From<super::message::AckResult> for CommandStatus {
    fn from(result: super::message::AckResult) -> Self {
        use super::message::AckResult;
        match result {
            AckResult::Accepted => Self::Accepted,
            AckResult::Rejected => Self::Rejected,
            AckResult::Error => Self::Error,
            AckResult::Unsupported => Self::Unsupported,
        }
    }
}
