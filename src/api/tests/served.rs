//! The server on a real socket.

use std::net::TcpListener;
use std::sync::Arc;

use crate::api::testing::{FakeStore, NOW, services};
use crate::api::{Options, start};
use crate::domain::Clock;

#[test]
fn it_serves_on_a_bound_socket_and_stops_when_told() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (handle, server) = runtime.block_on(async {
        let (services, _ends) = services(Arc::new(FakeStore::default()), Clock::manual(NOW), false);
        let (handle, running) = start(services, listener, Options::default()).unwrap();
        (handle, tokio::spawn(running))
    });
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut health = agent.get(format!("{base}/health")).call().unwrap();
    assert_eq!(health.status(), 200);
    assert!(health.body_mut().read_to_string().unwrap().contains("\"healthy\""));
    let mut head = agent.head(format!("{base}/health")).call().unwrap();
    assert_eq!((head.status().as_u16(), head.body_mut().read_to_string().unwrap().len()), (200, 0));
    assert_eq!(agent.get(format!("{base}/api/devices")).call().unwrap().status(), 401);
    // The peer is on loopback.
    assert_eq!(agent.get(format!("{base}/metrics")).call().unwrap().status(), 200);
    runtime.block_on(async {
        handle.stop(true).await;
        server.await.unwrap().unwrap();
    });
}
