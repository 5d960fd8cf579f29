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
        let cut = |text: &str| text.split_once('?').map_or_else(|| text.to_owned(), |(text, _)| format!("{text}?***"));
        // Up to the last @: a password with / or ? in it, which should have been escaped, is one all the same.
        match rest.rsplit_once('@').map(|(user, host)| (user.split_once(':'), host)) {
            Some((Some((name, password)), host)) if !name.contains(['/', '?']) => {
                // (It may be one of the query that is meant, and then what is behind it is no host.)
                let host = if password.contains('?') { "***".to_owned() } else { cut(host) };
                format!("{scheme}://{name}:***@{host}")
            }
            _ => format!("{scheme}://{}", cut(rest)),
        }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
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
        check("postgres://me:hun/ter2@db/meters?x=y", "postgres://me:***@db/meters?***");
        check("postgres://me:hun?ter2@db/meters", "postgres://me:***@***");
        check("postgres://db:5432/meters?user=me@home&password=hunter2", "postgres://db:***@***");
        check("postgres://db/meters?user=me@home&password=hunter2", "postgres://db/meters?***");
        check("s3://bucket/of:me@home", "s3://bucket/of:me@home");
        check("hunter2", "***");
        assert!(!format!("{:?}", Secret::new("postgres://me:hunter2@db/x")).contains("hunter2"));
    }
}
