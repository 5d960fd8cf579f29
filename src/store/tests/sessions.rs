//! What the broker saves comes back as it was: sessions, their messages in order, retained messages.

use std::collections::BTreeMap;

use super::*;

fn bytes(text: &str) -> bytes::Bytes {
    text.as_bytes().to_vec().into()
}

fn changed(client_id: &str, state: Option<&str>, put: &[(u64, &str)], removed: &[u64]) -> SessionChange {
    let put = put.iter().map(|(at, message)| (*at, bytes(message))).collect();
    let change = SessionSave::Changed { state: state.map(bytes), put, removed: removed.to_vec() };
    SessionChange { client_id: client_id.into(), change }
}

fn ended(client_id: &str) -> SessionChange {
    SessionChange { client_id: client_id.into(), change: SessionSave::Ended }
}

fn session(client_id: &str, state: &str, messages: &[(u64, &str)]) -> SavedSession {
    let messages = messages.iter().map(|(at, message)| (*at, message.as_bytes().to_vec())).collect();
    SavedSession { client_id: client_id.into(), state: state.into(), messages }
}

fn retained(topic: &str, message: Option<&str>) -> RetainedChange {
    RetainedChange { topic: topic.into(), message: message.map(bytes) }
}

/// Everything saved, by client id.
fn sessions(store: &dyn Store) -> Vec<SavedSession> {
    let mut all = Vec::new();
    store.load_sessions(&mut |session| all.push(session)).unwrap();
    all.sort_by(|a, b| a.client_id.cmp(&b.client_id));
    all
}

fn retained_of(store: &dyn Store) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    store
        .load_retained(&mut |topic, message| {
            let before = all.insert(topic, String::from_utf8(message).unwrap());
            assert_eq!(before, None, "a topic has one message");
        })
        .unwrap();
    all
}

fn end_all(store: &dyn Store) {
    let all: Vec<_> = sessions(store).iter().map(|s| ended(&s.client_id)).collect();
    let topics: Vec<_> = retained_of(store).keys().map(|topic| retained(topic, None)).collect();
    store.save_sessions(&all, &topics).unwrap();
}

pub(super) fn a_session_comes_back_as_it_was_last_saved(store: &dyn Store) {
    assert_eq!(sessions(store), []);
    store.save_sessions(&[], &[]).unwrap();
    let save = |change: SessionChange| store.save_sessions(&[change], &[]).unwrap();
    save(changed("a/é ", Some("one\0\u{1}"), &[(7, "seven"), (3, "three"), (i64::MAX as u64, "last"), (0, "")], &[]));
    let last = (i64::MAX as u64, "last");
    let expected = [session("a/é ", "one\0\u{1}", &[(0, ""), (3, "three"), (7, "seven"), last])];
    assert_eq!(sessions(store), expected, "messages by position");
    save(changed("a/é ", None, &[(3, "drei"), (5, "five")], &[7, 99]));
    save(changed("a/é ", Some(""), &[], &[]));
    save(changed("A/é ", Some("another"), &[(1, "x")], &[]));
    let expected =
        [session("A/é ", "another", &[(1, "x")]), session("a/é ", "", &[(0, ""), (3, "drei"), (5, "five"), last])];
    assert_eq!(sessions(store), expected);
    save(changed("a/é ", None, &[(3, "kept")], &[0, 3, 5, last.0]));
    assert_eq!(sessions(store)[1].messages, [(3, b"kept".to_vec())], "what is removed and put is put");
    end_all(store);
}

pub(super) fn an_ended_session_goes_with_its_messages(store: &dyn Store) {
    let messages = [(1, "m"), (2, "n")];
    store.save_sessions(&[changed("goes", Some("s"), &messages, &[]), ended("never-was")], &[]).unwrap();
    store.save_sessions(&[changed("stays", Some("s"), &messages, &[])], &[]).unwrap();
    store.save_sessions(&[ended("goes")], &[]).unwrap();
    assert_eq!(sessions(store), [session("stays", "s", &messages)]);
    // In one save the changes of a session apply in their order.
    let again = [ended("stays"), changed("stays", Some("new"), &[(9, "o")], &[]), changed("stays", None, &[], &[9])];
    store.save_sessions(&again, &[]).unwrap();
    assert_eq!(sessions(store), [session("stays", "new", &[])]);
    end_all(store);
    store.save_sessions(&[changed("goes", Some("t"), &[], &[])], &[]).unwrap();
    assert_eq!(sessions(store), [session("goes", "t", &[])], "nothing is left of the session of that name");
    end_all(store);
}

pub(super) fn a_topic_has_the_retained_message_saved_last(store: &dyn Store) {
    assert!(retained_of(store).is_empty());
    let save = |changes: &[RetainedChange]| store.save_sessions(&[], changes).unwrap();
    save(&[retained("a/b", Some("1")), retained("A/b", Some("2")), retained("$x", Some("3"))]);
    save(&[retained("a/b", Some("new")), retained("$x", None), retained("never", None)]);
    let all = |pairs: &[(&str, &str)]| pairs.iter().map(|(t, m)| ((*t).into(), (*m).into())).collect();
    assert_eq!(retained_of(store), all(&[("a/b", "new"), ("A/b", "2")]));
    save(&[retained("a/b", None), retained("a/b", Some("last"))]);
    assert_eq!(retained_of(store), all(&[("a/b", "last"), ("A/b", "2")]), "in their order");
    end_all(store);
}

pub(super) fn a_save_that_fails_leaves_nothing_half_done(store: &dyn Store) {
    store.save_sessions(&[changed("s", Some("old"), &[(1, "old")], &[])], &[retained("t", Some("old"))]).unwrap();
    let too_far = changed("s", Some("new"), &[(1, "new"), (u64::MAX, "beyond")], &[]);
    let unknown = changed("unknown", None, &[(1, "of nobody")], &[]);
    for bad in [too_far, unknown] {
        let all = [changed("s", Some("new"), &[(2, "new")], &[1]), changed("z", Some("new"), &[], &[]), bad];
        let error = store.save_sessions(&all, &[retained("t", None)]).unwrap_err();
        assert!(!error.is_transient(), "{error:?}");
        assert_eq!(sessions(store), [session("s", "old", &[(1, "old")])]);
        assert_eq!(retained_of(store)["t"], "old");
    }
    end_all(store);
}

/// More than one transaction takes: what follows a bad session may be missing, and each one that is there is whole.
pub(super) fn a_large_save_that_fails_is_cut_between_sessions(store: &dyn Store) {
    const SESSIONS: u64 = 100;
    let messages = |n: u64| (0..n + 100).map(|at| (at, bytes(&format!("{n} {at}")))).collect();
    let name = |n: u64| format!("large-{n:03}");
    let whole = |n: u64| {
        let change = SessionSave::Changed { state: Some(bytes("s")), put: messages(n), removed: Vec::new() };
        SessionChange { client_id: name(n), change }
    };
    let mut all: Vec<_> = (0..SESSIONS).map(whole).collect();
    all.push(changed("bad", None, &[(0, "")], &[]));
    let topics: Vec<_> = (0..SESSIONS).map(|n| retained(&name(n), Some("kept"))).collect();
    store.save_sessions(&all, &topics).unwrap_err();
    let saved = sessions(store);
    for (n, session) in saved.iter().enumerate() {
        assert_eq!((session.client_id.clone(), session.messages.len()), (name(n as u64), n + 100), "half a session");
    }
    assert_eq!(retained_of(store).len(), 0, "they stand behind the bad one");
    all.pop();
    store.save_sessions(&all, &topics).unwrap();
    let mut count = 0;
    let mut each = |session: SavedSession| {
        let n: u64 = session.client_id["large-".len()..].parse().unwrap();
        let expected: Vec<_> = (0..n + 100).map(|at| (at, format!("{n} {at}").into_bytes())).collect();
        assert_eq!(session.messages, expected);
        count += 1;
    };
    store.load_sessions(&mut each).unwrap();
    assert_eq!((count, retained_of(store).len()), (SESSIONS, SESSIONS as usize));
    end_all(store);
    assert_eq!(sessions(store), []);
}
