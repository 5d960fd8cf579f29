//! Which columns of telemetry a reader needs, and how many rows it is given at a time.

use crate::domain::metric::Known;

/// Rows in the first page of a scan, so that work on them begins soon.
pub const FIRST_PAGE: usize = 400;

/// Rows in the page after one of so many: twice as many, but never more than what bounds memory and the time a snapshot is held.
pub fn page_after(rows: usize) -> usize {
    (2 * rows).min(2000)
}

/// A set of columns. What has no column of its own (other types, other units) is always read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Columns(u16);

impl Columns {
    /// Every one.
    pub const ALL: Self = Self((1 << Known::ALL.len()) - 1);
    /// None.
    pub const NONE: Self = Self(0);

    /// With that of a type.
    pub const fn with(self, known: Known) -> Self {
        Self(self.0 | 1 << known as u16)
    }

    /// Whether that of a type is in it.
    pub const fn has(self, known: Known) -> bool {
        self.0 >> known as u16 & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let some = Columns::NONE.with(Known::Pf).with(Known::VoltageDc);
        let has = Known::ALL.map(|known| some.has(known));
        assert_eq!(has.iter().filter(|has| **has).count(), 2);
        assert!(some.has(Known::Pf) && !some.has(Known::Battery));
        assert!(Known::ALL.into_iter().all(|known| Columns::ALL.has(known) && !Columns::NONE.has(known)));
    }
}
