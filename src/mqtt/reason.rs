//! Reason codes (MQTT 5 section 2.4): one list for every packet that carries one.
//!
//! Codes of 0x80 and above are refusals. 3.1.1 has five of its own for CONNACK and one for SUBACK; its codec maps them.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// Why, or how well.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $name = $code,)+ }

        impl Reason {
            /// `None` = no such code.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)+ _ => None }
            }

            /// Every code, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

reasons! {
    /// Success; granted QoS 0; normal disconnection.
    Success = 0x00,
    /// Granted QoS 1.
    GrantedQoS1 = 0x01,
    /// Granted QoS 2.
    GrantedQoS2 = 0x02,
    /// DISCONNECT: publish the will all the same.
    DisconnectWithWill = 0x04,
    /// The message was taken and nobody is subscribed.
    NoMatchingSubscribers = 0x10,
    /// UNSUBACK: there was none.
    NoSubscriptionExisted = 0x11,
    /// AUTH: go on.
    ContinueAuthentication = 0x18,
    /// AUTH: once more.
    ReAuthenticate = 0x19,
    /// Refused without saying why.
    Unspecified = 0x80,
    /// The bytes are not a packet.
    MalformedPacket = 0x81,
    /// The packet is whole and must not come now, or like this.
    ProtocolError = 0x82,
    /// Valid, and not taken by this server.
    ImplementationSpecific = 0x83,
    /// CONNACK: another protocol version.
    UnsupportedProtocolVersion = 0x84,
    /// CONNACK: this client id is not allowed.
    ClientIdentifierNotValid = 0x85,
    /// CONNACK: unknown user name or wrong password.
    BadUserNameOrPassword = 0x86,
    /// Not allowed.
    NotAuthorized = 0x87,
    /// CONNACK: not now.
    ServerUnavailable = 0x88,
    /// CONNACK or DISCONNECT: too much to do.
    ServerBusy = 0x89,
    /// CONNACK: never again.
    Banned = 0x8a,
    /// DISCONNECT: the server stops.
    ServerShuttingDown = 0x8b,
    /// The method of enhanced authentication is not one of ours.
    BadAuthenticationMethod = 0x8c,
    /// DISCONNECT: silent for longer than the keep-alive allows.
    KeepAliveTimeout = 0x8d,
    /// DISCONNECT: the client has connected again.
    SessionTakenOver = 0x8e,
    /// The filter is well-formed and not taken.
    TopicFilterInvalid = 0x8f,
    /// The topic is well-formed and not taken.
    TopicNameInvalid = 0x90,
    /// The packet id is in use.
    PacketIdentifierInUse = 0x91,
    /// The packet id is not known.
    PacketIdentifierNotFound = 0x92,
    /// More publishes in flight than the receive maximum.
    ReceiveMaximumExceeded = 0x93,
    /// A topic alias of 0, above the maximum, or without a topic.
    TopicAliasInvalid = 0x94,
    /// Larger than the maximum packet size.
    PacketTooLarge = 0x95,
    /// Too much in too little time.
    MessageRateTooHigh = 0x96,
    /// A limit of the server is reached.
    QuotaExceeded = 0x97,
    /// DISCONNECT: an operator has ended it.
    AdministrativeAction = 0x98,
    /// The payload is not what its format says.
    PayloadFormatInvalid = 0x99,
    /// Retained messages are not kept.
    RetainNotSupported = 0x9a,
    /// The QoS is not offered.
    QoSNotSupported = 0x9b,
    /// Another server, for now.
    UseAnotherServer = 0x9c,
    /// Another server, for good.
    ServerMoved = 0x9d,
    /// Shared subscriptions are not offered.
    SharedSubscriptionsNotSupported = 0x9e,
    /// Connections come too fast.
    ConnectionRateExceeded = 0x9f,
    /// The connection has been allowed for long enough.
    MaximumConnectTime = 0xa0,
    /// Subscription identifiers are not offered.
    SubscriptionIdentifiersNotSupported = 0xa1,
    /// Wildcard subscriptions are not offered.
    WildcardSubscriptionsNotSupported = 0xa2,
}

impl Reason {
    /// The number on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether it is a refusal.
    pub const fn is_error(self) -> bool {
        self.code() >= 0x80
    }

    /// The answer to a filter that is granted.
    pub const fn granted(qos: super::packet::QoS) -> Self {
        match qos {
            super::packet::QoS::AtMostOnce => Self::Success,
            super::packet::QoS::AtLeastOnce => Self::GrantedQoS1,
            super::packet::QoS::ExactlyOnce => Self::GrantedQoS2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_and_no_other_is_known() {
        for code in 0..=u8::MAX {
            let known = Reason::ALL.iter().find(|r| r.code() == code).copied();
            assert_eq!(Reason::from_code(code), known, "{code:#x}");
            assert!(known.is_none_or(|r| r.is_error() == (code >= 0x80)));
        }
    }
}
