//! A network that can be cut: bytes are passed on, and connections break where the test wants it, also in the middle of a
//! transaction of Postgres.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rand::Rng;

/// What Postgres sends when it waits for the next statement of a transaction (protocol 3.0, ReadyForQuery).
const IN_TRANSACTION: &[u8] = b"Z\0\0\0\x05T";
/// What it sends when it waits outside of one.
const IDLE: &[u8] = b"Z\0\0\0\x05I";

/// Where it leads to.
#[derive(Clone)]
pub enum Target {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// The network. It ends with the process.
pub struct Network {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Bytes within which a connection is cut; 0 = it is not.
    budget: AtomicU64,
    cuts: AtomicU64,
    cuts_in_transaction: AtomicU64,
}

/// One connection through it.
struct Line {
    client: TcpStream,
    server: Mutex<Box<dyn Side>>,
    state: Arc<State>,
    passed: AtomicU64,
    /// Where it is cut.
    limit: AtomicU64,
    is_cut: AtomicBool,
    is_in_transaction: AtomicBool,
}

trait Side: Read + Write + Send {
    fn end(&self);
    fn twin(&self) -> Box<dyn Side>;
}

impl Side for TcpStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }

    fn twin(&self) -> Box<dyn Side> {
        Box::new(self.try_clone().unwrap())
    }
}

impl Side for UnixStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }

    fn twin(&self) -> Box<dyn Side> {
        Box::new(self.try_clone().unwrap())
    }
}

impl Network {
    pub fn to(target: Target) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let server: Result<Box<dyn Side>, std::io::Error> = match &target {
                    Target::Unix(path) => UnixStream::connect(path).map(|s| Box::new(s) as Box<dyn Side>),
                    Target::Tcp(address) => TcpStream::connect(address).map(|s| Box::new(s) as Box<dyn Side>),
                };
                if let Ok(server) = server {
                    pass(client, server, &shared);
                }
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on every connection is cut after so many more bytes at most, counted over both ways; `None` = none is.
    pub fn cut_within(&self, bytes: Option<u64>) {
        self.state.budget.store(bytes.unwrap_or(0), Ordering::Relaxed);
    }

    /// Connections cut so far.
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::Relaxed)
    }

    /// Those of them that were in a transaction of Postgres.
    pub fn cuts_in_transaction(&self) -> u64 {
        self.state.cuts_in_transaction.load(Ordering::Relaxed)
    }
}

fn pass(client: TcpStream, server: Box<dyn Side>, state: &Arc<State>) {
    let (from_client, to_client) = (client.try_clone().unwrap(), client.try_clone().unwrap());
    let (from_server, to_server) = (server.twin(), server.twin());
    let line = Arc::new(Line {
        client,
        server: Mutex::new(server),
        state: Arc::clone(state),
        passed: AtomicU64::new(0),
        limit: AtomicU64::new(u64::MAX),
        is_cut: AtomicBool::new(false),
        is_in_transaction: AtomicBool::new(false),
    });
    let other = Arc::clone(&line);
    std::thread::spawn(move || line.copy(Box::new(from_client), to_server, false));
    std::thread::spawn(move || other.copy(from_server, Box::new(to_client), true));
}

impl Line {
    fn copy(&self, mut from: Box<dyn Side>, mut to: Box<dyn Side>, is_answer: bool) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..count];
            if is_answer && bytes.ends_with(IN_TRANSACTION) {
                self.is_in_transaction.store(true, Ordering::Relaxed);
            } else if is_answer && bytes.ends_with(IDLE) {
                self.is_in_transaction.store(false, Ordering::Relaxed);
            }
            let before = self.passed.fetch_add(count as u64, Ordering::Relaxed);
            let left = usize::try_from(self.limit(before).saturating_sub(before)).unwrap_or(usize::MAX);
            if to.write_all(&bytes[..count.min(left)]).is_err() {
                break;
            }
            if left < count {
                self.cut();
                break;
            }
        }
        self.end();
    }

    /// How many bytes may pass, when so many have.
    fn limit(&self, passed: u64) -> u64 {
        match self.state.budget.load(Ordering::Relaxed) {
            0 => self.limit.store(u64::MAX, Ordering::Relaxed),
            most if self.limit.load(Ordering::Relaxed) == u64::MAX => {
                self.limit.store(passed + rand::rng().random_range(1..=most), Ordering::Relaxed);
            }
            _ => {}
        }
        self.limit.load(Ordering::Relaxed)
    }

    fn cut(&self) {
        if !self.is_cut.swap(true, Ordering::Relaxed) {
            self.state.cuts.fetch_add(1, Ordering::Relaxed);
            let is_in = self.is_in_transaction.load(Ordering::Relaxed);
            self.state.cuts_in_transaction.fetch_add(u64::from(is_in), Ordering::Relaxed);
        }
    }

    fn end(&self) {
        self.client.end();
        self.server.lock().unwrap().end();
    }
}
