//! The real executable with an object store: set up as the README shows it, with credentials that the cloud lends to the machine's
//! role, and with damaged ones.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::cloud::{Bucket, Kind, POD_TOKEN};
use crate::support::guides::{blocks_of, read};
use crate::support::process::{Server, command, variable};
use crate::support::{Client, Connect, an_hour_ago, eventually, telemetry};

/// How long credentials last that are lent. (Of the store's client: it fetches new ones minutes before, so here before each use.)
const LIFE: Duration = Duration::from_secs(5);

/// The command line of a server that archives every second, in an environment that names nothing of a cloud.
fn alone(data: &Path) -> Command {
    let mut command = command(data);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| ["AWS_", "AZURE_", "GOOGLE_", "GCE_"].iter().any(|of| name.starts_with(of))) {
        command.env_remove(name);
    }
    // (There may be Google's credentials.)
    command.env("HOME", data.parent().expect("is in a folder")).env(variable("archive.flush_age_s"), "1");
    command
}

/// Sends messages, each archived by itself, while `goes_on`; how many.
fn archive_while(server: &Server, mut goes_on: impl FnMut(u32) -> bool) -> u64 {
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("m1"));
    let mut sent = 0;
    while goes_on(sent) {
        let at = an_hour_ago().plus_us(i64::from(sent) * 1_000_000);
        meter.publish("iot/m1/telemetry", telemetry("m1", at, sent, 750.0).as_bytes(), 1);
        sent += 1;
        eventually("it is archived", || super::positions(&server.api) == (sent.into(), sent.into()));
    }
    sent.into()
}

/// What a value of the README's is in a test.
fn put(archive: &mut toml::Table, settings: &[(String, String)], key: &str) {
    let (_, value) = settings.iter().find(|(name, _)| *name == format!("archive.{key}")).expect("is a setting");
    archive.insert(key.to_owned(), value.clone().into());
}

/// The README's settings, but for addresses and names, and the key in a file. What the environment has of another key does not count.
pub(super) fn the_readmes_settings_archive_soundly(kind: Kind) {
    let (bucket, dir) = (Bucket::start(kind), tempfile::tempdir().unwrap());
    let (settings, data, file) = (bucket.settings("/north"), dir.path().join("data"), dir.path().join("settings.toml"));
    let url = &settings[0].1;
    let shown = blocks_of("toml", "README.md", &read("README.md")).into_iter();
    let shown = shown.map(|block| block.text).find(|text| text.contains(&format!("url = \"{url}\"")));
    let mut shown: toml::Table = shown.unwrap_or_else(|| panic!("the README does not show {url}")).parse().unwrap();
    let archive = shown["archive"].as_table_mut().unwrap();
    if archive.contains_key("access_key_id") {
        put(archive, &settings, "access_key_id");
    }
    put(archive, &settings, "endpoint");
    std::fs::write(&file, shown.to_string()).unwrap();
    let secret = settings.iter().find(|(key, _)| key == "archive.secret_access_key").expect("is a setting");
    std::fs::write(dir.path().join("secret"), format!("{}\n", secret.1)).unwrap();
    let in_place = |mut command: Command| {
        command.arg("--config").arg(&file).env(variable("archive.secret_access_key_file"), dir.path().join("secret"));
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_TOKEN"] {
            command.env(name, "another-key");
        }
        command.env("GOOGLE_SERVICE_ACCOUNT", "/another/account.json");
        command
    };
    let server = Server::start_with(&mut in_place(alone(&data)), &data);
    let sent = archive_while(&server, |sent| sent < 3);
    assert_eq!(server.terminate(), Some(0));
    assert!(!bucket.objects("north/raw/v1").is_empty());
    let mut verify = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    verify.args(["archive", "verify", "--output", "json", "--data-dir"]).arg(&data).current_dir(dir.path());
    let done = in_place(verify).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&report["is_sound"], report["messages"].as_u64()), (&true.into(), Some(sent)), "{report}");
}

/// A server without keys: what it archives with is lent, for a time, by `environment`'s service. Several lives of a
/// credential later it has always had one that held.
fn check_role(kind: Kind, environment: impl Fn(SocketAddr, &Path) -> Vec<(&'static str, String)>) {
    let (bucket, dir) = (Bucket::lending(kind, LIFE), tempfile::tempdir().unwrap());
    let data = dir.path().join("data");
    let mut command = alone(&data);
    for (key, value) in bucket.settings("/fleet").iter().filter(|(key, _)| !key.contains("access_key")) {
        command.env(variable(key), value);
    }
    command.envs(environment(bucket.address(), dir.path()));
    let server = Server::start_with(&mut command, &data);
    let sent = archive_while(&server, |sent| {
        assert!(sent < 100, "nothing was lent that has ended");
        bucket.outlived() < 3
    });
    assert!(sent >= 3);
    assert_eq!(bucket.late(), 0, "nothing was asked with what had ended");
    assert!(!bucket.objects("fleet/raw/v1").is_empty());
}

/// What the environment says beside credentials holds: here the proxy, the only one to find a store of that name.
#[test]
fn a_proxy_that_the_environment_names_is_used() {
    let (bucket, dir) = (Bucket::start(Kind::S3), tempfile::tempdir().unwrap());
    let data = dir.path().join("data");
    let mut command = alone(&data);
    for (key, value) in bucket.settings("/fleet") {
        command.env(variable(&key), if key == "archive.endpoint" { "http://store.invalid" } else { &value });
    }
    command.env("AWS_PROXY_URL", format!("http://{}", bucket.address()));
    let server = Server::start_with(&mut command, &data);
    assert_eq!(archive_while(&server, |sent| sent < 2), 2);
    assert!(!bucket.objects("fleet/raw/v1").is_empty());
}

#[test]
fn a_machine_of_ec2_archives_with_its_role() {
    check_role(Kind::S3, |lender, _| vec![("AWS_METADATA_ENDPOINT", format!("http://{lender}"))]);
}

#[test]
fn a_container_of_kubernetes_archives_with_its_role() {
    check_role(Kind::S3, |lender, dir| {
        let token = dir.join("token");
        std::fs::write(&token, POD_TOKEN).unwrap();
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{lender}/container/credentials")),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.display().to_string()),
        ]
    });
}

#[cfg(feature = "gcs")]
#[test]
fn a_machine_of_google_archives_with_its_service_account() {
    check_role(Kind::Google, |lender, _| vec![("GCE_METADATA_HOST", lender.to_string())]);
}

/// A key that cannot be one is refused at the start, by the name of its setting.
#[cfg(any(feature = "azure", feature = "gcs"))]
fn check_damaged(kind: Kind) {
    let (bucket, dir) = (Bucket::start(kind), tempfile::tempdir().unwrap());
    let mut command = alone(&dir.path().join("data"));
    for (key, value) in bucket.settings("") {
        let damaged = &value[..value.len() - value.len().min(5)];
        command.env(variable(&key), if key == "archive.secret_access_key" { damaged } else { &value });
    }
    let done = command.stderr(std::process::Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("archive.secret_access_key must be"), "{said}");
}

#[cfg(feature = "azure")]
#[test]
fn a_damaged_key_of_azure_is_refused_by_name() {
    check_damaged(Kind::Azure);
}

#[cfg(feature = "gcs")]
#[test]
fn a_damaged_account_of_google_is_refused_by_name() {
    check_damaged(Kind::Google);
}
