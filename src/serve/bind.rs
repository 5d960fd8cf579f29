//! Listening sockets, bound before anything starts: an address in use is found out first, not last.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel holds for us before they are accepted: a storm of meters after an outage arrives at once.
const BACKLOG: i32 = 4096;

/// Binds and listens; `key` is the setting to change when it fails.
pub fn listen(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the connections of the process before.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().with_context(|| {
        format!("cannot listen on {address}; is it in use? Choose another with `{key}` (port 0 = any free one)")
    })
}
