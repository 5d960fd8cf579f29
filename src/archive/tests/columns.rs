//! Payloads taken apart into columns: whatever they are, and whichever version wrote them, they come back to the byte.

use bytes::Bytes;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use proptest::prelude::*;

use super::super::encode::{DIGEST_KEY, Digest, Effort, Encoder, GROUP_ROWS, Writer};
use super::super::full::{Full, Scan};
use super::super::key::ObjectName;
use super::super::merge::merge;
use super::super::schema::{COLUMNS, LAYOUT_KEY};
use super::super::shred::{Columns, Group, Lists, Plan, Shapes, Shredded};
use super::*;
use crate::archive::batch::{Batch, Pending};

/// An object of two simulated meters from before there were columns of numbers.
const OLD: &[u8] = include_bytes!("plain.parquet");

/// A datagram as meters write it, of some values.
fn datagram(device: &str, n: i64) -> Vec<u8> {
    let at = |s: i64| Timestamp(HOUR + (n * 10 + s) * 1_000_000).to_string();
    let pair = |s: i64| {
        let (v, i) = (7500 + (n * 7 + s) % 40, (n * 31 + s) % 900 - 100);
        format!(
            r#"{{"ts":"{0}","type":"voltage_dc","val":{1}.{2},"unit":"V"}},{{"ts":"{0}","type":"current_dc","val":{i},"unit":"A"}}"#,
            at(s),
            v / 10,
            1 + v % 9,
        )
    };
    let (pairs, ts) = ([pair(-2), pair(-1), pair(0)].join(","), at(0));
    format!(r#"{{"v":2,"device_id":"{device}","ts":"{ts}","seq":5,"msg_type":"telemetry","measurements":[{pairs}]}}"#)
        .into_bytes()
}

/// Datagrams of two devices, now and then something else.
fn records(first: i64, count: i64) -> Vec<Rec> {
    let each = (first..first + count).flat_map(|n| {
        ["b", "a"].map(|device| {
            // (The message time is a microsecond before.)
            let mut record = rec(device, HOUR + n * 10_000_000 + 1, 0);
            record.payload = match n % 10 {
                3 => format!("{{\"n\": {n}e1}}").into_bytes(),
                7 => vec![0xFF, 1, n as u8],
                8 => b"bad".to_vec(),
                _ => datagram(device, n),
            };
            record
        })
    });
    each.collect()
}

fn batch(records: &[Rec]) -> Batch {
    let mut pending = Pending::default();
    for (offset, r) in (0..).zip(records) {
        let record = Record {
            offset: Offset(offset),
            received_at: Timestamp(r.at),
            topic: &r.topic,
            identity: r.topic.split('/').nth(1).unwrap(),
            content_type: &r.content_type,
            flags: Flags::default(),
            payload: &r.payload,
        };
        pending.push(&record);
    }
    pending.take(|_| None, |record| classify(record, WINDOW)).unwrap()
}

/// The one object of records of one hour.
fn object(records: &[Rec]) -> (ObjectName, Bytes) {
    let batch = batch(records);
    let part = batch.parts("n").remove(0);
    let (bytes, _) = Encoder::default().encode(&batch, &part, "").unwrap();
    (part.name, bytes)
}

fn all_rows(bytes: &Bytes) -> std::result::Result<Vec<Full>, ParquetError> {
    let (mut scan, mut all) = (Scan::new(bytes.clone())?, Vec::new());
    loop {
        let rows = scan.next_rows()?;
        if rows.is_empty() {
            return Ok(all);
        }
        all.extend(rows);
    }
}

fn is_of_columns(bytes: &Bytes) -> bool {
    Scan::new(bytes.clone()).unwrap().entry(LAYOUT_KEY) == Some(COLUMNS)
}

/// The rows of an object again, in the plain layout.
fn as_plain(bytes: &Bytes) -> Bytes {
    let (rows, shapes) = (all_rows(bytes).unwrap(), Shapes::default());
    let mut writer = Writer::new(0, Effort::Quick, Columns::default()).unwrap();
    for rows in rows.chunks(GROUP_ROWS) {
        writer.group(rows, &shapes, &Group::default()).unwrap();
    }
    let digest = Scan::new(bytes.clone()).unwrap().entry(DIGEST_KEY).unwrap().to_owned();
    writer.finish(vec![(DIGEST_KEY, digest)]).unwrap()
}

/// Every record comes back by its name, and telemetry by its time.
fn assert_reads(bench: &Bench, all: &[Rec]) {
    for device in ["a", "b"] {
        let own: Vec<&Rec> = all.iter().filter(|r| r.topic == format!("iot/{device}/telemetry")).collect();
        let names = bench.list(device, None, 1000);
        let read: Vec<Vec<u8>> = names.iter().rev().map(|name| bench.read(device, name).unwrap().1).collect();
        assert_eq!(read, own.iter().map(|r| r.payload.clone()).collect::<Vec<_>>());
        let id = DeviceId::parse(device).unwrap();
        let (from, to) = (HOUR + 55_000_000, HOUR + 1_500_000_000);
        let mut past = bench.reader().past(&id, Timestamp(from), Timestamp(to)).unwrap();
        let mut found = Vec::new();
        while let Some(mut piece) = past.next_piece().unwrap() {
            piece.sort_by_key(|message| message.ts);
            found.extend(piece.into_iter().map(|message| message.payload.to_vec()));
        }
        let within = own.iter().filter(|r| (from..to).contains(&(r.at - 1)) && !r.payload.starts_with(b"bad"));
        assert_eq!(found, within.map(|r| r.payload.clone()).collect::<Vec<_>>());
    }
}

#[test]
fn messages_taken_apart_come_back_by_name_and_by_time_as_written_and_put_together() {
    let bench = Bench::new(&[]);
    let mut all = Vec::new();
    for part in 0..3 {
        let records = records(part * 50, 50);
        bench.log.append(&records);
        all.extend(records);
        bench.archive().unwrap();
        bench.log.trim(bench.log.released());
    }
    let get = |key: &str| bench.bucket().get(&Path::from(key)).unwrap();
    assert!(bench.keys().iter().all(|key| is_of_columns(&get(key))));
    assert_reads(&bench, &all);
    bench.pass().unwrap();
    bench.pass().unwrap();
    let keys = bench.keys();
    assert_eq!(keys.len(), 1);
    assert!(is_of_columns(&get(&keys[0])));
    assert_reads(&bench, &all);
    let payloads: Vec<_> = bench.rows().into_iter().map(|row| row.payload).collect();
    assert_eq!(payloads, all.iter().map(|r| r.payload.clone()).collect::<Vec<_>>());
}

#[test]
fn an_object_does_not_depend_on_those_made_before_in_the_same_memory() {
    let mut encoder = Encoder::default();
    for records in [records(0, 200), records(50, 30), records(7, 90)] {
        let batch = batch(&records);
        let part = batch.parts("n").remove(0);
        let again = encoder.encode(&batch, &part, "").unwrap();
        assert!(again == Encoder::default().encode(&batch, &part, "").unwrap());
        assert_eq!(all_rows(&again.0).unwrap().len(), records.len());
    }
}

#[test]
fn other_engines_see_the_numbers_by_name_with_their_decimals() {
    let (_, bytes) = object(&records(0, 40));
    let file = SerializedFileReader::new(bytes).unwrap();
    let row = file.get_row_iter(None).unwrap().next().unwrap().unwrap().to_string();
    let numbers = "payload_measurements_current_dc_val: [-102., -101., -100.], \
                   payload_measurements_ts: [-2., -1., 0.], \
                   payload_measurements_voltage_dc_val: [749.2, 749.3, 750.4], payload_v: [2.], payload: null}";
    assert!(row.ends_with(numbers), "{row}");
    let schema = file.metadata().file_metadata().schema_descr();
    let column = schema.columns().iter().find(|c| c.name() == "payload_measurements_voltage_dc_val").unwrap();
    assert_eq!((column.type_precision(), column.type_scale()), (18, 1));
}

#[test]
fn what_was_written_before_is_read_and_put_together_into_columns() {
    let old = Bytes::from_static(OLD);
    assert!(!is_of_columns(&old));
    let rows = all_rows(&old).unwrap();
    assert!(rows.len() > 10 && rows.iter().all(|row| row.payload.data().starts_with(b"{\"v\":2,\"device_id\":\"")));
    let offsets = || rows.iter().map(|row| row.offset.cast_unsigned());
    let (first, last) = (offsets().min().unwrap(), offsets().max().unwrap());
    let whole = merge(vec![(ObjectName { node: "n".into(), first, last, times: None }, old)]);
    let whole = whole.map_err(|failed| failed.error).unwrap();
    assert!(is_of_columns(&whole.bytes));
    assert_eq!(all_rows(&whole.bytes).unwrap(), rows);
}

#[test]
fn objects_of_both_layouts_become_one() {
    let bench = Bench::new(&[]);
    let mut all = Vec::new();
    for part in 0..4 {
        let records = records(part * 20, 20);
        bench.log.append(&records);
        all.extend(records);
        bench.archive().unwrap();
        bench.log.trim(bench.log.released());
        if part % 2 == 0 {
            let key = Path::from(bench.keys().pop().unwrap());
            let plain = as_plain(&bench.bucket().get(&key).unwrap());
            bench.runtime.block_on(bench.store.put(&key, plain.into())).unwrap();
        }
    }
    let layouts = bench.keys().into_iter().map(|key| is_of_columns(&bench.bucket().get(&Path::from(key)).unwrap()));
    assert_eq!(layouts.collect::<Vec<_>>(), [false, true, false, true]);
    assert_reads(&bench, &all);
    bench.pass().unwrap();
    bench.pass().unwrap();
    assert_eq!(bench.keys().len(), 1);
    assert_reads(&bench, &all);
}

#[test]
fn a_changed_byte_is_named_or_leaves_a_whole_scan_as_it_was() {
    let bench = Bench::new(&records(0, 40));
    bench.archive().unwrap();
    bench.log.trim(bench.log.released());
    let key = Path::from(bench.keys().remove(0));
    let good = bench.bucket().get(&key).unwrap();
    let whole = |bytes: &Bytes| {
        let rows = all_rows(bytes)?.into_iter();
        Ok::<Vec<_>, ParquetError>(rows.map(|row| (row.offset, row.received_at, row.payload)).collect())
    };
    let (rows, names) = (whole(&good).unwrap(), bench.list("a", None, 3));
    let mut refused = 0;
    for at in (0..good.len()).step_by(37) {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x55;
        match whole(&bytes.clone().into()) {
            Ok(found) => assert!(found == rows, "byte {at}"),
            Err(_) => refused += 1,
        }
        bench.runtime.block_on(bench.store.put(&key, bytes.into())).unwrap();
        let device = DeviceId::parse("a").unwrap();
        for name in &names {
            match bench.runtime.block_on(bench.reader().read(&device, name)) {
                Ok(_) => {}
                Err(Error::Damaged { key: named, .. } | Error::Store { key: named, .. }) => {
                    assert_eq!(named, key.to_string())
                }
                Err(error) => panic!("byte {at}: {error:?}"),
            }
        }
    }
    assert!(refused * 37 > good.len() / 4, "{refused} of {}", good.len() / 37);
}

/// Rows of an object whose columns are not those of its rows.
fn spoilt(spoil: impl Fn(&mut Shredded)) -> String {
    let (_, good) = object(&records(0, 6));
    let rows = all_rows(&good).unwrap();
    let (mut shapes, mut group, mut plan) = (Shapes::default(), Group::default(), Plan::default());
    rows.iter().for_each(|row| group.push(&mut shapes, row.context(), row.payload.data()));
    plan.add(&shapes, &group);
    let columns = plan.columns(&shapes);
    let mut shredded = group.finish(&shapes, &columns, &|n| (rows[n].context(), rows[n].payload.data()));
    spoil(&mut shredded);
    let mut writer = Writer::new(0, Effort::Quick, columns).unwrap();
    writer.write_group(&rows, Some(shredded)).unwrap();
    let mut digest = Digest::default();
    rows.iter().for_each(|row| digest.add(row.offset, row.received_at, row.payload.data()));
    let bytes = writer.finish(vec![(DIGEST_KEY, digest.text())]).unwrap();
    all_rows(&bytes).map_or_else(|error| error.to_string(), |found| format!("{} rows", found.len()))
}

#[test]
fn columns_that_do_not_fit_together_are_refused() {
    let check = |expected: &str, spoil: &dyn Fn(&mut Shredded)| {
        let got = spoilt(spoil);
        assert!(got.contains(expected), "{got} instead of {expected}");
    };
    check("12 rows", &|_| {});
    check("a row has not the numbers of its template", &|s| {
        s.lists[0].counts[0] += 1;
        s.lists[0].counts[1] -= 1;
    });
    check("a row has not the numbers of its template", &|s| s.lists[3] = Lists { values: vec![], counts: vec![0; 12] });
    check("a message has not the length it had", &|s| s.lists[0].values[0] *= 1000);
    check("checksum", &|s| s.lists[2].values[0] += 1);
    check("a mark of a template is not understood", &|s| s.templates[0] = b"\x01?\x02".to_vec());
    check("a template names a column that is not there", &|s| s.templates[0] = b"\x01ns,9\x02".to_vec());
    check("a number does not fit its template", &|s| s.templates[0] = b"\x01n0,2\x02".to_vec());
    check("a time is out of range", &|s| s.lists[1].values[0] = 999_999_999_999_999_000);
}

#[test]
fn a_layout_that_is_not_known_is_refused() {
    let (_, good) = object(&records(0, 6));
    let rows = all_rows(&good).unwrap();
    let entry = |key: &'static str, value: &str| vec![(DIGEST_KEY, String::new()), (key, value.to_owned())];
    let mut writer = Writer::new(0, Effort::Quick, Columns::default()).unwrap();
    writer.write_group(&rows, None).unwrap();
    let error = all_rows(&writer.finish(entry(LAYOUT_KEY, "rings")).unwrap()).unwrap_err();
    assert!(error.to_string().contains("its layout \"rings\" is not known: a later version wrote it"), "{error}");
    let mut writer = Writer::new(0, Effort::Quick, Columns::default()).unwrap();
    writer.write_group(&rows, None).unwrap();
    let error = all_rows(&writer.finish(entry(LAYOUT_KEY, COLUMNS)).unwrap()).unwrap_err();
    assert!(error.to_string().contains("14 columns"), "{error}");
}

#[test]
fn a_row_group_that_says_it_has_more_rows_than_any_has_is_refused_before_there_is_room_for_them() {
    let (_, good) = object(&records(0, 6));
    let rows: Vec<Full> = all_rows(&good).unwrap().into_iter().cycle().take(GROUP_ROWS + 1).collect();
    let mut writer = Writer::new(0, Effort::Quick, Columns::default()).unwrap();
    writer.write_group(&rows, None).unwrap();
    let error = Scan::new(writer.finish(Vec::new()).unwrap()).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("Parquet error: a row group of 8193 rows"));
}

#[test]
fn the_vectors_come_back() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors/messages.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let vectors: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let payloads: Vec<String> =
        vectors.iter().filter_map(|vector| vector["payload"].as_str().map(str::to_owned)).collect();
    assert!(payloads.len() > 10);
    let records = (0i64..).zip(payloads.iter().cycle().take(payloads.len() * 6)).map(|(n, payload)| {
        let mut record = rec("dc-meter-007", HOUR + n, 0);
        record.payload = payload.clone().into_bytes();
        record
    });
    let records: Vec<Rec> = records.collect();
    let (_, bytes) = object(&records);
    assert!(is_of_columns(&bytes));
    let found: Vec<_> = all_rows(&bytes).unwrap().into_iter().map(|row| row.payload.data().to_vec()).collect();
    assert_eq!(found, records.iter().map(|r| r.payload.clone()).collect::<Vec<_>>());
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0i64..100).prop_map(|n| datagram("a", n)),
        2 => (any::<i32>(), "[0-9]{1,3}").prop_map(|(x, y)| format!("{{\"x\":{x},\"y\":\"{y}\",\"z\":0.{y}}}").into_bytes()),
        1 => "[\\[\\]{}\",:0-9a-c.eE-]{0,16}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..16),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_payloads_come_back_and_equal_batches_are_equal_objects(
        payloads in prop::collection::vec((0usize..3, payload()), 1..120),    ) {
        let records: Vec<Rec> = (0i64..).zip(payloads).map(|(n, (device, payload))| {
            let mut record = rec(["a", "b", "c"][device], HOUR + n, 0);
            record.payload = payload;
            record
        }).collect();
        let rows = |bytes: &Bytes| {
            let rows = all_rows(bytes).unwrap().into_iter();
            let mut rows: Vec<(i64, ByteArray)> = rows.map(|row| (row.offset, row.payload)).collect();
            rows.sort_by_key(|row| row.0);
            rows.into_iter().map(|(_, payload)| payload.data().to_vec()).collect::<Vec<_>>()
        };
        let expected: Vec<_> = records.iter().map(|record| record.payload.clone()).collect();
        let (name, bytes) = object(&records);
        prop_assert_eq!(&rows(&bytes), &expected);
        prop_assert_eq!(&object(&records).1, &bytes);
        let plain = as_plain(&bytes);
        prop_assert_eq!(&rows(&plain), &expected);
        let whole = |bytes: Bytes| merge(vec![(name.clone(), bytes)]).map_err(|failed| failed.error).unwrap().bytes;
        let wholes = (whole(bytes), whole(plain));
        prop_assert_eq!(&rows(&wholes.0), &expected);
        prop_assert_eq!(wholes.0, wholes.1, "what they were put together from does not matter");
    }
}
