//! What a simulation is told: fleet, brokers, intervals, faults; and why it may be refused.
//!
//! Invariant: options that passed [`Options::check`] cannot make a meter misbehave (zero intervals, endless datagrams).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ureq::typestate::AgentScope;

use super::faults::Faults;
use super::secure::{self, TlsFiles};
use crate::config::Secret;
use crate::tls::client::ClientError;

/// What can go wrong before or around the fleet; a lost broker is not among it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A broker address that is not `mqtt[s]://[user:password@]host[:port]`.
    #[error("broker address {url:?}: {reason}")]
    BrokerUrl {
        /// The address as given, without its password.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not a profile's name.
    #[error("unknown profile {0:?}; known are dc750, dc1500, dc3000, ac15, ac25 and mix")]
    UnknownProfile(String),
    /// Not a fault's name.
    #[error("unknown fault {0:?}; known are drop, dup, reorder, reboot and clock")]
    UnknownFault(String),
    /// A fault without a probability between 0 and 1.
    #[error("fault {name:?} needs a probability from 0 to 1, not {value:?}")]
    FaultProbability {
        /// The fault.
        name: String,
        /// What stood there.
        value: String,
    },
    /// The same fault twice.
    #[error("fault {0:?} is given twice")]
    FaultTwice(String),
    /// An option outside its range.
    #[error("{option} must be {requirement}")]
    OutOfRange {
        /// The option's name.
        option: &'static str,
        /// What it must be.
        requirement: &'static str,
    },
    /// A file for TLS cannot be read, or a socket not be made.
    #[error("{path}")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file for TLS is not what it should be.
    #[error("{of}: {source}")]
    Tls {
        /// The file, where there is one.
        of: String,
        /// Why.
        source: ClientError,
    },
    /// The API could not be reached.
    #[error("register device {device_id} at {url}")]
    Register {
        /// The device.
        device_id: String,
        /// The address called.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The API said no.
    #[error("register device {device_id} at {url}: the server answered {status}")]
    RegisterRefused {
        /// The device.
        device_id: String,
        /// The address called.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// A task of ours broke.
    #[error("a task of the simulation ended unexpectedly")]
    MeterTask {
        /// Why.
        #[source]
        source: tokio::task::JoinError,
    },
}

/// What line a meter hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Profile {
    /// Direct current, 750 V: tram or metro.
    Dc750,
    /// Direct current, 1500 V: suburban.
    Dc1500,
    /// Direct current, 3000 V: regional and freight.
    Dc3000,
    /// Alternating current, 15 kV 16.7 Hz.
    Ac15,
    /// Alternating current, 25 kV 50 Hz.
    Ac25,
    /// All of the above in turn.
    #[default]
    Mix,
}

impl Profile {
    /// The profiles of a single line.
    pub const LINES: [Self; 5] = [Self::Dc750, Self::Dc1500, Self::Dc3000, Self::Ac15, Self::Ac25];

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dc750 => "dc750",
            Self::Dc1500 => "dc1500",
            Self::Dc3000 => "dc3000",
            Self::Ac15 => "ac15",
            Self::Ac25 => "ac25",
            Self::Mix => "mix",
        }
    }

    /// The `device_type` the meter is registered with.
    pub const fn device_type(self) -> &'static str {
        match self {
            Self::Ac15 | Self::Ac25 => "ac_meter",
            Self::Dc750 | Self::Dc1500 | Self::Dc3000 | Self::Mix => "dc_meter",
        }
    }

    /// The line of the meter number `index`.
    pub(crate) fn of_index(self, index: u32) -> Self {
        match self {
            Self::Mix => Self::LINES[index as usize % Self::LINES.len()],
            line => line,
        }
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all = Self::LINES.into_iter().chain([Self::Mix]);
        all.into_iter().find(|p| p.name() == text).ok_or_else(|| Error::UnknownProfile(text.into()))
    }
}

/// Where a broker listens: `mqtt://[user[:password]@]host[:port]`, or `mqtts://…` in TLS; port 1883 or 8883 unless said.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Whether it is spoken to in TLS.
    pub is_tls: bool,
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name for all meters; without it each meter's own id.
    pub user: Option<String>,
    /// Password for meters without a token of their own.
    pub password: Option<String>,
}

impl FromStr for BrokerUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::BrokerUrl { url: without_password(text), reason };
        let (rest, is_tls) = match (text.strip_prefix("mqtt://"), text.strip_prefix("mqtts://")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => return Err(refuse("must start with mqtt:// or mqtts://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err(refuse("has a path"));
        }
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(user), Some(password)),
            None => (None, None),
        };
        let (host, port) = split_port(address).ok_or_else(|| refuse("has no valid port"))?;
        let port = port.unwrap_or(if is_tls { 8883 } else { 1883 });
        if host.is_empty() {
            return Err(refuse("has no host"));
        }
        let some = |text: Option<&str>| text.filter(|t| !t.is_empty()).map(str::to_owned);
        Ok(Self { is_tls, host: host.into(), port, user: some(user), password: some(password) })
    }
}

/// Host and port; `None` = no such.
fn split_port(address: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    match port {
        None => Some((host, None)),
        Some(port) => port.parse().ok().filter(|port| *port != 0).map(|port| (host, Some(port))),
    }
}

fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, address)) => format!("mqtt://…@{address}"),
        None => text.into(),
    }
}

/// Without user and password, so that it may be logged.
impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Without user and password, so that it may be shown.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// How to reach the REST API.
#[derive(Clone)]
pub struct ApiAccess {
    /// `http://host:port` or `https://host:port`, without `/api`.
    pub url: String,
    /// Bearer key; `None` against an open server.
    pub key: Option<String>,
    /// Authorities to trust in TLS, PEM; `None` = those of the system.
    pub ca_file: Option<PathBuf>,
}

impl ApiAccess {
    /// The settings of an HTTP client for it.
    pub(crate) fn http(&self) -> Result<ureq::config::ConfigBuilder<AgentScope>, Error> {
        secure::http(&self.url, self.ca_file.as_deref())
    }
}

/// Without the key, so that it may be logged.
impl fmt::Debug for ApiAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiAccess").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The one meter of a fleet that faults strike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Struck {
    /// Which one, counted from 0.
    pub index: u32,
    /// What is struck is decided by it alone.
    pub seed: u64,
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of meters, 1…100 000.
    pub devices: u32,
    /// Their line.
    pub profile: Profile,
    /// Brokers; every meter connects to all of them and sends every message to each. 1…5.
    pub brokers: Vec<BrokerUrl>,
    /// How long to run, real time; `None` = until stopped.
    pub duration: Option<Duration>,
    /// How much faster than real the meters live, 0.1…1000 (see the front page of this room).
    pub speed: f64,
    /// The same seed gives the same trains, values and faults.
    pub seed: u64,
    /// Faults on the way.
    pub faults: Faults,
    /// Whom they strike; `None` = every meter.
    pub struck: Option<Struck>,
    /// Where to register the meters and get their tokens; `None` = they are not registered.
    pub api: Option<ApiAccess>,
    /// With it the meters enrol at the API themselves, instead of being registered by somebody.
    pub claim: Option<Secret>,
    /// Files for brokers in TLS.
    pub tls: TlsFiles,
    /// Password of meters that have no token.
    pub password: Option<Secret>,
    /// Meters are called `{prefix}-{profile}-0001` and so on.
    pub prefix: String,
    /// Meter milliseconds between samples, 100…60000.
    pub sampling_cadence_ms: u32,
    /// Meter seconds between datagrams, 1…3600.
    pub send_interval_s: u32,
    /// Meter seconds between hellos, 5…3600.
    pub hello_interval_s: u32,
}

impl Default for Options {
    fn default() -> Self {
        let local = BrokerUrl { is_tls: false, host: "127.0.0.1".into(), port: 1883, user: None, password: None };
        Self {
            devices: 10,
            profile: Profile::Mix,
            brokers: vec![local],
            duration: None,
            speed: 1.0,
            seed: 1,
            faults: Faults::default(),
            struck: None,
            api: None,
            claim: None,
            tls: TlsFiles::default(),
            password: None,
            prefix: "sim".into(),
            sampling_cadence_ms: 1000,
            send_interval_s: 10,
            hello_interval_s: 30,
        }
    }
}

impl Options {
    /// What `serve --demo N` runs: mixed meters against the server's own port, first data within two seconds. The fourth, or
    /// the last, loses a message in the first quarter of a minute, and then one in some minutes.
    pub fn demo(devices: u32, broker: BrokerUrl) -> Self {
        Self {
            devices,
            brokers: vec![broker],
            faults: Faults { drop: 0.004, ..Faults::default() },
            struck: Some(Struck { index: devices.clamp(1, 4) - 1, seed: 188 }),
            send_interval_s: 2,
            prefix: "demo".into(),
            ..Self::default()
        }
    }

    /// Ids and lines of the meters, in order: what [`run`](super::run) will simulate.
    pub fn fleet(&self) -> Vec<(String, Profile)> {
        let meter = |index: u32| {
            let line = self.profile.of_index(index);
            (format!("{}-{}-{:04}", self.prefix, line.name(), index + 1), line)
        };
        (0..self.devices).map(meter).collect()
    }

    /// Refuses what is out of range.
    pub fn check(&self) -> Result<(), Error> {
        let out = |option, requirement| Err(Error::OutOfRange { option, requirement });
        let prefix_is_id = self.prefix.len() <= 100 && crate::domain::DeviceId::is_valid(&self.prefix);
        match self {
            _ if !(1..=100_000).contains(&self.devices) => out("devices", "1 to 100000"),
            _ if !(1..=5).contains(&self.brokers.len()) => out("broker", "given 1 to 5 times"),
            _ if !(0.1..=1000.0).contains(&self.speed) => out("speed", "0.1 to 1000"),
            _ if self.claim.is_some() && self.api.is_none() => out("api", "given with a claim"),
            _ if !prefix_is_id => out("prefix", "a valid beginning of a device id of at most 100 characters"),
            _ if !(100..=60_000).contains(&self.sampling_cadence_ms) => out("sampling cadence", "100 to 60000 ms"),
            _ if !(1..=3600).contains(&self.send_interval_s) => out("send interval", "1 to 3600 s"),
            _ if !(5..=3600).contains(&self.hello_interval_s) => out("hello interval", "5 to 3600 s"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::simulate::faults::Way;

    #[test]
    fn a_broker_address_has_a_scheme_a_host_and_perhaps_a_port_and_a_login() {
        let check = |text: &str, expected: Option<(&str, u16, Option<&str>, Option<&str>)>| {
            let url = text.parse::<BrokerUrl>().ok();
            assert!(url.as_ref().is_none_or(|url| url.is_tls == text.starts_with("mqtts://")));
            let got = url.as_ref().map(|u| (&*u.host, u.port, u.user.as_deref(), u.password.as_deref()));
            assert_eq!(got, expected, "{text}");
        };
        check("mqtt://localhost", Some(("localhost", 1883, None, None)));
        check("mqtt://10.0.0.1:2883/", Some(("10.0.0.1", 2883, None, None)));
        check("mqtt://[::1]:2883", Some(("::1", 2883, None, None)));
        check("mqtt://[::1]", Some(("::1", 1883, None, None)));
        check("mqtt://me:p@ss:word@host:1", Some(("host", 1, Some("me"), Some("p@ss:word"))));
        check("mqtt://:secret@host", Some(("host", 1883, None, Some("secret"))));
        check("mqtts://host", Some(("host", 8883, None, None)));
        check("mqtts://me@[::1]:2883", Some(("::1", 2883, Some("me"), None)));
        check("http://host", None);
        check("mqtt://host:0", None);
        check("mqtt://host:99999", None);
        check("mqtt://host/topic", None);
        check("mqtt://:1883", None);
        check("mqtt://[::1", None);
        check("localhost", None);
    }

    #[test]
    fn a_password_never_shows() {
        let url: BrokerUrl = "mqtt://me:hidden@host:1".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "mqtt://host:1 mqtt://host:1");
        let error = "http://me:hidden@host".parse::<BrokerUrl>().unwrap_err().to_string();
        assert!(!error.contains("hidden"), "{error}");
        let options = Options { password: Some(Secret::new("hidden")), ..Options::default() };
        assert!(!format!("{options:?}").contains("hidden"));
    }

    #[test]
    fn a_mixed_fleet_has_every_line_and_valid_ids() {
        let fleet = Options { devices: 7, ..Options::default() }.fleet();
        assert_eq!(fleet[0].0, "sim-dc750-0001");
        assert_eq!(fleet[6].0, "sim-dc1500-0007");
        assert!(Profile::LINES.iter().all(|line| fleet.iter().any(|(_, p)| p == line)));
        assert!(fleet.iter().all(|(id, _)| crate::domain::DeviceId::is_valid(id)));
    }

    #[test]
    fn one_meter_of_a_demo_loses_a_message_soon_and_few_later() {
        let broker: BrokerUrl = "mqtt://localhost".parse().unwrap();
        let options = Options::demo(20, broker.clone());
        let struck = options.struck.unwrap();
        assert_eq!(options.fleet()[struck.index as usize].0, "demo-ac15-0004");
        let mut dice = SmallRng::seed_from_u64(struck.seed);
        let lost = (0..300).filter(|_| options.faults.way(&mut dice) == Way::Drop);
        assert_eq!(lost.collect::<Vec<_>>(), [5, 65]);
        assert_eq!([1, 2, 4].map(|devices| Options::demo(devices, broker.clone()).struck.unwrap().index), [0, 1, 3]);
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let check = |options: Options, expected: Option<&str>| {
            let refused = options.check().err().map(|e| e.to_string());
            assert_eq!(refused.as_deref().and_then(|e| e.split(" must").next()), expected);
        };
        check(Options::default(), None);
        check(Options { devices: 0, ..Options::default() }, Some("devices"));
        check(Options { brokers: vec![], ..Options::default() }, Some("broker"));
        check(Options { speed: f64::NAN, ..Options::default() }, Some("speed"));
        check(Options { sampling_cadence_ms: 99, ..Options::default() }, Some("sampling cadence"));
        check(Options { send_interval_s: 0, ..Options::default() }, Some("send interval"));
        check(Options { hello_interval_s: 4, ..Options::default() }, Some("hello interval"));
        check(Options { prefix: "a/b".into(), ..Options::default() }, Some("prefix"));
    }
}
