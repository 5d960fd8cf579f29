//! What happens now, as Server-Sent Events (WHATWG HTML, section 9.2): readings, presence, alerts, commands.
//!
//! Promise: a stream shows what its key may see, for as long as it may; whoever misses something is told so. Bounded: so many
//! streams in all and of one key, and of each a piece of text that waits for its client: what happens meanwhile waits in the
//! ring of `live`, which is everybody's.

mod body;
mod places;
mod query;
mod show;

use actix_web::http::header::{CACHE_CONTROL, ContentEncoding, HeaderMap, HeaderName};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, get, web};

use self::body::{Streaming, Who};
pub(super) use self::places::Places;
use self::query::Query;
use super::State;
use super::auth::{Credential, Principal};
use super::error::ApiError;
use super::peer::Peer;
use super::query::Params;

/// The header with which a client comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Events as they happen, as Server-Sent Events.
///
/// `event` is `reading` (a message of a meter that was stored: `{device_id, time, seq, received_at, readings}`, the readings as
/// `GET /api/devices/{id}/metrics` has them), `presence` (as `GET /api/devices/{id}/status`), `alert` (as `GET /api/alerts`) or
/// `command` (as `GET /api/commands/{cmd_id}`). Alerts, commands and presence are shown as they are when they are sent: steps
/// that follow one another within a quarter of a second may be one event.
///
/// A client that comes back with `Last-Event-ID` gets what happened meanwhile. What is no longer kept, was told by another node
/// or before a restart, or was not seen while the database was away, is not passed over in silence: the event `lost` says how
/// many events, of all devices, are missing (`null`: nobody knows); read what you need by the other calls then. A client that
/// reads too slowly gets the same.
///
/// With several nodes on one database readings are those that this node has received; everything else is of all nodes. The
/// stream ends when its key is revoked or its rights change, and when the server stops.
#[utoipa::path(tag = "data", params(
    ("devices" = Option<String>, Query,
        description = "Devices, by commas or repeated: ids, or patterns with `*` and `?`; all by default"),
    ("kinds" = Option<String>, Query, description = "Of `readings presence alerts commands`, likewise; all by default"),
    ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received")),
    responses((status = 200, description = "A stream that does not end by itself", content((String = "text/event-stream"))),
    (status = 400, body = super::Problem),
    (status = 429, description = "This key has as many streams as one key may have", body = super::Problem),
    (status = 503, description = "There are as many streams as there may be", body = super::Problem)))]
#[get("/api/stream")]
pub async fn stream_events(
    state: web::Data<State>,
    principal: Principal,
    params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let query = Query::read(params, &principal)?;
    let place = state.streams.enter(&principal.name)?;
    let last = last_event_id(request.headers());
    let watch = state.services.live.watch(last.as_deref()).await;
    let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
    let credential = Credential::of(request.headers(), peer.is_plain_near);
    let who = Who { principal, credential, address: peer.address };
    let streaming = Streaming::new(state, watch, query, place, who);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        // Compressed, events would wait for one another.
        .insert_header(ContentEncoding::Identity)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(streaming.pieces()))
}

/// An empty one is none.
fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(LAST_EVENT_ID)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|id| !id.is_empty())
}
