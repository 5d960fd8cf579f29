//! A template: its parts, and its text as it is kept.

use std::ops::Range;

use super::number::{MAX_DECIMALS, Style, integer};
use super::time::MAX_DIGITS;
use super::{CLOSE, OPEN};

/// Why a template and numbers make no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// A mark is none of those above.
    #[error("a mark of a template is not understood")]
    Mark,
    /// A mark names a column that is not there.
    #[error("a template names a column that is not there")]
    Column,
    /// A mark stands for the row's sequence number, which it has not.
    #[error("a row without a sequence number has a template with one")]
    Seq,
    /// A column has no number where one is due, or more than are due.
    #[error("a row has not the numbers of its template")]
    Count,
    /// A number cannot be written in the way its mark says.
    #[error("a number does not fit its template")]
    Scale,
    /// A time is out of range.
    #[error("a time is out of range")]
    Time,
    /// The message would not have the length it had.
    #[error("a message has not the length it had")]
    Length,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Text(Range<usize>),
    Device,
    Seq,
    Same { digits: u8 },
    Time { digits: u8, column: u16 },
    Number { style: Style, column: u16 },
}

/// A template, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    text: Vec<u8>,
    parts: Vec<Part>,
}

impl Template {
    /// One without anything.
    pub(super) const fn new() -> Self {
        Self { text: Vec::new(), parts: Vec::new() }
    }

    pub(super) fn push_text(&mut self, text: &[u8]) {
        if !text.is_empty() {
            let start = self.text.len();
            self.text.extend_from_slice(text);
            self.parts.push(Part::Text(start..self.text.len()));
        }
    }

    pub(super) fn push(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// Takes a template apart; `columns`: how many there are.
    pub fn parse(text: &[u8], columns: usize) -> Result<Self, Fault> {
        let mut template = Self::new();
        let mut rest = text;
        while let Some(open) = rest.iter().position(|byte| *byte == OPEN) {
            template.push_text(&rest[..open]);
            let mark = &rest[open + 1..];
            let close = mark.iter().position(|byte| *byte == CLOSE).ok_or(Fault::Mark)?;
            template.push(part(&mark[..close], columns)?);
            rest = &mark[close + 1..];
        }
        template.push_text(rest);
        Ok(template)
    }

    /// As it is kept.
    pub fn text(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + self.parts.len() * 6);
        for part in &self.parts {
            if let Part::Text(range) = part {
                out.extend_from_slice(&self.text[range.clone()]);
                continue;
            }
            out.push(OPEN);
            match part {
                Part::Text(_) => {}
                Part::Device => out.push(b'd'),
                Part::Seq => out.push(b's'),
                Part::Same { digits } => out.extend_from_slice(&[b'=', b'0' + digits]),
                Part::Time { digits, column } => {
                    out.extend_from_slice(&[b't', b'0' + digits, b',']);
                    integer(*column, &mut out);
                }
                Part::Number { style, column } => {
                    out.push(b'n');
                    match style {
                        Style::Short => out.push(b's'),
                        Style::Point => out.push(b'p'),
                        Style::Fixed(k) => integer((*k).into(), &mut out),
                    }
                    out.push(b',');
                    integer(*column, &mut out);
                }
            }
            out.push(CLOSE);
        }
        out
    }

    /// The columns it takes numbers of, each as often as it takes one.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().filter_map(|part| match part {
            Part::Time { column, .. } | Part::Number { column, .. } => Some(usize::from(*column)),
            _ => None,
        })
    }

    /// What it consists of.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The text of a part.
    pub(super) fn between(&self, range: &Range<usize>) -> &[u8] {
        &self.text[range.clone()]
    }
}

fn part(mark: &[u8], columns: usize) -> Result<Part, Fault> {
    let column = |text: &[u8]| -> Result<u16, Fault> {
        let number = |sum: u16, byte: &u8| {
            let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        };
        let place = text.iter().try_fold(0, number).filter(|_| !text.is_empty()).ok_or(Fault::Mark)?;
        if usize::from(place) < columns { Ok(place) } else { Err(Fault::Column) }
    };
    let fraction = |byte: &u8| -> Result<u8, Fault> {
        Some(byte.wrapping_sub(b'0')).filter(|digits| *digits <= MAX_DIGITS).ok_or(Fault::Mark)
    };
    match mark {
        b"d" => Ok(Part::Device),
        b"s" => Ok(Part::Seq),
        [b'=', digits] => Ok(Part::Same { digits: fraction(digits)? }),
        [b't', digits, b',', place @ ..] => Ok(Part::Time { digits: fraction(digits)?, column: column(place)? }),
        [b'n', b's', b',', place @ ..] => Ok(Part::Number { style: Style::Short, column: column(place)? }),
        [b'n', b'p', b',', place @ ..] => Ok(Part::Number { style: Style::Point, column: column(place)? }),
        [b'n', k, b',', place @ ..] => Ok(Part::Number { style: Style::Fixed(fraction(k)?), column: column(place)? }),
        [b'n', b'1', k @ b'0'..=b'5', b',', place @ ..] => {
            let k = 10 + (k - b'0');
            debug_assert!(k <= MAX_DECIMALS);
            Ok(Part::Number { style: Style::Fixed(k), column: column(place)? })
        }
        _ => Err(Fault::Mark),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Context;
    use super::*;
    use proptest::prelude::*;

    fn kept(template: &str) -> Vec<u8> {
        template.replace('‹', "\u{1}").replace('›', "\u{2}").into_bytes()
    }

    #[test]
    fn a_template_and_its_numbers_make_the_message() {
        let text = "{\"d\":\"‹d›\",\"ts\":\"‹=3›Z\",\"seq\":‹s›,\"a\":‹ns,0›,\"b\":‹np,0›,\"c\":‹n3,0›,\"t\":\"‹t0,1›\",\"u\":\"‹=6›\"}";
        let template = Template::parse(&kept(text), 2).unwrap();
        assert_eq!(template.text(), kept(text));
        assert_eq!(template.columns().collect::<Vec<_>>(), [0, 0, 0, 1]);
        let context = Context { device: b"m-1", seq: Some(7), base_us: 1_500_250 };
        let expected = "{\"d\":\"m-1\",\"ts\":\"1970-01-01T00:00:01.500Z\",\"seq\":7,\"a\":2,\"b\":3.0,\"c\":-0.250,\"t\":\"1970-01-01T00:00:00\",\"u\":\"1970-01-01T00:00:00.000000\"}";
        let make = |numbers: [&[i64]; 2], size: usize, seq: Option<i64>| {
            let mut numbers = numbers.map(|column| column.iter().copied());
            let mut out = Vec::new();
            let context = Context { seq, ..context };
            template.rebuild(context, &[2, 3], size, &mut |c| numbers[c].next(), &mut out).map(|()| out)
        };
        let (a, size): (&[i64], usize) = (&[200, 300, -25], expected.len());
        assert_eq!(make([a, &[-1000]], size, Some(7)), Ok(expected.as_bytes().to_vec()));
        assert_eq!(make([a, &[-1000]], size - 1, Some(7)), Err(Fault::Length));
        assert_eq!(make([a, &[-1000]], size + 1, Some(7)), Err(Fault::Length));
        assert_eq!(make([a, &[-1000]], size, None), Err(Fault::Seq));
        assert_eq!(make([a, &[]], size, Some(7)), Err(Fault::Count));
        assert_eq!(make([a, &[-1001]], size, Some(7)), Err(Fault::Scale));
        assert_eq!(make([a, &[i64::MAX / 1000 * 1000]], size, Some(7)), Err(Fault::Time));
    }

    #[test]
    fn a_mark_that_is_none_is_refused() {
        for text in
            ["‹›", "‹d", "‹x›", "‹=›", "‹=a›", "‹t3›", "‹t3,›", "‹t3,x›", "‹ns›", "‹n16,0›", "‹ns,99999›", "‹dd›"]
        {
            assert_eq!(Template::parse(&kept(text), 9), Err(Fault::Mark), "{text}");
        }
        for text in ["‹t3,9›", "‹ns,9›", "‹n15,10›"] {
            assert_eq!(Template::parse(&kept(text), 9), Err(Fault::Column), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_template_is_nothing_panics(text in "[\u{1}\u{2}dst=np,0-9 ]{0,30}", numbers: Vec<i64>, base_us: i64) {
            if let Ok(template) = Template::parse(text.as_bytes(), 3) {
                prop_assert_eq!(Template::parse(&template.text(), 3), Ok(template.clone()));
                let mut numbers = numbers.into_iter();
                let context = Context { device: b"d", seq: Some(1), base_us };
                let _ = template.rebuild(context, &[0, 3, 9], 100, &mut |_| numbers.next(), &mut Vec::new());
            }
        }
    }
}
