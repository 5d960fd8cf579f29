//! The commands of the documentation, run as they are written.
//!
//! Every block of `sh` in README.md and docs/ is run by bash, a failed command being a failure (also of `curl`), beside a
//! server whose data directory is `./data` and whose admin key is `$KEY`; only addresses are changed to those that are really
//! bound. Those of deploy/README.md are run one after the other by one shell, in a copy of the repository, as it is deployed from.
//! `<!-- not run: reason -->` before a block leaves it out, `<!-- run on: demo -->` runs it beside a demo fleet without
//! credentials. A `console`, which shows what is typed and what is answered, is for what needs a world of its own: `console`
//! makes it. Needs `bash`, `curl`, `openssl`, `mosquitto_pub`, `make`, `kubectl` (or the one that deploy/check has fetched).

mod console;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use iot_meter::config::{self, FileText, Sources};

use crate::support::certified::Guarded;
use crate::support::eventually;
use crate::support::guides::{Block, blocks_of, read};
use crate::support::process::{Server, command};

/// The blocks of `sh` of a document.
fn blocks(name: &str, text: &str) -> Vec<Block> {
    blocks_of("sh", name, text)
}

/// What is run beside a server.
const GUIDES: [&str; 5] =
    ["README.md", "docs/operations.md", "docs/migration.md", "docs/runbooks.md", "docs/reference.md"];
/// What is run in a copy of the repository.
const DEPLOYMENT: &str = "deploy/README.md";

fn all() -> Vec<Block> {
    GUIDES.iter().flat_map(|name| blocks(name, &read(name))).collect()
}

/// A shell that ends at the first failure, at home in `dir`: what it runs finds our executable, and writes nothing elsewhere.
fn shell(dir: &Path, script: &str) -> Command {
    let executables = Path::new(env!("CARGO_BIN_EXE_iot-meter")).parent().unwrap();
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let fetched = format!("{cache}/iot-meter/deploy-check/bin");
    let path = format!("{}:{}:{fetched}", executables.display(), std::env::var("PATH").unwrap());
    std::fs::write(dir.join(".curlrc"), "fail-with-body\nsilent\nshow-error\n").unwrap();
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(dir).stdin(Stdio::null());
    command.env("PATH", path).env("HOME", dir).env("XDG_CACHE_HOME", dir.join(".cache"));
    command.env_remove("XDG_CONFIG_HOME").env_remove("CURL_HOME");
    command
}

/// Runs a block in `dir`.
fn run(block: &Block, dir: &Path, addresses: &[(&str, String)], key: &str) {
    let script = addresses.iter().fold(block.text.clone(), |text, (from, to)| text.replace(from, to));
    let done = shell(dir, &script).env("KEY", key).output().expect("bash is installed");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}:\n{script}\n{said}", block.place);
}

#[test]
fn the_commands_of_the_documentation_work_as_they_are_written() {
    let guarded = Guarded::start(&[]);
    let data = guarded.data();
    let dir = data.parent().unwrap();
    let key = std::fs::read_to_string(data.join("admin.key")).unwrap();
    let addresses = [
        ("127.0.0.1:8080", guarded.http.to_string()),
        ("-p 8883", format!("-p {}", guarded.mqtts.port())),
        ("iot-meter load", format!("iot-meter load --broker mqtt://{}", guarded.server.mqtt)),
    ];
    let mut count = 0;
    for block in all().iter().filter(|block| block.marker.is_empty()) {
        run(block, dir, &addresses, key.trim());
        count += 1;
    }
    assert!(count >= 6, "only {count} blocks were found");
}

#[test]
fn the_first_steps_of_the_documentation_show_a_demo_fleet() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start_with(command(&data).args(["--demo", "2"]), &data);
    eventually("a meter has measured", || {
        let answer = server.api.get("/api/devices/demo-dc750-0001/latest");
        answer.status == 200 && answer.text().contains("voltage_dc")
    });
    let http: SocketAddr = server.http;
    let shown: Vec<Block> = all().into_iter().filter(|block| block.marker == "<!-- run on: demo -->").collect();
    assert!(!shown.is_empty());
    for block in &shown {
        run(block, dir.path(), &[("127.0.0.1:8080", http.to_string())], "");
    }
}

/// Copies a folder, but not the secrets somebody has made in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        match entry.file_type().unwrap().is_dir() {
            true if name == "secrets" || name == "__pycache__" => {}
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn the_commands_of_the_deployment_guide_work_in_a_copy_of_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&root.join("deploy"), &dir.path().join("deploy"));
    for file in ["Makefile", "Cargo.toml", "CHANGELOG.md", "Dockerfile"] {
        std::fs::copy(root.join(file), dir.path().join(file)).unwrap();
    }
    let mut blocks = blocks(DEPLOYMENT, &read(DEPLOYMENT));
    blocks.retain(|block| block.marker.is_empty());
    assert!(blocks.len() >= 4, "only {} blocks were found", blocks.len());
    // In one shell, as they are typed: where a block leaves it, the next one begins.
    let text = blocks.iter().map(|block| format!("echo '{}'\n{}", block.place, block.text)).collect();
    run(&Block { place: DEPLOYMENT.to_owned(), text, marker: String::new() }, dir.path(), &[], "");
}

#[test]
fn a_block_is_left_out_only_for_a_reason_that_is_told() {
    for block in all().into_iter().chain(blocks(DEPLOYMENT, &read(DEPLOYMENT))) {
        let is_run = block.marker.is_empty() || block.marker == "<!-- run on: demo -->";
        let is_known = is_run || block.left_out().is_some();
        assert!(is_known, "{}: {}", block.place, block.marker);
    }
    let text = "a\n<!-- not run: it is a test -->\n```sh\none\n```\n  ```sh\n  two\n    three\n  ```\n";
    let found = blocks("x", text);
    assert_eq!(found.iter().map(|b| b.text.as_str()).collect::<Vec<_>>(), ["one\n", "two\n  three\n"]);
    assert_eq!(found[0].place, "x:3");
    assert_eq!((found[0].marker.as_str(), found[1].marker.as_str()), ("<!-- not run: it is a test -->", ""));
}

#[test]
fn the_settings_that_the_documentation_shows_are_taken() {
    let shown: Vec<Block> =
        GUIDES.iter().chain([&DEPLOYMENT]).flat_map(|name| blocks_of("toml", name, &read(name))).collect();
    assert!(shown.len() >= 4, "only {} blocks were found", shown.len());
    for block in shown {
        let file = FileText { path: block.place.clone().into(), text: block.text.clone() };
        // Where a key is named, the text beside says how the secret to it comes.
        let secret = block.text.contains("\naccess_key_id = ");
        let env = secret.then(|| ("IOT_METER__ARCHIVE__SECRET_ACCESS_KEY".to_owned(), "secret".to_owned()));
        let env = env.into_iter().collect();
        if let Err(error) = config::load(&Sources { file: Some(file), env, ..Sources::default() }) {
            panic!("{}\n{error}", block.text);
        }
    }
}

/// How a heading is linked to: small letters and digits, with a hyphen for each space.
fn anchors(text: &str) -> Vec<String> {
    let is_kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().chars().filter(|c| is_kept(*c)).collect())
        .map(|heading: String| heading.replace(' ', "-"))
        .collect()
}

#[test]
fn files_and_pages_that_the_documentation_names_exist() {
    let others = ["deploy/README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
    for name in GUIDES.iter().chain(&others) {
        let text = read(name);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).parent().unwrap().to_owned();
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split(')').next().unwrap();
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            if target.contains("://") {
                continue;
            }
            let path =
                if target.is_empty() { folder.join(Path::new(name).file_name().unwrap()) } else { folder.join(target) };
            assert!(path.exists(), "{name} names {target}, which is not there");
            if !anchor.is_empty() {
                let page = std::fs::read_to_string(&path).unwrap();
                assert!(
                    anchors(&page).iter().any(|a| a == anchor),
                    "{name} names {link}, and there is no such heading"
                );
            }
        }
    }
    // What the table of the old backlog names as proof.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = read("docs/migration.md");
    let mut count = 0;
    for word in text.split('`').skip(1).step_by(2) {
        let folders = ["src/", "tests/", "deploy/", "docs/", "examples/", ".github/", "migrations/"];
        if folders.iter().any(|folder| word.starts_with(folder)) && !word.contains(' ') {
            assert!(root.join(word).exists(), "docs/migration.md names {word}, which is not there");
            count += 1;
        }
    }
    assert!(count > 30, "the table was not understood: {count} files");
    for item in
        ["R", "S", "H", "M", "L"].iter().zip([14, 5, 7, 9, 6]).flat_map(|(kind, n)| (1..=n).map(move |i| (kind, i)))
    {
        let (kind, number) = item;
        assert!(text.contains(&format!("\n| {kind}{number} ")), "{kind}{number} of the old backlog is missing");
    }
}

#[test]
fn the_pictures_of_the_readme_are_small() {
    let readme = read("README.md");
    let pictures: Vec<&str> =
        readme.split("](docs/pictures/").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(pictures.len() >= 2, "{pictures:?}");
    for picture in pictures {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures").join(picture);
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() <= 150_000 && bytes.starts_with(b"RIFF"), "{picture}: {} bytes", bytes.len());
    }
}
