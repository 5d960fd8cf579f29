//! Whatever texts come in whatever mixture: they come back to the byte.

use proptest::prelude::*;

use super::*;

/// A row to be shredded.
#[derive(Clone, Debug)]
struct Row {
    device: &'static str,
    seq: Option<i64>,
    base_us: i64,
    text: Vec<u8>,
}

impl Row {
    fn context(&self) -> Context<'_> {
        Context { device: self.device.as_bytes(), seq: self.seq, base_us: self.base_us }
    }
}

fn shred(rows: &[Row]) -> (Columns, Shredded) {
    let (mut shapes, mut group, mut plan) = (Shapes::default(), Group::default(), Plan::default());
    rows.iter().for_each(|row| group.push(&mut shapes, row.context(), &row.text));
    plan.add(&shapes, &group);
    let columns = plan.columns(&shapes);
    let shredded = group.finish(&shapes, &columns, &|index| (rows[index].context(), &rows[index].text));
    (columns, shredded)
}

/// The texts of the rows that have templates.
fn rebuilt(rows: &[Row], columns: &Columns, shredded: &Shredded) -> Vec<Option<Vec<u8>>> {
    let mut starts = vec![0; columns.names.len()];
    let texts = rows.iter().enumerate().map(|(index, row)| {
        let ends: Vec<usize> =
            starts.iter().zip(&shredded.lists).map(|(start, list)| start + usize::from(list.counts[index])).collect();
        let text = shredded.of_row[index].map(|template| {
            let template = Template::parse(&shredded.templates[template as usize], columns.names.len()).unwrap();
            let mut at = starts.clone();
            let mut out = Vec::new();
            let mut next = |column: usize| {
                at[column] += 1;
                (at[column] <= ends[column]).then(|| shredded.lists[column].values[at[column] - 1])
            };
            template.rebuild(row.context(), &columns.scales, row.text.len(), &mut next, &mut out).unwrap();
            assert_eq!(at, ends, "every number is used");
            out
        });
        starts.clone_from(&ends);
        text
    });
    texts.collect()
}

/// Rows come back; gives how many have templates.
fn check(rows: &[Row]) -> usize {
    let (columns, shredded) = shred(rows);
    let texts = rebuilt(rows, &columns, &shredded);
    for (row, text) in rows.iter().zip(&texts) {
        assert!(text.as_ref().is_none_or(|text| *text == row.text), "{row:?} became {text:?}");
    }
    texts.iter().flatten().count()
}

fn rows(texts: impl IntoIterator<Item = String>) -> Vec<Row> {
    let row =
        |(n, text): (i64, String)| Row { device: "m-1", seq: Some(n), base_us: n * 999_999, text: text.into_bytes() };
    (0..).zip(texts).map(row).collect()
}

#[test]
fn numbers_of_one_kind_share_a_column_and_equal_times_take_none() {
    let texts = (0..20).map(|n| {
        let at = |s: i64| format!("1970-01-01T00:{:02}:{:02}.5Z", n, s);
        let pair = |s: i64| {
            let (ts, v) = (at(s), 750 + n + s);
            format!(r#"{{"ts":"{ts}","type":"u","val":{v}.{s}5}},{{"ts":"{ts}","type":"i","val":{n}}}"#)
        };
        format!(r#"{{"v":2,"device_id":"m-1","seq":{n},"m":[{},{}]}}"#, pair(1), pair(2))
    });
    let rows = rows(texts);
    let (columns, shredded) = shred(&rows);
    assert_eq!(columns.names, ["m_i_val", "m_ts", "m_u_val", "v"]);
    assert_eq!(columns.scales, [0, 1, 2, 0]);
    assert_eq!(shredded.templates.len(), 1);
    assert_eq!(shredded.of_row, [Some(0); 20]);
    assert_eq!(shredded.lists.iter().map(|list| list.counts[3]).collect::<Vec<_>>(), [2, 2, 2, 1]);
    assert_eq!(&shredded.lists[2].values[..4], [75_115, 75_225, 75_215, 75_325]);
    let shown = String::from_utf8(shredded.templates[0].clone()).unwrap().replace('\u{1}', "‹").replace('\u{2}', "›");
    assert_eq!(
        shown,
        r#"{"v":‹ns,3›,"device_id":"‹d›","seq":‹s›,"m":[{"ts":"‹t1,1›Z","type":"u","val":‹ns,2›},{"ts":"‹=1›Z","type":"i","val":‹ns,0›},{"ts":"‹t1,1›Z","type":"u","val":‹ns,2›},{"ts":"‹=1›Z","type":"i","val":‹ns,0›}]}"#
    );
    assert_eq!(check(&rows), 20);
}

#[test]
fn devices_that_write_their_numbers_in_different_ways_all_have_templates() {
    let mut all = Vec::new();
    for device in ["a", "b", "c", "d"] {
        all.extend((0..20).map(|n: i64| {
            let number = match device {
                "a" => format!("{}", f64::from(n as i32) / 2.0),
                "b" => format!("{:?}", f64::from(n as i32) / 2.0),
                "c" => format!("{:.3}", f64::from(n as i32) / 2.0),
                // One of no style.
                _ => {
                    if n % 2 == 0 {
                        "1".to_owned()
                    } else {
                        "1.0".to_owned()
                    }
                }
            };
            Row { device, seq: None, base_us: n, text: format!("{{\"x\":{number}}}").into_bytes() }
        }));
    }
    let (columns, shredded) = shred(&all);
    assert_eq!((columns.names.as_slice(), columns.scales.as_slice()), (&["x".to_owned()][..], &[3][..]));
    assert_eq!(shredded.templates.len(), 3);
    assert_eq!(check(&all), 60);
}

#[test]
fn one_that_writes_absurd_numbers_does_not_spoil_the_column_of_the_others() {
    let plain = (0..100).map(|n| format!("{{\"x\":{}}}", 1_000_000 + n));
    let absurd = (0..20).map(|n| format!("{{\"x\":0.{:015}}}", 1 + n * 2));
    let rows = rows(plain.chain(absurd));
    assert_eq!(shred(&rows).0.scales, [0]);
    assert_eq!(check(&rows), 100);
}

#[test]
fn what_is_not_json_or_never_the_same_is_kept_as_it_is() {
    let rows = rows((0..200).map(|n| if n % 2 == 0 { format!("\u{1}{n}") } else { format!("{{\"{n}x\":true}}") }));
    assert_eq!(check(&rows), 64, "the first texts without numbers, as far as one device has room");
    let (_, shredded) = shred(&[]);
    assert_eq!(shredded, Shredded::default());
}

#[test]
fn one_that_never_says_the_same_leaves_room_for_the_others() {
    let flood = (0..5000).map(|n| Row {
        device: "a",
        seq: None,
        base_us: 0,
        text: format!("{{\"k{n}\":{n},\"{n}\":1}}").into_bytes(),
    });
    let quiet =
        (0..100).map(|n| Row { device: "b", seq: None, base_us: 0, text: format!("{{\"x\":{n}}}").into_bytes() });
    let all: Vec<Row> = flood.chain(quiet).collect();
    assert_eq!(check(&all), 100);
}

/// Texts as meters write them, and others.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        "-?[0-9]{1,6}",
        "-?[0-9]{1,4}\\.[0-9]{1,3}",
        Just("-0".to_owned()),
        "[0-9]{1,3}[eE][+-]?[0-9]",
        "[0-9]{17,20}",
        any::<f64>().prop_map(|f| format!("{f:?}")),
    ];
    let time = prop_oneof![
        (0u8..3, 0u8..60, 0u16..1000).prop_map(|(h, s, ms)| format!("2026-02-12T{h:02}:00:{s:02}.{ms:03}Z")),
        (0u8..70).prop_map(|s| format!("2026-02-29T00:00:{s:02}+01:00")),
        "[0-9]{4}-0[1-3]-[0-3][0-9]T1[0-9]:59:[0-6]0(\\.[0-9]{0,10})?",
    ];
    let measured = (time.clone(), "[ui]", number.clone())
        .prop_map(|(ts, kind, val)| format!(r#"{{"ts":"{ts}","type":"{kind}","val":{val}}}"#));
    let list = prop::collection::vec(measured, 0..4);
    let telemetry = (time.clone(), 0u8..4, list).prop_map(|(ts, seq, list)| {
        format!(r#"{{"v":2,"device_id":"m-1","ts":"{ts}","seq":{seq},"measurements":[{}]}}"#, list.join(","))
    });
    let flat = (number, time).prop_map(|(n, ts)| format!("{{\"timestamp\": \"{ts}\",\t\"voltage\": {n} }}"));
    prop_oneof![
        4 => telemetry.prop_map(String::into_bytes),
        3 => flat.prop_map(String::into_bytes),
        1 => "[\\[\\]{}\",:0-9a.\\\\\u{1}\u{2} -]{0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

fn any_row() -> impl Strategy<Value = Row> {
    let base = prop_oneof![Just(1_770_890_410_250_000i64), any::<i64>(), 0i64..10_000_000];
    let device = prop::sample::select(vec!["m-1", "2", "", "voltage"]);
    (device, prop::option::of(0i64..4), base, text()).prop_map(|(device, seq, base_us, text)| Row {
        device,
        seq,
        base_us,
        text,
    })
}

proptest! {
    #[test]
    fn any_texts_in_any_mixture_come_back(rows in prop::collection::vec(any_row(), 0..12), repeats in 1usize..6) {
        let all: Vec<Row> = std::iter::repeat_n(rows, repeats).flatten().collect();
        check(&all);
    }

    #[test]
    fn texts_of_one_form_all_have_templates(values in prop::collection::vec((-9_999i32..9_999, 0i64..100_000), 20..60)) {
        let texts = values.iter().map(|(v, ms)| {
            let at = format!("1970-01-01T00:01:{:02}.{:03}Z", ms / 1000 % 60, ms % 1000);
            format!(r#"{{"ts":"{at}","x":{}}}"#, f64::from(*v) / 10.0)
        });
        let rows = rows(texts);
        prop_assert!(check(&rows) + 3 >= rows.len());
    }
}
