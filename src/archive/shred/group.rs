//! Rows on their way into columns: read first, so that it can be seen what they have in common, then written.

use std::collections::HashMap;

use super::number::{Style, Styles};
use super::plan::{Columns, Lists};
use super::shape::{Kind, Shapes, Slot};
use super::template::{Part, Template};
use super::{Context, Value};

/// Templates of a group, and their bytes.
const MAX_TEMPLATES: usize = 512;
const MAX_BYTES: usize = 512 * 1024;
/// Room for values, in one step once there are some. A block between 128 KiB and 32 MiB would be kept by the allocator when
/// it is given back (see `journal::large`); of this one only what is written takes memory.
const FEW: usize = 1024;
const ROOM: usize = (33 << 20) / size_of::<Value>();

/// A row that was read.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// `None` = it stays as it is.
    shape: Option<u32>,
    /// Where its values begin.
    first: usize,
    /// Which device it is of: neighbours of one device have the same number.
    run: u32,
}

/// Rows that were read.
#[derive(Default, Debug)]
pub struct Group {
    rows: Vec<Row>,
    values: Vec<Value>,
    run: u32,
    device: Vec<u8>,
}

/// What has become of them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Shredded {
    /// The templates.
    pub templates: Vec<Vec<u8>>,
    /// Each row's; `None` = its text has to be kept as it is.
    pub of_row: Vec<Option<u32>>,
    /// The numbers of the others, a column each.
    pub lists: Vec<Lists>,
}

/// How each number is written: by its key; by device and key where devices differ.
struct Writing {
    of_key: Vec<Option<Style>>,
    of_run: HashMap<(u32, u16), Option<Style>>,
}

impl Writing {
    fn style(&self, run: u32, key: u16) -> Option<Style> {
        self.of_key[usize::from(key)].or_else(|| self.of_run.get(&(run, key)).copied().flatten())
    }
}

impl Group {
    /// Reads the next row.
    pub fn push(&mut self, shapes: &mut Shapes, context: Context<'_>, text: &[u8]) {
        if self.device != context.device {
            self.device.clear();
            self.device.extend_from_slice(context.device);
            self.run += 1;
        }
        let first = self.values.len();
        if first > FEW && self.values.capacity() < ROOM {
            self.values.reserve(ROOM - first);
        }
        let shape = shapes.read(context, text, &mut self.values);
        self.rows.push(Row { shape, first, run: self.run });
    }

    /// Forgets the rows, not the memory they took.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.values.clear();
        self.device.clear();
        self.run = 0;
    }

    /// Every value, whose run it is of and what it is.
    pub(super) fn each(&self, shapes: &Shapes, mut each: impl FnMut(u32, Kind, Value)) {
        for (row, shape) in self.rows.iter().filter_map(|row| Some((row, row.shape?))) {
            let values = shapes.get(shape).values.iter().zip(&self.values[row.first..]);
            values.for_each(|(kind, value)| each(row.run, *kind, *value));
        }
    }

    /// Splits the rows into templates and columns. `row` gives a row again, as it was pushed.
    pub fn finish<'a>(
        &self,
        shapes: &Shapes,
        columns: &Columns,
        row: &dyn Fn(usize) -> (Context<'a>, &'a [u8]),
    ) -> Shredded {
        let (templates, candidates) = self.candidates(shapes, columns);
        let mut rows = vec![0usize; templates.len()];
        candidates.iter().flatten().for_each(|candidate| rows[*candidate] += 1);
        let kept = kept(&templates, &rows);
        let mut done = Shredded { of_row: vec![None; self.rows.len()], ..Shredded::default() };
        done.lists = vec![Lists { values: Vec::new(), counts: vec![0; self.rows.len()] }; columns.names.len()];
        let takes: Vec<Vec<usize>> = templates.iter().map(|template| template.columns().collect()).collect();
        let mut room = vec![0; columns.names.len()];
        for (takes, rows) in takes.iter().zip(&rows) {
            takes.iter().for_each(|column| room[*column] += rows);
        }
        done.lists.iter_mut().zip(room).for_each(|(list, room)| list.values.reserve_exact(room));
        let mut places: Vec<Option<u32>> = vec![None; templates.len()];
        let mut numbers = Vec::new();
        for (index, candidate) in candidates.into_iter().enumerate() {
            let Some(candidate) = candidate.filter(|candidate| kept[*candidate]) else { continue };
            let (template, takes) = (&templates[candidate], &takes[candidate]);
            let values = takes.iter().zip(&self.values[self.rows[index].first..]);
            numbers.clear();
            numbers.extend(values.map_while(|(column, value)| columns.scaled(*column, *value)));
            let (context, exact) = row(index);
            let mut next = numbers.iter().copied();
            // (Nothing but this comparison decides whether a text comes back.)
            if !template.makes(context, &columns.scales, |_| next.next(), exact) {
                continue;
            }
            let place = *places[candidate].get_or_insert_with(|| {
                done.templates.push(template.text());
                (done.templates.len() - 1) as u32
            });
            done.of_row[index] = Some(place);
            for (column, number) in takes.iter().zip(&numbers) {
                let lists = &mut done.lists[*column];
                lists.values.push(*number);
                lists.counts[index] += 1;
            }
        }
        done
    }

    /// The template each row could have.
    fn candidates(&self, shapes: &Shapes, columns: &Columns) -> (Vec<Template>, Vec<Option<usize>>) {
        let writing = self.writing(shapes);
        let (mut templates, mut by_text) = (Vec::new(), HashMap::new());
        let mut by_shape: HashMap<(u32, u32), Option<usize>> = HashMap::new();
        let mut find = |shape: u32, run: u32| {
            let is_of_run = shapes.get(shape).values.iter().any(|kind| writing.of_key[usize::from(kind.key)].is_none());
            *by_shape.entry((shape, if is_of_run { run } else { 0 })).or_insert_with(|| {
                let template = template(shapes, shape, columns, &|key| writing.style(run, key))?;
                Some(*by_text.entry(template.text()).or_insert_with(|| {
                    templates.push(template);
                    templates.len() - 1
                }))
            })
        };
        // Most rows have that of the row before.
        let mut last = None;
        let candidates = self.rows.iter().map(|row| {
            let of = (row.shape?, row.run);
            match last {
                Some((before, found)) if before == of => found,
                _ => last.insert((of, find(of.0, of.1))).1,
            }
        });
        let candidates = candidates.collect();
        (templates, candidates)
    }

    fn writing(&self, shapes: &Shapes) -> Writing {
        let mut of_key = vec![Styles::default(); shapes.key_count()];
        self.each(shapes, |_, kind, value| {
            if !kind.is_time {
                of_key[usize::from(kind.key)].add(value);
            }
        });
        let of_key: Vec<Option<Style>> = of_key.into_iter().map(Styles::choose).collect();
        let mut of_run: HashMap<(u32, u16), Styles> = HashMap::new();
        if of_key.iter().any(Option::is_none) {
            self.each(shapes, |run, kind, value| {
                if !kind.is_time && of_key[usize::from(kind.key)].is_none() {
                    of_run.entry((run, kind.key)).or_default().add(value);
                }
            });
        }
        Writing { of_key, of_run: of_run.into_iter().map(|(of, styles)| (of, styles.choose())).collect() }
    }
}

/// Which templates, each of so many rows, there is room for: first those of several, in the order of their first ones.
fn kept(templates: &[Template], rows: &[usize]) -> Vec<bool> {
    let (mut is_kept, mut count, mut bytes) = (vec![false; templates.len()], 0, 0);
    for is_turn in [|rows: usize| rows > 1, |rows: usize| rows == 1] {
        for (index, template) in templates.iter().enumerate().filter(|(index, _)| is_turn(rows[*index])) {
            let length = template.text().len();
            is_kept[index] = count < MAX_TEMPLATES && bytes + length <= MAX_BYTES;
            if is_kept[index] {
                (count, bytes) = (count + 1, bytes + length);
            }
        }
    }
    is_kept
}

/// A shape with its columns; `None` = it has a number without one, or one whose way of writing nothing says.
fn template(shapes: &Shapes, shape: u32, columns: &Columns, style: &dyn Fn(u16) -> Option<Style>) -> Option<Template> {
    let shape = shapes.get(shape);
    let mut template = Template::new();
    for (before, slot) in &shape.pieces {
        template.push_text(before);
        template.push(match *slot {
            Slot::Device => Part::Device,
            Slot::Seq => Part::Seq,
            Slot::Same { digits } => Part::Same { digits },
            Slot::Time { digits, key } => Part::Time { digits, column: columns.of(key)? },
            Slot::Number { key } => Part::Number { style: style(key)?, column: columns.of(key)? },
        });
    }
    template.push_text(&shape.rest);
    Some(template)
}
