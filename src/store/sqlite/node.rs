//! The file of a node whose database is on another machine: what the broker keeps over a restart, what devices last logged
//! in with, which certificates are revoked. With it a node starts, and meters come in, while the database is away.
//!
//! Invariant: it belongs to this node alone, like its journal; what it says of credentials counts only while the database
//! says nothing. What takes a right away, or changes one, is on disk when the call returns.

use std::path::Path;

use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};
use diesel::{QueryableByName, RunQueryDsl, sql_query};

use super::connection::{Connections, Sync, open_writer};
use super::fault::Fault;
use super::{cannot_open, migrations, sessions};
use crate::domain::{DeviceId, Timestamp};
use crate::store::{DeviceCredential, Error, RetainedChange, SavedSession, SessionChange};

/// See the module.
pub(in crate::store) struct NodeFile {
    connections: Connections,
}

#[derive(QueryableByName)]
struct Credential {
    #[diesel(sql_type = Text)]
    device_id: String,
    #[diesel(sql_type = Bool)]
    is_active: bool,
    #[diesel(sql_type = Nullable<Binary>)]
    token_sha256: Option<Vec<u8>>,
}

#[derive(QueryableByName)]
struct Revoked {
    #[diesel(sql_type = Text)]
    serial: String,
    #[diesel(sql_type = BigInt)]
    not_after: i64,
}

impl NodeFile {
    /// Opens the file (created when missing) and brings its schema up to date.
    pub(in crate::store) fn open(path: &Path) -> Result<Self, Error> {
        let path = path.to_string_lossy().into_owned();
        let mut connection = open_writer(&path).map_err(|fault| cannot_open(&path, fault))?;
        migrations::run_of_node(&mut connection)?;
        let connections = Connections::new(path.clone(), connection).map_err(|fault| cannot_open(&path, fault))?;
        Ok(Self { connections })
    }

    /// See [`Store::save_sessions`](crate::store::Store::save_sessions).
    pub(in crate::store) fn save_sessions(
        &self,
        sessions: &[SessionChange],
        retained: &[RetainedChange],
    ) -> Result<(), Fault> {
        sessions::save(&self.connections, sessions, retained)
    }

    /// See [`Store::load_sessions`](crate::store::Store::load_sessions).
    pub(in crate::store) fn load_sessions(&self, each: &mut dyn FnMut(SavedSession)) -> Result<(), Fault> {
        self.connections.read(|connection| sessions::load(connection, each))
    }

    /// See [`Store::load_retained`](crate::store::Store::load_retained).
    pub(in crate::store) fn load_retained(&self, each: &mut dyn FnMut(String, Vec<u8>)) -> Result<(), Fault> {
        self.connections.read(|connection| sessions::load_retained(connection, each))
    }

    /// What devices may log in with, as it was last kept.
    pub(in crate::store) fn credentials(&self) -> Result<Vec<(DeviceId, DeviceCredential)>, Fault> {
        let rows: Vec<Credential> = self.connections.read(|connection| {
            Ok(sql_query("SELECT device_id, is_active, token_sha256 FROM known_credentials").load(connection)?)
        })?;
        let read = |row: Credential| {
            let token_sha256 = row.token_sha256.map(<[u8; 32]>::try_from).transpose().ok()?;
            Some((DeviceId::parse(&row.device_id)?, DeviceCredential { is_active: row.is_active, token_sha256 }))
        };
        rows.into_iter().map(|row| read(row).ok_or(Fault::Corrupt("credential"))).collect()
    }

    /// Keeps what a device may log in with; `None` = there is no such device. Of one that was not known there is nothing to take
    /// away: a fleet that comes for the first time does not wait for the disk meter by meter.
    pub(in crate::store) fn keep_credential(
        &self,
        id: &DeviceId,
        credential: Option<&DeviceCredential>,
        was_known: bool,
    ) -> Result<(), Fault> {
        let sync = if was_known { Sync::Now } else { Sync::Lazy };
        self.connections.write(sync, |connection| {
            let Some(DeviceCredential { is_active, token_sha256 }) = credential else {
                let delete = sql_query("DELETE FROM known_credentials WHERE device_id = ?");
                delete.bind::<Text, _>(id.as_str()).execute(connection)?;
                return Ok(());
            };
            sql_query("INSERT OR REPLACE INTO known_credentials (device_id, is_active, token_sha256) VALUES (?, ?, ?)")
                .bind::<Text, _>(id.as_str())
                .bind::<Bool, _>(*is_active)
                .bind::<Nullable<Binary>, _>(token_sha256.as_ref().map(<[u8; 32]>::as_slice))
                .execute(connection)?;
            Ok(())
        })
    }

    /// Serials and ends of the certificates that were last called revoked.
    pub(in crate::store) fn revoked(&self) -> Result<Vec<(String, Timestamp)>, Fault> {
        let rows: Vec<Revoked> = self
            .connections
            .read(|connection| Ok(sql_query("SELECT serial, not_after FROM known_revocations").load(connection)?))?;
        Ok(rows.into_iter().map(|row| (row.serial, Timestamp(row.not_after))).collect())
    }

    /// Keeps revoked certificates, with `is_all` in place of those that are there.
    pub(in crate::store) fn keep_revoked(&self, revoked: &[(&str, Timestamp)], is_all: bool) -> Result<(), Fault> {
        self.connections.write(Sync::Now, |connection| {
            if is_all {
                sql_query("DELETE FROM known_revocations").execute(connection)?;
            }
            for (serial, not_after) in revoked {
                sql_query("INSERT OR REPLACE INTO known_revocations (serial, not_after) VALUES (?, ?)")
                    .bind::<Text, _>(*serial)
                    .bind::<BigInt, _>(not_after.0)
                    .execute(connection)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SessionSave;

    #[test]
    fn what_a_node_keeps_is_there_when_the_file_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.db");
        let device = |name: &str| DeviceId::parse(name).unwrap();
        let credential =
            |is_active, token: Option<u8>| DeviceCredential { is_active, token_sha256: token.map(|t| [t; 32]) };
        let file = NodeFile::open(&path).unwrap();
        for (name, kept) in
            [("a", credential(true, Some(1))), ("b", credential(false, None)), ("c", credential(true, None))]
        {
            file.keep_credential(&device(name), Some(&kept), false).unwrap();
        }
        file.keep_credential(&device("a"), Some(&credential(true, Some(2))), true).unwrap();
        for gone in ["c", "never"] {
            file.keep_credential(&device(gone), None, true).unwrap();
        }
        file.keep_revoked(&[("01", Timestamp(1)), ("02", Timestamp(2))], true).unwrap();
        file.keep_revoked(&[("02", Timestamp(3)), ("04", Timestamp(4))], true).unwrap();
        file.keep_revoked(&[("05", Timestamp(5))], false).unwrap();
        let put = vec![(7, "message".into())];
        let change = SessionSave::Changed { state: Some("state".into()), put, removed: Vec::new() };
        let retained = RetainedChange { topic: "t".into(), message: Some("kept".into()) };
        file.save_sessions(&[SessionChange { client_id: "m".into(), change }], &[retained]).unwrap();
        drop(file);

        let file = NodeFile::open(&path).unwrap();
        let mut known = file.credentials().unwrap();
        known.sort_by(|(a, _), (b, _)| a.cmp(b));
        let known: Vec<_> = known.iter().map(|(id, c)| (id.as_str(), c.is_active, c.token_sha256)).collect();
        assert_eq!(known, [("a", true, Some([2; 32])), ("b", false, None)]);
        let mut revoked = file.revoked().unwrap();
        revoked.sort();
        assert_eq!(revoked, [("02".into(), Timestamp(3)), ("04".into(), Timestamp(4)), ("05".into(), Timestamp(5))]);
        let (mut sessions, mut topics) = (Vec::new(), Vec::new());
        file.load_sessions(&mut |session| sessions.push(session)).unwrap();
        file.load_retained(&mut |topic, message| topics.push((topic, message))).unwrap();
        let expected =
            SavedSession { client_id: "m".into(), state: b"state".to_vec(), messages: vec![(7, b"message".to_vec())] };
        assert_eq!((sessions, topics), (vec![expected], vec![("t".to_owned(), b"kept".to_vec())]));
    }
}
