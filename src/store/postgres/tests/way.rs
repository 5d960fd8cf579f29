//! Straight or by the staging table: which way it goes makes no difference to what is stored.

use super::*;

fn rows(numbers: impl IntoIterator<Item = i64>) -> Vec<TelemetryRow> {
    numbers.into_iter().map(|n| row("a", n, u32::try_from(n).unwrap())).collect()
}

#[test]
fn a_row_that_is_there_is_passed_over_and_the_rest_of_the_batch_stays() {
    let (store, url) = store();
    let stored = |checkpoint: u64, numbers: Vec<i64>| {
        let done = store.commit(&batch(checkpoint, rows(numbers))).unwrap();
        assert_eq!(store.checkpoint().unwrap(), Some(checkpoint));
        (done.telemetry, done.duplicates)
    };
    assert_eq!(stored(1, vec![1, 2]), (2, 0));
    assert!(store.way.is_straight());
    assert_eq!(stored(2, vec![5, 2, 3]), (2, 1), "its own COPY is given up, the transaction is not");
    assert!(!store.way.is_straight());
    assert_eq!(stored(3, vec![4, 2]), (1, 1));
    for n in 0..16 {
        assert_eq!(stored(4, vec![100 + n]), (1, 0));
    }
    assert!(store.way.is_straight());
    assert_eq!(stored(5, vec![7, 8, 7]), (2, 1), "twice in one batch");
    assert!(!store.way.is_straight());
    assert_eq!(count(&url, "telemetry"), "23");
}

#[test]
fn two_nodes_with_the_same_rows_at_the_same_time_store_each_once() {
    let (one, url) = store();
    let two = store_at(&url);
    let barrier = Barrier::new(2);
    let mut stored = 0;
    for round in 0..20 {
        // Straight again, whatever was found in the round before.
        for store in [&one, &two] {
            (0..16).for_each(|_| store.way.note(true));
        }
        let same = || rows(round * 500..(round + 1) * 500);
        let commit = |store: &PostgresStore| {
            barrier.wait();
            store.commit(&batch(1, same())).unwrap().telemetry
        };
        let both = std::thread::scope(|scope| {
            let other = scope.spawn(|| commit(&two));
            commit(&one) + other.join().unwrap()
        });
        assert_eq!(both, 500, "round {round}");
        stored += both;
    }
    assert_eq!(count(&url, "telemetry"), stored.to_string());
}
