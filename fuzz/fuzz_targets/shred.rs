//! Arbitrary texts taken apart into templates and numbers; arbitrary templates and numbers made into texts.
//!
//! A line is a text, given twice. A line that begins with `T` is a template instead, made with the numbers that the bytes of the
//! line before are. Whatever comes: nothing panics, every text that has a template comes back to the byte and uses all of its
//! numbers, and a template that is understood is written as it was read.
#![no_main]

use iot_meter_fuzz::shred::{Columns, Context, Group, Plan, Shapes, Shredded, Template};
use libfuzzer_sys::fuzz_target;

const SCALES: [u8; 4] = [0, 3, 9, 15];
const SIZE: usize = 400;

fuzz_target!(|data: &[u8]| {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let texts: Vec<&[u8]> = lines.iter().flat_map(|line| [*line; 2]).collect();
    come_back(&texts);
    for pair in lines.windows(2).filter(|pair| pair[1].starts_with(b"T")) {
        template(&pair[1][1..], pair[0]);
    }
});

/// What a row says beside its text: by its place.
fn context(row: usize) -> Context<'static> {
    let (device, seq): (&[u8], _) = if row % 3 == 0 { (b"m-1", Some(7)) } else { (b"2", None) };
    Context { device, seq, base_us: [1_770_890_410_250_000, 0, i64::MIN, i64::MAX][row / 2 % 4] }
}

fn come_back(texts: &[&[u8]]) {
    let (mut shapes, mut group, mut plan) = (Shapes::default(), Group::default(), Plan::default());
    texts.iter().enumerate().for_each(|(row, text)| group.push(&mut shapes, context(row), text));
    plan.add(&shapes, &group);
    let columns = plan.columns(&shapes);
    let Columns { names, scales, .. } = &columns;
    let shredded = group.finish(&shapes, &columns, &|row| (context(row), texts[row]));
    let Shredded { templates, of_row, lists } = shredded;
    let mut starts = vec![0; names.len()];
    for (row, text) in texts.iter().enumerate() {
        let ends: Vec<usize> = starts.iter().zip(&lists).map(|(at, list)| at + usize::from(list.counts[row])).collect();
        if let Some(template) = of_row[row] {
            let template = Template::parse(&templates[template as usize], names.len()).expect("its own template");
            let (mut at, mut out) = (starts.clone(), Vec::new());
            let mut next = |column: usize| {
                at[column] += 1;
                (at[column] <= ends[column]).then(|| lists[column].values[at[column] - 1])
            };
            template.rebuild(context(row), scales, text.len(), &mut next, &mut out).expect("it was compared");
            assert_eq!((out.as_slice(), &at), (*text, &ends), "another text came back");
        }
        starts = ends;
    }
}

fn template(text: &[u8], numbers: &[u8]) {
    let Ok(template) = Template::parse(text, SCALES.len()) else { return };
    assert_eq!(Template::parse(&template.text(), SCALES.len()).as_ref(), Ok(&template));
    let mut numbers = numbers.chunks(8).map(|chunk| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        i64::from_le_bytes(bytes)
    });
    let mut out = Vec::new();
    let made = template.rebuild(context(0), &SCALES, SIZE, &mut |_| numbers.next(), &mut out);
    assert!(made.is_err() || out.len() == SIZE);
}
