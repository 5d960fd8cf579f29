//! A text that must not show: neither in logs nor in errors nor in `Debug`. Wiped when it is dropped.

use std::fmt;

use zeroize::Zeroizing;

/// A secret, or an address that may hold one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The text with what is secret in it hidden: a URL without its password and query, anything else not at all.
    pub fn redacted(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return "***".to_owned() };
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?***"));
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = match authority.rsplit_once('@') {
            Some((user, host)) => {
                let name = user.split_once(':').map_or(user, |(name, _)| name);
                format!("{name}:***@{host}")
            }
            None => authority.to_owned(),
        };
        format!("{scheme}://{authority}{path}{query}")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows() {
        let check = |text: &str, shown: &str| assert_eq!(Secret::new(text).redacted(), shown);
        check("sqlite:///var/lib/x.db", "sqlite:///var/lib/x.db");
        check("postgres://me:hunter2@db:5432/meters", "postgres://me:***@db:5432/meters");
        check("postgres://me:p@ss@db/meters?password=hunter2", "postgres://me:***@db/meters?***");
        check("hunter2", "***");
        assert!(!format!("{:?}", Secret::new("postgres://me:hunter2@db/x")).contains("hunter2"));
    }
}
