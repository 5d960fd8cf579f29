//! Appends to the journal from several tasks with a window each, beside what the disk does with the same bytes: the same
//! writes in the same sizes, each followed by `fdatasync`, with nothing around them.
//!
//! `cargo bench --bench journal_append [-- seconds]`. The figures of one run belong together; the ratio is the result.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iot_meter::domain::Timestamp;
use iot_meter::journal::{Entry, Flags, Journal, Offset, Options};

const RECORD: usize = 1500;
const ROUNDS: usize = 3;

/// Tasks, records each may have in flight, records an append.
const LOADS: [(usize, usize, usize); 4] = [(1, 1, 1), (4, 16, 1), (16, 64, 1), (16, 64, 16)];

/// One measured stretch.
struct Run {
    records: u64,
    elapsed: Duration,
    latencies: Vec<Duration>,
    /// Bytes of each write.
    writes: Vec<u64>,
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(2.0);
    let time = Duration::from_secs_f64(seconds / ROUNDS as f64);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime starts");
    println!("records of {RECORD} bytes; best of {ROUNDS} rounds for each side");
    println!("tasks window batch cursors |  records/s   MB/s  ack p50   p99 | sync/s KB/sync | raw MB/s | journal/raw");
    for (tasks, window, batch) in LOADS {
        for cursors in [0, 2] {
            let rounds: Vec<_> = (0..ROUNDS)
                .map(|_| {
                    // On the disk of the working directory: a temporary directory may be in memory.
                    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory beside");
                    let run = runtime.block_on(journal(dir.path(), time, (tasks, window, batch), cursors));
                    let raw = raw(dir.path(), &run.writes);
                    (run, raw)
                })
                .collect();
            report((tasks, window, batch), cursors, rounds);
        }
    }
}

fn report((tasks, window, batch): (usize, usize, usize), cursors: usize, rounds: Vec<(Run, f64)>) {
    let raw = rounds.iter().map(|(_, raw)| *raw).fold(0.0, f64::max);
    let rate = |run: &Run| run.writes.iter().sum::<u64>() as f64 / run.elapsed.as_secs_f64();
    let best = rounds.into_iter().map(|(run, _)| run).max_by(|a, b| rate(a).total_cmp(&rate(b)));
    let Some(mut run) = best else { return };
    run.latencies.sort_unstable();
    let quantile = |q: f64| run.latencies[((run.latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    let (bytes, syncs) = (rate(&run), run.writes.len() as f64);
    println!(
        "{tasks:5} {window:6} {batch:5} {cursors:7} | {:10.0} {:6.1} {:6.2}ms {:6.2}ms | {:6.0} {:7.1} | {:8.1} | {:.2}",
        run.records as f64 / run.elapsed.as_secs_f64(),
        bytes / 1e6,
        quantile(0.5),
        quantile(0.99),
        syncs / run.elapsed.as_secs_f64(),
        bytes * run.elapsed.as_secs_f64() / syncs / 1e3,
        raw / 1e6,
        bytes / raw,
    );
}

/// Appends for `time` and reports what was acknowledged.
async fn journal(dir: &Path, time: Duration, load: (usize, usize, usize), cursors: usize) -> Run {
    let writes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&writes);
    let on_sync = Arc::new(move |_, bytes| seen.lock().expect("no panic before").push(bytes));
    let options = Options {
        dir: dir.join("journal"),
        node_id: uuid::Uuid::new_v4(),
        segment_bytes: 64 << 20,
        max_bytes: 16 << 30,
        queue_bytes: 4 << 20,
    };
    let (journal, _) = Journal::open_observed(options, Some(on_sync)).expect("the journal opens");
    let readers: Vec<_> = ["one", "two"].into_iter().take(cursors).map(|name| read(&journal, name)).collect();
    let began = Instant::now();
    let tasks: Vec<_> =
        (0..load.0).map(|_| tokio::spawn(send(journal.clone(), load.1, load.2, began + time))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("the task ends"));
    }
    let elapsed = began.elapsed();
    journal.close().await.expect("the journal closes");
    let records = journal.status().durable.0;
    for reader in readers {
        assert_eq!(reader.join().expect("the reader ends"), records);
    }
    let writes = std::mem::take(&mut *writes.lock().expect("no panic before"));
    Run { records, elapsed, latencies, writes }
}

/// One connection: appends of `batch` records, at most `window` records not yet durable. Gives each append's latency.
async fn send(journal: Journal, window: usize, batch: usize, until: Instant) -> Vec<Duration> {
    let payload = vec![0x5a; RECORD];
    let entry = Entry {
        received_at: Timestamp(0),
        topic: "iot/meter-0001/telemetry",
        identity: "meter-0001",
        content_type: "",
        flags: Flags { qos: 1, ..Flags::default() },
        payload: &payload,
    };
    let entries = vec![entry; batch];
    let mut in_flight = VecDeque::new();
    let mut latencies = Vec::new();
    let mut durable = journal.durable();
    loop {
        let is_over = Instant::now() >= until;
        while !is_over && in_flight.len() * batch < window {
            let began = Instant::now();
            in_flight.push_back((journal.append(&entries).await.expect("appended"), began));
        }
        let Some(&(oldest, _)) = in_flight.front() else { return latencies };
        let at: Offset = *durable.wait_for(|at| *at >= oldest).await.expect("the journal works");
        while let Some((_, began)) = in_flight.pop_front_if(|(end, _)| *end <= at) {
            latencies.push(began.elapsed());
        }
    }
}

/// A reader right behind the writer; returns how many records it saw.
fn read(journal: &Journal, name: &'static str) -> std::thread::JoinHandle<u64> {
    let mut cursor = journal.cursor(name, Offset(0)).expect("a cursor at the beginning");
    std::thread::spawn(move || {
        let mut records = 0;
        while !cursor.is_finished() {
            cursor.wait(Duration::from_secs(1));
            let batch = cursor.next_batch(4096, 1 << 20).expect("readable");
            records += batch.iter().map(|r| u64::from(r.payload.len() == RECORD)).sum::<u64>();
            cursor.release(cursor.position());
        }
        records
    })
}

/// The same writes without a journal: bytes per second.
fn raw(dir: &Path, writes: &[u64]) -> f64 {
    let file = File::create(dir.join("raw")).expect("a file");
    let bytes = vec![0x5a; writes.iter().copied().max().unwrap_or(0) as usize];
    let began = Instant::now();
    let mut at = 0;
    for len in writes {
        file.write_all_at(&bytes[..*len as usize], at).and_then(|()| file.sync_data()).expect("written");
        at += len;
    }
    at as f64 / began.elapsed().as_secs_f64()
}
