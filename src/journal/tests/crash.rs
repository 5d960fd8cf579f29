//! The journal against a vector, under crashes at random places.
//!
//! A crash: the sync fails, so that the last write is on file and not acknowledged; then the bytes behind the last sync
//! are cut, changed, zeroed or followed by rubbish, as they may be after power loss.

use std::path::Path;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::super::{Journal, Offset, Options};
use super::{Faults, drain, entry, options, payload};

/// One append: sizes of its records.
type Append = Vec<usize>;

/// What happens to the bytes that were not synced. Places are parts of their length.
#[derive(Clone, Debug)]
enum Mangle {
    Keep,
    Cut(f64),
    Zero(f64, f64),
    Flip(Vec<f64>),
    Rubbish(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Life {
    synced: Vec<Append>,
    /// Appended behind the last sync; none: the journal is closed instead.
    torn: Vec<Append>,
    mangle: Mangle,
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let append = || prop::collection::vec(0_usize..700, 1..6);
    let part = || 0.0..1.0_f64;
    let mangle = prop_oneof![
        Just(Mangle::Keep),
        part().prop_map(Mangle::Cut),
        (part(), part()).prop_map(|(a, b)| Mangle::Zero(a, b)),
        prop::collection::vec(part(), 1..4).prop_map(Mangle::Flip),
        prop::collection::vec(any::<u8>(), 1..200).prop_map(Mangle::Rubbish),
    ];
    let life = (prop::collection::vec(append(), 0..5), prop::collection::vec(append(), 0..4), mangle);
    prop::collection::vec(life.prop_map(|(synced, torn, mangle)| Life { synced, torn, mangle }), 1..5)
}

/// Applies the crash to what lies behind `synced` in the newest segment.
fn apply(mangle: &Mangle, path: &Path, synced: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let written = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1).max(synced);
    let place = |part: f64| synced + ((written - synced) as f64 * part) as usize;
    match mangle {
        Mangle::Keep => {}
        Mangle::Cut(at) => bytes.truncate(place(*at)),
        Mangle::Zero(a, b) => bytes[place(a.min(*b))..place(a.max(*b))].fill(0),
        Mangle::Flip(_) if written == synced => {}
        Mangle::Flip(places) => places.iter().for_each(|at| bytes[place(*at)] ^= 0x55),
        Mangle::Rubbish(rubbish) => {
            bytes.truncate(written);
            bytes.extend(rubbish);
        }
    }
    std::fs::write(path, bytes).unwrap();
}

async fn append_all(journal: &Journal, model: &mut Vec<Vec<u8>>, append: &Append) -> Option<Offset> {
    let first = model.len() as u64;
    let payloads: Vec<_> = append.iter().zip(first..).map(|(len, n)| payload(n, *len)).collect();
    let entries: Vec<_> = payloads.iter().map(|p| entry(p)).collect();
    let end = journal.append(&entries).await.ok()?;
    assert_eq!(end.0, first + append.len() as u64);
    model.extend(payloads);
    Some(end)
}

/// Opens the journal and compares it; returns it with the model cut to what survived.
fn reopen(faults: &std::sync::Arc<Faults>, options: &Options, model: &mut Vec<Vec<u8>>, acked: usize) -> Journal {
    let (journal, recovery) = faults.open(options).expect("a crash is never damage");
    let head = recovery.head.0 as usize;
    assert!((acked..=model.len()).contains(&head), "{acked} were acknowledged, {head} are there");
    model.truncate(head);
    let found = drain(&mut journal.reader(Offset(0)).unwrap());
    assert_eq!(found.len(), head);
    for ((offset, payload), (n, expected)) in found.iter().zip(model.iter().enumerate()) {
        assert_eq!((*offset, payload), (n as u64, expected));
    }
    journal
}

async fn live(options: &Options, lives: &[Life]) {
    let mut model = Vec::new();
    let mut acked = 0;
    for life in lives {
        let faults = Faults::none();
        let journal = reopen(&faults, options, &mut model, acked);
        for append in &life.synced {
            let end = append_all(&journal, &mut model, append).await.unwrap();
            journal.wait_durable(end).await.unwrap();
        }
        acked = model.len();
        if life.torn.is_empty() {
            journal.close().await.unwrap();
            continue;
        }
        // Where the last sync reached; nothing was synced in this life: what opening found and synced.
        let newest = *super::super::disk::list(&options.dir).unwrap().last().unwrap();
        let bytes = journal.status().bytes as usize;
        let sealed: usize = super::super::disk::list(&options.dir)
            .unwrap()
            .iter()
            .filter(|first| **first != newest)
            .map(|first| std::fs::metadata(super::segment(options, *first)).unwrap().len() as usize)
            .sum();
        faults.fail_sync.store(true, Ordering::SeqCst);
        for append in &life.torn {
            append_all(&journal, &mut model, append).await;
        }
        journal.failed().await;
        drop(journal);
        apply(&life.mangle, &super::segment(options, newest), bytes - sealed);
    }
    reopen(&Faults::none(), options, &mut model, acked);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_acknowledged_record_survives_any_crash_and_nothing_else_appears(lives in lives()) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(live(&options(dir.path()), &lives));
    }
}
