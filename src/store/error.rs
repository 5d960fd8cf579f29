//! What can go wrong with a database.

/// A failed store operation. Shown to operators in logs; never to clients of the API.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL names no database this binary knows.
    #[error("unknown database scheme `{scheme}`; use sqlite:///path/to/file.db or postgres://user@host/database")]
    UnknownScheme {
        /// What stood before `://`.
        scheme: String,
    },
    /// The URL names a database that this binary was built without.
    #[error(
        "this program was built without the feature `{feature}`, which `{feature}://` needs: build it with `cargo build --release --features {feature}`"
    )]
    MissingFeature {
        /// The cargo feature.
        feature: &'static str,
    },
    /// The database could not be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// File or address, without credentials.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A migration failed, or the schema is newer than this binary.
    #[error("cannot bring the database schema up to date: {detail}")]
    Migrate {
        /// What failed.
        detail: String,
    },
    /// Busy, away or full: worth trying again.
    #[error("the database is unavailable while trying to {operation}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database refused the operation; trying again will not help.
    #[error("the database failed to {operation}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored value cannot be read back.
    #[error("stored {what} cannot be read")]
    Corrupt {
        /// Which value.
        what: &'static str,
    },
    /// The checkpoint is not where [`Batch::since`](crate::store::Batch::since) says: a standby that knew less took over, the
    /// database was restored, or another process commits in this node's name. Nothing was stored.
    #[error("the checkpoint in the database is not where this node left it")]
    Moved,
    /// The process is stopping.
    #[error("interrupted by shutdown")]
    Interrupted,
}

impl Error {
    /// Whether the same call may succeed later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
