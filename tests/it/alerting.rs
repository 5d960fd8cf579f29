//! The whole way of an alert with the real Prometheus and Alertmanager and the files that are deployed: the database stops,
//! an issue is opened on a stand-in for GitHub; the database is back, it is commented and closed.
//!
//! Changed in the copies of the files are addresses, paths of secrets, and times, which are minutes there: a second here.

mod inhibition;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::foreign::free_port;
use crate::support::github::{GitHub, Issue};
use crate::support::postgres::Server;
use crate::support::{Api, eventually_within, process, replaced};

const ALERT: &str = "IotMeterDatabaseNotReady";
const TOKEN: &str = "alertmanager-token-0123456789";
/// The server looks at the database every fifteen seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program on the PATH, under one of these names.
fn program(names: &[&str], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).flat_map(|dir| names.iter().map(move |name| dir.join(name)));
    found.into_iter().find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "{} is not on the PATH; install it (Debian: apt-get install {package}), or let .ci/run unpack it",
            names[0]
        )
    })
}

/// A running program; it ends with this.
struct Running(Child);

impl Running {
    fn start(program: &Path, arguments: &[String], log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let command = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self(command.unwrap_or_else(|e| panic!("{}: {e}", program.display())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn deployed(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

/// With a second in place of every time of these keys.
fn hurried(text: &str, keys: &[&str]) -> String {
    let line = |line: &str| match line.trim_start().trim_start_matches("- ").split_once(": ") {
        Some((key, _)) if keys.contains(&key) => format!("{}{key}: 1s", &line[..line.len() - line.trim_start().len()]),
        _ => line.to_owned(),
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// The files as deployed, for these addresses, in `dir`.
fn write_configuration(dir: &Path, server: SocketAddr, alertmanager: SocketAddr) {
    let secret = dir.join("secret");
    std::fs::write(&secret, format!("{TOKEN}\n")).unwrap();
    let secret = secret.to_str().unwrap();
    std::fs::write(dir.join("rules.yml"), hurried(&deployed("prometheus/rules.yml"), &["for"])).unwrap();
    let prometheus = hurried(&deployed("prometheus/prometheus.yml"), &["scrape_interval", "evaluation_interval"]);
    let prometheus = replaced(&prometheus, "alertmanager:9093", &alertmanager.to_string());
    // Whom to scrape stands in a file beside it.
    std::fs::create_dir(dir.join("targets")).unwrap();
    std::fs::write(dir.join("targets/iot-meter.yml"), format!("- targets: [\"{server}\"]\n")).unwrap();
    std::fs::write(dir.join("prometheus.yml"), prometheus).unwrap();
    let routing = hurried(&deployed("alertmanager/alertmanager.yml"), &["group_wait", "group_interval"]);
    let routing = replaced(&routing, "http://iot-meter:8080", &format!("http://{server}"));
    let routing = replaced(&routing, "/run/secrets/iot_meter_alerts_key", secret);
    std::fs::write(dir.join("alertmanager.yml"), routing).unwrap();
}

fn start_alertmanager(dir: &Path, address: SocketAddr) -> Running {
    let in_dir = |name: &str| dir.join(name).display().to_string();
    let arguments = [
        format!("--config.file={}", in_dir("alertmanager.yml")),
        format!("--storage.path={}", in_dir("alertmanager")),
        format!("--web.listen-address={address}"),
        "--cluster.listen-address=".to_owned(),
    ];
    let manager = program(&["prometheus-alertmanager", "alertmanager"], "prometheus-alertmanager");
    Running::start(&manager, &arguments, &dir.join("alertmanager.log"))
}

fn start_programs(dir: &Path, alertmanager: SocketAddr) -> [Running; 2] {
    let in_dir = |name: &str| dir.join(name).display().to_string();
    let arguments = [
        format!("--config.file={}", in_dir("prometheus.yml")),
        format!("--storage.tsdb.path={}", in_dir("prometheus")),
        format!("--web.listen-address={}", free_port()),
        "--rules.alert.resend-delay=1s".to_owned(),
    ];
    let prometheus = program(&["prometheus"], "prometheus");
    [start_alertmanager(dir, alertmanager), Running::start(&prometheus, &arguments, &dir.join("prometheus.log"))]
}

/// The issues of the alert.
fn issues(github: &GitHub) -> Vec<Issue> {
    github.issues().into_iter().filter(|issue| issue.title.contains(ALERT)).collect()
}

/// The executable, with credentials: in this process all servers would share their metrics.
fn start_server(github: &GitHub, database_url: &str, data: &Path) -> (process::Server, Api) {
    let mut command = process::closed(data);
    command
        .env("IOT_METER__DATABASE__URL", database_url)
        .env("IOT_METER__DATABASE__CONNECT_TIMEOUT_S", "1")
        .env("IOT_METER__ALERTMANAGER__TOKEN", TOKEN);
    for (key, value) in github.settings() {
        command.env(process::variable(key), value);
    }
    let server = process::Server::start_with(&mut command, data);
    let key = std::fs::read_to_string(data.join("admin.key")).unwrap();
    let api = server.api.with_key(Some(key.trim()));
    (server, api)
}

#[test]
fn a_database_that_stops_opens_an_issue_and_closes_it_when_it_is_back() {
    let (github, database) = (GitHub::start(), Server::start());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (server, api) = start_server(&github, &database.database(), &data);
    let alertmanager = free_port();
    write_configuration(dir.path(), server.http, alertmanager);
    let programs = start_programs(dir.path(), alertmanager);
    let wait = |what: &str, condition: &mut dyn FnMut() -> bool| {
        let logs = || ["alertmanager.log", "prometheus.log"].map(|log| std::fs::read_to_string(dir.path().join(log)));
        eventually_within(PATIENCE, what, condition, || format!("{:?}\n{:?}", github.issues(), logs()));
    };
    let ready = "iot_meter_ready{check=\"database\"} ";
    let is_ready = |state: &str| server.api.get("/metrics").text().contains(&format!("{ready}{state}\n"));
    wait("the database is seen", &mut || is_ready("1"));
    assert_eq!(issues(&github).len(), 0);

    database.stop();
    wait("an issue is opened", &mut || issues(&github).len() == 1);
    assert!(is_ready("0"), "the database is away all the while");
    let issue = &issues(&github)[0];
    assert!(issue.is_open && issue.title.starts_with("[critical] "), "{issue:?}");
    assert_eq!(issue.labels, ["alert", "severity/critical", "service/database"]);
    assert!(issue.body.contains("docs/runbooks.md#iotmeterdatabasenotready"), "{}", issue.body);

    database.restart();
    wait("the issue is closed", &mut || !issues(&github)[0].is_open);
    let all = issues(&github);
    assert_eq!((all.len(), all[0].comments.len()), (1, 1), "{all:?}");
    assert!(all[0].comments[0].contains("The alert is over since"), "{}", all[0].comments[0]);
    let told = || api.get("/api/webhooks?state=done").expect(200).json();
    let names = || told().as_array().unwrap().iter().filter(|row| row["name"] == ALERT).count();
    wait("the database knows of it", &mut || names() == 2);
    drop(programs);
    assert_eq!(server.terminate(), Some(0));
}
