//! Lists and times as the API shows them.

use actix_web::http::header::{HeaderName, HeaderValue, LINK};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Serialize, Serializer};

use super::paging::Paging;
use crate::domain::Timestamp;
use crate::store::Listing;

/// A time in RFC 3339, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The time, where there is one.
pub fn time(t: Option<Timestamp>) -> Option<Time> {
    t.map(Time)
}

/// A part of a list with its headers.
pub fn list<T, B: Serialize>(
    request: &HttpRequest,
    paging: Paging,
    listing: Listing<T>,
    show: impl Fn(T) -> B,
) -> HttpResponse {
    let links = paging.links(request.path(), request.query_string(), listing.total, listing.next);
    let items: Vec<B> = listing.items.into_iter().map(show).collect();
    let mut response = HttpResponse::Ok().json(items);
    let headers = response.headers_mut();
    if let Some(total) = listing.total {
        headers.insert(HeaderName::from_static("x-total-count"), HeaderValue::from(total));
    }
    if let Ok(value) = HeaderValue::from_str(&links) {
        headers.insert(LINK, value);
    }
    response
}
