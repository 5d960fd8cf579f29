//! Statements written by hand for the hot path, prepared once a connection.
//!
//! Diesel keeps a prepared statement when its type names the SQL. It cannot know that of `INSERT … ON CONFLICT` (it
//! writes and hashes the SQL text at every row) nor of `sql_query` (it prepares at every call). A type made by
//! [`statement!`] is its own name: the text is looked at once, after that only values are bound.

/// Declares a statement `$head` + one bind a field + `$tail`.
macro_rules! statement {
    ($(#[$doc:meta])* $name:ident: $head:expr, $tail:expr; $($field:ident: $rust:ty => $sql:ty),+ $(,)?) => {
        $(#[$doc])*
        pub(super) struct $name<'a> {
            $(pub $field: $rust),+
        }

        impl diesel::query_builder::QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl diesel::query_builder::QueryFragment<diesel::sqlite::Sqlite> for $name<'_> {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::sqlite::Sqlite>,
            ) -> diesel::QueryResult<()> {
                let mut before = $head;
                $(
                    out.push_sql(std::mem::replace(&mut before, ", "));
                    out.push_bind_param::<$sql, _>(&self.$field)?;
                )+
                out.push_sql($tail);
                Ok(())
            }
        }

        impl diesel::RunQueryDsl<diesel::SqliteConnection> for $name<'_> {}
    };
}

pub(super) use statement;
