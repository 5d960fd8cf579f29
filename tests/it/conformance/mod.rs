//! MQTT 3.1.1 and 5 conformance: raw packets over a real socket, and the reaction the specification demands.
//!
//! Most of it is tables: one row a case, in the language of [`packet`] and [`table`], one file a chapter. Each row cites
//! the normative statement it checks, of OASIS MQTT 3.1.1 or 5.0. After each case a well-behaved client must still be
//! able to publish and to be served ([`runner::Probe`]): a fault of one client is its own. The `interop` files play whole
//! stories between clients instead.
//!
//! Invariants: no case waits for a time to pass by sleeping; that nothing comes is proved by an answer to something
//! later. `CONFORMANCE_ADDRESS=host:port` points the tables at another server, to compare.

mod client;
mod packet;
mod runner;
mod server;
mod socket;
mod table;

mod alias;
mod connack;
mod connect;
mod disconnect;
mod flow_control;
mod framing;
mod habits;
mod interop;
mod interop5;
mod interop5_messages;
mod interop5_sessions;
mod keep_alive;
mod properties;
mod property_matrix;
mod publish;
mod qos;
mod retain;
mod session;
mod shared;
mod subscribe;
mod topics;
mod unsubscribe;
mod utf8;
mod will;

use server::Server;
use table::Version;

/// Runs the rows of `tables` that are for `version`; fails with all broken cases at once.
fn check(version: Version, tables: &[&str]) {
    let server = Server::start();
    let mut run = runner::Run::new(server.address());
    for table in tables {
        run.table(version, table);
    }
    run.finish();
}

/// Two tests, one a version, over the tables of a file.
macro_rules! tables {
    ($v311:ident, $v5:ident: $($table:expr),+ $(,)?) => {
        #[test]
        fn $v311() {
            crate::conformance::check(crate::conformance::table::Version::V311, &[$($table),+]);
        }

        #[test]
        fn $v5() {
            crate::conformance::check(crate::conformance::table::Version::V5, &[$($table),+]);
        }
    };
}
use tables;
