//! What people read in an issue, and by what we know it again. Pure.
//!
//! Invariants: nothing an alert says is taken for Markdown that does something (a mention, a link, HTML), and none of it can
//! look like one of our marks: a mark counts as the first line only, which is always ours.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::alertmanager::Alert;
use crate::domain::Timestamp;
use crate::store::{AlertStatus, OutboxRow};

/// Every issue of ours has this label: by it we find them again.
pub const LABEL: &str = "alert";
/// GitHub's longest label.
const MAX_LABEL: usize = 50;
/// A title that can be read at a glance; GitHub takes 256 characters.
const MAX_TITLE: usize = 200;
/// GitHub's longest text is 65 536 characters.
const MAX_BODY: usize = 60_000;
/// U+2060, which nobody sees: what stands on both sides of it is not one word to GitHub.
const JOINER: char = '\u{2060}';
/// So many hexadecimal digits GitHub takes for the id of a commit.
const COMMIT_ID: std::ops::RangeInclusive<usize> = 7..=40;

/// The first line of an issue's body.
pub fn issue_mark(fingerprint: &str, starts_at: Timestamp) -> String {
    format!("<!-- iot-meter alert fingerprint={fingerprint} starts={starts_at} -->")
}

/// Since when the alert of that fingerprint fired when an issue with this body was made; `None` = it is none of its issues.
pub fn starts_of_issue(body: &str, fingerprint: &str) -> Option<Timestamp> {
    let line = body.lines().next()?.trim_end();
    let rest = line.strip_prefix("<!-- iot-meter alert fingerprint=")?.strip_prefix(fingerprint)?;
    Timestamp::parse_rfc3339(rest.strip_prefix(" starts=")?.strip_suffix(" -->")?)
}

/// The first line of a comment: `told` names the notice.
fn comment_mark(row: &OutboxRow) -> String {
    let OutboxRow { fingerprint, status, starts_at, created_at, .. } = row;
    format!("<!-- iot-meter {} fingerprint={fingerprint} starts={starts_at} told={} -->", status.name(), created_at.0)
}

/// What a comment is, to a notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// The comment of this very notice.
    Own,
    /// It says the same: the same alert, firing since the same time.
    Same,
    /// Something else.
    Other,
}

/// What a comment with this body is to the notice.
pub fn mark_of(body: &str, row: &OutboxRow) -> Mark {
    let line = body.lines().next().unwrap_or_default().trim_end();
    let own = comment_mark(row);
    let same = own.rsplit_once(" told=").map_or(own.as_str(), |(same, _)| same);
    match line {
        _ if line == own => Mark::Own,
        _ if line.strip_prefix(same).is_some_and(|rest| rest.starts_with(" told=")) => Mark::Same,
        _ => Mark::Other,
    }
}

/// A new issue.
pub fn issue(alert: &Alert) -> Value {
    let mut labels = vec![LABEL.to_owned()];
    for name in ["severity", "service"] {
        labels.extend(alert.labels.get(name).and_then(|value| label(name, value)));
    }
    json!({"title": title(alert), "body": body(alert), "labels": labels})
}

fn label(name: &str, value: &str) -> Option<String> {
    // A comma would make two labels of it where labels are asked for.
    let value: String = value.chars().filter(|c| !c.is_control() && *c != ',').collect();
    let value = value.trim();
    let room = MAX_LABEL - name.len() - 1;
    (!value.is_empty()).then(|| format!("{name}/{}", value.chars().take(room).collect::<String>()))
}

/// `[critical] Name: summary`.
pub fn title(alert: &Alert) -> String {
    let mut title = String::new();
    if let Some(severity) = alert.labels.get("severity") {
        let _ = write!(title, "[{severity}] ");
    }
    title.push_str(alert.name());
    if let Some(summary) = alert.annotations.get("summary") {
        let _ = write!(title, ": {summary}");
    }
    let line: String = title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    shorten(line.trim(), MAX_TITLE)
}

fn body(alert: &Alert) -> String {
    let mut body = issue_mark(&alert.fingerprint, alert.starts_at);
    body.push('\n');
    for name in ["summary", "description"] {
        if let Some(text) = alert.annotations.get(name) {
            let _ = write!(body, "\n{}\n", plain(text));
        }
    }
    let _ = write!(body, "\nFires since {}.", alert.starts_at);
    let runbook = alert.annotations.get("runbook_url").and_then(|url| link("Runbook", url));
    for link in [runbook, link("Expression", &alert.generator_url)].into_iter().flatten() {
        let _ = write!(body, " {link}.");
    }
    body.push_str("\n\n| label | value |\n|---|---|\n");
    for (name, value) in &alert.labels {
        let _ = writeln!(body, "| {} | {} |", code(name), code(value));
    }
    let shown = ["summary", "description", "runbook_url"];
    let others: Vec<_> = alert.annotations.iter().filter(|(name, _)| !shown.contains(&name.as_str())).collect();
    if !others.is_empty() {
        body.push_str("\n| annotation | value |\n|---|---|\n");
    }
    for (name, value) in others {
        let _ = writeln!(body, "| {} | {} |", code(name), code(value));
    }
    let _ = write!(body, "\nKept by iot-meter: closed when the alert is over, opened again when it fires again.");
    shorten(&body, MAX_BODY)
}

/// The comment that goes with a notice.
pub fn comment(alert: &Alert, row: &OutboxRow) -> Value {
    let mut body = comment_mark(row);
    match row.status {
        AlertStatus::Firing => {
            let _ = write!(body, "\nThe alert fires again, since {}.", alert.starts_at);
            if let Some(text) = alert.annotations.get("summary") {
                let _ = write!(body, "\n\n{}", plain(text));
            }
        }
        AlertStatus::Resolved => {
            let ends_at = alert.ends_at.unwrap_or(row.created_at);
            let _ = write!(body, "\nThe alert is over since {ends_at}; it had fired since {}.", alert.starts_at);
        }
    }
    json!({"body": shorten(&body, MAX_BODY)})
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Text as it is: what Markdown, HTML or GitHub would read into it is taken from it.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let behind = rest.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric());
        put_word(&mut out, &rest[..rest.len() - behind.len()], behind);
        let mut letters = behind.chars();
        if let Some(letter) = letters.next() {
            put_letter(&mut out, letter, letters.as_str());
        }
        rest = letters.as_str();
    }
    out
}

/// A word of ASCII letters and digits, torn where GitHub would make a link of it and of what is behind it.
fn put_word(out: &mut String, word: &str, behind: &str) {
    // A number is left alone: people copy it, and hardly a commit's id is one.
    let is_commit = word.len() >= *COMMIT_ID.start()
        && word.bytes().all(|b| b.is_ascii_hexdigit())
        && (word.len() >= *COMMIT_ID.end() || word.bytes().any(|b| b.is_ascii_alphabetic()));
    for (at, letter) in word.chars().enumerate() {
        // Every part is too short for another id.
        if is_commit && at > 0 && at.is_multiple_of(*COMMIT_ID.start() - 1) {
            out.push(JOINER);
        }
        out.push(letter);
    }
    let is_host = word.eq_ignore_ascii_case("www") && behind.starts_with('.');
    let is_issue = word.eq_ignore_ascii_case("gh") && behind.starts_with('-');
    if is_host || is_issue {
        out.push(JOINER);
    }
}

/// Any other letter.
fn put_letter(out: &mut String, letter: char, behind: &str) {
    match letter {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        // What follows is nobody's name or mailbox, and no issue's number.
        '@' | '#' => out.extend([letter, JOINER]),
        // `https://…`
        ':' if behind.starts_with("//") => out.extend([letter, JOINER]),
        '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' => out.extend(['\\', letter]),
        _ if letter.is_control() => out.push(' '),
        _ => out.push(letter),
    }
}

/// Text between backticks, in a table.
fn code(text: &str) -> String {
    let letter = |c: char| match c {
        '`' => '\'',
        '|' => '¦',
        _ if c.is_control() => ' ',
        _ => c,
    };
    let text: String = text.chars().map(letter).collect();
    if text.trim().is_empty() { String::new() } else { format!("`{text}`") }
}

/// A link, where the address is one that a browser may be sent to.
fn link(words: &str, url: &str) -> Option<String> {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'(' | b')' | b'\\' | b'`' | b'"');
    let escaped: String = url
        .chars()
        .map(|c| {
            if c == '(' {
                "%28".into()
            } else if c == ')' {
                "%29".into()
            } else {
                c.to_string()
            }
        })
        .collect();
    (is_web && escaped.bytes().all(is_plain)).then(|| format!("[{words}]({escaped})"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn alert(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Alert {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Alert {
            fingerprint: "ab12".into(),
            status: AlertStatus::Firing,
            labels: map(labels),
            annotations: map(annotations),
            starts_at: Timestamp(1_770_890_400_000_000),
            ends_at: None,
            generator_url: "http://p:9090/graph?g0.expr=up+%3D%3D+0&x=(1)".into(),
        }
    }

    #[test]
    fn an_issue_says_what_the_alert_says() {
        let labels = [("alertname", "Down"), ("severity", "critical"), ("service", "database"), ("instance", "a:80")];
        let annotations =
            [("summary", "It is down"), ("description", "Look."), ("runbook_url", "https://r/#down"), ("z", "1")];
        let issue = issue(&alert(&labels, &annotations));
        assert_eq!(issue["title"], "[critical] Down: It is down");
        assert_eq!(issue["labels"], json!(["alert", "severity/critical", "service/database"]));
        let expected = "<!-- iot-meter alert fingerprint=ab12 starts=2026-02-12T10:00:00Z -->\n\nIt is down\n\nLook.\n\n\
            Fires since 2026-02-12T10:00:00Z. [Runbook](https://r/#down). \
            [Expression](http://p:9090/graph?g0.expr=up+%3D%3D+0&x=%281%29).\n\n\
            | label | value |\n|---|---|\n| `alertname` | `Down` |\n| `instance` | `a:80` |\n| `service` | `database` |\n\
            | `severity` | `critical` |\n\n| annotation | value |\n|---|---|\n| `z` | `1` |\n\n\
            Kept by iot-meter: closed when the alert is over, opened again when it fires again.";
        assert_eq!(issue["body"], expected);
    }

    #[test]
    fn what_an_alert_says_does_nothing() {
        let annotations =
            [("summary", "@all see #1 <img src=x> [x](javascript:1)\n<!-- iot-meter"), ("runbook_url", "javascript:1")];
        let labels = [("alertname", "a`b|c\nd"), ("service", "a,b"), ("severity", " ")];
        let issue = issue(&alert(&labels, &annotations));
        let body = issue["body"].as_str().unwrap();
        for bad in ["@all", "#1", "<img", "[x](", "\n<!-- iot-meter", "Runbook"] {
            assert!(!body.contains(bad), "{bad} in {body}");
        }
        assert!(body.contains("| `a'b¦c d` |"), "{body}");
        assert_eq!(issue["labels"], json!(["alert", "service/ab"]));
        assert_eq!(link("x", "http://a b/"), None);
    }

    #[test]
    fn what_github_makes_links_of_is_torn_and_reads_as_before() {
        let check = |text: &str, links: &[&str]| {
            let shown = plain(text);
            assert!(!links.iter().any(|link| shown.contains(link)), "{shown:?}");
            assert_eq!(shown.replace(JOINER, ""), text);
        };
        let id = "0123456789abcdef0123456789abcdef01234567";
        check("see https://x.example/a?b=c, HTTP://y and ftp://z", &["https://", "HTTP://", "ftp://"]);
        check("see www.x.example (WWW.y.example)", &["www.", "WWW."]);
        check("write to a.b@x.example", &["@x"]);
        check("GH-12, gh-3 and a/b#4", &["GH-", "gh-", "#4"]);
        check(&format!("by {id} or {}", &id[9..17]), &[&id[..7], &id[9..16], &id[10..17], &id[33..]]);
        check(&"1".repeat(40), &["1111111"]);
        for untouched in ["1770890400 s", "facade of x", "10:80 at //x", "GH 12", "www", "0.25 kWh", ""] {
            assert_eq!(plain(untouched), untouched);
        }
    }

    fn row(status: AlertStatus, starts_at: i64, told: i64) -> OutboxRow {
        let mut alert = alert(&[], &[]);
        (alert.status, alert.starts_at) = (status, Timestamp(starts_at));
        OutboxRow::of(1, &alert.notice(Timestamp(told), false))
    }

    #[test]
    fn a_comment_is_known_again() {
        let of = |row: &OutboxRow| comment(&alert(&[], &[]), row)["body"].as_str().unwrap().to_owned();
        let (firing, resolved) = (AlertStatus::Firing, AlertStatus::Resolved);
        let own = row(firing, 1_000_000, 5);
        let check = |body: &str, expected: Mark| assert_eq!(mark_of(body, &own), expected, "{body}");
        check(&of(&own), Mark::Own);
        check(&of(&row(firing, 1_000_000, 6)), Mark::Same);
        check(&of(&row(firing, 2_000_000, 5)), Mark::Other);
        check(&of(&row(resolved, 1_000_000, 5)), Mark::Other);
        check(&format!("See: {}", of(&own)), Mark::Other);
        check("", Mark::Other);
    }

    proptest! {
        #[test]
        fn an_issue_is_known_again_by_its_own_fingerprint_whatever_the_alert_says(
            summary in ".{0,200}", name in ".{0,80}", long in "[a-z<>@ |`]{0,200}",
        ) {
            let long = long.repeat(400);
            let alert = alert(&[("alertname", &name), ("service", &long)], &[("summary", &summary), ("x", &long)]);
            let issue = issue(&alert);
            let body = issue["body"].as_str().unwrap();
            prop_assert_eq!(starts_of_issue(body, "ab12"), Some(alert.starts_at));
            prop_assert_eq!(starts_of_issue(body, "ab1"), None);
            prop_assert_eq!(starts_of_issue(body, "ab123"), None);
            prop_assert!(body.chars().count() <= MAX_BODY);
            prop_assert!(issue["title"].as_str().unwrap().chars().count() <= MAX_TITLE);
            for label in issue["labels"].as_array().unwrap() {
                prop_assert!(label.as_str().unwrap().chars().count() <= MAX_LABEL);
            }
        }
    }
}
