//! What the system is about, without any input or output: ids, time, messages, sequence and gaps, presence, commands,
//! energy, alert rules, rollouts.
//!
//! Promise: every function here is pure, `(state, input, now) → (state, effects)`. A value of these types is valid by
//! construction. Must not know: files, sockets, JSON, SQL, MQTT.
//!
//! Start from [`Message`], what a meter said, and [`DeviceState`], what is remembered of a meter.

mod address;
pub mod alert;
pub mod command;
pub mod derived;
pub mod device;
pub mod energy;
pub mod hearing;
pub mod ids;
pub mod message;
pub mod metric;
mod pattern;
mod places;
pub mod presence;
mod quantity;
pub mod reorder;
mod rfc3339;
pub mod rollout;
pub mod rule;
pub mod sequence;
pub mod time;
mod tracked;

pub use address::{Network, line_of, wide_of};
pub use device::{DEFAULT_DEVICE_TYPE, DeviceState, Registration};
pub use ids::{CommandId, DeviceId};
pub use message::{Body, Message, Refusal, Sequence};
pub use metric::{Metric, Telemetry};
pub use pattern::DevicePattern;
pub use places::{NoPlace, Places};
pub use quantity::Quantity;
pub use rfc3339::TimeText;
pub use time::{Clock, Timestamp};
pub use tracked::Tracked;
