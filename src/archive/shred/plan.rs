//! Which numbers become columns, and with how many decimals: those there are most of, so that most fit.

use super::shape::{LIMIT, Shapes};
use super::{Group, MAX_COLUMNS, MAX_DECIMALS, MAX_DIGITS, Value, power};

/// Fewer numbers are not worth a column.
const LEAST: u64 = 4;
/// How many numbers of decimals there are, and of digits.
const DECIMALS: usize = MAX_DECIMALS as usize + 1;
const DIGITS: usize = MAX_DIGITS as usize + 1;

/// Numbers of one name, counted by their decimals and digits.
#[derive(Clone, Debug)]
struct Counts([[u32; DIGITS]; DECIMALS]);

impl Counts {
    fn total(&self) -> u64 {
        self.fitting(None)
    }

    /// How many can be kept with so many decimals.
    fn fitting(&self, scale: Option<usize>) -> u64 {
        let fits = |decimals: usize, digits: usize| match scale {
            Some(scale) => decimals <= scale && digits + scale - decimals < DIGITS,
            None => true,
        };
        let rows = self.0.iter().enumerate();
        let each = rows.flat_map(|(decimals, of)| of.iter().enumerate().map(move |(digits, n)| (decimals, digits, *n)));
        each.filter(|(decimals, digits, _)| fits(*decimals, *digits)).map(|(_, _, n)| u64::from(n)).sum()
    }

    /// The decimals with which most fit, the fewest of those.
    fn scale(&self) -> u8 {
        let all = 0..DECIMALS;
        let best = all.rev().max_by_key(|scale| self.fitting(Some(*scale))).unwrap_or(0);
        best as u8
    }
}

/// What the columns are decided by: counts of all numbers of an object.
#[derive(Default, Debug)]
pub struct Plan {
    counts: Vec<Counts>,
}

impl Plan {
    /// Counts the numbers of some rows.
    pub fn add(&mut self, shapes: &Shapes, group: &Group) {
        self.counts.resize(shapes.key_count(), Counts([[0; DIGITS]; DECIMALS]));
        group.each(shapes, |_, kind, value| {
            let digits = value.mantissa.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
            let counts = &mut self.counts[usize::from(kind.key)].0;
            if let Some(count) = counts.get_mut(usize::from(value.decimals)).and_then(|of| of.get_mut(digits)) {
                *count = count.saturating_add(1);
            }
        });
    }

    /// The columns, by name.
    pub fn columns(&self, shapes: &Shapes) -> Columns {
        let keys = (0u16..).zip(&self.counts).map(|(key, counts)| (counts.total(), key));
        let mut keys: Vec<(u64, u16)> = keys.filter(|(total, _)| *total >= LEAST).collect();
        keys.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| shapes.name(a.1).cmp(shapes.name(b.1))));
        keys.truncate(MAX_COLUMNS);
        keys.sort_by(|a, b| shapes.name(a.1).cmp(shapes.name(b.1)));
        let mut columns = Columns { of_key: vec![None; self.counts.len()], ..Columns::default() };
        for (column, (_, key)) in (0u16..).zip(keys) {
            columns.of_key[usize::from(key)] = Some(column);
            columns.names.push(shapes.name(key).to_owned());
            columns.scales.push(self.counts[usize::from(key)].scale());
        }
        columns
    }
}

/// The columns of an object.
#[derive(Clone, Default, Debug)]
pub struct Columns {
    /// What each is called: lower-case letters, digits and `_`, ascending.
    pub names: Vec<String>,
    /// Decimals of each.
    pub scales: Vec<u8>,
    of_key: Vec<Option<u16>>,
}

impl Columns {
    /// Where numbers of that name go.
    pub(super) fn of(&self, key: u16) -> Option<u16> {
        self.of_key.get(usize::from(key)).copied().flatten()
    }

    /// A number as its column keeps it; `None` = it does not fit.
    pub(super) fn scaled(&self, column: usize, value: Value) -> Option<i64> {
        let scale = self.scales.get(column)?;
        let mantissa = value.mantissa.checked_mul(power(scale.checked_sub(value.decimals)?)?)?;
        (-LIMIT < mantissa && mantissa < LIMIT).then_some(mantissa)
    }
}

/// A column: the numbers of each row, one row after the other.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Lists {
    /// The numbers.
    pub values: Vec<i64>,
    /// How many each row has.
    pub counts: Vec<u16>,
}
