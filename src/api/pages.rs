//! Static pages that are part of the executable: no file is read, nothing is loaded from another host.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use sha2::{Digest, Sha256};

/// A page and its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Page {
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: &'static str,
}

/// Own scripts and styles only, none inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Adds the pages.
pub(super) fn configure(config: &mut web::ServiceConfig, pages: &'static [Page]) {
    for page in pages {
        let tag = format!("\"{}\"", hex::encode(&Sha256::digest(page.body.as_bytes())[..8]));
        config.route(page.path, web::get().to(move |request: HttpRequest| answer(*page, tag.clone(), request)));
    }
}

async fn answer(page: Page, tag: String, request: HttpRequest) -> HttpResponse {
    let known = request.headers().get(IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, tag))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .content_type(page.content_type);
    if known { response.finish() } else { response.body(page.body) }
}
