//! A message's JSON text ⇄ a template and its numbers, to the byte. Pure; bytes only, nothing is parsed into anything else.
//!
//! Why: of 27 values in a datagram nine tenths of the bytes are the same in every datagram of every meter. The template, with
//! a mark where each number was, is kept once; the numbers become columns, where a delta costs a byte.
//!
//! ```text
//! {"v":2,"device_id":"m-1","ts":"2026-02-12T10:00:10.000Z","seq":142,"measurements":[
//!   {"ts":"2026-02-12T10:00:01.000Z","type":"voltage_dc","val":751.5,"unit":"V"}, …]}
//!
//! {"v":‹ns,2›,"device_id":"‹d›","ts":"‹=3›Z","seq":‹s›,"measurements":[
//!   {"ts":"‹t3,0›Z","type":"voltage_dc","val":‹ns,1›,"unit":"V"}, …]}
//! ```
//!
//! | mark | stands for |
//! | --- | --- |
//! | `‹d›` | the row's device |
//! | `‹s›` | the row's sequence number |
//! | `‹=F›` | the same instant as the time before it in the text, the first one as the row's `ts`; F digits of a second's fraction |
//! | `‹tF,C›` | a time: `ts` (or else `received_at`), cut to F digits, and the next number of column C, in seconds |
//! | `‹ns,C›` | the next number of column C, shortest: no zeros behind its decimals, no decimals where there are none |
//! | `‹np,C›` | the same with one decimal at least: `230.0` |
//! | `‹nK,C›` | the same with K decimals: `230.10` |
//!
//! ‹ and › are the bytes 1 and 2, which no JSON text has. A text of which any number is written in another way (exponents,
//! −0, more than [`MAX_DIGITS`] digits) keeps that number in its template.
//!
//! Promise: what [`Group::finish`] gives a template was made again with it and compared, byte by byte. Bounded: shapes known,
//! marks in a text, columns, templates; what exceeds them is no error, it has no template. Must not know: Parquet, rooms.

mod group;
mod make;
mod number;
mod plan;
mod shape;
mod template;
mod text;
mod time;

#[cfg(test)]
mod tests;

pub use group::{Group, Shredded};
pub use number::{MAX_DECIMALS, MAX_DIGITS};
pub use plan::{Columns, Lists, Plan};
pub use shape::Shapes;
pub use template::{Fault, Template};

/// The most numbers of one text.
pub const MAX_NUMBERS: usize = 1024;
/// The most columns.
pub const MAX_COLUMNS: usize = 96;

/// Begins a mark.
const OPEN: u8 = 1;
/// Ends one.
const CLOSE: u8 = 2;

/// What is known of a row beside its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context<'a> {
    /// Its device.
    pub device: &'a [u8],
    /// Its sequence number.
    pub seq: Option<i64>,
    /// What its times are seen from, µs since 1970: `ts`, or else the time of receipt.
    pub base_us: i64,
}

impl<'a> Context<'a> {
    /// Of a row as an object keeps it; times in µs since 1970.
    pub fn new(device: &'a [u8], seq: Option<i64>, ts: Option<i64>, received_at: i64) -> Self {
        Self { device, seq, base_us: ts.unwrap_or(received_at) }
    }
}

/// A decimal number as it was written: `mantissa / 10^decimals`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value {
    /// Of [`MAX_DIGITS`] digits, positive or negative.
    pub mantissa: i64,
    /// 0 to [`MAX_DECIMALS`].
    pub decimals: u8,
}

/// 10^`exponent`, `None` where it does not fit.
fn power(exponent: u8) -> Option<i64> {
    POWERS.get(usize::from(exponent)).copied()
}

const POWERS: [i64; MAX_DIGITS as usize + 1] = {
    let mut powers = [1; MAX_DIGITS as usize + 1];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};
