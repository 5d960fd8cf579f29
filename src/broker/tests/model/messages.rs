//! Messages and CONNECTs as the steps ask for them.

use std::num::{NonZeroU16, NonZeroU32};
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;

use super::ops::{Asks, Says, Size, TOPICS};
use super::oracle::{Message, SMALL_PACKET};
use super::server::client_id;
use crate::mqtt::codec::{Version, decode_connect};
use crate::mqtt::packet::{Connect, NEVER, Properties, Will};
use crate::mqtt::{Packet, Publish, QoS};

/// All there have been, by number.
#[derive(Default)]
pub(super) struct Messages(Vec<Rc<Message>>);

impl Messages {
    pub(super) fn get(&self, number: u32) -> &Rc<Message> {
        &self.0[number as usize]
    }

    pub(super) fn add(&mut self, from: Option<usize>, says: &Says, is_v5: bool) -> Rc<Message> {
        let len = match says.size {
            Size::Empty => 0,
            Size::Small => 1,
            Size::Big => 300,
        };
        let number = self.0.len();
        self.push(Message {
            number: u32::try_from(number).unwrap(),
            from,
            topic: TOPICS[says.topic],
            payload: payload(number, len),
            qos: QoS::from_level(says.qos).unwrap(),
            retain: says.retain,
            expiry_s: says.expiry_s.filter(|_| is_v5),
            content_type: (says.has_properties && is_v5).then(|| format!("t{number}")),
        })
    }

    /// The same with a number and a payload of its own.
    pub(super) fn again(&mut self, message: u32) -> Rc<Message> {
        let (number, message) = (self.0.len(), self.get(message));
        let payload = payload(number, message.payload.len());
        self.push(Message { number: u32::try_from(number).unwrap(), payload, ..(**message).clone() })
    }

    fn push(&mut self, message: Message) -> Rc<Message> {
        let message = Rc::new(message);
        self.0.push(Rc::clone(&message));
        message
    }
}

/// A message that is repeated on a connection of 3.1.1 has lost what only 5 knows.
pub(super) fn as_it_came(message: &Rc<Message>, publish: &Publish) -> Rc<Message> {
    if publish.expiry_s == message.expiry_s && publish.properties == properties(message) {
        return Rc::clone(message);
    }
    Rc::new(Message { expiry_s: None, content_type: None, ..(**message).clone() })
}

fn payload(number: usize, len: usize) -> Vec<u8> {
    let mut payload = if len == 0 { Vec::new() } else { number.to_string().into_bytes() };
    if len > SMALL_PACKET as usize {
        payload.resize(len, b'x');
    }
    payload
}

pub(super) fn properties(message: &Message) -> Option<Arc<Properties>> {
    let content_type = message.content_type.as_deref()?.into();
    Some(Arc::new(Properties { content_type: Some(content_type), ..Properties::default() }))
}

pub(super) fn connect(who: usize, asks: &Asks, will: Option<&Message>) -> Connect {
    let session_expiry_s = match (asks.is_v5, asks.is_clean) {
        (true, _) => asks.expiry_s,
        (false, true) => 0,
        (false, false) => NEVER,
    };
    let will = will.map(|message| Will {
        topic: message.topic.into(),
        payload: message.payload.clone().into(),
        qos: message.qos,
        retain: message.retain,
        delay_s: if asks.is_v5 { asks.will_delay_s } else { 0 },
        expiry_s: message.expiry_s,
        properties: properties(message),
    });
    let mut connect = Connect {
        client_id: client_id(who).into(),
        clean_start: asks.is_clean,
        session_expiry_s,
        will,
        ..Connect::default()
    };
    if asks.is_v5 {
        connect.receive_maximum = NonZeroU16::new(asks.receive_maximum);
        connect.max_packet_size = NonZeroU32::new(SMALL_PACKET).filter(|_| asks.takes_small_only);
        connect.topic_alias_maximum = if asks.takes_aliases { 2 } else { 0 };
    }
    connect
}

pub(super) fn over_the_wire(version: Version, connect: &Connect) -> (Version, Connect) {
    let mut bytes = Vec::new();
    version.encode(&Packet::Connect(Box::new(connect.clone())), &mut bytes);
    decode_connect(&mut BytesMut::from(&bytes[..]), usize::MAX).expect("a CONNECT").expect("a whole one")
}
