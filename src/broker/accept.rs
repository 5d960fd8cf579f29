//! From a listening socket to a logged-in client.
//!
//! Invariants: at most `max_connections` at a time, log-in included; a connection has `connect_timeout` to become a
//! client; until then it costs a small task and what it has sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::connection::Connection;
use super::io::Io;
use super::login::{Client, log_in};

/// How long a socket is kept for its last bytes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Accepts until the broker stops.
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let mut stop = shared.stop.subscribe();
    while !shared.is_stopping() {
        let accepted = tokio::select! {
            biased;
            _ = stop.changed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                shared.count(|c| &c.accepted);
                let Ok(permit) = Arc::clone(&shared.connections).try_acquire_owned() else {
                    shared.count(|c| &c.refused_connection_limit);
                    continue;
                };
                tune(&stream);
                shared.spawn(serve(Arc::clone(&shared), stream, peer, permit));
            }
            Err(error) => {
                // Out of file descriptors, mostly: give the others time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// No delay for small packets; a peer that has silently vanished is noticed even without an MQTT keep-alive. A failure
/// costs only that.
fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

async fn serve<S>(shared: Arc<Shared>, stream: S, peer: SocketAddr, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut io = Io::new(stream, shared.options.write_timeout);
    let mut stop = shared.stop.subscribe();
    let logged_in = tokio::select! {
        biased;
        _ = stop.changed() => return,
        done = tokio::time::timeout(shared.options.connect_timeout, log_in(&shared, &mut io, peer)) => done,
    };
    match logged_in {
        Ok(Ok(Client { greeting, attached })) => {
            Connection::new(shared, io, greeting, attached, peer).run().await;
        }
        Ok(Err(refusal)) => {
            tracing::debug!(%peer, %refusal, "log-in refused");
            refusal.answer(&mut io.output);
            linger(shared, io).await;
        }
        Err(_) => {
            shared.count(|c| &c.refused_connect_timeout);
            tracing::debug!(%peer, "no CONNECT in time");
        }
    }
    drop(permit);
}

/// The last bytes go out, and what the peer still sends is thrown away until it closes: closing a socket with unread bytes
/// would take back what was just written.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(shared: Arc<Shared>, io: Io<S>) {
    let patience = if shared.is_stopping() { LAST_WORDS / 5 } else { LAST_WORDS };
    let _ = tokio::time::timeout(patience, io.end()).await;
}
