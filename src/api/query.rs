//! Query strings: every known parameter read, all bad ones named at once; unknown parameters are ignored.
//!
//! Pure. Knows no resource.

use actix_web::{FromRequest, HttpRequest, dev, web};

use super::error::{ApiError, Fault};
use crate::store::Page;

/// Parameters of a request, and the faults found while reading them.
#[derive(Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    faults: Vec<Fault>,
}

/// Most entries of a list page.
pub const MAX_PER_PAGE: u32 = 500;
/// Entries of a list page when the client does not say.
pub const DEFAULT_PER_PAGE: u32 = 50;

impl Params {
    /// Reads a query string.
    pub fn parse(query: &str) -> Self {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query).map(web::Query::into_inner);
        match pairs {
            Ok(pairs) => Self { pairs, faults: Vec::new() },
            Err(_) => Self { pairs: Vec::new(), faults: vec![Fault::new("query", "is malformed")] },
        }
    }

    /// The last value of `name`, absent when empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of `name`, those separated by commas too.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let values = self.pairs.iter().filter(|(n, _)| n == name).flat_map(|(_, v)| v.split(','));
        values.map(str::trim).filter(|v| !v.is_empty()).collect()
    }

    /// Parameters whose name begins with `prefix`: the rest of the name, and the value.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs.iter().filter_map(move |(n, v)| Some((n.strip_prefix(prefix)?, v.as_str())))
    }

    /// `name` read by `read`; `expected` says what it must be.
    pub fn read<T>(&mut self, name: &str, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = read(self.text(name)?);
        if value.is_none() {
            self.fault(name, format!("must be {expected}"));
        }
        value
    }

    /// A yes-or-no parameter.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        self.read(name, "true or false", |v| match v {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })
    }

    /// A whole number within limits.
    pub fn number(&mut self, name: &str, limits: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", limits.start(), limits.end());
        self.read(name, &expected, |v| v.parse().ok().filter(|n| limits.contains(n)))
    }

    /// Notes a fault.
    pub fn fault(&mut self, name: &str, message: impl Into<String>) {
        self.faults.push(Fault::new(name, message));
    }

    /// `page` and `per_page`.
    pub fn paging(&mut self) -> Paging {
        let per_page = self.number("per_page", 1..=u64::from(MAX_PER_PAGE));
        let page = self.number("page", 1..=u64::from(u32::MAX)).unwrap_or(1);
        let per_page = per_page.and_then(|n| u32::try_from(n).ok()).unwrap_or(DEFAULT_PER_PAGE);
        Paging { page, per_page }
    }

    /// Ends the reading: all faults at once, if any.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.faults.is_empty() { Ok(()) } else { Err(ApiError::Bad(self.faults)) }
    }
}

impl FromRequest for Params {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        std::future::ready(Ok(Self::parse(request.query_string())))
    }
}

/// A page of a list, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Paging {
    pub page: u64,
    pub per_page: u32,
}

impl Paging {
    /// The store's part of the list.
    pub fn part(self) -> Page {
        Page { offset: (self.page - 1).saturating_mul(u64::from(self.per_page)), limit: self.per_page }
    }

    /// RFC 8288 links to the neighbours, with all other parameters of `query` kept.
    pub fn links(self, path: &str, query: &str, total: u64) -> String {
        let last = total.div_ceil(u64::from(self.per_page)).max(1);
        let kept: Vec<&str> = query
            .split('&')
            .filter(|p| !p.is_empty() && !p.starts_with("page=") && !p.starts_with("per_page="))
            .filter(|p| p.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'"')))
            .collect();
        let link = |page: u64, rel: &str| {
            let rest: String = kept.iter().map(|p| format!("&{p}")).collect();
            format!("<{path}?page={page}&per_page={}{rest}>; rel=\"{rel}\"", self.per_page)
        };
        let mut links = vec![link(1, "first")];
        if self.page > 1 {
            links.push(link((self.page - 1).min(last), "prev"));
        }
        if self.page < last {
            links.push(link(self.page + 1, "next"));
        }
        links.push(link(last, "last"));
        links.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_count_from_one_and_bad_ones_are_all_named() {
        let check = |query: &str, expected: Result<(u64, u32), usize>| {
            let mut params = Params::parse(query);
            let paging = params.paging();
            let part = params.finish().map(|()| (paging.part().offset, paging.part().limit));
            assert_eq!(part.map_err(|e| e.faults().len()), expected, "{query}");
        };
        check("", Ok((0, 50)));
        check("page=3&per_page=10", Ok((20, 10)));
        check("per_page=500&other=x", Ok((0, 500)));
        check("page=", Ok((0, 50)));
        check("page=0", Err(1));
        check("page=-1&per_page=501", Err(2));
        check("page=abc", Err(1));
        check("page=99999999999999999999", Err(1));
    }

    #[test]
    fn links_lead_to_the_neighbours_and_keep_the_filters() {
        let paging = Paging { page: 2, per_page: 10 };
        let links = paging.links("/api/devices", "page=2&status=active&per_page=10", 35);
        assert_eq!(
            links,
            "</api/devices?page=1&per_page=10&status=active>; rel=\"first\", \
             </api/devices?page=1&per_page=10&status=active>; rel=\"prev\", \
             </api/devices?page=3&per_page=10&status=active>; rel=\"next\", \
             </api/devices?page=4&per_page=10&status=active>; rel=\"last\""
        );
        let only = Paging { page: 1, per_page: 50 }.links("/x", "", 0);
        assert_eq!(only, "</x?page=1&per_page=50>; rel=\"first\", </x?page=1&per_page=50>; rel=\"last\"");
    }

    #[test]
    fn values_are_decoded_and_repeatable_ones_gathered() {
        let params = Params::parse("metric=a,b&metric=c&metadata.line=S%201&q=a+b");
        assert_eq!(params.all("metric"), ["a", "b", "c"]);
        assert_eq!(params.with_prefix("metadata.").collect::<Vec<_>>(), [("line", "S 1")]);
        assert_eq!(params.text("q"), Some("a b"));
    }
}
