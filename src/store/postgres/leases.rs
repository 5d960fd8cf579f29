//! Who does what only one node should do: an advisory lock of a session of its own, which the server takes back when that
//! session ends, however it ends.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::r2d2::R2D2Connection;
use diesel::sql_types::{Bool, Text};
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};

use super::connection::Connections;
use crate::store::fault::Fault;
use crate::store::lease::Held;
use crate::store::{Duty, Lease};

/// A lease asks no long questions.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The first half of the key says that it is ours (`iot`), the second which duty.
const TRY: &str = "SELECT pg_try_advisory_lock(6909812, hashtext($1)) AS flag";

#[derive(QueryableByName)]
struct Flag {
    #[diesel(sql_type = Bool)]
    flag: bool,
}

struct Session(PgConnection);

impl Held for Session {
    fn is_held(&mut self) -> bool {
        self.0.ping().is_ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The server notices a closed connection some time later; who asks next must not find it taken until then.
        if let Err(error) = self.0.batch_execute("SELECT pg_advisory_unlock_all()") {
            tracing::debug!(%error, "a lease ends with its connection");
        }
    }
}

/// See [`Nodes::try_lead`](crate::store::Nodes::try_lead).
pub(super) fn try_lead(connections: &Connections, duty: Duty) -> Result<Option<Lease>, Fault> {
    connections.schema()?;
    let mut connection = connections.establish_if_there()?;
    connection.batch_execute(&format!(
        "SET statement_timeout = {}; SET idle_session_timeout = 0; SET tcp_keepalives_idle = 10; \
         SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;",
        STATEMENT_TIMEOUT.as_millis()
    ))?;
    let Flag { flag } = sql_query(TRY).bind::<Text, _>(duty.name()).get_result(&mut connection)?;
    Ok(flag.then(|| Lease::new(Session(connection))))
}
