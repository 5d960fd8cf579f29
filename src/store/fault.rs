//! What a failed statement means: worth trying again or not.
//!
//! Diesel passes on the database's words but not its code, so the words decide where the kind does not: SQLite's are fixed
//! strings of its source; Postgres may speak another language, so what counts there is first of all the kind, and whether the
//! connection still answers (see `postgres::connection`). Nothing of them reaches `Display` of [`Error`]; the log has them through
//! `source()`.

use diesel::result::{ConnectionError, DatabaseErrorKind, Error as SqlError};

use crate::store::Error;

/// What a statement, or the reading of its rows, failed with.
#[derive(Debug)]
pub(in crate::store) enum Fault {
    /// The database said no.
    Sql(SqlError),
    /// A connection could not be had.
    Connect(Box<dyn std::error::Error + Send + Sync>),
    /// A stored value cannot be read.
    Corrupt(&'static str),
    /// The checkpoint is not where it was left.
    Moved,
    /// The schema is not one this program can use.
    #[cfg(feature = "postgres")]
    Migrate(String),
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<ConnectionError> for Fault {
    fn from(error: ConnectionError) -> Self {
        Self::Connect(Box::new(error))
    }
}

impl Fault {
    /// The room's error for a fault met while trying to `operation`.
    pub(in crate::store) fn during(self, operation: &'static str) -> Error {
        match self {
            Self::Corrupt(what) => Error::Corrupt { what },
            Self::Moved => Error::Moved,
            #[cfg(feature = "postgres")]
            Self::Migrate(detail) => Error::Migrate { detail },
            Self::Connect(source) => Error::Unavailable { operation, source },
            Self::Sql(error) if is_transient(&error) => Error::Unavailable { operation, source: Box::new(error) },
            Self::Sql(error) => Error::Failed { operation, source: Box::new(error) },
        }
    }
}

/// SQLite: BUSY, LOCKED, PROTOCOL, FULL, IOERR, CANTOPEN, NOMEM. Postgres: deadlock, time limits, a server that stops,
/// full disk, no memory, a partition that retention has just dropped.
fn is_transient(error: &SqlError) -> bool {
    const WORDS: [&str; 16] = [
        "database is locked",
        "database table is locked",
        "locking protocol",
        "database or disk is full",
        "disk I/O error",
        "unable to open database file",
        "out of memory",
        "deadlock detected",
        "canceling statement due to",
        "terminating connection due to",
        "the database system is",
        "No space left on device",
        "connection to server",
        "server closed the connection",
        "too many clients already",
        "no partition of relation",
    ];
    const KINDS: [DatabaseErrorKind; 4] = [
        DatabaseErrorKind::ClosedConnection,
        DatabaseErrorKind::UnableToSendCommand,
        DatabaseErrorKind::SerializationFailure,
        DatabaseErrorKind::ReadOnlyTransaction,
    ];
    match error {
        SqlError::DatabaseError(kind, info) => {
            let is_kind = KINDS.iter().any(|k| std::mem::discriminant(k) == std::mem::discriminant(kind));
            is_kind || finds_no_partition(error) || WORDS.iter().any(|words| info.message().contains(words))
        }
        SqlError::RollbackErrorOnCommit { commit_error, .. } => is_transient(commit_error),
        SqlError::BrokenTransactionManager => true,
        _ => false,
    }
}

/// Whether a row found no partition of its table. A check that is broken has a name, and SQLite's errors have no table.
pub(in crate::store) fn finds_no_partition(error: &SqlError) -> bool {
    matches!(error, SqlError::DatabaseError(DatabaseErrorKind::CheckViolation, info)
        if info.table_name().is_some() && info.constraint_name().is_none())
}

#[cfg(test)]
mod tests {
    use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind};

    use super::*;

    /// What Postgres tells in German.
    struct German {
        table: Option<&'static str>,
        constraint: Option<&'static str>,
    }

    impl DatabaseErrorInformation for German {
        fn message(&self) -> &str {
            "keine Partition von Relation »telemetry« für die Zeile gefunden"
        }

        fn details(&self) -> Option<&str> {
            None
        }

        fn hint(&self) -> Option<&str> {
            None
        }

        fn table_name(&self) -> Option<&str> {
            self.table
        }

        fn column_name(&self) -> Option<&str> {
            None
        }

        fn constraint_name(&self) -> Option<&str> {
            self.constraint
        }

        fn statement_position(&self) -> Option<i32> {
            None
        }
    }

    #[test]
    fn a_missing_partition_is_told_by_its_kind_whatever_the_language() {
        let check = |kind: DatabaseErrorKind, table, constraint, expected: bool| {
            let error = SqlError::DatabaseError(kind, Box::new(German { table, constraint }));
            assert_eq!(finds_no_partition(&error), expected, "{table:?} {constraint:?}");
            assert_eq!(Fault::from(error).during("store a batch").is_transient(), expected);
        };
        check(DatabaseErrorKind::CheckViolation, Some("telemetry"), None, true);
        check(DatabaseErrorKind::CheckViolation, Some("devices"), Some("devices_metadata_check"), false);
        check(DatabaseErrorKind::CheckViolation, None, None, false);
        check(DatabaseErrorKind::NotNullViolation, Some("telemetry"), None, false);
    }

    #[test]
    fn a_busy_or_full_database_is_worth_another_try_and_a_broken_rule_is_not() {
        let check = |message: &str, expected: bool| {
            let error = SqlError::DatabaseError(DatabaseErrorKind::Unknown, Box::new(message.to_owned()));
            let error = Fault::from(error).during("store a batch");
            assert_eq!(error.is_transient(), expected, "{message}");
            assert!(!error.to_string().contains(message), "the database's words stay out of Display: {error}");
        };
        check("database is locked", true);
        check("database table is locked: devices", true);
        check("database or disk is full", true);
        check("disk I/O error", true);
        check("unable to open database file", true);
        check("UNIQUE constraint failed: devices.device_id", false);
        check("no such table: devices", false);
        check("deadlock detected", true);
        check("canceling statement due to statement timeout", true);
        check("the database system is shutting down", true);
        check("no partition of relation \"telemetry\" found for row", true);
        check("duplicate key value violates unique constraint \"api_keys_prefix_key\"", false);
        check("database disk image is malformed", false);
    }
}
