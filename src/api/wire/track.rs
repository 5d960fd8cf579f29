//! The outermost layer around the handlers: a request begins when the answer before it has gone, its body is read as it is
//! asked for, and its answer goes out in pieces.
//!
//! Invariant: a connection holds no more of an answer ready to be sent than a piece and what the library's buffer takes,
//! however large the answer and however slow its reader.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::ConnectionType;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Version;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};
use bytes::Bytes;

use super::measure::{Chunks, Measure};
use super::talk::{Answering, Asked, Talk, clear};

/// Most of an answer that is handed over at once. The library's own buffer is as large (`server`).
pub(in crate::api) const PIECE_BYTES: usize = 16 * 1024;

/// The layer.
pub(in crate::api) async fn track(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Tracked>, Error> {
    // Requests of tests have no connection.
    let Some(talk) = request.conn_data::<Rc<Talk>>().cloned() else {
        let response = next.call(request).await?.map_into_boxed_body();
        return Ok(response.map_body(|_, body| Tracked { body, rest: Bytes::new(), _answering: None }));
    };
    // An expectation of HTTP/1.0 means nothing (RFC 9110, 10.1.1), but the library answers it, too.
    let answering = talk.arrive(request.head().expect(), request.version() > Version::HTTP_10);
    clear(&talk).await;
    let payload = request.take_payload();
    talk.begin(body_of(&request, &payload));
    if !matches!(payload, Payload::None) {
        let payload = Asked { payload: Box::pin(payload), talk: Rc::clone(&talk) };
        request.set_payload(Payload::Stream { payload: Box::pin(payload) });
    }
    let mut response = next.call(request).await?.map_into_boxed_body();
    if talk.answered() {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response.map_body(|_, body| Tracked { body, rest: Bytes::new(), _answering: Some(answering) }))
}

/// By the head, which the library has read and found to be of one mind.
fn body_of(request: &ServiceRequest, payload: &Payload) -> Measure {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match (payload, length) {
        (Payload::None, _) => Measure::NONE,
        (_, Some(length)) => Measure::Sized(length),
        _ if request.chunked().unwrap_or(false) => Measure::Chunked(Chunks::default()),
        _ => Measure::Endless,
    }
}

/// A body that holds its request open, and goes out in pieces.
pub(in crate::api) struct Tracked {
    body: BoxBody,
    /// Of what the body has given.
    rest: Bytes,
    _answering: Option<Answering>,
}

impl MessageBody for Tracked {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                other => return Poll::Ready(other),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}
