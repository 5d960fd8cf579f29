//! A client of Server-Sent Events over a plain socket: what it reads, and when, is the test's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

/// An event as it came.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub id: String,
    pub name: String,
    pub data: Value,
}

/// An open stream.
pub struct Stream {
    input: BufReader<std::net::TcpStream>,
    /// Text that is read and not yet an event.
    text: String,
    /// The id of the last block, of heartbeats too.
    pub last_id: String,
    /// The headers of the answer, in small letters.
    pub head: String,
}

/// Asks for a stream; the status, and the stream where it is 200.
pub fn ask(to: SocketAddr, query: &str, headers: &[(&str, &str)], receive_bytes: usize) -> (u16, Option<Stream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    if receive_bytes > 0 {
        socket.set_recv_buffer_size(receive_bytes).unwrap();
    }
    socket.connect(&to.into()).unwrap();
    let mut socket = std::net::TcpStream::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    // As a browser would ask.
    let accept = "Accept: text/event-stream\r\nAccept-Encoding: gzip, br, zstd\r\n";
    write!(socket, "GET /api/stream{query} HTTP/1.1\r\nHost: {to}\r\n{accept}{headers}\r\n").unwrap();
    let mut input = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(input.read_line(&mut head).unwrap() > 0, "no answer: {head}");
    }
    let status = head[9..12].parse().unwrap();
    let head = head.to_lowercase();
    let stream = Stream { input, text: String::new(), last_id: String::new(), head };
    (status, (status == 200).then_some(stream))
}

/// A stream that is there.
pub fn open(to: SocketAddr, query: &str, headers: &[(&str, &str)]) -> Stream {
    let (status, stream) = ask(to, query, headers, 0);
    let mut stream = stream.unwrap_or_else(|| panic!("{query}: {status}"));
    assert!(stream.block().unwrap().contains("retry: "), "it begins by saying when to come back");
    stream
}

impl Stream {
    /// The next event; `None` when the stream has ended as it should.
    pub fn next(&mut self) -> Option<Event> {
        let end = Instant::now() + super::PATIENCE;
        loop {
            assert!(Instant::now() < end, "nothing but heartbeats");
            let block = self.block()?;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let Some(data) = field("data") else { continue };
            let data = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"));
            return Some(Event { id: self.last_id.clone(), name: field("event").unwrap().to_owned(), data });
        }
    }

    /// Events up to the first that is `wanted`, which is the last of them.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next() {
            events.push(event);
            if events.last().is_some_and(&wanted) {
                return events;
            }
        }
        panic!("the stream ended before {what}: {events:?}");
    }

    /// Lines up to an empty one.
    fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(id) = block.lines().find_map(|line| line.strip_prefix("id: ")) {
                    id.clone_into(&mut self.last_id);
                }
                return Some(block);
            }
            let chunk = self.chunk()?;
            self.text.push_str(&chunk);
        }
    }

    /// A chunk of the transfer coding; `None` = the last one.
    fn chunk(&mut self) -> Option<String> {
        let mut line = String::new();
        self.input.read_line(&mut line).expect("a chunk in time");
        let size = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("broken off: {line:?}"));
        let mut bytes = vec![0; size + 2];
        self.input.read_exact(&mut bytes).unwrap();
        bytes.truncate(size);
        (size > 0).then(|| String::from_utf8(bytes).unwrap())
    }
}
