//! TLS around a meter's MQTT client, which has none of a kind we want: the client speaks to a socket on this machine, and
//! what it says goes on to the broker in TLS.
//!
//! Invariant: the sockets are in a directory that only this user can enter: who speaks there speaks as the meter.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::options::Error;
use super::secure;

/// The directory of the sockets; it goes with its last user.
pub(super) struct Sockets(PathBuf);

impl Sockets {
    /// Makes it.
    pub(super) fn make() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("iot-meter-{}", uuid::Uuid::new_v4().simple()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| Error::TlsFile { path: path.clone(), source })?;
        Ok(Self(path))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How the lines of one meter are wrapped.
#[derive(Clone)]
pub(super) struct Wrapping {
    pub config: Arc<ClientConfig>,
    pub sockets: Arc<Sockets>,
}

/// One line of a meter to one broker.
pub(super) struct Tunnel {
    path: PathBuf,
    task: tokio::task::AbortHandle,
    /// Kept as long as the socket is in it.
    _sockets: Arc<Sockets>,
}

impl Tunnel {
    /// Opens the socket. Where that fails the client finds nobody there, as with a broker that is away.
    pub(super) fn open(wrapping: Wrapping, host: String, port: u16) -> Self {
        let Wrapping { config, sockets } = wrapping;
        let path = sockets.0.join(uuid::Uuid::new_v4().simple().to_string());
        let listener = UnixListener::bind(&path);
        let task = tokio::spawn(async move {
            match listener {
                Ok(listener) => serve(listener, config, host, port).await,
                Err(error) => tracing::error!(%error, "no socket for a line in TLS"),
            }
        });
        Self { path, task: task.abort_handle(), _sockets: sockets }
    }

    /// Where the client connects to.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Each connection of the client becomes one to the broker; all end with this.
async fn serve(listener: UnixListener, config: Arc<ClientConfig>, host: String, port: u16) {
    let mut lines = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(lines.spawn(carry(client, Arc::clone(&config), host.clone(), port))),
                Err(error) => {
                    tracing::error!(%error, "a line in TLS has lost its socket");
                    return;
                }
            },
            Some(_) = lines.join_next() => {}
        }
    }
}

async fn carry(mut client: UnixStream, config: Arc<ClientConfig>, host: String, port: u16) {
    match secure::dial(config, &host, port).await {
        Ok(mut broker) => drop(copy_bidirectional(&mut client, &mut broker).await),
        Err(error) => tracing::debug!(%error, host, port, "no line in TLS"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_sockets_are_for_this_user_alone_and_leave_nothing_behind() {
        let sockets = Sockets::make().unwrap();
        let path = sockets.0.clone();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(sockets);
        assert!(!path.exists());
    }
}
