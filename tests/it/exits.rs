//! Exit codes of the real executable, by which scripts and supervisors tell bad usage, bad settings and failures apart; and
//! who may read what it leaves behind.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Runs a command line in a directory; the exit code, and what was said.
fn run(dir: &Path, line: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    command.args(line.split(' ')).env_clear().envs(variables.iter().copied()).current_dir(dir);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn check(line: &str, variables: &[(&str, &str)], code: i32, says: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (found, said) = run(dir.path(), line, variables);
    assert_eq!(found, Some(code), "{line}: {said}");
    assert!(says.iter().all(|part| said.contains(part)), "{line}: {says:?} is not all in {said}");
}

#[test]
fn a_bad_log_filter_is_a_fault_of_the_configuration_beside_all_others() {
    let variables = [("IOT_METER_LOG", "loud"), ("IOT_METER__HTTP__WORKERS", "many")];
    let says = ["log.level", "environment IOT_METER_LOG", "http.workers"];
    for line in ["key list", "device list", "archive ls", "simulate --duration 1", "load --no-verify --messages 1"] {
        check(line, &variables, 78, &says);
    }
}

#[test]
fn a_secret_that_is_given_twice_is_a_fault_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("url"), "sqlite:///b.db\n").unwrap();
    let variables = [("IOT_METER__DATABASE__URL", "sqlite:///a.db"), ("IOT_METER__DATABASE__URL_FILE", "url")];
    let (code, said) = run(dir.path(), "check-config", &variables);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("database.url: is given twice, by IOT_METER__DATABASE__URL and by"), "{said}");
    assert!(said.contains("(environment IOT_METER__DATABASE__URL_FILE: url)"), "{said}");
}

#[test]
fn a_file_of_keys_that_cannot_be_used_is_a_fault_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let serve = "serve --data-dir data --http-listen 127.0.0.1:0 --mqtt-listen 127.0.0.1:0 --mqtts-listen off";
    let with = |file: &str| run(dir.path(), &format!("{serve} --set auth.keys_file={file}"), &[]);
    let (code, said) = with("/no/keys");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("auth.keys_file: /no/keys: ") && said.contains("(flag --set auth.keys_file)"), "{said}");
    std::fs::write(dir.path().join("keys"), "viewer s3cret\n").unwrap();
    let (code, said) = with("keys");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("auth.keys_file: keys: line 1 has no key"), "{said}");
    assert!(said.contains("(flag --set auth.keys_file)") && !said.contains("s3cret"), "{said}");
    assert!(!dir.path().join("data").exists(), "nothing was begun");
    let says = ["auth.keys_file: /no/keys: ", "environment IOT_METER__AUTH__KEYS_FILE"];
    check("check-config", &[("IOT_METER__AUTH__KEYS_FILE", "/no/keys")], 78, &says);
}

#[test]
fn a_place_that_this_program_was_built_without_is_a_fault_of_the_configuration() {
    if cfg!(not(feature = "s3")) {
        check("archive ls --archive-url s3://b", &[], 78, &["archive.url", "--features s3", "flag --archive-url"]);
    }
    if cfg!(not(feature = "postgres")) {
        let url = [("IOT_METER__DATABASE__URL", "postgres://db/x")];
        let says = ["database.url", "--features postgres", "environment IOT_METER__DATABASE__URL"];
        check("check-config", &url, 78, &says);
        check("key list", &url, 78, &["database.url"]);
    }
}

#[test]
fn options_that_cannot_be_meant_are_bad_usage() {
    let six = "simulate".to_owned() + &" --broker mqtt://127.0.0.1:9".repeat(6);
    check(&six, &[], 2, &["broker must be given 1 to 5 times"]);
    check("simulate --prefix a/b", &[], 2, &["prefix must be"]);
    check("simulate --duration 1", &[("IOT_METER_CLAIM", "iotc_x")], 2, &["api must be given with a claim"]);
    check("load --no-verify --prefix a/b", &[], 2, &["prefix must be"]);
    check("pki revoke xyz", &[], 2, &["is not a serial number"]);
    check("key create --name n --expires 2026-01-31", &[], 2, &["is past"]);
    if cfg!(feature = "sqlite") {
        check("key revoke 1a2b3c4d", &[], 1, &["there is no key"]);
    }
}

#[test]
fn a_database_is_for_its_user_alone_whichever_command_begins_it() {
    let public = |line: &str, made: &str| {
        let dir = tempfile::tempdir().unwrap();
        // There already, and open to everybody.
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let shell = format!("umask 022 && exec {} {line}", env!("CARGO_BIN_EXE_iot-meter"));
        let output = Command::new("sh").args(["-c", &shell]).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::metadata(dir.path().join(made)).unwrap().permissions().mode() & 0o077
    };
    for line in ["key create --name x", "service list", "audit list", "migrate", "pki init"] {
        assert_eq!(public(&format!("{line} --data-dir data"), "data/iot-meter.db"), 0, "{line}");
    }
    assert_eq!(public("man pages", "pages/iot-meter.1"), 0o044, "a page is to be read");
}
