//! The real executable under a supervisor such as systemd.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::process::{Server, command};

#[test]
fn a_supervisor_hears_that_the_server_is_ready_alive_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let address = dir.path().join("notify");
    let socket = UnixDatagram::bind(&address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let next = || {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).expect("the server says something");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let until = |wanted: &str| assert!((0..600).any(|_| next() == wanted), "no {wanted}");

    let mut asked = command(&data);
    let server = Server::start_with(asked.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "300000"), &data);
    assert_eq!(next(), "READY=1", "nothing is said before it serves");
    until("STATUS=Serving");
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    assert_eq!(server.terminate(), Some(0));
    until("STOPPING=1\nSTATUS=Stopping");
}
