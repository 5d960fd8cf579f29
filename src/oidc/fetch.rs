//! Asking the issuer over HTTP. Blocks: for blocking threads. The trace of the request it is done for goes along
//! (`traceparent`, `tracestate`).

use std::sync::LazyLock;
use std::time::Duration;

use super::Error;
use super::flow::encoded;
use crate::fetch::{self, Answer, Client, Limits};
use crate::observe::trace;

/// A whole answer has that long, and that size.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(5), max_bytes: 256 * 1024 };

/// Made at the first question, on a blocking thread: it reads the system's authorities.
static CLIENT: LazyLock<Client> = LazyLock::new(|| Client::new(LIMITS));

/// GET.
pub(super) fn get(url: &str, what: &'static str) -> Result<Vec<u8>, Error> {
    read(send("GET", url, vec![("Accept", "application/json")], None), what)
}

/// POST of a form, signed with `Authorization` where there is any.
pub(super) fn post(
    url: &str,
    form: &[(&str, &str)],
    authorization: Option<&str>,
    what: &'static str,
) -> Result<Vec<u8>, Error> {
    let mut headers = vec![("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded")];
    headers.extend(authorization.map(|value| ("Authorization", value)));
    let pairs: Vec<String> = form.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    read(send("POST", url, headers, Some(pairs.join("&").into_bytes())), what)
}

fn send(method: &str, url: &str, headers: Vec<(&str, &str)>, body: Option<Vec<u8>>) -> Result<Answer, fetch::Error> {
    let trace = trace::outgoing();
    let headers: Vec<_> =
        headers.into_iter().chain(trace.iter().map(|(name, value)| (*name, value.as_str()))).collect();
    CLIENT.send(method, url, &headers, body)
}

fn read(result: Result<Answer, fetch::Error>, what: &'static str) -> Result<Vec<u8>, Error> {
    match result {
        Ok(Answer { status: 200, body, .. }) => Ok(body),
        Ok(Answer { status, .. }) => Err(Error::Status { what, status }),
        // The issuer's own description may name any address.
        Err(fetch::Error::Unsafe) => Err(Error::Unreadable { what, why: "its address is not https" }),
        Err(error) => Err(Error::Unreachable { what, source: Box::new(error) }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

    use super::*;
    use crate::observe::trace::{Context, Current, Tracer};

    /// The head of the one request that a server was sent.
    fn asked(ask: impl FnOnce(&str)) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let lines = BufReader::new(socket.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
            head.join("\n").to_ascii_lowercase()
        });
        ask(&url);
        server.join().unwrap()
    }

    #[tokio::test]
    async fn the_issuer_is_told_the_trace_it_is_asked_for() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = Context::parse(parent, Some("a=b")).unwrap();
        let current = Current { context, request_id: None, tracer: Tracer::default() };
        let carried =
            trace::within(current, async { trace::carry(|| asked(|url| drop(get(url, "x").unwrap()))) }).await;
        let head = carried();
        assert!(head.contains(&format!("\ntraceparent: {parent}")) && head.contains("\ntracestate: a=b"), "{head}");
        let head = asked(|url| drop(post(url, &[("a", "b")], None, "x").unwrap()));
        assert!(!head.contains("traceparent"), "{head}");
    }
}
