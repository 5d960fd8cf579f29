//! What the load generator is told, and why it may be refused.

use std::time::Duration;

use crate::config::Secret;
use crate::simulate::{self, ApiAccess, BrokerUrl, TlsFiles};

/// What can go wrong beside a lost connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option outside its range.
    #[error("{option} must be {requirement}")]
    OutOfRange {
        /// The option's name.
        option: &'static str,
        /// What it must be.
        requirement: &'static str,
    },
    /// The broker refused the login.
    #[error("the broker refused {device_id} with return code {code}")]
    Refused {
        /// Who asked.
        device_id: String,
        /// CONNACK return code.
        code: u8,
    },
    /// Devices could not be registered, or a file for TLS is no good.
    #[error(transparent)]
    Simulate(#[from] simulate::Error),
    /// The API did not answer a question of the verification.
    #[error("verification: ask {url}")]
    Api {
        /// The address called.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The answer broke off.
    #[error("verification: read the answer of {url}")]
    Read {
        /// The address called.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The answer is not what the API promises.
    #[error("verification: {url} answered something unexpected: {answer}")]
    Unexpected {
        /// The address called.
        url: String,
        /// The beginning of the answer.
        answer: String,
    },
    /// A collector did not reach its journal's end.
    #[error("verification: {node} did not store everything it acknowledged within {patience:?} (see GET /api/nodes)")]
    NotSettled {
        /// Whose.
        node: String,
        /// How long it had.
        patience: Duration,
    },
    /// A task of ours broke.
    #[error("a task of the load generator ended unexpectedly")]
    Task {
        /// Why.
        #[source]
        source: tokio::task::JoinError,
    },
}

/// Quality of service of the publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(clippy::enum_variant_names, reason = "the standard's own names")]
pub enum Qos {
    /// Nothing is acknowledged.
    AtMostOnce,
    /// PUBACK.
    #[default]
    AtLeastOnce,
    /// PUBREC, PUBREL, PUBCOMP; a message counts as acknowledged at its PUBREC.
    ExactlyOnce,
}

impl Qos {
    /// The number 0, 1 or 2 as a level.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// 0, 1 or 2.
    pub const fn level(self) -> u8 {
        self as u8
    }
}

/// How fast.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// Closed loop: as fast as acknowledgements come, `window` messages under way on each connection.
    Window,
    /// Open loop: so many messages a second over all connections, each sent when it is due and its latency counted from
    /// then. The window still bounds what is under way.
    Rate(f64),
}

/// What load to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker.
    pub broker: BrokerUrl,
    /// Connections, each one device `{prefix}-0001`…; 1…60 000.
    pub connections: usize,
    /// Quality of service.
    pub qos: Qos,
    /// Messages under way on each connection, 1…65 535.
    pub window: u16,
    /// As fast as possible, or a rate.
    pub pace: Pace,
    /// How long to send; `None` = until `count` or stopped.
    pub duration: Option<Duration>,
    /// Messages in all, spread evenly over the connections; `None` = no limit.
    pub count: Option<u64>,
    /// Where to register the devices before and to verify after; `None` = neither.
    pub api: Option<ApiAccess>,
    /// Files for a broker in TLS.
    pub tls: TlsFiles,
    /// Password of devices without a token.
    pub password: Option<Secret>,
    /// Beginning of the device ids.
    pub prefix: String,
    /// How long to wait for the last acknowledgements at the end, reconnecting meanwhile.
    pub drain: Duration,
    /// How long the verification waits for the servers to have stored everything.
    pub verify_patience: Duration,
    /// Whether progress is shown when stderr is a terminal.
    pub is_progress_shown: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            broker: BrokerUrl { is_tls: false, host: "127.0.0.1".into(), port: 1883, user: None, password: None },
            connections: 50,
            qos: Qos::AtLeastOnce,
            window: 100,
            pace: Pace::Window,
            duration: Some(Duration::from_secs(10)),
            count: None,
            api: None,
            tls: TlsFiles::default(),
            password: None,
            prefix: "load".into(),
            drain: Duration::from_secs(30),
            verify_patience: Duration::from_secs(120),
            is_progress_shown: true,
        }
    }
}

impl Options {
    /// Refuses what is out of range.
    pub fn check(&self) -> Result<(), Error> {
        let out = |option, requirement| Err(Error::OutOfRange { option, requirement });
        let prefix_is_id = self.prefix.len() <= 100 && crate::domain::DeviceId::is_valid(&self.prefix);
        match self.pace {
            _ if !(1..=60_000).contains(&self.connections) => out("connections", "1 to 60000"),
            _ if self.window == 0 => out("window", "1 to 65535"),
            _ if !prefix_is_id => out("prefix", "a valid beginning of a device id of at most 100 characters"),
            Pace::Rate(rate) if !(0.001..=10_000_000.0).contains(&rate) => out("rate", "0.001 to 10000000"),
            _ => Ok(()),
        }
    }

    /// The device of connection number `index`.
    pub fn device_id(&self, index: usize) -> String {
        format!("{}-{:04}", self.prefix, index + 1)
    }

    /// Messages of connection number `index`; `None` = no limit.
    pub(super) fn share(&self, index: usize) -> Option<u64> {
        let connections = self.connections as u64;
        self.count.map(|count| count / connections + u64::from((index as u64) < count % connections))
    }

    /// Microseconds of message time from one message of a device to its next: the real distance at a given rate, else
    /// a millisecond. A multiple of 1000, so that ten samples fit between.
    pub(super) fn step_us(&self) -> i64 {
        match self.pace {
            Pace::Window => 1000,
            Pace::Rate(rate) => {
                let step_us = self.connections as f64 * 1e6 / rate;
                (step_us.clamp(1000.0, 10e6) as i64) / 1000 * 1000
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_spread_over_the_connections_without_rest() {
        let options = Options { connections: 3, count: Some(11), ..Options::default() };
        assert_eq!((0..3).map(|i| options.share(i).unwrap()).collect::<Vec<_>>(), [4, 4, 3]);
    }

    #[test]
    fn message_time_follows_the_rate_but_never_closer_than_a_millisecond() {
        let check = |pace, expected| {
            let options = Options { connections: 50, pace, ..Options::default() };
            assert_eq!(options.step_us(), expected);
        };
        check(Pace::Window, 1000);
        check(Pace::Rate(5.0), 10_000_000);
        check(Pace::Rate(1000.0), 50_000);
        check(Pace::Rate(1e6), 1000);
    }

    #[test]
    fn options_out_of_range_are_refused() {
        assert!(Options::default().check().is_ok());
        assert!(Options { connections: 0, ..Options::default() }.check().is_err());
        assert!(Options { window: 0, ..Options::default() }.check().is_err());
        assert!(Options { pace: Pace::Rate(f64::NAN), ..Options::default() }.check().is_err());
        assert!(Options { prefix: "/".into(), ..Options::default() }.check().is_err());
    }
}
