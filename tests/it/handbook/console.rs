//! What the documentation shows as typed and answered: each `console` in a world made for it, line by line as it is written.
//!
//! `iot-meter serve` is left running, on free ports; every other line must end well, but for one whose answer says `damaged`.
//! Of what is shown as answered, `…` stands for anything and a number for any number. Blocks of which no test knows are
//! refused, unless `<!-- not run: reason -->` stands before them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{GUIDES, shell};
use crate::support::certified::Guarded;
use crate::support::guides::{Block, blocks_of, read};
use crate::support::process::{Server, command};
use crate::support::{Api, Client, Connect, an_hour_ago, eventually, settled, telemetry};

/// By what is in it: which block a test below runs.
const RUN: [&str; 5] = ["claim create", "restore --check", "pg_restore", "readyz", "journal verify"];

fn consoles() -> Vec<Block> {
    GUIDES.iter().flat_map(|name| blocks_of("console", name, &read(name))).collect()
}

#[test]
fn every_console_is_run_or_says_why_not() {
    let all = consoles();
    assert!(all.len() >= RUN.len(), "only {} blocks were found", all.len());
    for block in &all {
        let known = RUN.iter().filter(|part| block.text.contains(*part)).count();
        match block.left_out() {
            Some(_) => assert_eq!(known, 0, "{} is run", block.place),
            None => assert_eq!(known, 1, "no test, or more than one, runs {}:\n{}", block.place, block.text),
        }
    }
}

/// A line that is typed, and what is shown as its answer.
struct Step {
    typed: String,
    shown: Vec<String>,
}

/// The steps of the block that has this in it.
fn steps(part: &str) -> Vec<Step> {
    let block = consoles().into_iter().find(|block| block.text.contains(part)).expect("the block is there");
    let (mut steps, mut goes_on): (Vec<Step>, bool) = (Vec::new(), false);
    for line in block.text.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(typed), _) => steps.push(Step { typed: typed.to_owned(), shown: Vec::new() }),
            (None, Some(step)) if goes_on => step.typed += &format!("\n{line}"),
            (None, Some(step)) => step.shown.push(line.to_owned()),
            (None, None) => panic!("{}: begins with an answer", block.place),
        }
        goes_on = line.ends_with('\\');
    }
    steps
}

/// With every number as 0.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('0') => {}
            '0'..='9' => out.push('0'),
            _ => out.push(c),
        }
    }
    out
}

/// Whether a line that is shown is among what was said.
fn is_said(shown: &str, said: &str) -> bool {
    let shown = without_numbers(shown);
    without_numbers(said).lines().any(|line| {
        let parts = shown.split('…').filter(|part| !part.is_empty());
        let mut rest = Some(line);
        for part in parts {
            rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, rest)| rest);
        }
        rest.is_some_and(|rest| rest.is_empty() || shown.ends_with('…'))
    })
}

/// Where somebody types: a directory with what the block needs, `$DATA` in it, and the server that was started there.
struct Terminal {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
    server: Option<Server>,
}

impl Terminal {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pass"), "a passphrase that nobody guesses\n").unwrap();
        let data = dir.path().join("data").display().to_string();
        let env = [
            ("DATA", data.as_str()),
            ("IOT_METER__HTTP__LISTEN", "127.0.0.1:0"),
            ("IOT_METER__MQTT__LISTEN", "127.0.0.1:0"),
            ("IOT_METER__MQTT__TLS_LISTEN", "off"),
            ("IOT_METER__LOG__LEVEL", "warn"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { dir, env, server: None }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    #[cfg(feature = "postgres")]
    fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    fn shell(&self, script: &str) -> Command {
        let mut shell = shell(self.dir.path(), script);
        for (name, value) in &self.env {
            match name.as_str() {
                "PATH" => shell.env("PATH", format!("{value}:{}", path_of(&shell))),
                _ => shell.env(name, value),
            };
        }
        shell
    }

    fn try_to(&self, script: &str) -> Output {
        self.shell(script).output().expect("bash is installed")
    }

    /// Types every line of the block that has this in it, and compares the answers with what is shown.
    fn type_all(&mut self, part: &str) {
        for Step { typed, shown } in steps(part) {
            if typed.starts_with("iot-meter serve ") {
                let data = self.data();
                self.server = Some(Server::start_with(&mut self.shell(&format!("exec {typed}")), &data));
                continue;
            }
            let http = self.server.as_ref().map(|server| server.http.to_string());
            let script = http.map_or(typed.clone(), |http| typed.replace("127.0.0.1:8080", &http));
            let done = self.try_to(&script);
            let said = said(&done);
            let expected = i32::from(shown.iter().any(|line| line.starts_with("damaged")));
            assert_eq!(done.status.code(), Some(expected), "{typed}\n{said}");
            let missing: Vec<_> = shown.iter().filter(|line| !is_said(line, &said)).collect();
            assert!(missing.is_empty(), "{typed} does not say {missing:#?}, but\n{said}");
        }
    }

    /// The server that was started last, with the key that lies in its data directory.
    fn api(&self) -> Api {
        let key = std::fs::read_to_string(self.data().join("admin.key")).unwrap();
        self.server.as_ref().expect("one was started").api.with_key(Some(key.trim()))
    }

    /// How many voltages it shows of the meter.
    fn shown(&self) -> usize {
        settled(&self.api());
        let path = "/api/devices/m1/metrics?start=-2h&metric=voltage_dc";
        self.api().get(path).expect(200).json().as_array().unwrap().len()
    }
}

fn path_of(command: &Command) -> String {
    let found = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
    found.unwrap_or_default().to_string_lossy().into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A meter says so many things.
fn say(server: &Server, numbers: std::ops::Range<u32>) {
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("m1"));
    let base = an_hour_ago();
    for seq in numbers {
        let ts = base.plus_us(i64::from(seq) * 1_000_000);
        meter.publish("iot/m1/telemetry", telemetry("m1", ts, seq, f64::from(seq)).as_bytes(), 1);
    }
    settled(&server.api);
}

#[test]
fn a_new_meter_enrols_as_the_readme_shows() {
    let guarded = Guarded::start(&[]);
    let dir = guarded.data().parent().unwrap().to_owned();
    let run = |script: &str| {
        let done = shell(&dir, script).output().unwrap();
        assert!(done.status.success(), "{script}\n{}", said(&done));
        String::from_utf8(done.stdout).unwrap()
    };
    let steps = steps("claim create");
    let [claim, enrol] = steps.as_slice() else { panic!("two lines are typed") };
    let token = run(&claim.typed).lines().next().unwrap().to_owned();
    run("openssl ecparam -name prime256v1 -genkey -noout -out new.key");
    let request = run("openssl req -new -key new.key -subj /CN=depot7-001").trim().replace('\n', "\\n");
    let placeholders = [
        ("https://meters.example", format!("http://{}", guarded.http)),
        ("iotc_…", token),
        ("-----BEGIN CERTIFICATE REQUEST-----…", request),
    ];
    let typed = placeholders.iter().fold(enrol.typed.clone(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replace(from, to)
    });
    let answer: serde_json::Value = serde_json::from_str(&run(&typed)).unwrap();
    assert!(
        answer["certificate"].as_str().is_some_and(|pem| pem.starts_with("-----BEGIN CERTIFICATE-----")),
        "{answer}"
    );
    guarded.api.get("/api/devices/depot7-001").expect(200);
}

#[test]
fn a_lost_disk_is_restored_from_the_last_backup_as_the_guide_shows() {
    let mut terminal = Terminal::new();
    let lost = terminal.dir.path().join("lost");
    let server = Server::start(&lost);
    say(&server, 0..20);
    let backup = terminal.try_to("iot-meter backup --data-dir lost --passphrase-file pass meters.tar.zst");
    assert!(backup.status.success(), "{}", said(&backup));
    server.kill();
    std::fs::remove_dir_all(lost).unwrap();
    terminal.type_all("restore --check");
    assert_eq!(terminal.shown(), 20);
}

#[cfg(feature = "postgres")]
#[test]
fn a_lost_database_is_restored_from_the_last_dump_as_the_guide_shows() {
    let mut terminal = Terminal::new();
    let postgres = crate::support::postgres::Server::start();
    let url = postgres.database();
    let data = terminal.data();
    let server = Server::start_with(command(&data).env("IOT_METER__DATABASE__URL", &url), &data);
    say(&server, 0..20);
    terminal.set("PATH", &postgres.programs().display().to_string());
    terminal.set("PGHOST", &postgres.dir().display().to_string());
    terminal.set("PGUSER", "postgres");
    let name = url.trim_start_matches("postgres:///").split('?').next().unwrap();
    let dump = terminal.try_to(&format!("pg_dump --format=custom --file=iot.dump {name}"));
    assert!(dump.status.success(), "{}", said(&dump));
    // What came after the dump is in the journal.
    say(&server, 20..30);
    server.kill();
    terminal.set("IOT_METER__DATABASE__URL", &postgres.url("iot"));
    terminal.type_all("pg_restore");
    assert_eq!(terminal.shown(), 30);
}

#[test]
fn a_lost_archive_stops_nothing_as_the_guide_shows() {
    let mut terminal = Terminal::new();
    let server =
        Server::start_with(command(&terminal.data()).args(["--set", "archive.flush_age_s=1"]), &terminal.data());
    say(&server, 0..20);
    eventually("all is archived", || {
        let status = server.api.get("/api/system/status").expect(200).json();
        status["archiver"]["position"] == status["journal"]["durable"]
    });
    assert_eq!(server.terminate(), Some(0));
    std::fs::remove_dir_all(terminal.data().join("archive")).unwrap();
    terminal.type_all("readyz");
    assert_eq!(terminal.shown(), 20);
}

/// The file of the journal, with one byte of that message changed.
fn damage(data: &Path, seq: u32) {
    let files = std::fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "journal")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let part = format!("\"seq\":{seq},");
    let at = bytes.windows(part.len()).position(|window| window == part.as_bytes()).expect("the message is there");
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_damaged_journal_is_looked_at_and_salvaged_as_the_guide_shows() {
    let mut terminal = Terminal::new();
    let data = terminal.data();
    let server = Server::start(&data);
    say(&server, 0..94);
    server.kill();
    damage(&data, 19);
    let refused = terminal.try_to("iot-meter serve --data-dir \"$DATA\"");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains(".journal is damaged at byte "), "{}", said(&refused));
    terminal.type_all("journal verify");
    let kept = std::fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        kept.into_iter().any(|name| name.to_string_lossy().ends_with(".journal.damaged")),
        "kept beside the new one"
    );
    assert_eq!(terminal.shown(), 94, "it had been stored before");
}

#[test]
fn what_is_shown_is_compared_but_for_numbers_and_what_is_left_out() {
    let check = |shown: &str, expected: bool| {
        assert_eq!(is_said(shown, "x, byte 77: 1 lost; more\nend\n"), expected, "{shown}")
    };
    check("…byte 19295: 4 lost…", true);
    check("end", true);
    check("byte 1: 1 lost", false);
    check("…byte 1: many lost…", false);
    check("…lost…byte…", false);
}
