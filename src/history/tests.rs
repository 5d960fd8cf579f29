//! Against a model: every message that was ever received, once and in order, wherever it is by now.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::archive::testing::{Shelf, WINDOW};
use crate::domain::metric::Known;
use crate::domain::{Body, Message, Metric, Sequence, Telemetry};
use crate::payload::{self, Form, Kind, Window};
use crate::store::Batch;

const T: i64 = 1_770_890_400_000_000;
const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1440 * MINUTE;

/// A database and an archive that have received the same.
struct Bench {
    runtime: tokio::runtime::Runtime,
    store: SharedStore,
    shelf: Shelf,
    history: History,
    device: DeviceId,
    model: BTreeMap<(i64, i64), TelemetryRow>,
    /// All times at which a message was received.
    received: BTreeMap<(i64, i64), Vec<Timestamp>>,
    /// By which messages are judged when they come.
    window: Window,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::over(|dir| format!("sqlite://{}/x.db", dir.display()))
    }

    /// On the database of that URL; given is a folder for it.
    fn over(url: impl FnOnce(&std::path::Path) -> String) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = store::open(&url(dir.path())).unwrap();
        let shelf = Shelf::in_dir(&dir.path().join("archive"), &runtime);
        let history = History::new(Arc::clone(&store), shelf.reader());
        let device = DeviceId::parse("m-1").unwrap();
        let (model, received) = Default::default();
        Self { runtime, store, shelf, history, device, model, received, window: WINDOW, dir }
    }

    fn payload(&self, ts: i64, seq: u32) -> Vec<u8> {
        let mut values = Telemetry::default();
        values.push(-500_000, Metric::Known(Known::VoltageDc), None, 750.0 + f64::from(seq));
        values.push(0, Metric::Known(Known::CurrentDc), None, -0.3);
        let (seq, body) = (Sequence::Counted(seq), Body::Telemetry(values));
        let message = Message { device: self.device.clone(), ts: Timestamp(ts), seq, version: 2, body };
        payload::encode(&message, Form::Json)
    }

    /// Messages of (received, ts, seq) reach archive and database.
    fn receive(&mut self, messages: &[(i64, i64, u32)]) {
        let raw: Vec<_> = messages.iter().map(|&(at, ts, seq)| (Timestamp(at), self.payload(ts, seq))).collect();
        self.shelf.put(&self.device.clone(), &raw);
        let mut batch = Batch::default();
        for (received_at, bytes) in &raw {
            let decoded = payload::decode(&self.device, Kind::Telemetry, "", bytes, *received_at, self.window).unwrap();
            let Body::Telemetry(values) = decoded.body else { panic!("is telemetry") };
            let (ts, seq, device) = (decoded.ts, decoded.seq, self.device.clone());
            let row = TelemetryRow { device, ts, seq, received_at: *received_at, values };
            let key = (ts.0, seq.to_i64());
            self.model.entry(key).or_insert_with(|| row.clone());
            self.received.entry(key).or_default().push(*received_at);
            batch.telemetry.push(row);
        }
        self.store.commit(&batch).unwrap();
    }

    fn expected(&self, from: i64, to: i64) -> Vec<String> {
        self.model.range((from, i64::MIN)..(to, i64::MIN)).map(|(_, row)| show(row)).collect()
    }

    /// Reads a range; calls `meanwhile` with the number of rows so far before each row is taken.
    fn read(&self, from: i64, to: i64, mut meanwhile: impl FnMut(usize)) -> Result<Vec<String>, Error> {
        let mut rows = Vec::new();
        self.history.scan_telemetry(&self.device, Timestamp(from), Timestamp(to), &mut |row| {
            meanwhile(rows.len());
            let received = &self.received[&(row.ts.0, row.seq.to_i64())];
            assert!(received.contains(&row.received_at), "{row:?}, and not one of {received:?}");
            rows.push(show(&row));
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    /// Reads all of it again and again, while it is trimmed: each time less is left, and each time the trim (in minutes, at
    /// most so many rows) comes at another row of the reading.
    fn read_while_it_goes(&self, trims: &[(usize, i64, usize)]) {
        let all = self.expected(T - DAY, T + 9 * DAY);
        for &(at, before, limit) in trims {
            let rows = self.read(T - DAY, T + 9 * DAY, |row| {
                if row == at {
                    self.trim(T + before * MINUTE, limit);
                    self.shelf.look_after();
                    self.shelf.look_after();
                }
            });
            let rows = rows.unwrap();
            assert!(rows == all, "a trim before minute {before} at row {at}: {} rows of {}", rows.len(), all.len());
        }
        assert_eq!(self.stored(), 0);
    }

    fn trim(&self, before: i64, limit: usize) -> usize {
        self.store.trim(Timestamp(before), limit).unwrap()
    }

    fn stored(&self) -> usize {
        let mut count = 0;
        let mut each = |_| {
            count += 1;
            ControlFlow::Continue(())
        };
        self.store.scan_telemetry(&self.device, Timestamp(i64::MIN), Timestamp(i64::MAX), &mut each).unwrap();
        count
    }
}

/// A row, to compare: an instant without a value equals itself. (Of a message that came twice, the database keeps the one
/// that was stored first, the archive that received first: [`Bench::read`] looks at the time of receipt.)
fn show(row: &TelemetryRow) -> String {
    format!("{} {:?} {:?}", row.ts, row.seq, row.values)
}

/// Messages a minute apart, received as they were made.
fn minutes(range: std::ops::Range<u32>) -> Vec<(i64, i64, u32)> {
    range.map(|n| (T + i64::from(n) * MINUTE, T + i64::from(n) * MINUTE - 1000, n)).collect()
}

#[test]
fn a_message_at_the_edge_of_a_window_that_was_wider_then_keeps_all_its_samples() {
    let mut bench = Bench::new();
    bench.window = Window { past: std::time::Duration::MAX, ..WINDOW };
    let received = T + 100_000 + i64::try_from(WINDOW.past.as_micros()).unwrap();
    bench.receive(&[(received, T + 200_000, 1)]);
    let all = bench.expected(T - DAY, T + DAY);
    assert_eq!(bench.read(T - DAY, T + DAY, |_| {}).unwrap(), all);
    assert_eq!(bench.trim(T + DAY, 10), 1);
    assert_eq!(bench.read(T - DAY, T + DAY, |_| {}).unwrap(), all, "the sample before the message's time, too");
}

#[test]
fn what_the_database_no_longer_has_comes_from_the_archive_as_it_was() {
    let mut bench = Bench::new();
    bench.receive(&minutes(0..300));
    let all = bench.expected(T - DAY, T + DAY);
    assert_eq!(bench.read(T - DAY, T + DAY, |_| ()).unwrap(), all);
    for before in [T + 100 * MINUTE, T + 200 * MINUTE, T + DAY] {
        assert!(bench.trim(before, 1_000_000) > 0);
        assert_eq!(bench.read(T - DAY, T + DAY, |_| ()).unwrap(), all);
    }
    assert_eq!((bench.stored(), all.len()), (0, 300));
    bench.shelf.look_after();
    assert_eq!(bench.shelf.look_after().replaced, 5);
    assert_eq!(bench.read(T - DAY, T + DAY, |_| ()).unwrap(), all);
    // Whoever stops gets no more.
    let mut count = 0;
    let mut each = |_| {
        count += 1;
        if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    bench.history.scan_telemetry(&bench.device, Timestamp(T), Timestamp(T + DAY), &mut each).unwrap();
    assert_eq!(count, 3);
}

#[test]
fn a_trim_under_a_reader_neither_takes_nor_doubles_a_row() {
    let mut bench = Bench::new();
    bench.receive(&minutes(0..5000));
    bench.read_while_it_goes(&[
        (0, 500, 300),
        (99, 700, 5000),
        (100, 2600, 900),
        (2150, 4000, 5000),
        (4999, 9000, 5000),
    ]);
}

#[test]
fn an_archive_that_is_away_is_noticed_by_those_who_go_back_only() {
    let mut bench = Bench::new();
    bench.receive(&minutes(0..300));
    bench.trim(T + 100 * MINUTE, 1000);
    let away = bench.dir.path().join("away");
    std::fs::rename(bench.dir.path().join("archive"), &away).unwrap();
    // (A file where the folder was: a listing fails, as one of a bucket that is away.)
    std::fs::write(bench.dir.path().join("archive"), "x").unwrap();
    let (boundary, end) = (T + 100 * MINUTE, T + DAY);
    assert_eq!(bench.read(boundary, end, |_| ()).unwrap(), bench.expected(boundary, end));
    let error = bench.read(boundary - 1, end, |_| ()).unwrap_err();
    assert!(matches!(error, Error::Archive(_)), "{error:?}");
    std::fs::remove_file(bench.dir.path().join("archive")).unwrap();
    std::fs::rename(away, bench.dir.path().join("archive")).unwrap();
    assert_eq!(bench.read(T - DAY, end, |_| ()).unwrap(), bench.expected(T - DAY, end));
}

#[test]
fn what_somebody_removed_does_not_come_back_from_the_archive() {
    let mut bench = Bench::new();
    bench.receive(&minutes(0..10));
    bench.trim(T + 5 * MINUTE, 1000);
    bench.store.note_purge(&bench.device, Timestamp(T + 7 * MINUTE)).unwrap();
    let rows = bench.read(T - DAY, T + 5 * MINUTE, |_| ()).unwrap();
    assert_eq!(rows, Vec::<String>::new());
    bench.receive(&[(T + 8 * MINUTE, T + MINUTE, 99)]);
    bench.trim(T + 5 * MINUTE, 1000);
    let rows = bench.read(T - DAY, T + 5 * MINUTE, |_| ()).unwrap();
    assert_eq!(
        (rows.len(), rows[0].starts_with(&Timestamp(T + MINUTE).to_string())),
        (1, true),
        "received after the removal: {rows:?}"
    );
}

#[derive(Clone, Debug)]
enum Op {
    /// (received, how much earlier it was made, seq) in minutes.
    Receive(Vec<(i64, i64, u32)>),
    Trim(i64, usize),
    LookAfter,
    Read {
        from: i64,
        length: i64,
        trim_at: usize,
        before: i64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let message = (0i64..3000, prop_oneof![3 => Just(0i64), 1 => -600i64..2500], 0u32..4);
    prop_oneof![
        4 => prop::collection::vec(message, 1..20).prop_map(Op::Receive),
        2 => (0i64..3000, 1usize..40).prop_map(|(before, limit)| Op::Trim(before, limit)),
        1 => Just(Op::LookAfter),
        3 => (-500i64..3000, 1i64..4000, 0usize..30, 0i64..3000)
            .prop_map(|(from, length, trim_at, before)| Op::Read { from, length, trim_at, before }),
    ]
}

/// Does all that, and looks whether every reading is what the model has.
fn run(mut bench: Bench, ops: Vec<Op>) -> Result<(), TestCaseError> {
    for op in ops {
        match op {
            Op::Receive(messages) => {
                let messages: Vec<_> = messages
                    .into_iter()
                    .map(|(at, late, seq)| (T + at * MINUTE, T + (at - late) * MINUTE, seq))
                    .collect();
                bench.receive(&messages);
            }
            Op::Trim(before, limit) => {
                bench.trim(T + before * MINUTE, limit);
            }
            Op::LookAfter => {
                bench.shelf.look_after();
            }
            Op::Read { from, length, trim_at, before } => {
                let (from, to) = (T + from * MINUTE, T + (from + length) * MINUTE);
                let rows = bench.read(from, to, |row| {
                    if row == trim_at {
                        bench.trim(T + before * MINUTE, 1000);
                        bench.shelf.look_after();
                    }
                });
                prop_assert_eq!(rows.unwrap(), bench.expected(from, to));
            }
        }
    }
    drop(bench.runtime);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn history_is_what_was_received_whatever_was_trimmed_late_or_put_together(ops in prop::collection::vec(op(), 1..14)) {
        run(Bench::new(), ops)?;
    }
}

/// There retention drops whole days.
#[cfg(feature = "postgres")]
mod postgres {
    use super::*;

    fn bench() -> Bench {
        Bench::over(|_| store::test_server::Server::shared().database())
    }

    #[test]
    fn a_day_that_is_dropped_under_a_reader_is_neither_missing_nor_there_twice() {
        let mut bench = bench();
        bench.receive(&minutes(0..5000));
        // Midnights are at 840, 2280, 3720, 5160: before, at and behind the row that is read when the day goes.
        bench.read_while_it_goes(&[
            (0, 839, 5000),
            (0, 900, 5000),
            (1000, 2300, 5000),
            (3719, 3720, 5000),
            (4999, 9000, 5000),
        ]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn history_over_postgres_is_what_was_received(ops in prop::collection::vec(op(), 1..14)) {
            run(bench(), ops)?;
        }
    }
}
