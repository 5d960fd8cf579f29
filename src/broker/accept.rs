//! From a byte stream to a logged-in client.
//!
//! Invariants: a connection has until its deadline to become a client; until then it costs a small task and what it has
//! sent. Knows nothing of what the stream is wrapped in.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::auth::{Credentials, Denied, Identity};
use super::connection::Connection;
use super::gate::Permit;
use super::hub::Attached;
use super::io::{Io, Wake};
use super::{Shared, acl};
use crate::mqtt::Packet;
use crate::mqtt::codec::{self, Version};
use crate::mqtt::packet::{Connect, ConnectCode};
use crate::mqtt::session::Start;

/// Longer client ids are rejected; every server must take 23 bytes, most ids are shorter `[MQTT-3.1.3-5]`.
const MAX_CLIENT_ID_LEN: usize = 256;

/// Why a connection does not become a client.
enum Refusal {
    /// Nothing can be said to it.
    Close(&'static str),
    /// It is told.
    Answer(ConnectCode),
}

/// Serves a connection to its end; it must have logged in by `deadline`.
pub(super) async fn serve<S>(shared: Arc<Shared>, stream: S, peer: SocketAddr, permit: Permit, deadline: Instant)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut io = Io::new(stream, shared.options.write_timeout);
    let mut stop = shared.stop.subscribe();
    let logged_in = tokio::select! {
        biased;
        _ = stop.changed() => return,
        done = tokio::time::timeout_at(deadline, log_in(&shared, &mut io, peer)) => done,
    };
    let refusal = match logged_in {
        Ok(Ok((version, attached))) => {
            Connection::new(shared, io, version, attached, peer).run().await;
            drop(permit);
            return;
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => {
            shared.count(|c| &c.refused_connect_timeout);
            Refusal::Close("no CONNECT in time")
        }
    };
    match refusal {
        Refusal::Close(reason) => tracing::debug!(%peer, reason, "connection closed before log-in"),
        Refusal::Answer(code) => {
            tracing::debug!(%peer, ?code, "log-in refused");
            Version::V311.encode(&Packet::ConnAck { session_present: false, code }, &mut io.output);
            io.is_ending = true;
            let written = poll_fn(|cx| io.poll(cx, false, None));
            let _ = tokio::time::timeout(Duration::from_secs(1), written).await;
        }
    }
    io.close();
}

async fn log_in<S>(shared: &Arc<Shared>, io: &mut Io<S>, peer: SocketAddr) -> Result<(Version, Attached), Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (version, connect) = read_connect(shared, io).await?;
    let credentials = Credentials {
        client_id: &connect.client_id,
        username: connect.username.as_deref(),
        password: connect.password.as_deref(),
        peer,
    };
    // [MQTT-3.1.3-6]: an empty id is replaced by a unique one.
    let chosen = connect.client_id.is_empty().then(|| format!("auto-{}", uuid::Uuid::new_v4().simple()));
    let client_id = chosen.as_deref().unwrap_or(&connect.client_id);
    // A credential may be revoked while an earlier connection is being ended: whoever had to wait is judged anew.
    loop {
        let judged_at = shared.hub.dismissals();
        let identity = judge(shared, credentials).await?;
        if let Some(attached) = attach(shared, &identity, judged_at, client_id, &connect).await? {
            return Ok((version, attached));
        }
    }
}

async fn judge(shared: &Shared, credentials: Credentials<'_>) -> Result<Identity, Refusal> {
    shared.authenticator.authenticate(credentials).await.map_err(|denied| {
        shared.count(|c| match denied {
            Denied::BadCredentials => &c.refused_credentials,
            Denied::NotAuthorized => &c.refused_not_authorized,
            Denied::ClientId => &c.refused_client_id,
            Denied::Unavailable => &c.refused_unavailable,
        });
        Refusal::Answer(denied.code())
    })
}

async fn read_connect<S>(shared: &Shared, io: &mut Io<S>) -> Result<(Version, Connect), Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match codec::decode_connect(&mut io.input, shared.options.max_packet_size) {
            Ok(Some(connect)) => return Ok(connect),
            Ok(None) => {}
            Err(codec::Error::Refused(code)) => {
                shared.count(|c| match code {
                    ConnectCode::IdentifierRejected => &c.refused_client_id,
                    _ => &c.refused_version,
                });
                return Err(Refusal::Answer(code));
            }
            Err(error) => {
                shared.count(|c| &c.closed_malformed);
                tracing::debug!(%error, "no CONNECT");
                return Err(Refusal::Close("malformed"));
            }
        }
        if poll_fn(|cx| io.poll(cx, true, None)).await == Wake::Closed {
            return Err(Refusal::Close("closed by the peer"));
        }
    }
}

/// `None` = to be judged anew.
async fn attach(
    shared: &Shared,
    identity: &Identity,
    judged_at: u64,
    client_id: &str,
    connect: &Connect,
) -> Result<Option<Attached>, Refusal> {
    if connect.client_id.len() > MAX_CLIENT_ID_LEN {
        shared.count(|c| &c.refused_client_id);
        return Err(Refusal::Answer(ConnectCode::IdentifierRejected));
    }
    if connect.will.as_ref().is_some_and(|will| !acl::may_will(identity, &will.topic)) {
        shared.count(|c| &c.refused_not_authorized);
        return Err(Refusal::Answer(ConnectCode::NotAuthorized));
    }
    let start = Start {
        clean: connect.clean_session,
        keep_alive: shared.options.keep_alive(connect.keep_alive),
        will: connect.will.clone(),
        expiry: shared.options.session_expiry,
    };
    let now = || tokio::time::Instant::now().into_std();
    shared.hub.attach(client_id, identity, judged_at, start, now).await.map_err(Refusal::Answer)
}
