//! What is put into the archive alone, as an import does it, after a device has been rolled up.

use super::*;
use crate::archive::testing::{Shelf, WINDOW};
use crate::domain::{Body, Message};
use crate::payload::{self, Form, Kind};

const DAY_S: i64 = 24 * HOUR_S;

/// A message every five minutes, of three instants that lie some seconds before it.
fn messages(first_s: i64, count: i64) -> Vec<Said> {
    let samples = |n: i64| (0..6).map(|k| (usize::from(k % 2 == 1), (n % 7) as f64 + f64::from(k))).collect();
    (0..count).map(|n| Said { at_s: first_s + n * 300, step_ms: 1000, back_s: 10, samples: samples(n) }).collect()
}

/// The bytes a meter sent, and the row that comes of them.
fn sent(device: &DeviceId, said: &Said, seq: u32) -> ((Timestamp, Vec<u8>), TelemetryRow) {
    let TelemetryRow { ts, seq, values, .. } = row(device, said, seq);
    let message = Message { device: device.clone(), ts, seq, version: 2, body: Body::Telemetry(values) };
    let bytes = payload::encode(&message, Form::Json);
    let decoded = payload::decode(device, Kind::Telemetry, "", &bytes, ts, WINDOW).unwrap();
    let Body::Telemetry(values) = decoded.body else { panic!("is telemetry") };
    ((ts, bytes), TelemetryRow { device: device.clone(), ts, seq, received_at: ts, values })
}

/// Imported energy of the hours of a range that have any, by the hour.
fn energy_of(world: &World, first_s: i64, hours: i64) -> BTreeMap<i64, f64> {
    let at = |hour: i64| Timestamp(T + (first_s + hour * HOUR_S) * S);
    let range = (at(0), at(hours));
    let job = energy::Job { device: world.device.clone(), span_us: world.span_us };
    let mut all = BTreeMap::new();
    let done = energy::pieces(&world.history, &job, range, Some(range), &mut go_on, &mut |piece| {
        if piece.totals.import_wh() > 0.0 {
            *all.entry(piece.start.0.div_euclid(HOUR_S * S)).or_insert(0.0) += piece.totals.import_wh();
        }
        ControlFlow::Continue(())
    });
    assert!(done.unwrap().is_continue());
    all
}

pub(super) fn what_comes_into_the_archive_alone_is_in_every_answer(store: &SharedStore) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::in_dir(&dir.path().join("archive"), &runtime);
    let mut world = World::new(store, "taken-over");
    world.history = History::new(Arc::clone(store), shelf.reader());
    world.happens(&Event::Comes(messages(30 * 60, 60)));
    world.happens(&Event::Rolled(7));
    let (device, first_s) = (world.device.clone(), -10 * DAY_S + 100);
    assert_eq!(energy_of(&world, -10 * DAY_S, 24), BTreeMap::new());

    let old = messages(first_s, 40);
    let (bytes, rows): (Vec<_>, Vec<_>) = old.iter().zip(50_000..).map(|(said, seq)| sent(&device, said, seq)).unzip();
    let newest = rows[rows.len() - 1].ts;
    store.note_archive_only(Timestamp(T - 5 * DAY_S * S), &[(device.clone(), newest)]).unwrap();
    shelf.put(&device, &bytes);
    world.rows.extend(rows);
    let check = |world: &World| {
        let ranges =
            [(-10 * DAY_S, DAY_S), (first_s + 70, 2 * HOUR_S), (-20 * DAY_S, 21 * DAY_S), (-2 * DAY_S, 3 * DAY_S)];
        for (range, which) in ranges.into_iter().flat_map(|range| [0, 1, 2].map(|which| (range, which))) {
            agree(world, range, 5, &wanted(which));
        }
        let hours = energy_of(world, -10 * DAY_S, 24);
        assert_eq!(hours.len(), 4, "200 minutes from shortly after midnight: {hours:?}");
        assert_eq!(energy_of(world, -20 * DAY_S, 21 * 24).len(), 4 + 6);
    };
    check(&world);
    // The time after is still what it was rolled up to, and late data of now and then find their way.
    let hour = Timestamp(T + HOUR_S * S);
    let page = store.rollups(&device, 60, None, hour, hour.plus_us(HOUR_S * S)).unwrap();
    assert!(page.is_good(hour) && page.rows.len() >= 2, "{page:?}");
    world.happens(&Event::Comes(messages(2 * HOUR_S + 7, 3)));
    world.happens(&Event::Rolled(30));
    check(&world);
}
