//! The message that a template and its numbers make: written, or compared with one there is.

use std::ops::Range;

use super::number::{self, Style};
use super::template::{Fault, Part, Template};
use super::time::{Calendar, Instant};
use super::{Context, power};

/// Whether a text begins with a piece. (Most pieces are so short that a call of `memcmp` costs more than the comparison.)
#[inline]
pub(super) fn begins(text: &[u8], piece: &[u8]) -> bool {
    let Some(text) = text.get(..piece.len()) else { return false };
    match piece.len() {
        0..4 => text.iter().zip(piece).all(|(a, b)| a == b),
        4..8 => text.first_chunk::<4>() == piece.first_chunk() && text.last_chunk::<4>() == piece.last_chunk(),
        8..16 => text.first_chunk::<8>() == piece.first_chunk() && text.last_chunk::<8>() == piece.last_chunk(),
        _ => {
            let chunks = text.as_chunks::<16>().0.iter().zip(piece.as_chunks::<16>().0);
            text.last_chunk::<16>() == piece.last_chunk() && chunks.into_iter().all(|(a, b)| a == b)
        }
    }
}

/// A few bytes, put together from their end: what a mark becomes.
#[derive(Debug)]
pub(super) struct Short {
    bytes: [u8; Self::MOST],
    start: usize,
}

impl Short {
    /// Bytes there is room for: a sign, 19 digits, a point and 15 decimals are fewer.
    const MOST: usize = 40;

    pub(super) const fn new() -> Self {
        Self { bytes: [0; Self::MOST], start: Self::MOST }
    }

    /// One more byte before the others.
    pub(super) const fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    /// The last `count` digits of a number before the others; what is left of the number.
    pub(super) const fn push_digits(&mut self, mut value: u64, count: u8) -> u64 {
        let mut left = count;
        while left > 0 {
            self.push(b'0' + (value % 10) as u8);
            value /= 10;
            left -= 1;
        }
        value
    }

    /// A text before the others.
    pub(super) fn push_text<const N: usize>(&mut self, text: &[u8; N]) {
        self.start -= N;
        self.bytes[self.start..self.start + N].copy_from_slice(text);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// What becomes of a message that is being made; `false` = it does not go on.
trait Sink {
    fn put(&mut self, bytes: &[u8]) -> bool;
    /// Bytes put before, once more.
    fn put_again(&mut self, range: Range<usize>) -> bool;
    /// Bytes put.
    fn len(&self) -> usize;
}

/// It is written behind what is there, up to a size.
struct Written<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    size: usize,
}

impl Sink for Written<'_> {
    fn put(&mut self, bytes: &[u8]) -> bool {
        self.out.extend_from_slice(bytes);
        self.len() <= self.size
    }

    fn put_again(&mut self, range: Range<usize>) -> bool {
        self.out.extend_from_within(self.start + range.start..self.start + range.end);
        self.len() <= self.size
    }

    fn len(&self) -> usize {
        self.out.len() - self.start
    }
}

/// It is compared with a text.
struct Compared<'a> {
    text: &'a [u8],
    at: usize,
}

impl Sink for Compared<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> bool {
        let is_same = begins(&self.text[self.at..], bytes);
        self.at += if is_same { bytes.len() } else { 0 };
        is_same
    }

    fn put_again(&mut self, range: Range<usize>) -> bool {
        self.put(&self.text[range])
    }

    fn len(&self) -> usize {
        self.at
    }
}

impl Template {
    /// Appends the message to `out`: `size` bytes, or it is a fault. `scales`: decimals of the columns; `next` gives the next
    /// number of a column.
    pub fn rebuild(
        &self,
        context: Context<'_>,
        scales: &[u8],
        size: usize,
        next: &mut dyn FnMut(usize) -> Option<i64>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let start = out.len();
        let mut sink = Written { out, start, size };
        self.make(context, scales, next, &mut sink)?;
        if sink.len() == size { Ok(()) } else { Err(Fault::Length) }
    }

    /// Whether the message is `text`, to the byte.
    pub(super) fn makes(
        &self,
        context: Context<'_>,
        scales: &[u8],
        next: impl FnMut(usize) -> Option<i64>,
        text: &[u8],
    ) -> bool {
        let mut sink = Compared { text, at: 0 };
        self.make(context, scales, next, &mut sink).is_ok() && sink.len() == text.len()
    }

    fn make(
        &self,
        context: Context<'_>,
        scales: &[u8],
        mut next: impl FnMut(usize) -> Option<i64>,
        sink: &mut impl Sink,
    ) -> Result<(), Fault> {
        let base = Instant::micros(context.base_us);
        let (mut last, mut calendar) = (base, Calendar::default());
        // Where the time before is written.
        let mut written: Range<usize> = 0..0;
        for part in self.parts() {
            let goes_on = match part {
                Part::Text(range) => sink.put(self.between(range)),
                Part::Device => sink.put(context.device),
                Part::Seq => sink.put(number::write(context.seq.ok_or(Fault::Seq)?, 0, Style::Short)?.bytes()),
                Part::Same { digits } if *digits == last.digits && !written.is_empty() => {
                    sink.put_again(written.clone())
                }
                Part::Same { digits } => {
                    let units = last.cut(*digits).ok_or(Fault::Time)?;
                    sink.put(calendar.write(Instant { units, digits: *digits })?.bytes())
                }
                Part::Time { digits, column } => {
                    let (mantissa, scale) = taken(*column, scales, &mut next)?;
                    let unit = scale.checked_sub(*digits).and_then(power).ok_or(Fault::Scale)?;
                    let after = Some(mantissa / unit).filter(|_| mantissa % unit == 0).ok_or(Fault::Scale)?;
                    let units = base.cut(*digits).and_then(|units| units.checked_add(after)).ok_or(Fault::Time)?;
                    last = Instant { units, digits: *digits };
                    let before = sink.len();
                    let goes_on = sink.put(calendar.write(last)?.bytes());
                    written = before..sink.len();
                    goes_on
                }
                Part::Number { style, column } => {
                    let (mantissa, scale) = taken(*column, scales, &mut next)?;
                    sink.put(number::write(mantissa, scale, *style)?.bytes())
                }
            };
            if !goes_on {
                return Err(Fault::Length);
            }
        }
        Ok(())
    }
}

fn taken(column: u16, scales: &[u8], next: &mut impl FnMut(usize) -> Option<i64>) -> Result<(i64, u8), Fault> {
    let column = usize::from(column);
    let scale = scales.get(column).ok_or(Fault::Column)?;
    Ok((next(column).ok_or(Fault::Count)?, *scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_begins_with_a_piece_when_it_does(
            text in prop::collection::vec(0u8..2, 0..80), length in 0usize..80, spoilt in 0usize..160,
        ) {
            let mut piece = text[..length.min(text.len())].to_vec();
            prop_assert!(begins(&text, &piece));
            if let Some(byte) = piece.get_mut(spoilt) {
                *byte ^= 1;
                prop_assert!(!begins(&text, &piece));
            }
            piece.resize(text.len() + 1, 0);
            prop_assert!(!begins(&text, &piece));
        }
    }
}
