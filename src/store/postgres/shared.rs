//! The parts of a device's state that nodes need of each other, as JSON: what helps to judge the count, and who heard what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::states::CORRUPT;
use crate::domain::Timestamp;
use crate::domain::hearing::{Hearing, Hearings};
use crate::domain::presence::Connection;
use crate::domain::sequence::{Aside, Hints};
use crate::store::fault::Fault;

/// A number of the count and its time.
type Point = (u32, i64);

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before_step: Option<Point>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aside: Option<Point>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u32>,
}

/// `None` = there are none.
pub(super) fn hints_text(hints: &Hints) -> Option<String> {
    if *hints == Hints::default() {
        return None;
    }
    let point = |(number, ts): (u32, Timestamp)| (number, ts.0);
    let stored = Stored {
        before_step: hints.before_step.map(point),
        aside: hints.aside.map(|aside| point(aside.last)),
        since: hints.aside.and_then(|aside| aside.since),
    };
    Some(serde_json::to_string(&stored).expect("numbers always fit JSON"))
}

pub(super) fn hints(text: &str) -> Result<Hints, Fault> {
    let stored: Stored = serde_json::from_str(text).map_err(|_| CORRUPT)?;
    let point = |(number, ts): Point| (number, Timestamp(ts));
    Ok(Hints {
        before_step: stored.before_step.map(point),
        aside: stored.aside.map(|last| Aside { last: point(last), since: stored.since }),
    })
}

/// `None` = no node has heard it.
pub(super) fn heard_text(node: Uuid, heard: &Hearings) -> Option<String> {
    let own = heard.own.iter().map(|word| (node, *word));
    let word = |(node, word): (Uuid, Hearing)| (node.to_string(), (word.connection.name(), word.at.0));
    let words: BTreeMap<String, (&str, i64)> = own.chain(heard.elsewhere.iter().copied()).map(word).collect();
    (!words.is_empty()).then(|| serde_json::to_string(&words).expect("texts and numbers always fit JSON"))
}

pub(super) fn heard(node: Uuid, text: &str) -> Result<Hearings, Fault> {
    let words: BTreeMap<Uuid, (String, i64)> = serde_json::from_str(text).map_err(|_| CORRUPT)?;
    let mut heard = Hearings::default();
    for (of, (connection, at)) in words {
        let connection = Connection::from_name(&connection).ok_or(CORRUPT)?;
        let word = Hearing { connection, at: Timestamp(at) };
        if of == node { heard.own = Some(word) } else { heard.elsewhere.push((of, word)) }
    }
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_and_words_come_back_whole() {
        let point = |n: u32| Some((n, Timestamp(i64::from(n) - 7)));
        let all = [
            Hints::default(),
            Hints { before_step: point(u32::MAX), aside: None },
            Hints { before_step: None, aside: point(3).map(|last| Aside { last, since: None }) },
            Hints { before_step: point(0), aside: point(9).map(|last| Aside { last, since: Some(4) }) },
        ];
        for each in all {
            assert_eq!(hints_text(&each).map_or(Hints::default(), |text| hints(&text).unwrap()), each);
        }
        let (here, there) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let word = |connection, at| Hearing { connection, at: Timestamp(at) };
        let own = word(Connection::Online, 5);
        let both = Hearings { own: Some(own), elsewhere: vec![(there, word(Connection::Offline, 6))] };
        let text = heard_text(here, &both).unwrap();
        assert_eq!(heard(here, &text).unwrap(), both);
        let seen_there = Hearings { own: Some(both.elsewhere[0].1), elsewhere: vec![(here, own)] };
        assert_eq!(heard(there, &text).unwrap(), seen_there);
        assert_eq!(heard_text(here, &Hearings::default()), None);
    }
}
