//! GitHub's issues in memory: what our calls do there.

use serde_json::{Value, json};

use crate::fetch::Answer;
use crate::notify::github::{Call, PER_PAGE};
use crate::notify::text;

/// An issue.
#[derive(Clone, Debug)]
pub struct Issue {
    pub number: i64,
    pub body: String,
    pub is_open: bool,
    pub comments: Vec<String>,
    is_pull_request: bool,
    /// Greater = changed later.
    changed: usize,
}

impl Issue {
    pub fn is_of(&self, fingerprint: &str) -> bool {
        text::starts_of_issue(&self.body, fingerprint).is_some()
    }

    fn json(&self) -> Value {
        let state = if self.is_open { "open" } else { "closed" };
        let mut json = json!({"number": self.number, "state": state, "body": self.body});
        if self.is_pull_request {
            json["pull_request"] = json!({"url": "x"});
        }
        json
    }
}

/// All issues of one repository.
#[derive(Default)]
pub struct Hub {
    pub issues: Vec<Issue>,
    changes: usize,
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer { status, headers: vec![], body: body.to_string().into_bytes() }
}

fn page(all: &[Value], page: u32) -> Answer {
    let part: Vec<_> = all.iter().skip((page as usize - 1) * PER_PAGE).take(PER_PAGE).cloned().collect();
    answer(200, &Value::Array(part))
}

impl Hub {
    fn add(&mut self, body: &str, is_pull_request: bool) -> Value {
        self.changes += 1;
        let number = self.issues.len() as i64 + 1;
        let issue = Issue {
            number,
            body: body.to_owned(),
            is_open: true,
            comments: vec![],
            is_pull_request,
            changed: self.changes,
        };
        self.issues.push(issue.clone());
        issue.json()
    }

    pub fn add_pull_request(&mut self, body: &str) {
        self.add(body, true);
    }

    fn change(&mut self, number: i64, status: u16, change: impl FnOnce(&mut Issue)) -> Answer {
        self.changes += 1;
        let changed = self.changes;
        match self.issues.iter_mut().find(|issue| issue.number == number) {
            None => answer(404, &json!({"message": "Not Found"})),
            Some(issue) => {
                change(issue);
                issue.changed = changed;
                answer(status, &issue.json())
            }
        }
    }

    /// Does what is asked.
    pub fn answer(&mut self, call: &Call) -> Answer {
        let find = |number: i64| self.issues.iter().find(|issue| issue.number == number);
        let missing = || answer(404, &json!({"message": "Not Found"}));
        match call {
            Call::Find { closed_too, page: number } => {
                let mut found: Vec<_> = self.issues.iter().filter(|issue| *closed_too || issue.is_open).collect();
                found.sort_by_key(|issue| std::cmp::Reverse(issue.changed));
                page(&found.into_iter().map(Issue::json).collect::<Vec<_>>(), *number)
            }
            Call::Read(number) => find(*number).map_or_else(missing, |issue| answer(200, &issue.json())),
            Call::Create(body) => {
                let made = self.add(body["body"].as_str().unwrap(), false);
                answer(201, &made)
            }
            Call::Comments { issue, page: number, .. } => match find(*issue) {
                Some(issue) => {
                    page(&issue.comments.iter().map(|body| json!({"body": body})).collect::<Vec<_>>(), *number)
                }
                None => missing(),
            },
            Call::Comment(number, body) => {
                let body = body["body"].as_str().unwrap().to_owned();
                self.change(*number, 201, |issue| issue.comments.push(body))
            }
            Call::Reopen(number) => self.change(*number, 200, |issue| issue.is_open = true),
            Call::Close(number) => self.change(*number, 200, |issue| issue.is_open = false),
        }
    }
}
