//! Sequence numbers of one meter: what is missing, what came late, what is a reboot or a wrap.

use super::time::Timestamp;

/// Most open gaps followed a device. Older ones stay in the ledger as open, but a late message heals them no more.
pub const MAX_OPEN_GAPS: usize = 128;

/// Position in one meter's count. Bounded: at most [`MAX_OPEN_GAPS`] gaps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SequenceState {
    /// The furthest message of the present power-on: its counter and time. `None` before the first.
    pub head: Option<(u32, Timestamp)>,
    /// How often the count started again.
    pub reboots: u64,
    /// Gaps with something still missing, oldest first.
    pub open: Vec<Gap>,
}

/// One ledger entry: messages that were missing between two that arrived.
///
/// `first..=last` is the range as it was found and, with `after`, names the entry; it spans the wrap when
/// `last < first`. `missing` is what of it is still missing; empty = filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The first counter that was missing.
    pub first: u32,
    /// The last counter that was missing.
    pub last: u32,
    /// Time of the message before the hole: a message that belongs in it is not older.
    pub after: Timestamp,
    /// Time of the message behind the hole: a message that belongs in it is not newer.
    pub before: Timestamp,
    /// Ranges still missing, in counting order.
    pub missing: Vec<(u32, u32)>,
}
