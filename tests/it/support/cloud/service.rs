//! The server of S3, and of Google's XML API, which differs from it in who may come in and in its conditions.

use std::path::Path;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpResponse};
use tokio::sync::Mutex;

use super::Kind;
use super::access::{Access, Keys};

pub(super) struct Service {
    kind: Kind,
    s3: S3Service,
    access: Arc<Access>,
    /// Held by who writes under a condition: what a real store decides, it decides at once.
    turn: Mutex<()>,
}

/// An answer without an object.
pub(super) fn answer(status: u16, body: impl Into<String>) -> HttpResponse {
    HttpResponse::new(Body::from(body.into())).map_status(status)
}

trait MapStatus {
    fn map_status(self, status: u16) -> Self;
}

impl MapStatus for HttpResponse {
    fn map_status(mut self, status: u16) -> Self {
        *self.status_mut() = status.try_into().expect("a status");
        self
    }
}

impl Service {
    pub(super) fn new(kind: Kind, root: &Path, access: Arc<Access>) -> Self {
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        if kind == Kind::S3 {
            builder.set_auth(Keys(Arc::clone(&access)));
        }
        Self { kind, s3: builder.build(), access, turn: Mutex::default() }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<HttpResponse, HttpError> {
        if let Some(lent) = self.access.lend(&request) {
            return Ok(lent);
        }
        #[cfg_attr(not(feature = "gcs"), expect(unused_mut, reason = "only Google's requests are changed"))]
        let mut request = request.map(Body::from);
        let refused = match self.kind {
            #[cfg(feature = "gcs")]
            Kind::Google => super::google::refuse_or_translate(&mut request, &self.access),
            _ => self.access.refuse(request.headers()),
        };
        if let Some(refused) = refused {
            return Ok(refused);
        }
        let _turn = match request.headers().contains_key("if-none-match") {
            true => Some(self.turn.lock().await),
            false => None,
        };
        self.s3.call(request).await
    }
}
