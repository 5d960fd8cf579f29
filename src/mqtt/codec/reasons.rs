//! Which reason codes which packet may carry (table 2-6 and the tables of chapter 3), and what 3.1.1 has in their place.

use super::{Error, Sender, protocol_error};
use crate::mqtt::packet::Reason::{self, *};

pub(super) const CONNACK: &[Reason] = &[
    Success,
    Unspecified,
    MalformedPacket,
    ProtocolError,
    ImplementationSpecific,
    UnsupportedProtocolVersion,
    ClientIdentifierNotValid,
    BadUserNameOrPassword,
    NotAuthorized,
    ServerUnavailable,
    ServerBusy,
    Banned,
    BadAuthenticationMethod,
    TopicNameInvalid,
    PacketTooLarge,
    QuotaExceeded,
    PayloadFormatInvalid,
    RetainNotSupported,
    QoSNotSupported,
    UseAnotherServer,
    ServerMoved,
    ConnectionRateExceeded,
];

/// PUBREL and PUBCOMP.
pub(super) const RELEASE: &[Reason] = &[Success, PacketIdentifierNotFound];

/// PUBACK and PUBREC.
const RECEIPT: &[Reason] = &[
    Success,
    Unspecified,
    ImplementationSpecific,
    NotAuthorized,
    TopicNameInvalid,
    PacketIdentifierInUse,
    QuotaExceeded,
    PayloadFormatInvalid,
];

pub(super) const SUBACK: &[Reason] = &[
    Success,
    GrantedQoS1,
    GrantedQoS2,
    Unspecified,
    ImplementationSpecific,
    NotAuthorized,
    TopicFilterInvalid,
    PacketIdentifierInUse,
    QuotaExceeded,
    SharedSubscriptionsNotSupported,
    SubscriptionIdentifiersNotSupported,
    WildcardSubscriptionsNotSupported,
];

pub(super) const UNSUBACK: &[Reason] = &[
    Success,
    NoSubscriptionExisted,
    Unspecified,
    ImplementationSpecific,
    NotAuthorized,
    TopicFilterInvalid,
    PacketIdentifierInUse,
];

/// DISCONNECT of either side.
const DISCONNECT: &[Reason] = &[
    Success,
    Unspecified,
    MalformedPacket,
    ProtocolError,
    ImplementationSpecific,
    TopicNameInvalid,
    ReceiveMaximumExceeded,
    TopicAliasInvalid,
    PacketTooLarge,
    MessageRateTooHigh,
    QuotaExceeded,
    AdministrativeAction,
    PayloadFormatInvalid,
];

const DISCONNECT_OF_SERVERS: &[Reason] = &[
    NotAuthorized,
    ServerBusy,
    ServerShuttingDown,
    BadAuthenticationMethod,
    KeepAliveTimeout,
    SessionTakenOver,
    TopicFilterInvalid,
    RetainNotSupported,
    QoSNotSupported,
    UseAnotherServer,
    ServerMoved,
    SharedSubscriptionsNotSupported,
    ConnectionRateExceeded,
    MaximumConnectTime,
    SubscriptionIdentifiersNotSupported,
    WildcardSubscriptionsNotSupported,
];

/// `[MQTT-3.2.2-8]`, `[MQTT-3.4.2-1]`, `[MQTT-3.5.2-1]`, `[MQTT-3.6.2-1]`, `[MQTT-3.7.2-1]`, `[MQTT-3.9.3-2]`,
/// `[MQTT-3.11.3-2]`, `[MQTT-3.14.2-1]`, `[MQTT-3.15.2-1]`: one of those, or a protocol error.
pub(super) fn one_of(allowed: &[Reason], code: u8) -> Result<Reason, Error> {
    let reason = Reason::from_code(code).filter(|reason| allowed.contains(reason));
    reason.ok_or(protocol_error("a reason code that this packet does not have"))
}

/// PUBACK and PUBREC: only a server knows who is subscribed.
pub(super) fn receipt(sender: Sender, code: u8) -> Result<Reason, Error> {
    match sender {
        Sender::Server if code == NoMatchingSubscribers.code() => Ok(NoMatchingSubscribers),
        _ => one_of(RECEIPT, code),
    }
}

pub(super) fn disconnect(sender: Sender, code: u8) -> Result<Reason, Error> {
    let own = match sender {
        Sender::Client => &[DisconnectWithWill][..],
        Sender::Server => DISCONNECT_OF_SERVERS,
    };
    one_of(own, code).or_else(|_| one_of(DISCONNECT, code))
}

pub(super) fn auth(sender: Sender, code: u8) -> Result<Reason, Error> {
    match sender {
        Sender::Client => one_of(&[ContinueAuthentication, ReAuthenticate], code),
        Sender::Server => one_of(&[Success, ContinueAuthentication], code),
    }
}

/// The return code of CONNACK in 3.1.1 (table 3.1 there).
pub(super) const fn connect_code(reason: Reason) -> u8 {
    match reason {
        _ if !reason.is_error() => 0,
        UnsupportedProtocolVersion => 1,
        ClientIdentifierNotValid => 2,
        ServerUnavailable
        | ServerBusy
        | ServerShuttingDown
        | QuotaExceeded
        | MessageRateTooHigh
        | UseAnotherServer
        | ServerMoved
        | ConnectionRateExceeded => 3,
        BadUserNameOrPassword => 4,
        _ => 5,
    }
}

/// The return code of CONNACK in 3.1.1, back; codes above 5 are reserved.
pub(super) fn of_connect_code(code: u8) -> Result<Reason, Error> {
    match code {
        0 => Ok(Success),
        1 => Ok(UnsupportedProtocolVersion),
        2 => Ok(ClientIdentifierNotValid),
        3 => Ok(ServerUnavailable),
        4 => Ok(BadUserNameOrPassword),
        5 => Ok(NotAuthorized),
        _ => Err(Error::Malformed("reserved return code")),
    }
}

/// The return code of one filter in SUBACK of 3.1.1: the granted QoS or the one refusal there is.
pub(super) const fn suback_code(reason: Reason) -> u8 {
    if reason.is_error() { Unspecified.code() } else { reason.code() }
}

/// And back; other codes are reserved `[MQTT-3.9.3-2]` (3.1.1).
pub(super) fn of_suback_code(code: u8) -> Result<Reason, Error> {
    one_of(&[Success, GrantedQoS1, GrantedQoS2, Unspecified], code)
}
