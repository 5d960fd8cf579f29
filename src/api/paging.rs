//! Pages of a list: by number, counted (`page`), or one behind the other from a place in the list (`cursor`).
//!
//! Invariant: a cursor is a place, not a number of rows: walking from cursor to cursor gives every row that is there all
//! the time exactly once, whatever is added or removed meanwhile. To clients it is opaque.
//!
//! ```text
//! cursor = base64url, without padding, of: list (1 byte) | first key (8, big endian) | second key (8)
//! ```
//!
//! Pure. Knows no resource but the names of the lists.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use utoipa::IntoParams;

use super::query::Params;
use crate::store::{Listing, Page, Place, Start};

/// Most entries of a list page.
const MAX_PER_PAGE: u32 = 500;
/// Entries of a list page when the client does not say.
const DEFAULT_PER_PAGE: u32 = 50;

/// The lists there are: a cursor of one is none of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum List {
    Devices,
    Alerts,
    Commands,
    Gaps,
    Certificates,
    Keys,
    Audit,
    Outbox,
    Firmware,
    Rollouts,
    RolloutDevices,
    Rules,
    Claims,
    Services,
}

impl List {
    const fn tag(self) -> u8 {
        match self {
            Self::Devices => b'd',
            Self::Alerts => b'a',
            Self::Commands => b'c',
            Self::Gaps => b'g',
            Self::Certificates => b'x',
            Self::Keys => b'k',
            Self::Audit => b'l',
            Self::Outbox => b'o',
            Self::Firmware => b'f',
            Self::Rollouts => b'r',
            Self::RolloutDevices => b'u',
            Self::Rules => b'w',
            Self::Claims => b'm',
            Self::Services => b's',
        }
    }

    fn cursor(self, Place(first, second): Place) -> String {
        let mut bytes = [self.tag(); 17];
        bytes[1..9].copy_from_slice(&first.to_be_bytes());
        bytes[9..].copy_from_slice(&second.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn place(self, cursor: &str) -> Option<Place> {
        let bytes: [u8; 17] = URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
        let (tag, keys) = bytes.split_first()?;
        let (first, second) = keys.split_first_chunk()?;
        let place = Place(i64::from_be_bytes(*first), i64::from_be_bytes(second.try_into().ok()?));
        (*tag == self.tag()).then_some(place)
    }
}

/// The part of a list a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    list: List,
    start: From,
    per_page: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    /// A page's number, from 1.
    Page(u64),
    /// Behind a place, or the first row.
    Cursor(Option<Place>),
}

/// The parameters of every list, for its description.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes what Paging::read reads")]
pub struct PagingParams {
    /// A page's number, from 1, which is the default. The answer says how many entries there are (`X-Total-Count`).
    #[param(minimum = 1)]
    page: Option<u64>,
    /// 1 to 500, default 50.
    #[param(minimum = 1, maximum = 500)]
    per_page: Option<u32>,
    /// Instead of `page`: empty for the beginning of the list, then what the last answer's `Link` with `rel="next"` has;
    /// there is none behind the last entry. Entries that come and go meanwhile make no other entry appear twice or be left
    /// out. Nothing is counted. A cursor holds for its list only and is not to be taken apart.
    cursor: Option<String>,
}

impl Paging {
    /// Reads `page` or `cursor`, and `per_page`.
    pub fn read(params: &mut Params, list: List) -> Self {
        let per_page = params.number("per_page", 1..=u64::from(MAX_PER_PAGE));
        let per_page = per_page.and_then(|n| u32::try_from(n).ok()).unwrap_or(DEFAULT_PER_PAGE);
        let page = params.number("page", 1..=u64::from(u32::MAX));
        let start = if params.has("cursor") {
            if params.text("page").is_some() {
                params.fault("cursor", "cannot be given together with page");
            }
            From::Cursor(params.read("cursor", "empty, or as a link of this list has it", |c| list.place(c)))
        } else {
            From::Page(page.unwrap_or(1))
        };
        Self { list, start, per_page }
    }

    /// The store's part of the list.
    pub fn part(self) -> Page {
        let start = match self.start {
            From::Page(page) => Start::Offset((page - 1).saturating_mul(u64::from(self.per_page))),
            From::Cursor(behind) => Start::Behind(behind),
        };
        Page { start, limit: self.per_page }
    }

    /// The part of a short list that the store gives whole, newest first. No two rows have the same place, and the newest
    /// has the greatest.
    pub fn part_of<T>(self, mut all: Vec<T>, place: impl Fn(&T) -> Place) -> Listing<T> {
        let Page { start, limit } = self.part();
        let limit = limit as usize;
        match start {
            Start::Offset(offset) => {
                let total = Some(all.len() as u64);
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                Listing { items: all.into_iter().skip(offset).take(limit).collect(), total, next: None }
            }
            Start::Behind(behind) => {
                all.retain(|row| behind.is_none_or(|behind| place(row) < behind));
                all.sort_by_key(|row| std::cmp::Reverse(place(row)));
                let has_more = all.len() > limit;
                all.truncate(limit);
                let next = all.last().filter(|_| has_more).map(place);
                Listing { items: all, total: None, next }
            }
        }
    }

    /// RFC 8288 links to the neighbours, with all other parameters of `query` kept. `total` and `next` as the store's
    /// listing has them.
    pub fn links(self, path: &str, query: &str, total: Option<u64>, next: Option<Place>) -> String {
        let kept: String = kept(query).map(|p| format!("&{p}")).collect();
        let link =
            |start: String, rel: &str| format!("<{path}?{start}&per_page={}{kept}>; rel=\"{rel}\"", self.per_page);
        let links = match self.start {
            From::Page(page) => {
                let last = total.unwrap_or(0).div_ceil(u64::from(self.per_page)).max(1);
                let link = |page: u64, rel| link(format!("page={page}"), rel);
                let previous = (page > 1).then(|| link((page - 1).min(last), "prev"));
                let next = (page < last).then(|| link(page + 1, "next"));
                [Some(link(1, "first")), previous, next, Some(link(last, "last"))]
            }
            From::Cursor(_) => {
                let next = next.map(|place| link(format!("cursor={}", self.list.cursor(place)), "next"));
                [Some(link("cursor=".to_owned(), "first")), next, None, None]
            }
        };
        links.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// Parameters of a query that say nothing about paging and can stand in a link.
fn kept(query: &str) -> impl Iterator<Item = &str> {
    let is_paging = |p: &str| matches!(p.split('=').next(), Some("page" | "per_page" | "cursor"));
    query
        .split('&')
        .filter(move |p| !p.is_empty() && !is_paging(p))
        .filter(|p| p.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'"')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(query: &str) -> (Paging, Vec<String>) {
        let mut params = Params::parse(query);
        let paging = Paging::read(&mut params, List::Devices);
        let faults = params.finish().map_err(|e| e.faults().iter().map(|f| f.field.clone()).collect());
        (paging, faults.err().unwrap_or_default())
    }

    #[test]
    fn pages_count_from_one_and_bad_ones_are_all_named() {
        let check = |query: &str, expected: Result<(u64, u32), &[&str]>| {
            let (paging, faults) = read(query);
            let page = paging.part();
            match expected {
                Ok((offset, limit)) => assert_eq!((page, faults), (Page::offset(offset, limit), vec![]), "{query}"),
                Err(names) => assert_eq!(faults, names, "{query}"),
            }
        };
        check("", Ok((0, 50)));
        check("page=3&per_page=10", Ok((20, 10)));
        check("per_page=500&other=x", Ok((0, 500)));
        check("page=", Ok((0, 50)));
        check("page=0", Err(&["page"]));
        check("page=-1&per_page=501", Err(&["per_page", "page"]));
        check("page=abc", Err(&["page"]));
        check("page=99999999999999999999", Err(&["page"]));
    }

    #[test]
    fn a_cursor_is_empty_or_from_a_link_of_the_same_list_and_comes_without_a_page() {
        let good = List::Devices.cursor(Place(7, 0));
        let check = |query: String, expected: Result<Page, &[&str]>| {
            let (paging, faults) = read(&query);
            match expected {
                Ok(page) => assert_eq!((paging.part(), faults), (page, vec![]), "{query}"),
                Err(names) => assert_eq!(faults, names, "{query}"),
            }
        };
        check("cursor=".into(), Ok(Page::behind(None, 50)));
        check("cursor&per_page=3".into(), Ok(Page::behind(None, 3)));
        check(format!("cursor={good}&page="), Ok(Page::behind(Some(Place(7, 0)), 50)));
        check(format!("cursor={good}&page=1"), Err(&["cursor"]));
        check("cursor=&page=1".into(), Err(&["cursor"]));
        check(format!("cursor={}", List::Gaps.cursor(Place(7, 0))), Err(&["cursor"]));
        for bad in ["7", "x", &good[1..], &format!("{good}A"), &format!("{good}=="), "%00", "é", "AAAA"] {
            check(format!("cursor={bad}"), Err(&["cursor"]));
        }
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_the_place_it_was_made_of(first: i64, second: i64) {
            for list in [List::Devices, List::Alerts, List::Commands, List::Gaps, List::Keys, List::Audit] {
                let cursor = list.cursor(Place(first, second));
                prop_assert!(cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
                prop_assert_eq!(list.place(&cursor), Some(Place(first, second)));
            }
        }

        #[test]
        fn no_text_is_a_cursor_twice(text in "[A-Za-z0-9_-]{20,24}") {
            if let Some(place) = List::Devices.place(&text) {
                prop_assert_eq!(List::Devices.cursor(place), text);
            }
        }
    }

    #[test]
    fn a_list_that_is_there_whole_is_cut_into_pages_and_walked_by_place() {
        let all = || (1..=5).rev().map(|n| Place(n, 0)).collect::<Vec<_>>();
        let part = |query: &str, all: Vec<Place>| read(query).0.part_of(all, |place| *place);
        let second = part("page=2&per_page=2", all());
        assert_eq!((second.items, second.total, second.next), (vec![Place(3, 0), Place(2, 0)], Some(5), None));
        assert!(part("page=9", all()).items.is_empty());
        let first = part("cursor=&per_page=2", all());
        assert_eq!((first.items, first.total, first.next), (vec![Place(5, 0), Place(4, 0)], None, Some(Place(4, 0))));
        // The row of the place has gone meanwhile, and a new one has come.
        let changed = [6, 5, 3, 2, 1].map(|n| Place(n, 0)).to_vec();
        let query = format!("cursor={}&per_page=3", List::Devices.cursor(Place(4, 0)));
        let rest = part(&query, changed);
        assert_eq!((rest.items, rest.next), (vec![Place(3, 0), Place(2, 0), Place(1, 0)], None));
    }

    #[test]
    fn links_lead_to_the_neighbours_and_keep_the_filters() {
        let links =
            read("page=2&per_page=10").0.links("/api/devices", "page=2&status=active&per_page=10", Some(35), None);
        assert_eq!(
            links,
            "</api/devices?page=1&per_page=10&status=active>; rel=\"first\", \
             </api/devices?page=1&per_page=10&status=active>; rel=\"prev\", \
             </api/devices?page=3&per_page=10&status=active>; rel=\"next\", \
             </api/devices?page=4&per_page=10&status=active>; rel=\"last\""
        );
        let only = read("").0.links("/x", "", Some(0), None);
        assert_eq!(only, "</x?page=1&per_page=50>; rel=\"first\", </x?page=1&per_page=50>; rel=\"last\"");
    }

    #[test]
    fn a_cursors_links_lead_on_while_there_is_more() {
        let (paging, _) = read("cursor=");
        let cursor = List::Devices.cursor(Place(3, 0));
        let links = |next| paging.links("/x", "cursor=&q=a&cursory=1", None, next);
        let first = "</x?cursor=&per_page=50&q=a&cursory=1>; rel=\"first\"";
        assert_eq!(links(None), first);
        assert_eq!(
            links(Some(Place(3, 0))),
            format!("{first}, </x?cursor={cursor}&per_page=50&q=a&cursory=1>; rel=\"next\"")
        );
    }
}
