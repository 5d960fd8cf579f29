//! Listening sockets, bound before anything starts: an address in use is found out first, not last.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel holds for us before they are accepted, where no setting says otherwise.
pub const BACKLOG: u32 = 4096;

/// Binds and listens; `key` is the setting to change when it fails. The kernel caps the `backlog` at its own limit (Linux:
/// net.core.somaxconn).
pub fn listen(address: SocketAddr, backlog: u32, key: &str) -> anyhow::Result<TcpListener> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the connections of the process before.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    };
    open().with_context(|| {
        format!("cannot listen on {address}; is it in use? Choose another with `{key}` (port 0 = any free one)")
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_storm_waits_in_the_backlog_until_somebody_accepts() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), 120, "x").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(1));
        let waiting = (0..100).map(|_| connect()).collect::<Result<Vec<_>, _>>().unwrap();
        let accepted = (0..100).filter(|_| listener.accept().is_ok()).count();
        assert_eq!(accepted, waiting.len());
        let error = listen(address, 16, "mqtt.listen").unwrap_err().to_string();
        assert!(error.contains("mqtt.listen") && error.contains(&address.to_string()), "{error}");
    }
}
