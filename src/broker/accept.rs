//! From a byte stream to a logged-in client.
//!
//! Invariants: a connection has until its deadline to become a client; until then it costs a small task and what it has
//! sent, at most a CONNECT. Knows nothing of what the stream is wrapped in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Shared;
use super::certified::Arrival;
use super::connection::Connection;
use super::gate::Permit;
use super::io::Io;
use super::login::log_in;
use super::stream::Stream;

/// How long a socket is kept for its last bytes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves a connection to its end; it must have logged in by `deadline`.
pub(super) async fn serve<S>(
    shared: Arc<Shared>,
    stream: S,
    peer: SocketAddr,
    arrival: Arrival,
    permit: Permit,
    deadline: Instant,
) where
    S: Stream,
{
    let mut io = Io::for_stranger(stream, shared.options.write_timeout, shared.options.max_connect_size());
    let mut stop = shared.stop.subscribe();
    let logged_in = tokio::select! {
        biased;
        _ = stop.wait_for(|stops| *stops) => return,
        // In a box: what logging in needs is not kept by those who are in.
        done = tokio::time::timeout_at(deadline, Box::pin(log_in(&shared, &mut io, peer, &arrival))) => done,
    };
    match logged_in {
        Ok(Ok(client)) => {
            io.admit();
            arrival.logged_in(&client.attached.slot);
            Connection::new(shared, io, client, peer).run().await;
        }
        Ok(Err(refusal)) => {
            tracing::debug!(%peer, %refusal, "log-in refused");
            refusal.answer(&mut io.output);
            Box::pin(linger(shared, io)).await;
        }
        Err(_) => {
            shared.count(|c| &c.refused_connect_timeout);
            tracing::debug!(%peer, "no CONNECT in time");
        }
    }
    drop((permit, arrival));
}

/// The last bytes go out, and what the peer still sends is thrown away until it closes: closing a socket with unread bytes
/// would take back what was just written.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(shared: Arc<Shared>, io: Io<S>) {
    let patience = if shared.is_stopping() { LAST_WORDS / 5 } else { LAST_WORDS };
    let _ = tokio::time::timeout(patience, io.end()).await;
}
