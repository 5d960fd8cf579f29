//! Payloads again, from the template and the numbers that were taken out of them.
//!
//! Bounded: a column of numbers has [`MAX_VALUES`] in a row group, a payload the size its row says, [`KNOWN`] templates are held
//! taken apart. Whatever does not fit together is an error, never another payload.

use std::sync::Arc;

use bytes::Bytes;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, Int64Type};
use parquet::errors::ParquetError;

use super::encode::GROUP_ROWS;
use super::shred::{Context, Fault, MAX_NUMBERS, Template};

/// Numbers a column has in a row group, at most: none that is written has more.
const MAX_VALUES: usize = GROUP_ROWS * MAX_NUMBERS;
/// Templates held.
const KNOWN: usize = 64;

/// A column's numbers of some rows.
#[derive(Default, Debug)]
pub(crate) struct Numbers {
    values: Vec<i64>,
    /// Where each row's end.
    ends: Vec<usize>,
}

impl Numbers {
    /// Reads those of the next `count` rows.
    pub(crate) fn read(&mut self, reader: &mut ColumnReaderImpl<Int64Type>, count: usize) -> Result<(), ParquetError> {
        let (mut levels, mut repeated) = (Vec::new(), Vec::new());
        let (rows, mut at) = (self.ends.len(), self.values.len());
        reader.read_records(count, Some(&mut levels), Some(&mut repeated), &mut self.values)?;
        for (level, repeats) in levels.into_iter().zip(repeated) {
            at += usize::from(level > 0);
            match self.ends.last_mut().filter(|_| repeats > 0) {
                Some(end) => *end = at,
                None => self.ends.push(at),
            }
        }
        if self.ends.len() - rows != count || at != self.values.len() {
            return Err(ParquetError::EOF("a column of numbers is too short".into()));
        }
        Ok(())
    }

    fn of(&self, row: usize) -> Option<&[i64]> {
        let start = row.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.values.get(start..*self.ends.get(row)?)
    }
}

/// Makes payloads, row by row.
#[derive(Debug)]
pub(crate) struct Rebuild {
    scales: Vec<u8>,
    known: Vec<(ByteArray, Arc<Template>)>,
    /// How many numbers of each column the row has taken.
    taken: Vec<usize>,
}

impl Rebuild {
    /// Of an object with columns of so many decimals.
    pub(crate) fn new(scales: &[u8]) -> Self {
        Self { scales: scales.to_vec(), known: Vec::new(), taken: vec![0; scales.len()] }
    }

    /// A template, taken apart.
    pub(crate) fn template(&mut self, text: &ByteArray) -> Result<Arc<Template>, ParquetError> {
        // (Values of one page share its dictionary's memory.)
        let by_place = self.known.iter().position(|(known, _)| std::ptr::eq(known.data(), text.data()));
        let place = by_place.or_else(|| self.known.iter().position(|(known, _)| known.data() == text.data()));
        if let Some(place) = place {
            self.known[..=place].rotate_right(1);
            return Ok(Arc::clone(&self.known[0].1));
        }
        let template = Arc::new(Template::parse(text.data(), self.scales.len()).map_err(damaged)?);
        self.known.truncate(KNOWN - 1);
        self.known.insert(0, (text.clone(), Arc::clone(&template)));
        Ok(template)
    }

    /// The payload of a row of `size` bytes. `numbers`: of the columns that were read, by column; `row`: which row of them.
    pub(crate) fn payload(
        &mut self,
        template: &Template,
        context: Context<'_>,
        size: i32,
        numbers: &[Option<Numbers>],
        row: usize,
    ) -> Result<Bytes, ParquetError> {
        let size = usize::try_from(size).map_err(|_| damaged(Fault::Length))?;
        let mut payload = Vec::with_capacity(size.min(16 * 1024));
        let Self { scales, taken, .. } = self;
        taken.fill(0);
        let mut next = |column: usize| {
            let taken = taken.get_mut(column)?;
            *taken += 1;
            numbers.get(column)?.as_ref()?.of(row)?.get(*taken - 1).copied()
        };
        template.rebuild(context, scales, size, &mut next, &mut payload).map_err(damaged)?;
        let mut columns = numbers.iter().zip(&*taken).filter_map(|(numbers, taken)| Some((numbers.as_ref()?, taken)));
        if columns.all(|(numbers, taken)| numbers.of(row).is_some_and(|of| of.len() == *taken)) {
            return Ok(payload.into());
        }
        Err(damaged(Fault::Count))
    }
}

fn damaged(fault: Fault) -> ParquetError {
    ParquetError::General(fault.to_string())
}

/// A row without a payload and without a template.
pub(crate) fn no_payload() -> ParquetError {
    ParquetError::General("a row has neither a template nor a payload".into())
}

/// Pages of numbers, which in all say they have no more than they can.
pub(crate) struct Guarded<R> {
    pages: R,
    left: usize,
}

impl<R> Guarded<R> {
    /// Those of a column of a row group.
    pub(crate) const fn new(pages: R) -> Self {
        Self { pages, left: MAX_VALUES }
    }
}

impl<R: PageReader> Iterator for Guarded<R> {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<R: PageReader> PageReader for Guarded<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let Some(page) = self.pages.get_next_page()? else { return Ok(None) };
        let left = self.left.checked_sub(page.num_values() as usize);
        self.left = left.ok_or_else(|| ParquetError::General("a column has more numbers than it can".into()))?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>, ParquetError> {
        self.pages.take_deferred_dictionary()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.pages.at_record_boundary()
    }
}
