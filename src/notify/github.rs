//! GitHub's REST API, version 2022-11-28, as far as we speak it: requests as values, answers judged. Pure.
//!
//! Limits: an answer 403 or 429 with `retry-after`, or with nothing left of `x-ratelimit-remaining`, or that speaks of a rate
//! limit, is no refusal: it says when to come back. Where it does not, a minute is right, and twice as long each time it says
//! so again.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::text::LABEL;
use crate::domain::Timestamp;
use crate::fetch::Answer;

/// Entries of a page of a list.
pub const PER_PAGE: usize = 100;
/// Pages looked through at most.
pub const MAX_PAGES: u32 = 10;
/// How long to stay away where a limit does not say, at first.
pub const LIMIT_PAUSE: Duration = Duration::from_secs(60);
/// Nobody stays away longer, whatever an answer says.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(2 * 3600);
/// How much of what GitHub says is kept.
const MAX_WORDS: usize = 200;

/// What is asked.
#[derive(Clone, PartialEq, Debug)]
pub enum Call {
    /// A page of our issues, those changed last first.
    Find {
        /// Closed ones too.
        closed_too: bool,
        /// From 1.
        page: u32,
    },
    /// One issue.
    Read(i64),
    /// A new issue.
    Create(Value),
    /// A page of an issue's comments.
    Comments {
        /// The issue.
        issue: i64,
        /// Not older.
        since: Timestamp,
        /// From 1.
        page: u32,
    },
    /// A comment on an issue.
    Comment(i64, Value),
    /// Opens an issue again.
    Reopen(i64),
    /// Closes an issue.
    Close(i64),
}

impl Call {
    /// For the log, and for the metrics, whose catalogue lists them.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Find { .. } => "find",
            Self::Read(_) => "read",
            Self::Create(_) => "create",
            Self::Comments { .. } => "comments",
            Self::Comment(..) => "comment",
            Self::Reopen(_) | Self::Close(_) => "change",
        }
    }

    /// Whether it changes something: GitHub wants a second between two of these.
    pub const fn is_write(&self) -> bool {
        !matches!(self, Self::Find { .. } | Self::Read(_) | Self::Comments { .. })
    }

    /// Method, path and body.
    pub fn request(&self, repository: &str) -> (&'static str, String, Option<Value>) {
        let issues = format!("/repos/{repository}/issues");
        let state = |state: &str| serde_json::json!({ "state": state });
        match self {
            Self::Find { closed_too, page } => {
                let state = if *closed_too { "all" } else { "open" };
                let order = "sort=updated&direction=desc";
                ("GET", format!("{issues}?labels={LABEL}&state={state}&{order}&per_page={PER_PAGE}&page={page}"), None)
            }
            Self::Read(issue) => ("GET", format!("{issues}/{issue}"), None),
            Self::Create(body) => ("POST", issues, Some(body.clone())),
            Self::Comments { issue, since, page } => {
                ("GET", format!("{issues}/{issue}/comments?since={since}&per_page={PER_PAGE}&page={page}"), None)
            }
            Self::Comment(issue, body) => ("POST", format!("{issues}/{issue}/comments"), Some(body.clone())),
            Self::Reopen(issue) => ("PATCH", format!("{issues}/{issue}"), Some(state("open"))),
            Self::Close(issue) => {
                let body = serde_json::json!({"state": "closed", "state_reason": "completed"});
                ("PATCH", format!("{issues}/{issue}"), Some(body))
            }
        }
    }
}

/// `owner/name` as GitHub allows them.
pub fn is_repository(text: &str) -> bool {
    let Some((owner, name)) = text.split_once('/') else { return false };
    let is_owner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=39).contains(&owner.len())
        && owner.bytes().all(is_owner)
        && (1..=100).contains(&name.len())
        && name.bytes().all(is_name)
        && !matches!(name, "." | "..")
}

/// An issue, or a comment.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Entry {
    #[serde(default)]
    pub number: i64,
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub body: Option<String>,
    /// Pull requests stand among the issues.
    #[serde(default)]
    pull_request: Option<Value>,
}

impl Entry {
    /// Whether it is an issue that is open.
    pub fn is_open(&self) -> bool {
        self.state == "open"
    }

    /// Its text.
    pub fn text(&self) -> &str {
        self.body.as_deref().unwrap_or_default()
    }

    /// Whether it is an issue at all.
    pub const fn is_issue(&self) -> bool {
        self.pull_request.is_none()
    }
}

/// Why a call came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// No answer, or one of a server that is not well: later.
    Away(String),
    /// Too much was asked: not before then, where it says when.
    Limited(Option<Timestamp>),
    /// It does not want to.
    Refused(String),
    /// The issue is not there (any more).
    Gone,
}

/// Judges an answer to `call`.
pub fn judge(call: &Call, answer: &Answer, now: Timestamp) -> Result<(), Trouble> {
    match answer.status {
        200..=299 => Ok(()),
        // 301: it was moved to another repository. (To a change 404 may also say that the token has no right to it.)
        301 | 404 | 410 if matches!(call, Call::Read(_)) => Err(Trouble::Gone),
        403 | 429 if is_limit(answer) => Err(Trouble::Limited(until(answer, now))),
        408 | 500.. => Err(Trouble::Away(words(call, answer))),
        _ => Err(Trouble::Refused(words(call, answer))),
    }
}

/// Until when the good answer wants us to stay away, if it does: nothing is left.
pub fn rest(answer: &Answer, now: Timestamp) -> Option<Timestamp> {
    let is_good = (200..300).contains(&answer.status);
    (is_good && is_used_up(answer)).then(|| until(answer, now).unwrap_or(now.plus(LIMIT_PAUSE)))
}

fn is_used_up(answer: &Answer) -> bool {
    answer.header("x-ratelimit-remaining").is_some_and(|left| left.trim() == "0")
}

fn is_limit(answer: &Answer) -> bool {
    let says_so = || {
        let said = message(answer).to_ascii_lowercase();
        ["rate limit", "abuse"].iter().any(|words| said.contains(words))
    };
    answer.status == 429 || answer.header("retry-after").is_some() || is_used_up(answer) || says_so()
}

/// `None` = it does not say.
fn until(answer: &Answer, now: Timestamp) -> Option<Timestamp> {
    let number = |name: &str| answer.header(name).and_then(|text| text.trim().parse::<u32>().ok());
    let pause = match (number("retry-after"), number("x-ratelimit-reset")) {
        (Some(seconds), _) => Duration::from_secs(u64::from(seconds)),
        (None, Some(reset)) if is_used_up(answer) => Timestamp(i64::from(reset) * 1_000_000).since(now),
        _ => return None,
    };
    Some(now.plus(pause.clamp(Duration::from_secs(1), LONGEST_PAUSE)))
}

fn message(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let said = body["message"].as_str().unwrap_or_default();
    said.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

fn words(call: &Call, answer: &Answer) -> String {
    let (status, said) = (answer.status, message(answer));
    let said = if said.is_empty() { said } else { format!(": {said}") };
    format!("GitHub answered {status} to {}{said}", call.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_770_890_400_000_000);

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Answer { status, headers, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_limit_says_when_to_come_back_and_is_no_refusal() {
        let check = |status: u16, headers: &[(&str, &str)], body: &str, seconds: Option<i64>| {
            let judged = judge(&Call::Create(Value::Null), &answer(status, headers, body), NOW);
            let until = seconds.map(|seconds| NOW.plus_us(seconds * 1_000_000));
            assert_eq!(judged, Err(Trouble::Limited(until)), "{status} {headers:?} {body}");
        };
        check(403, &[("retry-after", "30")], "", Some(30));
        check(429, &[("retry-after", "0")], "", Some(1));
        check(429, &[], "", None);
        check(429, &[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")], "", None);
        check(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1770890500")], "", Some(100));
        check(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")], "", Some(1));
        check(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "4000000000")], "", Some(7200));
        check(403, &[], r#"{"message": "You have exceeded a secondary rate limit."}"#, None);
    }

    #[test]
    fn other_answers_are_good_away_gone_or_a_refusal() {
        let check = |call: &Call, status: u16, body: &str, expected: Result<(), Trouble>| {
            assert_eq!(
                judge(call, &answer(status, &[("x-ratelimit-remaining", "7")], body), NOW),
                expected,
                "{status}"
            );
        };
        let (create, read) = (Call::Create(Value::Null), Call::Read(1));
        check(&create, 201, "", Ok(()));
        check(&read, 404, "", Err(Trouble::Gone));
        check(&read, 301, "", Err(Trouble::Gone));
        let refused = |words: &str| Err(Trouble::Refused(words.to_owned()));
        check(&create, 404, r#"{"message": "Not Found"}"#, refused("GitHub answered 404 to create: Not Found"));
        check(
            &create,
            403,
            r#"{"message": "Resource not accessible"}"#,
            refused("GitHub answered 403 to create: Resource not accessible"),
        );
        check(&create, 301, "<html>", refused("GitHub answered 301 to create"));
        check(&read, 401, "", refused("GitHub answered 401 to read"));
        check(&create, 502, "", Err(Trouble::Away("GitHub answered 502 to create".to_owned())));
    }

    #[test]
    fn who_has_nothing_left_rests_before_the_next_call() {
        let used_up = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1770890460")];
        assert_eq!(rest(&answer(200, &used_up, ""), NOW), Some(NOW.plus_us(60_000_000)));
        assert_eq!(rest(&answer(200, &[("x-ratelimit-remaining", "1")], ""), NOW), None);
        assert_eq!(rest(&answer(500, &used_up, ""), NOW), None);
    }

    #[test]
    fn a_repository_is_an_owner_and_a_name() {
        let check = |text: &str, good: bool| assert_eq!(is_repository(text), good, "{text}");
        check("iot-meter/iot-meter", true);
        check("a/b.c_d", true);
        check("a", false);
        check("a/b/c", false);
        check("a/..", false);
        check("a/b?x", false);
        check("/b", false);
        check("", false);
    }
}
