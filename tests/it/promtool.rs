//! What Prometheus's own tool says of the metrics page. Needs `promtool`; that is why it is behind the feature `ops-tests`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::{Connect, TestApp, telemetry};

/// Everything `promtool check metrics` has to say.
fn check(page: &[u8]) -> (bool, String) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    promtool.stdin.take().unwrap().write_all(page).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[test]
fn promtool_finds_nothing_to_say_about_the_page_of_a_server_at_work() {
    let app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("p1"));
    meter.publish("iot/p1/telemetry", telemetry("p1", app.at(0), 0, 750.0).as_bytes(), 1);
    app.settled();
    app.api.get("/nowhere").expect(404);
    let page = app.api.get("/metrics").expect(200).body;
    assert_eq!(check(&page), (true, String::new()));
    let (is_good, said) = check(b"# TYPE x counter\nx 1\n");
    assert!(!is_good && said.contains("_total"), "the tool would say so: {said}");
}
