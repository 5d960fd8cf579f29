//! The payloads of some rows of a row group: from their pages, or from the pages of their templates and numbers.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::page_index::offset_index::PageLocation;

use super::{Object, external, open, picked};
use crate::archive::full::{optional, required};
use crate::archive::numbers::{Numbers, Rebuild, no_payload};
use crate::archive::schema::{Column, Layout};
use crate::archive::shred::{Context, Template};
use crate::archive::source::Source;

/// A column that is read by pages.
struct Paged {
    column: usize,
    /// `None` = it is not known where they are.
    pages: Option<Vec<PageLocation>>,
}

impl Object<'_> {
    /// The payloads of some rows of a row group, ascending. `source`: one that has the columns before at hand.
    pub(super) fn payloads(
        &self,
        index: usize,
        source: &Arc<Source>,
        rows: &[usize],
    ) -> Result<Vec<Bytes>, ParquetError> {
        let layout = &self.footer.layout;
        let Some(template) = layout.template() else {
            return Ok(self.whole(index, source, rows, required)?.iter().map(copied).collect());
        };
        let group = self.footer.metadata.row_group(index);
        let mut templates = open::<ByteArrayType>(source, group, template, self.pages(index, template).pages)?;
        let templates = picked(&mut templates, rows, optional)?;
        let mut rebuild = Rebuild::new(layout.scales());
        let templates = templates.iter().map(|text| text.as_ref().map(|text| rebuild.template(text)).transpose());
        let templates = templates.collect::<Result<Vec<_>, _>>()?;
        let each = rows.iter().zip(&templates);
        let whole: Vec<usize> = each.clone().filter(|(_, t)| t.is_none()).map(|(row, _)| *row).collect();
        let taken_apart: Vec<usize> = each.filter(|(_, t)| t.is_some()).map(|(row, _)| *row).collect();
        let mut whole = self.whole(index, source, &whole, optional)?.into_iter();
        let numbers = self.numbers(index, source, &taken_apart, &templates)?;
        let contexts = Contexts::read(source, group, &taken_apart)?;
        let (mut payloads, mut at) = (Vec::with_capacity(rows.len()), 0);
        for template in templates {
            payloads.push(match template {
                None => copied(&whole.next().flatten().ok_or_else(no_payload)?),
                Some(template) => {
                    let payload = rebuild.payload(&template, contexts.get(at), contexts.sizes[at], &numbers, at)?;
                    at += 1;
                    payload
                }
            });
        }
        Ok(payloads)
    }

    /// Payloads that were not taken apart; `take`: from a column with nulls, or without.
    fn whole<T>(
        &self,
        index: usize,
        source: &Arc<Source>,
        rows: &[usize],
        take: fn(&mut ColumnReaderImpl<ByteArrayType>, usize) -> Result<Vec<T>, ParquetError>,
    ) -> Result<Vec<T>, ParquetError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let paged = self.pages(index, self.footer.layout.payload());
        let source = self.at_hand(std::slice::from_ref(&paged), rows)?.map_or_else(|| Arc::clone(source), Arc::new);
        let group = self.footer.metadata.row_group(index);
        let mut payloads = open::<ByteArrayType>(&source, group, paged.column, paged.pages)?;
        picked(&mut payloads, rows, take)
    }

    /// Numbers of some rows, of the columns their templates take some of.
    fn numbers(
        &self,
        index: usize,
        source: &Arc<Source>,
        rows: &[usize],
        templates: &[Option<Arc<Template>>],
    ) -> Result<Vec<Option<Numbers>>, ParquetError> {
        let mut is_needed = vec![false; self.footer.layout.scales().len()];
        let mut last: Option<&Arc<Template>> = None;
        for template in templates.iter().flatten() {
            // (Neighbours mostly have the same one.)
            if !last.is_some_and(|last| Arc::ptr_eq(last, template)) {
                template.columns().for_each(|column| is_needed[column] = true);
                last = Some(template);
            }
        }
        let needed = (0..is_needed.len()).filter(|number| is_needed[*number]);
        let paged: Vec<Paged> = needed.map(|number| self.pages(index, Layout::number(number))).collect();
        let source = self.at_hand(&paged, rows)?.map_or_else(|| Arc::clone(source), Arc::new);
        let group = self.footer.metadata.row_group(index);
        let mut paged = paged.into_iter();
        let each = is_needed.into_iter().map(|is_needed| {
            let Some(Paged { column, pages }) = is_needed.then(|| paged.next()).flatten() else { return Ok(None) };
            let mut reader = open::<Int64Type>(&source, group, column, pages)?;
            let mut numbers = Numbers::default();
            picked(&mut reader, rows, |reader, count| numbers.read(reader, count).map(|()| Vec::<()>::new()))?;
            Ok(Some(numbers))
        });
        each.collect()
    }

    fn pages(&self, index: usize, column: usize) -> Paged {
        let pages = self.footer.metadata.page_index_for_row_group(index);
        Paged { column, pages: pages.page_locations(column).cloned() }
    }

    /// A source with the pages of these rows at hand, where it is known which they are and they are not so already.
    fn at_hand(&self, columns: &[Paged], rows: &[usize]) -> Result<Option<Source>, ParquetError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(None) };
        let mut range: Option<Range<u64>> = None;
        for paged in columns {
            let Some(pages) = paged.pages.as_ref().filter(|pages| !pages.is_empty()) else { return Ok(None) };
            let before = |row: usize| pages.partition_point(|page| page.first_row_index <= row as i64).max(1) - 1;
            let (first, last) = (&pages[before(*first)], &pages[before(*last)]);
            let (start, end) = (u64::try_from(first.offset)?, u64::try_from(last.offset)?);
            let end = end.saturating_add(u64::try_from(last.compressed_page_size)?);
            range = Some(range.map_or(start..end, |range| range.start.min(start)..range.end.max(end)));
        }
        let Some(range) = range else { return Ok(None) };
        if range.end > self.size {
            return Err(ParquetError::EOF("a page lies behind the end".into()));
        }
        let at_hand = match &self.tail {
            Some((at, bytes)) if *at <= range.start => (*at, bytes.clone()),
            _ => (range.start, self.bucket.get_range(&self.key, range).map_err(external)?),
        };
        Ok(Some(Source { bucket: self.bucket.clone(), key: self.key.clone(), size: self.size, at_hand }))
    }
}

/// What the templates of some rows leave out.
struct Contexts {
    devices: Vec<ByteArray>,
    seqs: Vec<Option<i64>>,
    times: Vec<Option<i64>>,
    received: Vec<i64>,
    sizes: Vec<i32>,
}

impl Contexts {
    fn read(source: &Arc<Source>, group: &RowGroupMetaData, rows: &[usize]) -> Result<Self, ParquetError> {
        let mut devices = open::<ByteArrayType>(source, group, Column::DeviceId as usize, None)?;
        let mut seqs = open::<Int64Type>(source, group, Column::Seq as usize, None)?;
        let mut times = open::<Int64Type>(source, group, Column::Ts as usize, None)?;
        let mut received = open::<Int64Type>(source, group, Column::ReceivedAt as usize, None)?;
        let mut sizes = open::<Int32Type>(source, group, Column::SizeBytes as usize, None)?;
        Ok(Self {
            devices: picked(&mut devices, rows, required)?,
            seqs: picked(&mut seqs, rows, optional)?,
            times: picked(&mut times, rows, optional)?,
            received: picked(&mut received, rows, required)?,
            sizes: picked(&mut sizes, rows, required)?,
        })
    }

    fn get(&self, row: usize) -> Context<'_> {
        Context::new(self.devices[row].data(), self.seqs[row], self.times[row], self.received[row])
    }
}

/// (A slice would keep its whole page in memory.)
fn copied(payload: &ByteArray) -> Bytes {
    Bytes::copy_from_slice(payload.data())
}
