//! Alerts become issues: what Alertmanager sends goes in, a stand-in for GitHub shows what came of it.

use std::path::Path;
use std::process::Command;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use iot_meter::observe::trace::Context;
use serde_json::{Value, json};

use crate::support::github::{GitHub, Mood, REPOSITORY, TOKEN};
use crate::support::process::{self, Server};
use crate::support::{Api, Figures, TestApp, eventually};

fn app(github: &GitHub) -> TestApp {
    let settings = github.settings();
    settings.iter().fold(TestApp::builder(), |builder, (key, value)| builder.set(key, value)).start()
}

/// What Alertmanager sends of one alert.
fn webhook(fingerprint: &str, status: &str, starts_at: &str) -> Value {
    json!({
        "version": "4", "groupKey": "{}:{alertname=\"IotMeterStoringLate\"}", "status": status, "receiver": "github-issues",
        "truncatedAlerts": 0, "externalURL": "http://alertmanager:9093",
        "alerts": [{
            "status": status, "fingerprint": fingerprint, "startsAt": starts_at, "endsAt": "0001-01-01T00:00:00Z",
            "labels": {"alertname": "IotMeterStoringLate", "severity": "warning", "service": "collector", "instance": "a"},
            "annotations": {"summary": "The oldest unstored message is 2m old", "runbook_url": "https://runbook.example/#x"},
            "generatorURL": "http://prometheus:9090/graph",
        }],
    })
}

fn tell(api: &Api, fingerprint: &str, status: &str, starts_at: &str) -> Value {
    api.post("/api/alertmanager/webhook", &webhook(fingerprint, status, starts_at)).expect(202).json()
}

fn listed(api: &Api, state: &str) -> Vec<Value> {
    api.get(&format!("/api/webhooks?state={state}")).expect(200).json().as_array().unwrap().clone()
}

/// Waits until nothing is on its way any more.
fn all_told(api: &Api) {
    eventually("everything is told", || listed(api, "pending").is_empty());
}

const FIRST: &str = "2026-02-12T10:00:00Z";
const LATER: &str = "2026-02-12T11:00:00Z";

#[test]
fn an_alert_becomes_one_issue_that_is_closed_and_opened_again() {
    let github = GitHub::start();
    let app = app(&github);
    assert_eq!(tell(&app.api, "ab01", "firing", FIRST), json!({"queued": 1, "repeated": 0}));
    assert_eq!(tell(&app.api, "ab01", "firing", FIRST), json!({"queued": 0, "repeated": 1}));
    all_told(&app.api);
    let issue = github.issues().pop().unwrap();
    assert_eq!(issue.title, "[warning] IotMeterStoringLate: The oldest unstored message is 2m old");
    assert_eq!(issue.labels, ["alert", "severity/warning", "service/collector"]);
    for part in [
        "fingerprint=ab01",
        "[Runbook](https://runbook.example/#x)",
        "Fires since 2026-02-12T10:00:00Z",
        "| `instance` | `a` |",
    ] {
        assert!(issue.body.contains(part), "{part} is not in {}", issue.body);
    }
    tell(&app.api, "ab01", "resolved", FIRST);
    eventually("it is closed", || !github.issues()[0].is_open);
    assert_eq!(github.issues()[0].comments.len(), 1);
    tell(&app.api, "ab01", "firing", LATER);
    eventually("it is open again", || github.issues()[0].is_open);
    all_told(&app.api);
    assert_eq!((github.issues().len(), github.issues()[0].comments.len()), (1, 2));
    let results: Vec<_> =
        listed(&app.api, "done").iter().map(|row| row["result"].as_str().unwrap().to_owned()).collect();
    assert_eq!(results, ["reopened", "closed", "opened"]);
}

#[test]
fn an_alert_that_begins_anew_opens_its_issue_again_though_its_end_was_never_told() {
    let github = GitHub::start();
    let app = app(&github);
    tell(&app.api, "ab12", "firing", FIRST);
    all_told(&app.api);
    let somebody = Api::new(github.url.strip_prefix("http://").unwrap().parse().unwrap(), Some(TOKEN.to_owned()));
    let closed = json!({"state": "closed"}).to_string().into_bytes();
    somebody.send("PATCH", &format!("/repos/{REPOSITORY}/issues/1"), &[], Some(closed)).expect(200);
    assert_eq!(tell(&app.api, "ab12", "firing", FIRST)["repeated"], 1);
    assert!(!github.issues()[0].is_open, "what people close stays closed until the alert changes");
    let anew = app.now().to_string();
    assert_eq!(tell(&app.api, "ab12", "firing", &anew)["queued"], 1);
    assert_eq!(tell(&app.api, "ab12", "firing", &anew)["repeated"], 1);
    all_told(&app.api);
    let issues = github.issues();
    assert_eq!((issues.len(), issues[0].is_open, issues[0].comments.len()), (1, true, 1));
    assert_eq!(listed(&app.api, "done")[0]["result"], "reopened");
}

#[test]
fn github_is_told_the_trace_of_each_notice() {
    let github = GitHub::start();
    let app = app(&github);
    tell(&app.api, "ab10", "firing", FIRST);
    all_told(&app.api);
    let first = github.traces();
    tell(&app.api, "ab10", "resolved", FIRST);
    all_told(&app.api);
    let all = github.traces();
    let second = &all[first.len()..];
    let trace = |parent: &String| {
        let context = Context::parse(parent, None).unwrap_or_else(|| panic!("{parent:?} is no place in a trace"));
        assert!(!context.is_sampled(), "nobody has asked for a record of it");
        context.trace_id
    };
    let traces = [first.as_slice(), second].map(|parents| parents.iter().map(trace).collect::<Vec<_>>());
    assert!(traces.iter().all(|ids| ids.len() >= 2 && ids.iter().all(|id| *id == ids[0])), "{all:?}");
    assert_ne!(traces[0][0], traces[1][0], "each has its own");
}

#[test]
fn github_is_away_for_a_while_and_then_wants_us_to_wait_and_is_told_once() {
    let github = GitHub::start();
    let app = app(&github);
    let before = Figures::of(&app.api);
    github.be(Mood::Refusing(500, String::new()));
    tell(&app.api, "ab02", "firing", FIRST);
    let error = || listed(&app.api, "pending").first().and_then(|row| Some(row["last_error"].as_str()?.to_owned()));
    eventually("the failure shows", || error().is_some_and(|words| words.contains("500")));
    app.api.get("/readyz").expect(200);
    let status = app.api.get("/api/system/status").json();
    assert!(status["tasks"]["notifier"]["last_error"].as_str().unwrap().contains("500"), "{status}");
    github.be(Mood::Refusing(403, "Retry-After: 2\r\n".to_owned()));
    eventually("the limit shows", || error().is_some_and(|words| words.contains("asked again at")));
    let asked = github.asked().len();
    github.be(Mood::Well);
    all_told(&app.api);
    assert_eq!(github.issues().len(), 1);
    assert_eq!(github.asked().len() - asked, 2, "looked for, then made: {:?}", github.asked());
    let after = Figures::of(&app.api);
    for result in ["away", "limited", "ok"] {
        after.grown(&before, &format!("github_requests_total{{call=\"find\",result=\"{result}\"}}"), 1.0);
    }
}

/// A server that makes its issues at `github`.
fn command(github: &GitHub, data: &Path) -> Command {
    let mut command = process::command(data);
    for (key, value) in github.settings() {
        command.env(process::variable(key), value);
    }
    command
}

#[test]
fn a_process_killed_between_githubs_answer_and_its_own_row_makes_no_second_issue() {
    let github = GitHub::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = || Server::start_with(&mut command(&github, &data), &data);
    let server = start();
    github.be(Mood::Silent);
    tell(&server.api, "ab03", "firing", FIRST);
    eventually("the issue is made", || github.issues().len() == 1);
    server.kill();
    github.be(Mood::Well);
    let server = start();
    all_told(&server.api);
    assert_eq!(listed(&server.api, "done")[0]["result"], "known");
    // The same for the comment, and for the closing.
    github.be(Mood::Silent);
    tell(&server.api, "ab03", "resolved", FIRST);
    eventually("the comment is made", || github.issues()[0].comments.len() == 1);
    server.kill();
    let server = start();
    eventually("it is closed", || !github.issues()[0].is_open);
    server.kill();
    github.be(Mood::Well);
    let server = start();
    all_told(&server.api);
    assert_eq!(listed(&server.api, "done")[0]["result"], "closed_before");
    assert_eq!((github.issues().len(), github.issues()[0].comments.len()), (1, 1));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn while_the_database_is_away_alerts_get_out_and_it_knows_of_them_later() {
    let github = GitHub::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let token = "alertmanager-token-0123456789";
    // A process of its own: the figures below are a process's. The lock is one of SQLite's.
    let mut command = process::closed(&data);
    command.env(process::variable("alertmanager.token"), token);
    command.env(process::variable("database.url"), "sqlite:///<data_dir>/own.db");
    command.envs(github.settings().map(|(key, value)| (process::variable(key), value)));
    let server = Server::start_with(&mut command, &data);
    let key = std::fs::read_to_string(data.join("admin.key")).unwrap();
    let (api, alertmanager) = (server.api.with_key(Some(key.trim())), server.api.with_key(Some(token)));
    tell(&alertmanager, "ab04", "firing", FIRST);
    all_told(&api);
    let mut other = SqliteConnection::establish(data.join("own.db").to_str().unwrap()).unwrap();
    other.batch_execute("PRAGMA busy_timeout = 30000; BEGIN EXCLUSIVE").unwrap();
    tell(&alertmanager, "ab05", "firing", FIRST);
    eventually("the issue is made while the database is away", || github.issues().len() == 2);
    tell(&alertmanager, "ab04", "resolved", FIRST);
    eventually("what is over is closed", || !github.issues()[0].is_open);
    let spooled = || Figures::of(&server.api).get("outbox_spooled_notices");
    eventually("the figures say so", || spooled() == Some(2.0));
    drop(other);
    eventually("the database has taken over", || listed(&api, "done").len() == 3);
    eventually("nothing is kept beside it any more", || spooled() == Some(0.0));
    tell(&alertmanager, "ab05", "resolved", FIRST);
    all_told(&api);
    let issues = github.issues();
    assert_eq!(issues.len(), 2);
    assert!(issues.iter().all(|issue| !issue.is_open && issue.comments.len() == 1), "{issues:?}");
    assert!(!data.join("notify.json").exists());
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn what_github_refuses_is_kept_shows_and_is_sent_again() {
    let github = GitHub::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // A process of its own, for its figures.
    let server = Server::start_with(&mut command(&github, &data), &data);
    let api = &server.api;
    github.be(Mood::Refusing(401, String::new()));
    tell(api, "ab06", "firing", FIRST);
    eventually("it is given up", || !listed(api, "dead").is_empty());
    let dead = &listed(api, "dead")[0];
    assert_eq!(dead["last_error"], "GitHub answered 401 to find: not now");
    eventually("the figures say so", || Figures::of(api).get("outbox_notices{state=\"dead\"}") == Some(1.0));
    github.be(Mood::Well);
    let path = format!("/api/webhooks/{}/retry", dead["id"]);
    api.post(&path, &json!({})).expect(202);
    all_told(api);
    assert_eq!(github.issues().len(), 1);
    api.post(&path, &json!({})).expect(409);
    let entries = || api.get("/api/audit?action=POST%20/api/webhooks").expect(200).json();
    eventually("the audit log says who did it", || entries().as_array().unwrap().len() == 2);
}

#[test]
fn without_a_token_nothing_is_sent_and_with_one_what_still_fires_is() {
    let github = GitHub::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut dry = command(&github, &data);
    dry.env_remove("IOT_METER__GITHUB__TOKEN").env("IOT_METER__LOG__LEVEL", "info");
    let log = dir.path().join("log");
    dry.stderr(std::fs::File::create(&log).unwrap());
    let server = Server::start_with(&mut dry, &data);
    tell(&server.api, "ab07", "firing", FIRST);
    tell(&server.api, "ab07", "firing", FIRST);
    all_told(&server.api);
    let done = listed(&server.api, "done");
    assert_eq!((done.len(), &done[0]["result"], &done[0]["issue"]), (1, &json!("dry_run"), &Value::Null));
    assert_eq!(github.asked(), Vec::<String>::new());
    tell(&server.api, "ab09", "firing", FIRST);
    all_told(&server.api);
    tell(&server.api, "ab09", "resolved", FIRST);
    all_told(&server.api);
    assert_eq!(server.terminate(), Some(0));
    let log = std::fs::read_to_string(log).unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said: Vec<Value> =
        lines.filter(|line| line["message"].as_str().is_some_and(|m| m.starts_with("dry run"))).collect();
    let title = "[warning] IotMeterStoringLate: The oldest unstored message is 2m old";
    let expected = [
        ("dry run: an issue would be opened, or opened again", title),
        ("dry run: an issue would be opened, or opened again", title),
        ("dry run: the issue would be commented and closed", title),
    ];
    let found: Vec<_> = said.iter().map(|l| (l["message"].as_str().unwrap(), l["title"].as_str().unwrap())).collect();
    assert_eq!(found, expected, "{log}");
    let server = Server::start_with(&mut command(&github, &data), &data);
    tell(&server.api, "ab07", "firing", FIRST);
    all_told(&server.api);
    assert_eq!(github.issues().len(), 1);
}

#[cfg(feature = "postgres")]
#[test]
fn two_nodes_that_are_told_the_same_make_one_issue() {
    let github = GitHub::start();
    let url = crate::support::postgres::Server::shared().database();
    let node = || {
        let builder = TestApp::builder().open().set("database.url", &url);
        github.settings().iter().fold(builder, |builder, (key, value)| builder.set(key, value)).start()
    };
    let nodes = [node(), node()];
    for (status, starts_at) in [("firing", FIRST), ("resolved", FIRST), ("firing", LATER)] {
        let queued: u64 = std::thread::scope(|scope| {
            let told: Vec<_> = nodes
                .iter()
                .map(|node| {
                    scope.spawn(|| {
                        (0..5)
                            .map(|_| tell(&node.api, "ab08", status, starts_at)["queued"].as_u64().unwrap())
                            .sum::<u64>()
                    })
                })
                .collect();
            told.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(queued, 1, "{status}");
        all_told(&nodes[0].api);
    }
    let issues = github.issues();
    assert_eq!((issues.len(), issues[0].comments.len(), issues[0].is_open), (1, 2, true));
}

#[cfg(feature = "postgres")]
#[test]
fn while_the_database_hangs_alerts_get_out_and_it_knows_of_them_later() {
    let github = GitHub::start();
    let postgres = crate::support::postgres::Server::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = command(&github, &data);
    command.env(process::variable("database.url"), postgres.database());
    let server = Server::start_with(&mut command, &data);
    tell(&server.api, "ab13", "firing", FIRST);
    all_told(&server.api);
    postgres.freeze();
    tell(&server.api, "ab14", "firing", FIRST);
    eventually("the issue is made while the database hangs", || github.issues().len() == 2);
    tell(&server.api, "ab14", "resolved", FIRST);
    eventually("it is closed", || !github.issues()[1].is_open);
    let spooled = || Figures::of(&server.api).get("outbox_spooled_notices");
    eventually("the figures say so", || spooled() == Some(2.0));
    postgres.thaw();
    eventually("nothing is kept beside the database any more", || spooled() == Some(0.0));
    all_told(&server.api);
    let issues = github.issues();
    assert_eq!(
        issues.iter().map(|issue| (issue.is_open, issue.comments.len())).collect::<Vec<_>>(),
        [(true, 0), (false, 1)]
    );
    assert_eq!(server.terminate(), Some(0));
}
