//! A stand-in for GitHub's API on this machine: real HTTP, issues in memory, and the moods of a service on the network.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// The one token it knows, and the one repository.
pub const TOKEN: &str = "github-token-hunter2";
pub const REPOSITORY: &str = "trains/alerts";

/// An issue.
#[derive(Clone, Debug)]
pub struct Issue {
    pub number: usize,
    pub title: String,
    pub body: String,
    pub labels: Vec<String>,
    pub is_open: bool,
    pub comments: Vec<String>,
}

impl Issue {
    fn json(&self) -> Value {
        let state = if self.is_open { "open" } else { "closed" };
        let labels: Vec<_> = self.labels.iter().map(|name| json!({ "name": name })).collect();
        json!({"number": self.number, "state": state, "title": self.title, "body": self.body, "labels": labels})
    }
}

/// How it answers.
#[derive(Clone, PartialEq, Debug)]
pub enum Mood {
    Well,
    /// With this status and these headers, and nothing is done.
    Refusing(u16, String),
    /// Changes are done, and no answer to them ever comes.
    Silent,
}

struct State {
    mood: Mood,
    issues: Vec<Issue>,
    /// Method and path of every request.
    asked: Vec<String>,
    /// The `traceparent` of each; empty where there was none.
    traces: Vec<String>,
    /// Connections of those that wait for an answer.
    waiting: Vec<TcpStream>,
}

/// The service.
#[derive(Clone)]
pub struct GitHub {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl GitHub {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State { mood: Mood::Well, issues: vec![], asked: vec![], traces: vec![], waiting: vec![] };
        let github = Self { url, state: Arc::new(Mutex::new(state)) };
        let own = github.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || own.serve(socket));
            }
        });
        github
    }

    /// The settings of a server that makes its issues here.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [("github.api_url", self.url.clone()), ("github.repository", REPOSITORY.into()), ("github.token", TOKEN.into())]
    }

    pub fn be(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    pub fn issues(&self) -> Vec<Issue> {
        self.state.lock().unwrap().issues.clone()
    }

    /// Requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// What they said of their place in a trace (W3C Trace Context), in the same order.
    pub fn traces(&self) -> Vec<String> {
        self.state.lock().unwrap().traces.clone()
    }

    fn serve(&self, mut socket: TcpStream) {
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let (mut line, mut length, mut is_known, mut trace) = (String::new(), 0, false, String::new());
        if reader.read_line(&mut line).is_err() {
            return;
        }
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).is_err() || header.trim().is_empty() {
                break;
            }
            let (name, value) = header.trim().split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "traceparent" => trace = value.trim().to_owned(),
                "authorization" => is_known = value.trim() == format!("Bearer {TOKEN}"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let mut state = self.state.lock().unwrap();
        state.asked.push(format!("{method} {path}"));
        state.traces.push(trace);
        let (status, headers, text) = match state.mood.clone() {
            Mood::Refusing(status, headers) => (status, headers, json!({"message": "not now"})),
            _ if !is_known => (401, String::new(), json!({"message": "Bad credentials"})),
            mood => {
                let (status, text) = state.answer(method, path, &body);
                if mood == Mood::Silent && method != "GET" {
                    state.waiting.push(socket);
                    return;
                }
                (status, String::new(), text)
            }
        };
        drop(state);
        let text = text.to_string();
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}");
        let _ = write!(socket, "{head}Content-Length: {}\r\n\r\n{text}", text.len());
    }
}

impl State {
    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let missing = (404, json!({"message": "Not Found"}));
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let Some(rest) = path.strip_prefix(&format!("/repos/{REPOSITORY}/issues")) else { return missing };
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let Some(number) = parts.first().map(|part| part.parse::<usize>().unwrap_or(0)) else {
            if method == "GET" {
                let open_only = query.contains("state=open");
                let is_first = query.split('&').any(|pair| pair == "page=1");
                let has_label = |issue: &&Issue| issue.labels.iter().any(|label| label == "alert");
                let found = self.issues.iter().rev().filter(has_label);
                let found = found.filter(|issue| is_first && (issue.is_open || !open_only));
                return (200, found.map(Issue::json).collect());
            }
            let labels = body["labels"].as_array().into_iter().flatten().map(text).collect();
            let (number, title) = (self.issues.len() + 1, text(&body["title"]));
            let issue = Issue { number, title, body: text(&body["body"]), labels, is_open: true, comments: vec![] };
            self.issues.push(issue.clone());
            return (201, issue.json());
        };
        let Some(issue) = self.issues.iter_mut().find(|issue| issue.number == number) else { return missing };
        match (method, parts.get(1)) {
            ("GET", None) => (200, issue.json()),
            ("PATCH", None) => {
                issue.is_open = body["state"] == "open";
                (200, issue.json())
            }
            ("GET", Some(_)) => (200, issue.comments.iter().map(|body| json!({ "body": body })).collect()),
            ("POST", Some(_)) => {
                issue.comments.push(text(&body["body"]));
                (201, json!({"id": 1}))
            }
            _ => missing,
        }
    }
}
