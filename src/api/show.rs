//! Lists and times as the API shows them.

use actix_web::http::header::{HeaderName, HeaderValue, LINK};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Serialize, Serializer};

use super::query::Paging;
use crate::domain::Timestamp;
use crate::store::{self, Listing, Page};

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

/// A list page with its headers.
pub fn list<T, B: Serialize>(
    request: &HttpRequest,
    paging: Paging,
    listing: Listing<T>,
    show: impl Fn(T) -> B,
) -> HttpResponse {
    let links = paging.links(request.path(), request.query_string(), listing.total);
    let items: Vec<B> = listing.items.into_iter().map(show).collect();
    let mut response = HttpResponse::Ok().json(items);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-total-count"), HeaderValue::from(listing.total));
    if let Ok(value) = HeaderValue::from_str(&links) {
        headers.insert(LINK, value);
    }
    response
}

/// A page of those items of a list that pass `keep`. Reads the list in parts: memory stays that of a page.
pub fn filtered<T>(
    page: Page,
    fetch: impl Fn(Page) -> Result<Listing<T>, store::Error>,
    keep: impl Fn(&T) -> bool,
) -> Result<Listing<T>, store::Error> {
    const PART: u32 = 500;
    let mut found = Listing { items: Vec::new(), total: 0 };
    let mut offset = 0;
    loop {
        let part = fetch(Page { offset, limit: PART })?;
        let length = part.items.len() as u64;
        for item in part.items.into_iter().filter(&keep) {
            if found.total >= page.offset && found.items.len() < page.limit as usize {
                found.items.push(item);
            }
            found.total += 1;
        }
        offset += length;
        if length == 0 || offset >= part.total {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filtered_page_counts_only_what_passes() {
        let all: Vec<u32> = (0..1200).collect();
        let fetch = |page: Page| {
            let items = all.iter().copied().skip(page.offset as usize).take(page.limit as usize).collect();
            Ok(Listing { items, total: all.len() as u64 })
        };
        let page = filtered(Page { offset: 100, limit: 3 }, fetch, |n| n % 3 == 0).unwrap();
        assert_eq!(page.items, [300, 303, 306]);
        assert_eq!(page.total, 400);
    }
}
