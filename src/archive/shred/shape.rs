//! Texts of one shape differ in their marks only: once seen, the next is read by comparing what lies between.
//!
//! That is why shredding is cheap: no text is walked through twice, and shapes are few (a few a kind of meter).
//!
//! Invariant: equal texts in equal order have equal shapes. Bounded: see the constants.

use std::collections::HashMap;

use super::make::begins;
use super::text::{Found, marks};
use super::time::{Calendar, Instant};
use super::{CLOSE, Context, OPEN, POWERS, Value, number};

/// Shapes known at once, and their bytes.
const MAX_SHAPES: usize = 2048;
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// New shapes of one device in a row: one that never says the same twice leaves room for others.
const MAX_OF_DEVICE: usize = 64;
/// Names of numbers, and new ones of one device in a row.
const MAX_KEYS: usize = 1024;
const MAX_KEYS_OF_DEVICE: usize = 96;
/// Shapes tried, latest first, before a text is walked through.
const RECENT: usize = 24;
/// Characters of a name.
const MAX_NAME: usize = 96;
/// The largest number, and the one of a column's number that it becomes at most.
pub(super) const LIMIT: i64 = POWERS[number::MAX_DIGITS as usize];

/// What a mark stands for. A `key` is a name by its place among those known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    Device,
    Seq,
    Same { digits: u8 },
    Time { digits: u8, key: u16 },
    Number { key: u16 },
}

/// The pieces of a text: what lies before a mark, and the mark; then the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) pieces: Vec<(Box<[u8]>, Slot)>,
    pub(super) rest: Box<[u8]>,
    /// What its values are, in their order.
    pub(super) values: Vec<Kind>,
}

/// What a value is: its key, and whether it is a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kind {
    pub(super) key: u16,
    pub(super) is_time: bool,
}

impl Shape {
    fn new(pieces: Vec<(Box<[u8]>, Slot)>, rest: &[u8]) -> Self {
        let values = pieces.iter().filter_map(|(_, slot)| match *slot {
            Slot::Time { key, .. } => Some(Kind { key, is_time: true }),
            Slot::Number { key } => Some(Kind { key, is_time: false }),
            _ => None,
        });
        Self { values: values.collect(), pieces, rest: rest.into() }
    }

    /// Reads a text of this shape; `false` = it has another one, and `values` has leavings.
    fn read(&self, context: Context<'_>, text: &[u8], calendar: &mut Calendar, values: &mut Vec<Value>) -> bool {
        let (mut rest, mut times) = (text, Times::new(context));
        for (before, slot) in &self.pieces {
            if !begins(rest, before) {
                return false;
            }
            let at = &rest[before.len()..];
            let Some(length) = take(*slot, context, at, &mut times, calendar, values) else { return false };
            rest = &at[length..];
        }
        rest == &*self.rest
    }
}

/// The times of a text as far as it is read.
struct Times<'a> {
    base: Instant,
    last: Instant,
    /// The last time's text: most are the same again.
    text: &'a [u8],
}

impl<'a> Times<'a> {
    const fn new(context: Context<'_>) -> Self {
        let base = Instant::micros(context.base_us);
        Self { base, last: base, text: &[] }
    }

    fn is_last(&self, time: Instant) -> bool {
        self.last.cut(time.digits) == Some(time.units)
    }

    /// A time that is not the one before; its number.
    fn next(&mut self, time: Instant, text: &'a [u8]) -> Option<Value> {
        let after = time.units.checked_sub(self.base.cut(time.digits)?)?;
        (self.last, self.text) = (time, text);
        (-LIMIT < after && after < LIMIT).then_some(Value { mantissa: after, decimals: time.digits })
    }
}

/// Reads what a mark stands for at the beginning of `text`; its length.
fn take<'a>(
    slot: Slot,
    context: Context<'_>,
    text: &'a [u8],
    times: &mut Times<'a>,
    calendar: &mut Calendar,
    values: &mut Vec<Value>,
) -> Option<usize> {
    match slot {
        Slot::Device => begins(text, context.device).then_some(context.device.len()),
        Slot::Seq => {
            let (value, length) = number::read(text)?;
            (value.decimals == 0 && context.seq == Some(value.mantissa)).then_some(length)
        }
        Slot::Number { .. } => {
            let (value, length) = number::read(text)?;
            values.push(value);
            Some(length)
        }
        Slot::Same { digits } => {
            let is_text = times.last.digits == digits && !times.text.is_empty() && begins(text, times.text);
            if is_text && !text.get(times.text.len()).is_some_and(u8::is_ascii_digit) {
                return Some(times.text.len());
            }
            let (time, length) = calendar.read(text)?;
            (time.digits == digits && times.is_last(time)).then_some(length)
        }
        Slot::Time { digits, .. } => {
            let (time, length) = calendar.read(text)?;
            if time.digits != digits || times.is_last(time) {
                return None;
            }
            values.push(times.next(time, &text[..length])?);
            Some(length)
        }
    }
}

/// The shapes seen, and the names of their numbers.
#[derive(Default, Debug)]
pub struct Shapes {
    shapes: Vec<Shape>,
    by_text: HashMap<Vec<u8>, u32>,
    bytes: usize,
    recent: Vec<u32>,
    names: Vec<String>,
    by_name: HashMap<String, u16>,
    calendar: Calendar,
    newest: Newest,
}

/// The device whose texts were last new ones, and how many shapes and names came with them.
#[derive(Default, Debug)]
struct Newest {
    device: Vec<u8>,
    shapes: usize,
    keys: usize,
}

impl Shapes {
    pub(super) fn get(&self, shape: u32) -> &Shape {
        &self.shapes[shape as usize]
    }

    /// How many names there are.
    pub(super) const fn key_count(&self) -> usize {
        self.names.len()
    }

    pub(super) fn name(&self, key: u16) -> &str {
        &self.names[usize::from(key)]
    }

    /// The shape of a text, whose values are appended; `None` = it has none.
    pub(super) fn read(&mut self, context: Context<'_>, text: &[u8], values: &mut Vec<Value>) -> Option<u32> {
        let start = values.len();
        for place in 0..self.recent.len() {
            let shape = self.recent[place];
            if self.shapes[shape as usize].read(context, text, &mut self.calendar, values) {
                self.recent[..=place].rotate_right(1);
                return Some(shape);
            }
            values.truncate(start);
        }
        let shape = self.learn(context, text, values);
        match shape {
            Some(shape) => {
                self.recent.retain(|other| *other != shape);
                self.recent.insert(0, shape);
                self.recent.truncate(RECENT);
            }
            None => values.truncate(start),
        }
        shape
    }

    /// Walks through a text.
    fn learn(&mut self, context: Context<'_>, text: &[u8], values: &mut Vec<Value>) -> Option<u32> {
        if self.newest.device != context.device {
            self.newest = Newest { device: context.device.to_vec(), shapes: 0, keys: 0 };
        }
        let (mut pieces, mut kept, mut end) = (Vec::new(), Vec::new(), 0);
        let mut times = Times::new(context);
        for marked in marks(context, text)? {
            let before = &text[end..marked.at.start];
            let content = &text[marked.at.clone()];
            let slot = match marked.found {
                Found::Device => Slot::Device,
                Found::Seq => Slot::Seq,
                Found::Number { value, name } => {
                    values.push(value);
                    Slot::Number { key: self.key(name)? }
                }
                Found::Time { name } => {
                    let (time, _) = self.calendar.read(content)?;
                    if times.is_last(time) {
                        Slot::Same { digits: time.digits }
                    } else {
                        values.push(times.next(time, content)?);
                        Slot::Time { digits: time.digits, key: self.key(name)? }
                    }
                }
            };
            keep(&mut kept, before, slot);
            pieces.push((Box::from(before), slot));
            end = marked.at.end;
        }
        kept.extend_from_slice(&text[end..]);
        self.known(kept, Shape::new(pieces, &text[end..]))
    }

    fn known(&mut self, kept: Vec<u8>, shape: Shape) -> Option<u32> {
        if let Some(known) = self.by_text.get(&kept) {
            return Some(*known);
        }
        self.bytes += 2 * kept.len();
        self.newest.shapes += 1;
        let is_of_many = self.newest.shapes > MAX_OF_DEVICE;
        let is_full = self.shapes.len() == MAX_SHAPES || self.bytes > MAX_BYTES || is_of_many;
        if is_full {
            self.bytes -= 2 * kept.len();
            return None;
        }
        let index = u32::try_from(self.shapes.len()).ok()?;
        self.shapes.push(shape);
        self.by_text.insert(kept, index);
        Some(index)
    }

    fn key(&mut self, mut name: String) -> Option<u16> {
        name.truncate(MAX_NAME);
        if let Some(key) = self.by_name.get(&name) {
            return Some(*key);
        }
        self.newest.keys += 1;
        if self.names.len() == MAX_KEYS || self.newest.keys > MAX_KEYS_OF_DEVICE {
            return None;
        }
        let key = u16::try_from(self.names.len()).ok()?;
        self.names.push(name.clone());
        self.by_name.insert(name, key);
        Some(key)
    }
}

/// A text by which a shape is found again.
fn keep(kept: &mut Vec<u8>, before: &[u8], slot: Slot) {
    kept.extend_from_slice(before);
    let (kind, digits, key) = match slot {
        Slot::Device => (b'd', 0, 0),
        Slot::Seq => (b's', 0, 0),
        Slot::Same { digits } => (b'=', digits, 0),
        Slot::Time { digits, key } => (b't', digits, key),
        Slot::Number { key } => (b'n', 0, key),
    };
    let [high, low] = key.to_be_bytes();
    kept.extend_from_slice(&[OPEN, kind, digits, high, low, CLOSE]);
}
