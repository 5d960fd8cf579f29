//! The fuzzer's bytes, taken as choices.

use std::num::{NonZeroU16, NonZeroU32};

use iot_meter_fuzz::mqtt::packet::{Connect, NEVER, Will};
use iot_meter_fuzz::mqtt::session::{Limits, Start};
use iot_meter_fuzz::mqtt::{PacketId, QoS, Version};

pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte().unwrap_or(0)) % n
    }

    pub fn bit(&mut self) -> bool {
        self.below(2) == 1
    }

    pub fn some(&mut self) -> &'a [u8] {
        let (some, rest) = self.0.split_at(self.below(64).min(self.0.len()));
        self.0 = rest;
        some
    }

    pub fn id(&mut self) -> PacketId {
        PacketId::new(1 + self.below(9) as u16).expect("not zero")
    }

    pub fn qos(&mut self) -> QoS {
        QoS::from_level(self.below(3) as u8).expect("one of three")
    }
}

/// What a CONNECT asks for.
pub fn start(how: u8, input: &mut Input, limits: &Limits) -> Start {
    let version = if how & 1 == 0 { Version::V311 } else { Version::V5 };
    let is_v5 = version == Version::V5;
    let connect = Connect {
        session_expiry_s: if is_v5 { [0, 5, 50, NEVER][input.below(4)] } else { NEVER },
        receive_maximum: NonZeroU16::new(input.below(5) as u16).filter(|_| is_v5),
        max_packet_size: NonZeroU32::new(input.below(100) as u32).filter(|_| is_v5),
        topic_alias_maximum: if is_v5 { input.below(4) as u16 } else { 0 },
        will: input.bit().then(|| Will { topic: "w".into(), delay_s: input.below(9) as u32, ..Will::default() }),
        ..Connect::default()
    };
    Start::of(version, &connect, None, limits)
}
