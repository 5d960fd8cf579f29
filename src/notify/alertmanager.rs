//! What Alertmanager says: the body of its webhook, version 4, read and judged. Pure.
//!
//! ```text
//! {"version": "4", "status", "receiver", "groupKey", "externalURL", …,
//!  "alerts": [{"status": "firing"|"resolved", "labels": {…}, "annotations": {…}, "startsAt", "endsAt", "generatorURL",
//!              "fingerprint"}]}
//! ```
//!
//! Members that are not needed, and those of a newer Alertmanager, are passed over. An alert that is kept is kept in the same
//! form, so that there is one reader. Invariant: what was read is bounded, and has no character 0.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::domain::Timestamp;
use crate::store::{AlertStatus, Notice};

/// The one version there is (since 2015).
pub const VERSION: &str = "4";
/// The members of the body that are read.
pub const MEMBERS: [&str; 2] = ["version", "alerts"];
/// Most alerts of one body.
pub const MAX_ALERTS: usize = 1000;
/// Most labels, and most annotations, of an alert.
const MAX_PAIRS: usize = 64;
/// Longest value, in characters; what is longer is cut.
const MAX_VALUE: usize = 2048;
/// Most faults named at once.
const MAX_COMPLAINTS: usize = 20;

/// An alert.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Alert {
    pub fingerprint: String,
    pub status: AlertStatus,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub starts_at: Timestamp,
    /// When it was over, as far as that is known.
    pub ends_at: Option<Timestamp>,
    pub generator_url: String,
}

/// A member and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Complaint {
    pub field: String,
    pub message: String,
}

/// Reads the members of a body. Of an alert that is in it twice the last counts.
pub fn read(members: &Map<String, Value>) -> Result<Vec<Alert>, Vec<Complaint>> {
    let mut complaints = Vec::new();
    match members.get("version") {
        Some(Value::String(version)) if version == VERSION => {}
        Some(Value::String(version)) => {
            let version: String = version.chars().take(20).collect();
            complain(
                &mut complaints,
                "version",
                format!("{version:?} is not known; this server reads version {VERSION}"),
            );
        }
        Some(_) => complain(&mut complaints, "version", "must be a string"),
        None => complain(&mut complaints, "version", "is required"),
    }
    let none = Vec::new();
    let items = match members.get("alerts") {
        Some(Value::Array(items)) if items.len() <= MAX_ALERTS => items,
        Some(Value::Array(_)) => {
            complain(&mut complaints, "alerts", format!("must be at most {MAX_ALERTS} (see max_alerts)"));
            &none
        }
        Some(_) => {
            complain(&mut complaints, "alerts", "must be an array");
            &none
        }
        None => {
            complain(&mut complaints, "alerts", "is required");
            &none
        }
    };
    let mut alerts: Vec<Alert> = Vec::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        let alert = Alert::read(item, &format!("alerts[{place}]"), &mut complaints);
        if complaints.len() >= MAX_COMPLAINTS {
            break;
        }
        if let Some(alert) = alert {
            alerts.retain(|other| other.fingerprint != alert.fingerprint);
            alerts.push(alert);
        }
    }
    if complaints.is_empty() { Ok(alerts) } else { Err(complaints) }
}

fn complain(complaints: &mut Vec<Complaint>, field: &str, message: impl Into<String>) {
    complaints.push(Complaint { field: field.to_owned(), message: message.into() });
}

impl Alert {
    /// An alert as it was kept.
    pub fn of_json(text: &str) -> Option<Self> {
        let value = serde_json::from_str(text).ok()?;
        let mut complaints = Vec::new();
        Self::read(&value, "alert", &mut complaints).filter(|_| complaints.is_empty())
    }

    /// To be kept.
    pub fn to_json(&self) -> String {
        json!({
            "status": self.status.name(),
            "labels": self.labels,
            "annotations": self.annotations,
            "startsAt": self.starts_at.to_string(),
            "endsAt": self.ends_at.map(|at| at.to_string()),
            "generatorURL": self.generator_url,
            "fingerprint": self.fingerprint,
        })
        .to_string()
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("alert", String::as_str)
    }

    /// The notice of it, told at that time.
    pub fn notice(&self, at: Timestamp, is_dry: bool) -> Notice {
        Notice {
            fingerprint: self.fingerprint.clone(),
            status: self.status,
            starts_at: self.starts_at,
            name: self.name().to_owned(),
            body: self.to_json(),
            at,
            is_dry,
        }
    }

    fn read(item: &Value, at: &str, complaints: &mut Vec<Complaint>) -> Option<Self> {
        let Value::Object(members) = item else {
            complain(complaints, at, "must be an object");
            return None;
        };
        let before = complaints.len();
        let mut text = |name: &str, what: &str| match members.get(name) {
            Some(Value::String(text)) => Some(text.as_str()),
            other => {
                let message = if other.is_none() { "is required".to_owned() } else { format!("must be {what}") };
                complain(complaints, &format!("{at}.{name}"), message);
                None
            }
        };
        let status = text("status", "firing or resolved");
        let fingerprint = text("fingerprint", "a string");
        let starts_at = text("startsAt", "a time");
        let mut check = |name: &str, is_good: bool, message: &str| {
            if !is_good {
                complain(complaints, &format!("{at}.{name}"), message);
            }
        };
        let status = status.map(|s| (AlertStatus::from_name(s), s)).map(|(s, _)| s);
        check("status", status != Some(None), "must be firing or resolved");
        let is_hex =
            |f: &&str| (1..=64).contains(&f.len()) && f.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        check("fingerprint", fingerprint.as_ref().is_none_or(is_hex), "must be 1 to 64 hexadecimal digits");
        let starts_at = starts_at.map(Timestamp::parse_rfc3339);
        check("startsAt", starts_at != Some(None), "must be a time such as 2026-02-12T10:00:00Z");
        let labels = pairs(members.get("labels"));
        check("labels", labels.is_some(), "must be an object of strings");
        let annotations = pairs(members.get("annotations"));
        check("annotations", annotations.is_some(), "must be an object of strings");
        if complaints.len() > before {
            return None;
        }
        let optional = |name: &str| members.get(name).and_then(Value::as_str);
        Some(Self {
            fingerprint: fingerprint?.to_owned(),
            status: status??,
            labels: labels?,
            annotations: annotations?,
            starts_at: starts_at??,
            // The zero of Go's clock, the year 1, says that it is not known.
            ends_at: optional("endsAt").and_then(Timestamp::parse_rfc3339).filter(|at| at.0 > 0),
            generator_url: cut(optional("generatorURL").unwrap_or_default()),
        })
    }
}

/// Texts by name; absent is empty, anything else than texts is none.
fn pairs(value: Option<&Value>) -> Option<BTreeMap<String, String>> {
    match value {
        None | Some(Value::Null) => Some(BTreeMap::new()),
        Some(Value::Object(members)) => {
            let pair = |(name, value): (&String, &Value)| Some((cut(name), cut(value.as_str()?)));
            members.iter().take(MAX_PAIRS).map(pair).collect()
        }
        Some(_) => None,
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(MAX_VALUE).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body() -> Value {
        json!({
            "version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "r", "truncatedAlerts": 0, "new": [1],
            "alerts": [{
                "status": "firing", "labels": {"alertname": "Down", "severity": "critical"},
                "annotations": {"summary": "It is down"}, "startsAt": "2026-02-12T11:00:00.123456789+01:00",
                "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://p/graph", "fingerprint": "1a30ba71cca2921f",
            }],
        })
    }

    fn judge(body: &Value) -> Result<Vec<Alert>, Vec<String>> {
        let read = read(body.as_object().unwrap());
        read.map_err(|complaints| complaints.iter().map(|c| format!("{} {}", c.field, c.message)).collect())
    }

    #[test]
    fn what_alertmanager_sends_is_read() {
        let alerts = judge(&body()).unwrap();
        assert_eq!((alerts.len(), alerts[0].name(), alerts[0].ends_at), (1, "Down", None));
        assert_eq!(alerts[0].starts_at, Timestamp(1_770_890_400_123_456));
        assert_eq!(Alert::of_json(&alerts[0].to_json()).as_ref(), Some(&alerts[0]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |path: &str, value: Value, expected: &str| {
            let mut body = body();
            *body.pointer_mut(path).unwrap() = value;
            assert_eq!(judge(&body).unwrap_err(), [expected], "{path}");
        };
        check("/version", json!("5"), "version \"5\" is not known; this server reads version 4");
        check("/version", json!(4), "version must be a string");
        check("/alerts", json!({}), "alerts must be an array");
        check("/alerts", json!(vec![1; 1001]), "alerts must be at most 1000 (see max_alerts)");
        check("/alerts/0", json!(1), "alerts[0] must be an object");
        check("/alerts/0/status", json!("on"), "alerts[0].status must be firing or resolved");
        check("/alerts/0/fingerprint", json!("../x"), "alerts[0].fingerprint must be 1 to 64 hexadecimal digits");
        check("/alerts/0/startsAt", json!("now"), "alerts[0].startsAt must be a time such as 2026-02-12T10:00:00Z");
        check("/alerts/0/labels", json!({"a": 1}), "alerts[0].labels must be an object of strings");
        let missing = judge(&json!({"alerts": [{}]})).unwrap_err();
        let expected = ["version", "alerts[0].status", "alerts[0].fingerprint", "alerts[0].startsAt"];
        assert_eq!(missing, expected.map(|field| format!("{field} is required")));
        assert_eq!(judge(&json!({"version": "4", "alerts": vec![1; 900]})).unwrap_err().len(), MAX_COMPLAINTS);
    }

    #[test]
    fn of_an_alert_that_is_in_it_twice_the_last_counts() {
        let mut twice = body();
        let mut again = twice["alerts"][0].clone();
        again["status"] = json!("resolved");
        twice["alerts"].as_array_mut().unwrap().push(again);
        let alerts = judge(&twice).unwrap();
        assert_eq!(alerts.iter().map(|a| a.status).collect::<Vec<_>>(), [AlertStatus::Resolved]);
    }

    proptest! {
        #[test]
        fn whatever_was_read_is_bounded_and_reads_the_same_again(
            labels in proptest::collection::btree_map("\\PC{0,9}", ".{0,3000}", 0..70), name in ".{0,9}", hex in "[0-9a-f]{1,64}",
        ) {
            let mut body = body();
            body["alerts"][0]["labels"] = json!(labels);
            body["alerts"][0]["labels"]["alertname"] = json!(name);
            body["alerts"][0]["fingerprint"] = json!(hex);
            let alerts = judge(&body).unwrap();
            let alert = &alerts[0];
            prop_assert!(alert.labels.len() <= MAX_PAIRS);
            prop_assert!(alert.labels.values().all(|v| v.chars().count() <= MAX_VALUE && !v.contains('\0')));
            let again = Alert::of_json(&alert.to_json());
            prop_assert_eq!(again.as_ref(), Some(alert));
        }

        #[test]
        fn nothing_makes_the_reader_panic(text in "[\\[\\]{}\":,a-z0-9]{0,200}") {
            if let Ok(Value::Object(members)) = serde_json::from_str(&text) {
                let _ = read(&members);
            }
            prop_assert!(Alert::of_json(&text).is_none());
        }
    }
}
