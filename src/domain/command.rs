//! Commands to meters: kinds, the ranges of their parameters, and the states a command goes through.

use std::ops::RangeInclusive;

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
    /// Whether nothing more can happen to the command. A late acknowledgement can follow [`Self::Expired`] and
    /// [`Self::Timeout`].
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Sent | Self::Delivered | Self::Expired | Self::Timeout)
    }
}

/// Whether a command may go from `from` to `to`.
///
/// An acknowledgement is honoured from every state it can overtake or follow: also before the delivery receipt, and
/// late, after the time-out or the expiry (the meter has executed it all the same). Nothing leaves a final state, and nothing goes back.
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
        Accepted | Rejected | Error | Unsupported => matches!(from, Pending | Sent | Delivered | Expired | Timeout),
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

/// The commands a meter knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum CommandKind {
    UpdateConfig,
    StartOta,
    Reboot,
    FactoryReset,
    RequestStatus,
}

impl CommandKind {
    /// All commands.
    pub const ALL: [Self; 5] =
        [Self::UpdateConfig, Self::StartOta, Self::Reboot, Self::FactoryReset, Self::RequestStatus];

    /// The `cmd` on the wire and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpdateConfig => "update_config",
            Self::StartOta => "start_ota",
            Self::Reboot => "reboot",
            Self::FactoryReset => "factory_reset",
            Self::RequestStatus => "request_status",
        }
    }

    /// Reads the wire's word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether a meter that has accepted it is configured otherwise than before.
    pub const fn configures(self) -> bool {
        matches!(self, Self::UpdateConfig | Self::FactoryReset)
    }
}

/// Milliseconds between two samples.
pub const SAMPLING_CADENCE_MS: RangeInclusive<u64> = 100..=60_000;
/// Seconds between two datagrams.
pub const SEND_INTERVAL_S: RangeInclusive<u64> = 1..=3600;
/// Seconds between two hellos.
pub const HELLO_INTERVAL_S: RangeInclusive<u64> = 5..=3600;
/// How many brokers a meter is given.
pub const BROKERS: RangeInclusive<usize> = 1..=5;
/// Bytes of a broker's host name (RFC 1035, section 2.3.4).
pub const HOST_LEN: RangeInclusive<usize> = 1..=253;
/// TCP ports.
pub const PORT: RangeInclusive<u64> = 1..=65_535;
/// Bytes of a firmware version's name.
pub const FW_VERSION_LEN: RangeInclusive<usize> = 1..=64;
/// Bytes of a firmware's address.
pub const FW_URL_LEN: RangeInclusive<usize> = 1..=2048;
/// Size of a firmware; the upper end is where JSON numbers cease to be exact.
pub const FW_SIZE_BYTES: RangeInclusive<u64> = 1..=9_007_199_254_740_992;

/// Whether `text` can be the name or address of a host: letters, digits, `-`, `.`, `_`, and `:` of IPv6.
pub fn is_host(text: &str) -> bool {
    HOST_LEN.contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':'))
}

/// Whether `text` is an `http` or `https` address with a host and without blanks.
pub fn is_firmware_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    FW_URL_LEN.contains(&text.len())
        && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']))
        && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether `text` is a SHA-256 in hexadecimal.
pub fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_honoured_from_every_state_that_is_not_final_and_nothing_goes_back() {
        use CommandStatus::{Accepted, Cancelled, Delivered, Error, Expired, Pending, Rejected, Sent, Timeout};
        let check = |to, allowed: &[CommandStatus]| {
            for from in CommandStatus::ALL {
                assert_eq!(may_advance(from, to), allowed.contains(&from), "{from:?} -> {to:?}");
                assert!(!(from.is_final() && may_advance(from, to)), "{from:?} is final");
            }
        };
        for answer in [Accepted, Rejected, Error, CommandStatus::Unsupported] {
            check(answer, &[Pending, Sent, Delivered, Expired, Timeout]);
        }
        check(Pending, &[]);
        check(Sent, &[Pending]);
        check(Delivered, &[Pending, Sent]);
        check(Expired, &[Pending, Sent]);
        check(Timeout, &[Delivered]);
        check(Cancelled, &[Pending]);
    }
}
