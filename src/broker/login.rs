//! From the first byte to a logged-in client: CONNECT, who it is, its session.
//!
//! Invariants: nothing is allocated for what was only announced; a client of either version is refused in its own form;
//! whoever had to wait for an earlier connection is judged anew, a credential may have been revoked meanwhile.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite};

use super::auth::{Admitted, Credentials, Denied, Identity};
use super::certified::Arrival;
use super::hub::{Attached, Judged};
use super::io::{Io, Wake};
use super::refusals::Action;
use super::{Shared, acl, rules};
use crate::audit;
use crate::mqtt::codec::{self, Version};
use crate::mqtt::packet::{ConnAck, Connect, Will};
use crate::mqtt::session::Start;
use crate::mqtt::{Packet, Reason};

/// A client that is let in.
pub(super) struct Client {
    /// Its CONNACK.
    pub(super) greeting: Box<ConnAck>,
    pub(super) attached: Attached,
    /// Who it is, with what it may do now.
    pub(super) identity: Identity,
}

/// Why a connection does not become a client.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Nothing can be said to it.
    #[error("{0}")]
    Close(&'static str),
    /// It is told.
    #[error("{why}")]
    Answer { version: Version, reason: Reason, why: &'static str, is_explained: bool },
}

impl Refusal {
    /// Appends the answer.
    pub(super) fn answer(&self, out: &mut Vec<u8>) {
        if let Self::Answer { version, reason, why, is_explained } = self {
            let reason_string = is_explained.then(|| ByteString::from_static(why));
            version.encode(&Packet::ConnAck(Box::new(ConnAck { reason_string, ..ConnAck::new(*reason) })), out);
        }
    }
}

pub(super) async fn log_in<S>(
    shared: &Arc<Shared>,
    io: &mut Io<S>,
    peer: SocketAddr,
    arrival: &Arrival,
) -> Result<Client, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (version, connect) = read_connect(shared, io).await?;
    match admit(shared, version, &connect, peer, arrival).await {
        Ok(client) => Ok(client),
        Err(reason) => {
            let is_explained = connect.wants_reasons();
            let refusal = Refusal::Answer { version, reason, why: rules::explain(reason), is_explained };
            let mut answer = Vec::new();
            refusal.answer(&mut answer);
            let may_be_sent = connect.max_packet_size.is_none_or(|max| answer.len() <= max.get() as usize);
            Err(if may_be_sent { refusal } else { Refusal::Close("it takes no packet as large as the refusal") })
        }
    }
}

async fn admit(
    shared: &Arc<Shared>,
    version: Version,
    connect: &Connect,
    peer: SocketAddr,
    arrival: &Arrival,
) -> Result<Client, Reason> {
    let options = &shared.options;
    if connect.authentication_method.is_some() {
        shared.count(|c| &c.refused_credentials);
        return Err(Reason::BadAuthenticationMethod); // [MQTT-4.12.0-1]
    }
    if connect.client_id.len() > options.max_client_id_length {
        shared.count(|c| &c.refused_client_id);
        return Err(Reason::ClientIdentifierNotValid); // [MQTT-3.1.3-8]
    }
    if connect.will.as_ref().is_some_and(|will| will.payload.len() > options.max_will_bytes) {
        shared.count(|c| &c.refused_will_size);
        return Err(Reason::PacketTooLarge);
    }
    let credentials = Credentials {
        client_id: &connect.client_id,
        username: connect.username.as_deref(),
        password: connect.password.as_deref(),
        peer,
        is_encrypted: arrival.is_encrypted,
        certificate: arrival.peer(),
    };
    // [MQTT-3.1.3-6]: an empty id is replaced by a unique one.
    let chosen =
        connect.client_id.is_empty().then(|| ByteString::from(format!("auto-{}", uuid::Uuid::new_v4().simple())));
    let client_id = chosen.as_ref().unwrap_or(&connect.client_id);
    // A credential may be revoked while an earlier connection is being ended: whoever had to wait is judged anew.
    loop {
        let at = shared.hub.dismissals();
        let judged = Judged { at, admitted: judge(shared, credentials).await? };
        let identity = &judged.admitted.identity;
        may_will(shared, identity, connect.will.as_ref(), peer)?;
        let limits = options.session_limits();
        let start = Start::of(version, connect, options.keep_alive(connect.keep_alive), &limits);
        let greeting = greeting(shared, version, connect, &start, chosen.clone());
        if !is_taken(version, connect, &greeting) {
            return Err(Reason::PacketTooLarge); // [MQTT-3.1.2-24]
        }
        let now = || tokio::time::Instant::now().into_std();
        let attached =
            shared.hub.attach(&identity.session_id(client_id), &judged, connect.clean_start, start, now).await?;
        if let Some(mut attached) = attached {
            // No await from here on: until there is a connection nobody would give the session back.
            attached.is_present &= !connect.is_v31;
            return Ok(Client { greeting, attached, identity: judged.admitted.identity });
        }
    }
}

/// Whether the client takes packets as large as its CONNACK.
fn is_taken(version: Version, connect: &Connect, greeting: &ConnAck) -> bool {
    let Some(max) = connect.max_packet_size else { return true };
    let mut bytes = Vec::new();
    version.encode(&Packet::ConnAck(Box::new(greeting.clone())), &mut bytes);
    bytes.len() <= max.get() as usize
}

/// What the client is told of the server (MQTT 5 section 3.2.2.3); 3.1.1 knows none of it.
fn greeting(
    shared: &Shared,
    version: Version,
    connect: &Connect,
    start: &Start,
    assigned_client_id: Option<ByteString>,
) -> Box<ConnAck> {
    let mut greeting = Box::new(ConnAck::new(Reason::Success));
    if version != Version::V5 {
        return greeting;
    }
    let options = &shared.options;
    let expiry_s = u32::try_from(start.expiry.as_secs()).unwrap_or(u32::MAX);
    greeting.session_expiry_s = (expiry_s != connect.session_expiry_s).then_some(expiry_s);
    greeting.receive_maximum = u16::try_from(options.receive_maximum).ok().and_then(NonZeroU16::new);
    greeting.max_packet_size = u32::try_from(options.max_packet_size).ok().and_then(NonZeroU32::new);
    greeting.topic_alias_maximum = options.max_topic_aliases;
    greeting.server_keep_alive = options.imposed_keep_alive(connect.keep_alive);
    greeting.assigned_client_id = assigned_client_id; // [MQTT-3.2.2-16]
    greeting
}

async fn judge(shared: &Shared, credentials: Credentials<'_>) -> Result<Admitted, Reason> {
    let standing = credentials.certificate.map_or(Ok(()), |peer| peer.standing(shared.clock.now()));
    let judged = match standing {
        Ok(()) => shared.authenticator.authenticate(credentials).await,
        Err(_) => Err(Denied::Certificate),
    };
    judged.map_err(|denied| {
        shared.count(|c| match denied {
            Denied::BadCredentials => &c.refused_credentials,
            Denied::NotAuthorized | Denied::Certificate | Denied::CertificateWanted | Denied::PlainToken => {
                &c.refused_not_authorized
            }
            Denied::ClientId => &c.refused_client_id,
            Denied::Unavailable => &c.refused_unavailable,
        });
        note_refusal(shared, &credentials, denied);
        denied.reason()
    })
}

/// The name that was claimed; never what was brought as proof.
fn note_refusal(shared: &Shared, credentials: &Credentials<'_>, denied: Denied) {
    let named = credentials.certificate.and_then(|peer| peer.common_name());
    if denied == Denied::PlainToken {
        // Somebody means well and has to change something.
        tracing::info!(peer = %credentials.peer, client_id = credentials.client_id, "log-in refused: {denied}");
    }
    shared.audit.note(audit::Event {
        at: shared.clock.now(),
        actor: "-".to_owned(),
        address: Some(credentials.peer.ip()),
        action: "mqtt.connect".to_owned(),
        target: credentials.username.or(named).unwrap_or_default().chars().take(128).collect(),
        outcome: audit::Outcome::Refused,
        request_id: None,
        detail: denied.to_string(),
    });
}

fn may_will(shared: &Shared, identity: &Identity, will: Option<&Will>, peer: SocketAddr) -> Result<(), Reason> {
    let Some(will) = will.filter(|will| !acl::may_will(identity, &will.topic)) else { return Ok(()) };
    shared.refusals.note(shared, identity, peer, Action::Will, &will.topic);
    shared.count(|c| &c.refused_not_authorized);
    Err(Reason::NotAuthorized)
}

async fn read_connect<S>(shared: &Shared, io: &mut Io<S>) -> Result<(Version, Connect), Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let max_size = shared.options.max_connect_size();
    loop {
        match codec::decode_connect(&mut io.input, max_size) {
            Ok(Some(connect)) => return Ok(connect),
            Ok(None) => {}
            Err(error) => {
                shared.count(|c| match error.error.reason() {
                    Reason::ClientIdentifierNotValid => &c.refused_client_id,
                    Reason::UnsupportedProtocolVersion => &c.refused_version,
                    _ => &c.closed_malformed,
                });
                tracing::debug!(error = %error.error, "no CONNECT");
                return Err(match error.answer() {
                    Some((version, reason)) => {
                        Refusal::Answer { version, reason, why: rules::explain(reason), is_explained: false }
                    }
                    None => Refusal::Close("malformed"),
                });
            }
        }
        if poll_fn(|cx| io.poll(cx, true, None)).await == Wake::Closed {
            return Err(Refusal::Close("closed by the peer"));
        }
    }
}
