//! Query strings: every known parameter read, all bad ones named at once; unknown parameters are ignored.
//!
//! Pure. Knows no resource.

use actix_web::{FromRequest, HttpRequest, dev, web};

use super::error::{ApiError, Fault};

/// Parameters of a request, and the faults found while reading them.
#[derive(Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    faults: Vec<Fault>,
}

impl Params {
    /// Reads a query string.
    pub fn parse(query: &str) -> Self {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query).map(web::Query::into_inner);
        match pairs {
            Ok(pairs) => {
                // Not every database can compare with it.
                let has_nul = |(name, value): &(String, String)| name.contains('\0') || value.contains('\0');
                let (bad, pairs): (Vec<_>, Vec<_>) = pairs.into_iter().partition(has_nul);
                let faults = bad.into_iter().map(|(name, _)| Fault::new(name, "must not contain U+0000"));
                Self { faults: faults.collect(), pairs }
            }
            Err(_) => Self { pairs: Vec::new(), faults: vec![Fault::new("query", "is malformed")] },
        }
    }

    /// The last value of `name`, absent when empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// Whether `name` is given, be it empty.
    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(n, _)| n == name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_repeatable_ones_gathered() {
        let params = Params::parse("metric=a,b&metric=c&metadata.line=S%201&q=a+b");
        assert_eq!(params.all("metric"), ["a", "b", "c"]);
        assert_eq!(params.with_prefix("metadata.").collect::<Vec<_>>(), [("line", "S 1")]);
        assert_eq!(params.text("q"), Some("a b"));
        let empty = Params::parse("q=&r");
        let faults = Params::parse("type=a&metadata.a=x%00").faults;
        assert_eq!(faults.iter().map(|fault| &*fault.field).collect::<Vec<_>>(), ["metadata.a"]);
        assert_eq!((empty.text("q"), empty.has("q"), empty.has("r"), empty.has("s")), (None, true, true, false));
    }
}
