//! Listening sockets: from an accepted connection to a byte stream that speaks MQTT, whatever it is wrapped in.
//!
//! Invariants: whatever is not let in by the `gate` is closed at once; a connection has its place from here to its end,
//! and `connect_timeout` from its turn to an accepted CONNECT, TLS and WebSocket handshakes included; nobody's handshake
//! holds up another's. Plain TCP goes on unwrapped: it is what most meters speak and costs nothing extra.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::certified::Arrival;
use super::gate::{Full, Permit};
use super::stream::AnyStream;
use super::{Error, Shared, accept, ws};
use crate::audit;
use crate::tls::{Refusal, Tls};

/// A bound socket and what is spoken on it.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Tls>,
    is_web_socket: bool,
}

impl Listener {
    /// MQTT on plain TCP.
    pub fn tcp(socket: TcpListener) -> Self {
        Self { socket, tls: None, is_web_socket: false }
    }

    /// The same, in TLS.
    pub fn in_tls(self, tls: &Tls) -> Self {
        Self { tls: Some(tls.clone()), ..self }
    }

    /// The same, in a WebSocket.
    pub fn in_web_socket(self) -> Self {
        Self { is_web_socket: true, ..self }
    }

    /// Where it is bound.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// For use in this runtime.
    pub(super) fn ready(self) -> Result<Ready, Error> {
        let Self { socket, tls, is_web_socket } = self;
        let address = socket.local_addr().ok();
        let socket = socket
            .set_nonblocking(true)
            .and_then(|()| tokio::net::TcpListener::from_std(socket))
            .map_err(|source| Error::Listener { address, source })?;
        Ok(Ready { socket, tls, is_web_socket })
    }
}

/// A [`Listener`] of the runtime.
pub(super) struct Ready {
    socket: tokio::net::TcpListener,
    tls: Option<Tls>,
    is_web_socket: bool,
}

/// The TLS sides of the listeners, each once.
pub(super) fn distinct(listeners: &[Ready]) -> Vec<Tls> {
    let mut found: Vec<Tls> = Vec::new();
    for tls in listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        if !found.iter().any(|other| other.is(tls)) {
            found.push(tls.clone());
        }
    }
    found
}

/// Accepts until the broker stops.
pub(super) async fn listen(shared: Arc<Shared>, listener: Ready) {
    let Ready { socket, tls, is_web_socket } = listener;
    let mut stop = shared.stop.subscribe();
    while !shared.is_stopping() {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stops| *stops) => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                shared.count(|c| &c.accepted);
                let permit = match shared.gate.enter(peer.ip()) {
                    Ok(permit) => permit,
                    Err(full) => {
                        refuse(&shared, full, peer);
                        continue;
                    }
                };
                tune(&stream);
                let shared = Arc::clone(&shared);
                match &tls {
                    None if !is_web_socket => shared.spawn(plain(Arc::clone(&shared), stream, peer, permit)),
                    tls => shared.spawn(wrapped(Arc::clone(&shared), stream, tls.clone(), is_web_socket, peer, permit)),
                }
            }
            Err(error) => {
                // Out of file descriptors, mostly: give the others time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn refuse(shared: &Shared, full: Full, peer: SocketAddr) {
    shared.count(|c| match full {
        Full::Connections => &c.refused_connection_limit,
        Full::Address => &c.refused_address_limit,
        Full::AddressRate => &c.refused_address_rate,
    });
    tracing::debug!(%peer, ?full, "connection closed at once");
}

/// No delay for small packets; a peer that has silently vanished is noticed even without an MQTT keep-alive. A failure
/// costs only that.
fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Waits for the connection's turn; until when it must have logged in. `None` = the broker stops.
async fn deadline(shared: &Shared) -> Option<Instant> {
    let mut stop = shared.stop.subscribe();
    tokio::select! {
        biased;
        _ = stop.wait_for(|stops| *stops) => return None,
        waited = shared.gate.wait_turn() => if waited {
            shared.count(|c| &c.connects_delayed);
        },
    }
    Some(Instant::now() + shared.options.connect_timeout)
}

async fn plain(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, permit: Permit) {
    let Some(deadline) = deadline(&shared).await else { return };
    accept::serve(shared, stream, peer, Arrival::default(), permit, deadline).await;
}

async fn wrapped(
    shared: Arc<Shared>,
    stream: TcpStream,
    tls: Option<Tls>,
    is_web_socket: bool,
    peer: SocketAddr,
    permit: Permit,
) {
    let Some(deadline) = deadline(&shared).await else { return };
    let mut stop = shared.stop.subscribe();
    // Boxed: what a handshake needs is given back after it.
    let unwrapping = Box::pin(unwrap(&shared, stream, tls, is_web_socket, peer));
    let unwrapped = tokio::select! {
        biased;
        _ = stop.wait_for(|stops| *stops) => return,
        done = timeout_at(deadline, unwrapping) => done,
    };
    match unwrapped {
        Ok(Some((stream, arrival))) => accept::serve(shared, stream, peer, arrival, permit, deadline).await,
        Ok(None) => {}
        Err(_) => {
            shared.count(|c| &c.refused_connect_timeout);
            tracing::debug!(%peer, "connection closed: no handshake in time");
        }
    }
}

/// The handshakes, one around the other. `None` = one of them failed.
async fn unwrap(
    shared: &Arc<Shared>,
    stream: TcpStream,
    tls: Option<Tls>,
    is_web_socket: bool,
    peer: SocketAddr,
) -> Option<(AnyStream, Arrival)> {
    let (mut stream, arrival): (AnyStream, Arrival) = match tls {
        None => (Box::new(stream), Arrival::default()),
        Some(tls) => match tls.accept(stream).await {
            Ok((stream, certificate)) => (Box::new(stream), Arrival::in_tls(shared, certificate)),
            Err(refusal) => {
                shared.count(|c| &c.refused_tls);
                tracing::debug!(%peer, %refusal, "no TLS");
                note_refusal(shared, refusal, peer);
                return None;
            }
        },
    };
    if is_web_socket {
        let options = &shared.options;
        let sizes = ws::Sizes { stranger: options.max_connect_size(), client: options.max_ws_message_size };
        let Some(socket) = ws::accept(stream, sizes).await else {
            shared.count(|c| &c.refused_websocket);
            return None;
        };
        stream = Box::new(socket);
    }
    Some((stream, arrival))
}

/// A certificate that is refused is worth remembering; what comes without one is noise.
fn note_refusal(shared: &Shared, refusal: Refusal, peer: SocketAddr) {
    if refusal.is_of_certificate() {
        shared.audit.note(audit::Event {
            at: shared.clock.now(),
            actor: "-".to_owned(),
            address: Some(peer.ip()),
            action: "mqtt.handshake".to_owned(),
            target: String::new(),
            outcome: audit::Outcome::Refused,
            request_id: None,
            detail: refusal.to_string(),
        });
    }
}
