//! Values between the domain and Postgres's types, both ways.
//!
//! Invariant: a time beyond what timestamptz holds is stored as (minus) infinity and reads back as the first or last
//! instant there is; all others to the microsecond.

use diesel::deserialize::{FromSql, FromSqlRow, Result as FromResult};
use diesel::expression::AsExpression;
use diesel::pg::data_types::PgTimestamp;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{Output, Result as ToResult, ToSql};
use diesel::sql_types::{Json, Timestamptz};

use crate::domain::Timestamp;

/// From 1970 to 2000, where Postgres begins to count, in µs.
const EPOCH_US: i64 = 946_684_800_000_000;
/// What timestamptz holds: from 4714 BC to before 294277, in its own µs.
const FIRST: i64 = -211_813_488_000_000_000;
const END: i64 = 9_223_371_331_200_000_000;

/// A time as it travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, AsExpression, FromSqlRow)]
#[diesel(sql_type = Timestamptz)]
pub(super) struct Time(pub(super) Timestamp);

/// The same for a column that may be null.
pub(super) fn optional(at: Option<Timestamp>) -> Option<Time> {
    at.map(Time)
}

/// A time in Postgres's count.
pub(super) const fn pg_micros(at: Timestamp) -> i64 {
    match at.0.saturating_sub(EPOCH_US) {
        us if us < FIRST => i64::MIN,
        us if us >= END => i64::MAX,
        us => us,
    }
}

/// A time from Postgres's count.
pub(super) const fn from_pg_micros(us: i64) -> Timestamp {
    match us {
        i64::MIN | i64::MAX => Timestamp(us),
        us => Timestamp(us.saturating_add(EPOCH_US)),
    }
}

impl ToSql<Timestamptz, Pg> for Time {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> ToResult {
        ToSql::<Timestamptz, Pg>::to_sql(&PgTimestamp(pg_micros(self.0)), &mut out.reborrow())
    }
}

impl FromSql<Timestamptz, Pg> for Time {
    fn from_sql(value: PgValue<'_>) -> FromResult<Self> {
        let PgTimestamp(us) = FromSql::<Timestamptz, Pg>::from_sql(value)?;
        Ok(Self(from_pg_micros(us)))
    }
}

/// Reads an array of doubles: null is NaN.
pub(super) fn floats(bytes: &[u8]) -> FromResult<Vec<f64>> {
    elements(bytes, |value| Ok(value.map_or(f64::NAN, f64::from_be_bytes)))
}

/// Reads an array of eight-byte integers.
pub(super) fn longs(bytes: &[u8]) -> FromResult<Vec<i64>> {
    elements(bytes, |value| value.map(i64::from_be_bytes).ok_or_else(|| "a null offset".into()))
}

/// A column of type json, as its text.
#[derive(Debug, FromSqlRow)]
pub(super) struct JsonText(pub(super) String);

impl FromSql<Json, Pg> for JsonText {
    fn from_sql(value: PgValue<'_>) -> FromResult<Self> {
        Ok(Self(std::str::from_utf8(value.as_bytes())?.to_owned()))
    }
}

/// The elements of a flat array of eight-byte values; see `copy` for its form. Straight from the bytes: a datagram has
/// hundreds.
fn elements<T>(bytes: &[u8], read: impl Fn(Option<[u8; 8]>) -> FromResult<T>) -> FromResult<Vec<T>> {
    let (dimensions, rest) = word(bytes)?;
    match dimensions {
        0 => return Ok(Vec::new()),
        1 => {}
        _ => return Err("an array of arrays".into()),
    }
    let (_, rest) = word(rest)?;
    let (_, rest) = word(rest)?;
    let (len, rest) = word(rest)?;
    let (_, mut rest) = word(rest)?;
    let mut all = Vec::with_capacity(usize::try_from(len)?.min(bytes.len()));
    for _ in 0..len {
        let (size, behind) = word(rest)?;
        rest = behind;
        all.push(match size {
            -1 => read(None)?,
            _ => {
                let (value, behind) = rest.split_first_chunk::<8>().ok_or("a short array")?;
                rest = behind;
                read(Some(*value))?
            }
        });
    }
    Ok(all)
}

fn word(bytes: &[u8]) -> FromResult<(i32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<4>().ok_or("a short array")?;
    Ok((i32::from_be_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_comes_back_or_is_the_end_of_time() {
        let check = |us: i64, expected: i64| {
            assert_eq!(from_pg_micros(pg_micros(Timestamp(us))), Timestamp(expected), "{us}");
        };
        for us in [0, 1, -1, EPOCH_US, 1_770_890_400_123_456, END - 1, FIRST + EPOCH_US] {
            check(us, us);
        }
        check(i64::MAX, i64::MAX);
        check(i64::MIN, i64::MIN);
        check(FIRST + EPOCH_US - 1, i64::MIN);
    }

    #[test]
    fn no_bytes_make_the_array_reader_panic() {
        let read = |bytes: &[u8]| elements(bytes, |value| Ok(value.map_or(0, i64::from_be_bytes)));
        let mut array: Vec<u8> = [1i32, 0, 20, 2, 1, 8].iter().flat_map(|word| word.to_be_bytes()).collect();
        array.extend(7i64.to_be_bytes());
        array.extend((-1i32).to_be_bytes());
        assert_eq!(read(&array).unwrap(), [7, 0]);
        for end in 1..array.len() {
            assert!(read(&array[..end]).is_err(), "cut at {end}");
        }
    }
}
