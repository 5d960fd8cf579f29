//! What every subcommand has: where the settings are, how to print, and how to find the server of this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::client::Client;
use crate::config::{ConfigError, Flag, Loaded, Secret, Sources, load};
use crate::serve::DataDir;
use crate::simulate::{ApiAccess, TlsFiles};

/// Form of what is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON value.
    Json,
}

/// Options before or behind any subcommand.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Settings file [default: ./iot-meter.toml, else /etc/iot-meter/iot-meter.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of everything that is kept [default: ./data]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How to print
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(super) output: Output,
}

impl Global {
    /// The settings in force, with further flags of the subcommand.
    pub(super) fn load(&self, mut flags: Vec<Flag>) -> Result<Loaded, ConfigError> {
        if let Some(dir) = &self.data_dir {
            let value = dir.to_string_lossy().into_owned();
            flags.insert(0, Flag { flag: "--data-dir".to_owned(), key: "data_dir".to_owned(), value });
        }
        load(&Sources::of_process(self.config.as_deref(), flags))
    }

    /// Starts logging for a subcommand that talks to people: warnings, unless `IOT_METER_LOG` asks for more.
    pub(super) fn log_quietly(&self) -> anyhow::Result<()> {
        let filter = std::env::var("IOT_METER_LOG").unwrap_or_else(|_| "warn".to_owned());
        if let Err(bad) = crate::observe::log::init(&filter, crate::observe::log::Format::Auto) {
            // It is a setting too (`log.level`): the faults of all of them are told.
            self.load(Vec::new())?;
            return Err(bad.into());
        }
        Ok(())
    }
}

/// How to reach a server's API.
#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    /// Address of the API [default: the server running on this data directory]
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// API key [default: IOT_METER_API_KEY, else the admin key of the data directory]
    #[arg(long, value_name = "KEY")]
    key: Option<Secret>,
    /// Certificate authorities to trust in TLS (PEM) [default: those of the system]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// How a fleet speaks TLS; whom it trusts is said with the API.
#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// Directory of the meters' certificates, for brokers in TLS: ID.pem and ID.key [default: they log in by token]
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
}

impl TlsArgs {
    pub(super) fn files(&self, api: &ApiArgs) -> TlsFiles {
        TlsFiles { ca_file: api.ca.clone(), cert_dir: self.cert_dir.clone() }
    }
}

impl ApiArgs {
    fn given_key(&self) -> Option<String> {
        let given =
            self.key.as_ref().map(|key| key.reveal().to_owned()).or_else(|| std::env::var("IOT_METER_API_KEY").ok());
        given.filter(|key| !key.is_empty())
    }

    /// What a fleet registers with: the named API; without one nothing is registered.
    pub(super) fn access(&self, global: &Global) -> anyhow::Result<Option<ApiAccess>> {
        let Some(url) = &self.api else { return Ok(None) };
        let key = match (self.given_key(), local(global)) {
            (Some(key), _) => Some(key),
            // The admin key of this machine goes to the server of this machine only.
            (None, Some(local)) if local.url == url.trim_end_matches('/') => local.key,
            (None, _) => None,
        };
        Ok(Some(ApiAccess { url: url.trim_end_matches('/').to_owned(), key, ca_file: self.ca.clone() }))
    }

    /// The named API, else that of the server running on this data directory, if any.
    pub(super) fn access_or_local(&self, global: &Global) -> anyhow::Result<Option<ApiAccess>> {
        match self.api {
            Some(_) => self.access(global),
            None => Ok(local(global).map(|local| ApiAccess { key: self.given_key().or(local.key), ..local })),
        }
    }

    /// A client for the named server, else for the one of this machine.
    pub(super) fn client(&self, global: &Global) -> anyhow::Result<Client> {
        let key = self.given_key().map(Secret::new);
        let Some(url) = &self.api else {
            let data_dir = global.load(Vec::new())?.settings.data_dir;
            let key = key.or_else(|| admin_key(&data_dir));
            return Client::new(&local_api(&data_dir)?, key, None);
        };
        // The admin key of this machine is not sent to another one.
        Client::new(url, key, self.ca.clone())
    }
}

/// The server running on this data directory, if any, with the admin key.
fn local(global: &Global) -> Option<ApiAccess> {
    let data_dir = global.load(Vec::new()).ok()?.settings.data_dir;
    let url = local_api(&data_dir).ok()?;
    Some(ApiAccess { url, key: admin_key(&data_dir).map(|key| key.reveal().to_owned()), ca_file: None })
}

/// Makes the data directory, for this user alone. One that is there is left as it is.
pub(super) fn make_data_dir(dir: &Path) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).with_context(|| format!("cannot make the data directory {}", dir.display()))
}

/// The key that the first start wrote; none in open mode.
fn admin_key(data_dir: &Path) -> Option<Secret> {
    let text = std::fs::read_to_string(data_dir.join("admin.key")).ok()?;
    Some(text.trim()).filter(|key| !key.is_empty()).map(Secret::new)
}

/// Address of the API of the server that runs on this data directory.
pub(super) fn local_api(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join("run/addresses.json");
    let none = |why: &str| format!("no server seems to run on {} ({why}); name one with a URL", data_dir.display());
    let text = std::fs::read_to_string(&path).with_context(|| none("cannot read run/addresses.json there"))?;
    // One that was killed leaves its address behind, where anybody may listen now: keys are not for them.
    anyhow::ensure!(DataDir::is_held(data_dir), none("run/addresses.json there is of one that has ended"));
    parse_addresses(&text).with_context(|| format!("{} has no address of the API", path.display()))
}

fn parse_addresses(text: &str) -> Option<String> {
    let addresses: serde_json::Value = serde_json::from_str(text).ok()?;
    let mut addr: SocketAddr = addresses.get("http")?.as_str()?.parse().ok()?;
    if addr.ip().is_unspecified() {
        // It listens on every address; loopback is one of them.
        let loopback: std::net::IpAddr =
            if addr.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        addr.set_ip(loopback);
    }
    Some(format!("http://{addr}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_of_this_machine_is_found_in_its_addresses() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(parse_addresses(text).as_deref(), expected, "{text}");
        check(r#"{"http":"127.0.0.1:41234","mqtt":"127.0.0.1:1"}"#, Some("http://127.0.0.1:41234"));
        check(r#"{"http":"0.0.0.0:8080"}"#, Some("http://127.0.0.1:8080"));
        check(r#"{"http":"[::]:8080"}"#, Some("http://[::1]:8080"));
        check(r#"{"mqtt":"127.0.0.1:1"}"#, None);
        check("nonsense", None);
    }

    #[test]
    fn the_admin_key_is_read_without_its_line_end() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(admin_key(dir.path()), None);
        std::fs::write(dir.path().join("admin.key"), "iotm_x\n").expect("is written");
        assert_eq!(admin_key(dir.path()), Some(Secret::new("iotm_x")));
    }
}
