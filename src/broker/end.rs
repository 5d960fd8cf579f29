//! Why a connection ends, and what the client is told.

use bytestring::ByteString;

use super::stats::Counters;
use crate::mqtt::{Reason, Violation, codec};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the client said goodbye")]
    Goodbye,
    #[error("closed by the peer")]
    Closed,
    #[error(transparent)]
    Malformed(#[from] codec::Error),
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("not allowed to publish to {topic}")]
    NotAllowed { topic: ByteString },
    #[error("silent for longer than its keep-alive allows")]
    KeepAlive,
    #[error("takes no data")]
    Stalled,
    #[error("the client has connected again")]
    TakenOver,
    #[error("ended by an operator")]
    Dismissed,
    #[error("the journal has failed")]
    JournalFailed,
    #[error("the server is stopping")]
    Stopping,
    #[error("cut off: the time for stopping is over")]
    CutOff,
}

impl End {
    /// The reason of the DISCONNECT that a client of MQTT 5 gets (section 3.14.2.1); `None` = nothing can be said to it.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Goodbye | Self::Closed | Self::Stalled => None,
            Self::Malformed(error) => Some(error.reason()),
            Self::Violation(violation) => Some(violation.reason()),
            Self::NotAllowed { .. } => Some(Reason::NotAuthorized),
            Self::KeepAlive => Some(Reason::KeepAliveTimeout),
            Self::TakenOver => Some(Reason::SessionTakenOver),
            Self::Dismissed => Some(Reason::AdministrativeAction),
            Self::JournalFailed => Some(Reason::Unspecified),
            Self::Stopping | Self::CutOff => Some(Reason::ServerShuttingDown),
        }
    }

    /// Whether the last will is kept back whatever the client said. An operator's end is final: a will would speak for a
    /// device that is gone, and register it anew.
    pub(super) const fn is_silent(&self) -> bool {
        matches!(self, Self::Stopping | Self::CutOff | Self::Dismissed)
    }

    /// The counter of such ends.
    pub(super) fn counter<'a>(&self, counters: &'a Counters) -> Option<&'a std::sync::atomic::AtomicU64> {
        match self {
            Self::Malformed(_) | Self::Violation(_) => Some(&counters.closed_malformed),
            Self::NotAllowed { .. } => Some(&counters.closed_not_allowed),
            Self::KeepAlive => Some(&counters.closed_keep_alive),
            Self::Stalled => Some(&counters.closed_stalled),
            Self::TakenOver => Some(&counters.closed_taken_over),
            Self::Goodbye | Self::Closed | Self::Dismissed | Self::JournalFailed | Self::Stopping | Self::CutOff => {
                None
            }
        }
    }
}
