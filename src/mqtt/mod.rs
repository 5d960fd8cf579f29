//! MQTT without sockets: packets, topics, one client's session, routing, retained messages.
//!
//! Promise: everything here is pure and sans-IO. Packets and the time go in, packets and actions come out; nothing
//! blocks, nothing sleeps, every collection has a bound. Must not know: sockets, disk, meters.
//!
//! Rules are cited by the statement numbers of OASIS *MQTT Version 5.0*, for example `[MQTT-4.6.0-2]`; 3.1.1 is spoken
//! by the same session, with what it does not have at its default. Bytes are [`codec::Version`]'s; [`Session`] and
//! [`Router`] speak only the internal packet types.
//!
//! Start from [`Session`], the state machine of one client, and [`Router`], who gets what.

pub mod codec;
pub mod cover;
pub mod packet;
pub mod queue;
pub mod reason;
pub mod retained;
pub mod router;
pub mod session;
pub mod share;
pub mod topic;

pub use codec::Version;
pub use packet::{Packet, PacketId, Publish, QoS};
pub use queue::{Budget, Delivery, Message, Queue};
pub use reason::Reason;
pub use retained::Retained;
pub use router::Router;
pub use session::{Action, Session, Ticket, Violation};
pub use share::Shares;
