//! The opening of a WebSocket: one HTTP request, one answer (RFC 6455 section 4.2).
//!
//! Invariants: the head, with what comes behind it before the answer, is bounded by [`MAX_HEAD`]; only the paths of [`PATHS`] with the subprotocol `mqtt` become a
//! WebSocket `[MQTT-6.0.0-3]`, `[MQTT-6.0.0-4]`; everybody else gets an HTTP answer that says what is wrong. There is no
//! check of `Origin`: it guards credentials that a browser adds by itself, and MQTT has none; a page of whatever origin
//! must bring the meter's or the service's own password in its CONNECT. The caller bounds the time.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::Error;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::{HeaderValue, Response, StatusCode};

use super::{Sizes, WebSocket};

/// Longest request head; a browser may send the cookies of the host along.
const MAX_HEAD: usize = 16 << 10;

/// Bytes read at a time.
const READ: usize = 1 << 10;

/// Where WebSockets are: `/mqtt` is what clients use by convention.
const PATHS: [&str; 2] = ["/mqtt", "/"];

const PROTOCOL: &str = "mqtt";

/// An answer that ends the connection.
struct Refusal {
    status: StatusCode,
    body: &'static str,
}

/// Makes the stream a WebSocket; `None` = it is none, and has been told if there was something to tell.
pub(in crate::broker) async fn accept<S>(mut stream: S, sizes: Sizes) -> Option<WebSocket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = BytesMut::new();
    let answered = match read_request(&mut stream, &mut input).await? {
        Ok(request) => answer(&request),
        Err(refusal) => Err(refusal),
    };
    let mut output = Vec::new();
    match answered {
        Ok(response) => {
            write_response(&mut output, &response).ok()?;
            stream.write_all(&output).await.ok()?;
            stream.flush().await.ok()?;
            Some(WebSocket::new(stream, input, sizes))
        }
        Err(refusal) => {
            tracing::debug!(status = refusal.status.as_u16(), reason = refusal.body.trim_end(), "no WebSocket");
            write_response(&mut output, &refusal.head()).ok()?;
            output.extend_from_slice(refusal.body.as_bytes());
            // Told or not, it ends.
            let _ = stream.write_all(&output).await;
            let _ = stream.shutdown().await;
            None
        }
    }
}

/// The request, with what came behind it left in `input`. `None` = the peer is gone.
async fn read_request<S>(stream: &mut S, input: &mut BytesMut) -> Option<Result<Request, Refusal>>
where
    S: AsyncRead + Unpin,
{
    let mut seen = 0_usize;
    let end = loop {
        // The end may lie across two reads.
        let from = seen.saturating_sub(3);
        if let Some(at) = input[from..].windows(4).position(|w| w == b"\r\n\r\n") {
            break from + at + 4;
        }
        seen = input.len();
        if seen >= MAX_HEAD {
            return Some(Err(Refusal {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                body: "the request is too long\n",
            }));
        }
        // What the buffer has grown to may be more than may come.
        let room = (MAX_HEAD - seen).min(READ);
        input.reserve(room);
        if stream.read_buf(&mut (&mut *input).limit(room)).await.ok()? == 0 {
            return None;
        }
    };
    let head = input.split_to(end);
    Some(match Request::try_parse(&head) {
        Ok(Some((_, request))) => Ok(request),
        Ok(None) | Err(_) => Err(NO_HANDSHAKE),
    })
}

fn answer(request: &Request) -> Result<Response<()>, Refusal> {
    if !PATHS.contains(&request.uri().path()) {
        return Err(Refusal { status: StatusCode::NOT_FOUND, body: "MQTT over WebSocket is at /mqtt\n" });
    }
    let mut response = create_response(request).map_err(|error| match error {
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => Refusal { status: StatusCode::UPGRADE_REQUIRED, body: "this is MQTT over WebSocket, version 13\n" },
        _ => NO_HANDSHAKE,
    })?;
    let offered = request.headers().get_all("Sec-WebSocket-Protocol");
    let mut names = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if !names.any(|name| name.trim() == PROTOCOL) {
        return Err(Refusal { status: StatusCode::BAD_REQUEST, body: "the subprotocol must be mqtt\n" });
    }
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

const NO_HANDSHAKE: Refusal = Refusal { status: StatusCode::BAD_REQUEST, body: "this is no WebSocket handshake\n" };

impl Refusal {
    fn head(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
        set("Content-Type", "text/plain");
        if self.status == StatusCode::UPGRADE_REQUIRED {
            set("Connection", "upgrade, close");
            set("Upgrade", "websocket");
            set("Sec-WebSocket-Version", "13");
        } else {
            set("Connection", "close");
        }
        headers.insert("Content-Length", HeaderValue::from(self.body.len()));
        response
    }
}
