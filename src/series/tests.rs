//! Answers that use rollups are those a simple model finds in the samples, whatever came when and whatever is rolled up.

mod past;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{DeviceId, DeviceState, Metric, Sequence, Telemetry};
use crate::energy;
use crate::history::History;
use crate::keeper::rollups::{Rollups, step};
use crate::observe::Progress;
use crate::store::{self, Batch, SharedStore, TelemetryRow};

/// A midnight.
const T: i64 = 1_770_854_400_000_000;
const S: i64 = 1_000_000;
const HOUR_S: i64 = 3600;
const NAMES: [(&str, Option<&str>); 6] = [
    ("voltage_dc", None),
    ("current_dc", None),
    ("pf", None),
    ("temperature", Some("K")),
    ("temperature", None),
    ("speed", Some("m/s")),
];

/// A datagram: when (s behind T), distance of its samples (ms), how far before its own time they begin (s), and the samples.
#[derive(Clone, Debug)]
struct Said {
    at_s: i64,
    step_ms: i64,
    back_s: i64,
    samples: Vec<(usize, f64)>,
}

fn go_on() -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// What happens to a store.
#[derive(Clone, Debug)]
enum Event {
    /// Datagrams come.
    Comes(Vec<Said>),
    /// Everything is rolled up that is over at this hour behind T.
    Rolled(i64),
}

fn said() -> impl Strategy<Value = Said> {
    // Half of it in one busy hour, so that neighbours, holes and late data meet.
    let at_s = prop_oneof![0..60 * HOUR_S, 10 * HOUR_S..10 * HOUR_S + 600, 10 * HOUR_S + 3500..11 * HOUR_S + 100];
    let value = prop_oneof![(-900_i64..900).prop_map(|n| n as f64 / 10.0), Just(0.0), Just(-0.0)];
    let samples = prop::collection::vec((0..NAMES.len(), value), 1..25);
    let step_ms = prop_oneof![Just(1000_i64), Just(100), Just(7300), Just(45_000), Just(0)];
    (at_s, step_ms, prop_oneof![0_i64..12, 0_i64..4000], samples).prop_map(|(at_s, step_ms, back_s, samples)| Said {
        at_s,
        step_ms,
        back_s,
        samples,
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => prop::collection::vec(said(), 1..12).prop_map(Event::Comes),
        2 => (1_i64..70).prop_map(Event::Rolled),
    ]
}

fn row(device: &DeviceId, said: &Said, seq: u32) -> TelemetryRow {
    let mut values = Telemetry::default();
    for ((name, value), n) in said.samples.iter().zip(0..) {
        let offset_us = n / 2 * said.step_ms * 1000 - said.back_s * S;
        let (name, unit) = NAMES[*name];
        values.push(offset_us, Metric::parse(name).unwrap(), unit, *value);
    }
    let ts = Timestamp(T + said.at_s * S);
    TelemetryRow { device: device.clone(), ts, seq: Sequence::Counted(seq), received_at: ts, values }
}

struct World {
    history: History,
    device: DeviceId,
    rows: Vec<TelemetryRow>,
    span_us: i64,
}

impl World {
    fn new(store: &SharedStore, device: &str) -> Self {
        let history = History::of_store(Arc::clone(store));
        Self { history, device: DeviceId::parse(device).unwrap(), rows: Vec::new(), span_us: 0 }
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Comes(all) => {
                let first = u32::try_from(self.rows.len()).unwrap();
                let telemetry: Vec<_> = all.iter().zip(first..).map(|(said, n)| row(&self.device, said, n)).collect();
                let offsets = telemetry.iter().flat_map(|row| &row.values.offsets_us);
                self.span_us = offsets.map(|offset| offset.abs()).max().unwrap_or(0).max(self.span_us);
                self.rows.extend(telemetry.clone());
                let state = DeviceState { span_us: self.span_us, ..DeviceState::default() };
                let states = vec![(self.device.clone(), state)];
                self.history.store().commit(&Batch { telemetry, states, ..Batch::default() }).unwrap();
            }
            Event::Rolled(hour) => roll_up(&self.history, Timestamp(T + (hour * HOUR_S + 130) * S)),
        }
    }

    fn job(&self, range: Range, wanted: &Wanted) -> Job {
        Job { device: self.device.clone(), range, span_us: self.span_us, wanted: wanted.clone() }
    }

    fn walked(&self, range: Range, wanted: &Wanted, level: Level) -> Vec<(i64, Quantity, Summary)> {
        let mut all = Vec::new();
        let job = self.job(range, wanted);
        let done = walk::read(&self.history, &job, level, &mut go_on, &mut |start, quantity, summary| {
            all.push((start, quantity.clone(), summary));
            ControlFlow::Continue(())
        });
        assert!(done.unwrap().is_continue());
        all
    }

    fn gathered(&self, range: Range, wanted: &Wanted, level: Level) -> Vec<(i64, Quantity, Summary)> {
        let mut all = Vec::new();
        let mut each = |start: i64, quantity: &Quantity, summary: Summary| {
            all.push((start, quantity.clone(), summary));
            ControlFlow::Continue(())
        };
        let mut gather = Gather::new(level);
        let done = source::read(&self.history, &self.job(range, wanted), &mut |quantity, reading| {
            gather.push(quantity, reading, &mut each)
        });
        assert!(done.unwrap().is_continue() && gather.finish(&mut each).is_continue());
        all
    }

    fn points_are_what_is_read(&self, range: Range, wanted: &Wanted) {
        let (job, mut points, mut read) = (self.job(range, wanted), Vec::new(), Vec::new());
        let done = source::points(&self.history, &job, &mut |point| {
            points.push(point);
            ControlFlow::Continue(())
        });
        assert!(done.unwrap().is_continue());
        let done = source::read(&self.history, &job, &mut |quantity, reading| {
            read.push(Point::new(quantity, reading));
            ControlFlow::Continue(())
        });
        assert!(done.unwrap().is_continue());
        assert_eq!(points, read);
    }

    /// What the rows hold, without any of the code under test: every sample in order, and the instants.
    fn samples(&self, range: Range, wanted: &Wanted) -> (Vec<(i64, Quantity, f64)>, Vec<i64>) {
        let mut rows = self.rows.clone();
        rows.sort_by_key(|row| (row.ts, row.seq.to_i64()));
        let (mut samples, mut instants) = (Vec::new(), Vec::new());
        for row in &rows {
            let time = |slot: usize| row.ts.0 + row.values.offsets_us[slot];
            let is_in = |slot: usize| range.contains(Timestamp(time(slot)));
            instants.extend((0..row.values.offsets_us.len()).filter(|slot| is_in(*slot)).map(time));
            let mut values = row.values.clone();
            // The store gives columns in the order of their types.
            values.series.sort_by(|a, b| (a.unit.is_some(), &a.metric).cmp(&(b.unit.is_some(), &b.metric)));
            quantity::find(&values, wanted, |slot, _, found| {
                if is_in(slot) {
                    samples.push((time(slot), found.quantity, found.value));
                }
            });
        }
        samples.sort_by_key(|sample| sample.0);
        instants.sort_unstable();
        instants.dedup();
        (samples, instants)
    }

    fn model(&self, range: Range, wanted: &Wanted, every_us: i64, function: Function) -> BTreeMap<(i64, String), f64> {
        let (samples, instants) = self.samples(range, wanted);
        let cadence = |time: i64| {
            let minute = |other: &&i64| other.div_euclid(60 * S) == time.div_euclid(60 * S) && **other != time;
            let nearest = instants.iter().filter(minute).map(|other| (other - time).abs()).min();
            nearest.unwrap_or(60 * S).min(60 * S)
        };
        let mut buckets: BTreeMap<(i64, String), Vec<f64>> = BTreeMap::new();
        let mut areas: BTreeMap<(i64, String), f64> = BTreeMap::new();
        let mut previous: BTreeMap<Quantity, (i64, f64)> = BTreeMap::new();
        for (time, quantity, value) in samples {
            let key = |at: i64| (at.div_euclid(every_us) * every_us, quantity.name().to_owned());
            buckets.entry(key(time)).or_default().push(value);
            let Some((t0, v0)) = previous.insert(quantity.clone(), (time, value)) else { continue };
            if t0 == time || time - t0 > 3 * cadence(t0).min(cadence(time)) {
                continue;
            }
            let mut from = t0;
            while from < time {
                let to = (key(from).0 + every_us).min(time);
                let at = |t: i64| v0 + (value - v0) * (t - t0) as f64 / (time - t0) as f64;
                *areas.entry(key(from)).or_default() += (at(from) + at(to)) / 2.0 * (to - from) as f64 / 1e6;
                from = to;
            }
        }
        if function == Function::Integral {
            return areas;
        }
        let fold = |values: &[f64]| match function {
            Function::Mean => values.iter().sum::<f64>() / values.len() as f64,
            Function::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Function::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Function::First => values[0],
            Function::Last => values[values.len() - 1],
            Function::Count => values.len() as f64,
            Function::Sum | Function::Integral => values.iter().sum(),
        };
        buckets.into_iter().map(|(key, values)| (key, fold(&values))).collect()
    }

    fn answer(
        &self,
        range: Range,
        wanted: &Wanted,
        level: Level,
        every_us: i64,
        function: Function,
    ) -> BTreeMap<(i64, String), f64> {
        let mut buckets = Buckets::new(every_us, function);
        let mut all = BTreeMap::new();
        let mut last = i64::MIN;
        let mut each = |point: Point| {
            assert!(last <= point.time.0, "in order");
            last = point.time.0;
            let before = all.insert((point.time.0, point.quantity.name().to_owned()), point.value);
            assert_eq!(before, None, "a bucket once");
            ControlFlow::Continue(())
        };
        let job = self.job(range, wanted);
        let done = walk::read(&self.history, &job, level, &mut go_on, &mut |_, quantity, summary| {
            buckets.push(quantity, summary, &mut each)
        });
        assert!(done.unwrap().is_continue() && buckets.finish(&mut each).is_continue());
        all
    }
}

/// As the keeper does, until there is nothing left.
fn roll_up(history: &History, now: Timestamp) {
    let telemetry = Duration::from_secs(400 * 86_400);
    let rollups = Rollups { history: history.clone(), telemetry, progress: Progress::default() };
    while step(&rollups, now, &|| false).unwrap() > 0 {}
}

fn agree(world: &World, (start_s, length_s): (i64, i64), every_min: i64, wanted: &Wanted) {
    let start = Timestamp(T + start_s * S + 300_000);
    let range = Range { start, stop: start.plus_us(length_s * S) };
    world.points_are_what_is_read(range, wanted);
    for level in [Level::Minutes, Level::Hours] {
        let walked = world.walked(range, wanted, level);
        assert_eq!(walked, world.gathered(range, wanted, level), "{level:?}: the same, to the bit");
        let every_us = every_min * if level == Level::Minutes { 60 } else { 3600 } * S;
        for (name, function) in Function::ALL {
            let answer = world.answer(range, wanted, level, every_us, function);
            let model = world.model(range, wanted, every_us, function);
            assert_eq!(answer.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>(), "{name} {level:?}");
            for (key, value) in &answer {
                let error = (value - model[key]).abs();
                assert!(
                    error <= 1e-9 * (1.0 + value.abs() + error),
                    "{name} {level:?} {key:?}: {value} {}",
                    model[key]
                );
            }
        }
    }
}

fn script() -> impl Strategy<Value = (Vec<Event>, (i64, i64), i64, usize)> {
    let range = (-5_000_i64..62 * HOUR_S, prop_oneof![0_i64..600, 0..70 * HOUR_S]);
    (prop::collection::vec(event(), 1..9), range, 1_i64..200, 0_usize..4)
}

fn wanted(n: usize) -> Wanted {
    match n {
        0 => Wanted::Measured,
        1 => Wanted::Everything,
        2 => Wanted::These(vec![Quantity::parse("voltage_dc").unwrap()]),
        _ => Wanted::These(["active_power", "temperature"].iter().filter_map(|name| Quantity::parse(name)).collect()),
    }
}

fn run(store: &SharedStore, (events, range, every_min, which): (Vec<Event>, (i64, i64), i64, usize)) {
    let name = format!("m{}", uuid::Uuid::new_v4().simple());
    let mut world = World::new(store, &name);
    for event in &events {
        world.happens(event);
        agree(&world, range, every_min, &wanted(which));
    }
    // The device goes, so that later hours that are over are not those of all worlds before.
    world.history.store().delete_device(&world.device, true).unwrap();
}

fn sqlite() -> (tempfile::TempDir, SharedStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = store::open(&format!("sqlite://{}", dir.path().join("a.db").display())).unwrap();
    (dir, store)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn answers_are_those_of_the_samples_whatever_is_rolled_up(script in script()) {
        run(&sqlite().1, script);
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn answers_are_those_of_the_samples_in_postgres_too(script in script()) {
            let store = store::open(&store::test_server::Server::shared().database()).unwrap();
            run(&store, script);
        }
    }

    #[test]
    fn what_the_archive_alone_has_is_in_every_answer_in_postgres_too() {
        let store = store::open(&store::test_server::Server::shared().database()).unwrap();
        past::what_comes_into_the_archive_alone_is_in_every_answer(&store);
    }
}

#[test]
fn what_the_archive_alone_has_is_in_every_answer() {
    past::what_comes_into_the_archive_alone_is_in_every_answer(&sqlite().1);
}

#[test]
fn what_is_rolled_up_is_not_read_from_samples() {
    let (_dir, store) = sqlite();
    let mut world = World::new(&store, "m-1");
    let said = |at_s| Said { at_s, step_ms: 1000, back_s: 0, samples: vec![(0, 1.0), (0, 2.0), (0, 3.0), (0, 4.0)] };
    world.happens(&Event::Comes((0..300).map(|n| said(n * 600)).collect()));
    let all = Range { start: Timestamp(T), stop: Timestamp(T + 50 * HOUR_S * S) };
    let before = world.walked(all, &Wanted::Measured, Level::Hours);
    assert_eq!(before.len(), 50);
    world.happens(&Event::Rolled(48));
    // The samples go, as with retention: what they came to stays.
    assert!(store.trim(Timestamp(T + 24 * HOUR_S * S), 100_000).unwrap() > 0);
    assert_eq!(world.walked(all, &Wanted::Measured, Level::Hours), before);
    assert!(world.gathered(all, &Wanted::Measured, Level::Hours).len() < 50);
    // Rollups have a retention of their own.
    assert!(store.trim_rollups(Timestamp(T + 24 * HOUR_S * S), 100_000).unwrap() > 0);
    assert_eq!(world.walked(all, &Wanted::Measured, Level::Hours), before[24..]);
}

#[test]
fn a_range_of_all_times_is_read_from_where_anything_can_be_and_only_while_somebody_waits() {
    let (_dir, store) = sqlite();
    let mut world = World::new(&store, "m-1");
    let samples = vec![(0, 600.0), (1, 1.0), (0, 600.0), (1, 1.0)];
    let said = |at_s| Said { at_s, step_ms: 1000, back_s: 0, samples: samples.clone() };
    world.happens(&Event::Comes((0..300).map(|n| said(n * 600)).collect()));
    world.happens(&Event::Rolled(48));
    let ever = Range { start: Timestamp(T - 99_999_999 * 86_400 * S), stop: Timestamp(T + 50 * HOUR_S * S) };
    let near = Range { start: Timestamp(T - 86_400 * S), ..ever };
    // Once a page it is asked whether to go on: what has more pages than the years since then is broken off.
    let limit = |asked: &mut u32, most: u32| {
        *asked += 1;
        if *asked > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let read = |range: Range, most: u32| {
        let (mut all, mut asked) = (Vec::new(), 0);
        let job = world.job(range, &Wanted::Measured);
        let mut go_on = || limit(&mut asked, most);
        let flow = walk::read(&world.history, &job, Level::Hours, &mut go_on, &mut |start, quantity, summary| {
            all.push((start, quantity.clone(), summary));
            ControlFlow::Continue(())
        });
        (flow.unwrap().is_continue(), all)
    };
    assert_eq!(read(ever, 2000), read(near, 2000));
    assert_eq!(read(ever, 2000).1.len(), 100);
    assert_eq!(read(ever, 0), (false, Vec::new()));
    let energy = |range: Range, most: u32| {
        let (mut all, mut asked) = (Vec::new(), 0);
        let job = energy::Job { device: world.device.clone(), span_us: world.span_us };
        let range = (range.start, range.stop);
        let mut go_on = || limit(&mut asked, most);
        let flow = energy::pieces(&world.history, &job, range, Some(range), &mut go_on, &mut |piece| {
            all.push(*piece);
            ControlFlow::Continue(())
        });
        (flow.unwrap().is_continue(), all)
    };
    assert_eq!(energy(ever, 2000), energy(near, 2000));
    assert!(!energy(ever, 2000).1.is_empty());
    assert_eq!(energy(ever, 0), (false, Vec::new()));
}
