//! A small typed client of the REST API for the other subcommands.
//!
//! Invariant: the key goes to the one server it was made for and never into an error or a log.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

use crate::config::Secret;
use crate::simulate::ApiAccess;

/// Longest answer read.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
/// Longest wait for a whole answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The same where much is sent and done.
const LONG_TIMEOUT: Duration = Duration::from_secs(600);
/// Entries of a page when listing everything: the API's most.
const PER_PAGE: &str = "500";

/// A call that gave no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// No answer.
    #[error("no answer from {url}")]
    Unreachable {
        /// The address called.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The server said no.
    #[error("the server answered {status}: {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's words.
        detail: String,
    },
    /// The answer is not what the API promises.
    #[error("{url} gave an answer that is none of this API")]
    Unexpected {
        /// The address called.
        url: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// A device as listed; other members are passed over.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(super) struct Device {
    pub(super) device_id: String,
    pub(super) device_name: String,
    pub(super) device_type: Option<String>,
    pub(super) location: Option<String>,
    pub(super) status: String,
    pub(super) connection_status: String,
    pub(super) last_seen: Option<String>,
    pub(super) fw_version: Option<String>,
    /// Password for MQTT; only in the answer to a registration.
    pub(super) token: Option<String>,
}

/// An RFC 9457 problem.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    errors: Vec<FieldProblem>,
}

#[derive(Debug, Deserialize)]
struct FieldProblem {
    field: String,
    message: String,
}

/// Talks to one server.
pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
    key: Option<Secret>,
}

/// A good answer.
pub(super) struct Answer {
    /// The body; null when there is none.
    pub(super) body: Value,
    /// Where the list goes on.
    next: Option<String>,
}

impl Client {
    /// A client of the server at `http[s]://host:port`; in TLS it trusts the authorities of `ca_file`, else the system's.
    pub(super) fn new(url: &str, key: Option<Secret>, ca_file: Option<PathBuf>) -> anyhow::Result<Self> {
        let is_http = url.starts_with("http://") || url.starts_with("https://");
        anyhow::ensure!(is_http, "the address of the API must begin with http:// or https://");
        let base = url.trim_end_matches('/').trim_end_matches("/api").to_owned();
        let settings = ApiAccess { url: base.clone(), key: None, ca_file }.http()?;
        Ok(Self { agent: agent(settings, TIMEOUT), base, key })
    }

    /// GET.
    pub(super) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, ClientError> {
        let url = self.url(path);
        let request = self.agent.get(&url).query_pairs(query.iter().copied());
        self.finish(url, self.sign(request).call())
    }

    /// POST with a JSON body.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Answer, ClientError> {
        let url = self.url(path);
        let request = self.agent.post(&url);
        self.finish(url, self.sign(request).send_json(body))
    }

    /// POST with a body of so many bytes, which may take long to be worked on. A refusal by its head comes before it is sent.
    pub(super) fn post_bytes(
        &self,
        path: &str,
        query: &[(&str, &str)],
        content_type: &str,
        size_bytes: u64,
        body: impl std::io::Read + 'static,
    ) -> Result<Answer, ClientError> {
        let url = self.url(path);
        let request = self.agent.post(&url).query_pairs(query.iter().copied()).header("Content-Type", content_type);
        let request = request.header("Content-Length", size_bytes.to_string()).header("Expect", "100-continue");
        let request = request.config().timeout_global(Some(LONG_TIMEOUT)).build();
        self.finish(url, self.sign(request).send(ureq::SendBody::from_owned_reader(body)))
    }

    /// DELETE.
    pub(super) fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, ClientError> {
        let url = self.url(path);
        let request = self.agent.delete(&url).query_pairs(query.iter().copied());
        self.finish(url, self.sign(request).call())
    }

    /// All entries of a list, part by part. By cursor: entries that come and go meanwhile move no other from part to part.
    pub(super) fn get_all(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, ClientError> {
        let mut all = Vec::new();
        let mut next = Some(String::new());
        while let Some(cursor) = next {
            let paging = [("cursor", cursor.as_str()), ("per_page", PER_PAGE)];
            let answer = self.get(path, &[query, &paging].concat())?;
            next = answer.next.filter(|next| *next != cursor);
            let mut items: Vec<Value> = self.decode(path, answer.body)?;
            all.append(&mut items);
        }
        Ok(all)
    }

    /// Reads a body as a type.
    pub(super) fn decode<T: DeserializeOwned>(&self, path: &str, body: Value) -> Result<T, ClientError> {
        serde_json::from_value(body).map_err(|source| ClientError::Unexpected { url: self.url(path), source })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn sign<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.key {
            Some(key) => request.header("Authorization", format!("Bearer {}", key.reveal())),
            None => request,
        }
    }

    fn finish(&self, url: String, result: Result<Response, ureq::Error>) -> Result<Answer, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: url.clone(), source: Box::new(source) };
        let mut response = result.map_err(unreachable)?;
        let status = response.status().as_u16();
        let links = response.headers().get("link").and_then(|value| value.to_str().ok());
        let next = links.and_then(next_cursor);
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string().map_err(unreachable)?;
        if !(200..300).contains(&status) {
            return Err(ClientError::Refused { status, detail: explain(&body) });
        }
        let body = match body.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|source| ClientError::Unexpected { url, source })?,
        };
        Ok(Answer { body, next })
    }
}

type Response = ureq::http::Response<ureq::Body>;

/// An agent that gives statuses as answers, follows no redirect (the key stays here) and uses no proxy.
pub(super) fn agent(settings: ConfigBuilder<AgentScope>, timeout: Duration) -> ureq::Agent {
    let config = settings
        .http_status_as_error(false)
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("iot-meter/", env!("CARGO_PKG_VERSION")))
        .build();
    config.into()
}

/// The cursor of the link to the next part of a list (RFC 8288).
fn next_cursor(links: &str) -> Option<String> {
    let link = links.split(',').find(|link| link.ends_with("rel=\"next\""))?;
    let (_, rest) = link.split_once("cursor=")?;
    Some(rest.split(['&', '>']).next()?.to_owned())
}

/// The server's words about a refusal, every bad field included.
fn explain(body: &str) -> String {
    let problem: Problem = serde_json::from_str(body).unwrap_or_default();
    let mut text = if problem.detail.is_empty() { problem.title } else { problem.detail };
    if text.is_empty() {
        text = body.chars().take(200).collect();
    }
    for error in problem.errors {
        text.push_str(&format!("; {}: {}", error.field, error.message));
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    /// A server that gives these answers, one a connection, and returns the requests it got.
    pub(in crate::cli) fn serve_once(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("has an address"));
        let thread = std::thread::spawn(move || {
            let answer_one = |answer: &String| {
                let (mut socket, _) = listener.accept().expect("a connection");
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !is_complete(&request) {
                    let n = socket.read(&mut buffer).expect("is readable");
                    assert!(n > 0, "the client went away early");
                    request.extend_from_slice(&buffer[..n]);
                }
                socket.write_all(answer.as_bytes()).expect("is writable");
                String::from_utf8(request).expect("is text")
            };
            answers.iter().map(answer_one).collect()
        });
        (url, thread)
    }

    fn is_complete(request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
        match head.contains("transfer-encoding: chunked") {
            true => body.ends_with("0\r\n\r\n"),
            false => body.len() >= length,
        }
    }

    pub(in crate::cli) fn answer(status: &str, headers: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn the_key_is_sent_and_a_list_is_read_to_its_end() {
        let first = r#"</api/devices?cursor=&per_page=500&q=a+b>; rel="first""#;
        let next = format!(r#"Link: {first}, </api/devices?cursor=ab_-1&per_page=500&q=a+b>; rel="next"{}"#, "\r\n");
        let (url, server) = serve_once(vec![
            answer("200 OK", &next, "[{\"n\":1},{\"n\":2}]"),
            answer("200 OK", &format!("Link: {first}\r\n"), "[{\"n\":3}]"),
        ]);
        let client = Client::new(&url, Some(Secret::new("k1")), None).expect("a good address");
        assert_eq!(client.get_all("/api/devices", &[("q", "a b")]).expect("is listed").len(), 3);
        let requests = server.join().expect("served");
        assert!(requests[0].starts_with("GET /api/devices?q=a%20b&cursor=&per_page=500 "), "{}", requests[0]);
        assert!(requests[1].starts_with("GET /api/devices?q=a%20b&cursor=ab_-1&per_page=500 "), "{}", requests[1]);
        assert!(requests.iter().all(|r| r.to_ascii_lowercase().contains("authorization: bearer k1")));
    }

    #[test]
    fn a_refusal_tells_every_bad_field_in_the_servers_words() {
        let body =
            r#"{"title":"Invalid","status":422,"detail":"2 fields are bad","errors":[{"field":"a","message":"no"}]}"#;
        let (url, server) = serve_once(vec![answer("422 Unprocessable Entity", "", body)]);
        let client = Client::new(&url, None, None).expect("a good address");
        let error = client.post("/api/devices", &Value::Null).map(|a| a.body).expect_err("is refused");
        assert_eq!(error.to_string(), "the server answered 422: 2 fields are bad; a: no");
        server.join().expect("served");
    }

    #[test]
    fn an_error_never_shows_the_key() {
        let client = Client::new("http://127.0.0.1:1", Some(Secret::new("hunter2")), None).expect("a good address");
        let error = client.get("/api/devices", &[]).map(|a| a.body).expect_err("nobody listens");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
        assert!(Client::new("ftp://x", None, None).is_err());
    }
}
