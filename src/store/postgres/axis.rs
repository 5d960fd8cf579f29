//! A datagram's values ⇄ the columns of its row. Pure.
//!
//! Mostly samples come at one distance: then two numbers stand for the offsets of all of them, which saves a fifth of the
//! row. Arrays end with their last value; what is missing behind it is «no value in this slot».

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::metric::{Known, Series};
use crate::domain::{Metric, Telemetry};
use crate::store::fault::Fault;

/// Number of types with a column.
pub(super) const COLUMNS: usize = Known::ALL.len();

/// When the samples of a datagram were taken, relative to the message's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Axis<'a> {
    /// The n-th at `first_us + n * step_us`.
    Regular { first_us: i64, step_us: i32 },
    /// Each for itself; also none at all.
    Irregular(&'a [i64]),
}

/// How the offsets are stored.
pub(super) fn axis(offsets_us: &[i64]) -> Axis<'_> {
    let irregular = Axis::Irregular(offsets_us);
    let [first_us, rest @ ..] = offsets_us else { return irregular };
    let step = rest.first().map_or(Some(0), |second| second.checked_sub(*first_us));
    let Some(step_us) = step.and_then(|step| i32::try_from(step).ok()) else { return irregular };
    let is_regular = offsets_us.windows(2).all(|pair| pair[1].checked_sub(pair[0]) == Some(i64::from(step_us)));
    if is_regular { Axis::Regular { first_us: *first_us, step_us } } else { irregular }
}

/// The inverse of [`axis`].
pub(super) fn offsets(
    slots: i16,
    first_us: Option<i64>,
    step_us: Option<i32>,
    each: Option<Vec<i64>>,
) -> Result<Vec<i64>, Fault> {
    let slots = usize::try_from(slots).map_err(|_| CORRUPT)?;
    let all = match (each, first_us.zip(step_us)) {
        (Some(each), _) => each,
        (None, Some((first_us, step_us))) => {
            let at = |n: i64| first_us.saturating_add(n.saturating_mul(i64::from(step_us)));
            (0..).map(at).take(slots).collect()
        }
        (None, None) => Vec::new(),
    };
    if all.len() == slots { Ok(all) } else { Err(CORRUPT) }
}

/// The column of a series: its type is registered, and it came in the registered unit.
fn column(series: &Series) -> Option<usize> {
    match (&series.metric, &series.unit) {
        (Metric::Known(known), None) => Some(*known as usize),
        _ => None,
    }
}

/// The series that has the column of a type.
pub(super) fn in_column(telemetry: &Telemetry) -> [Option<&Series>; COLUMNS] {
    let mut columns = [None; COLUMNS];
    for series in &telemetry.series {
        if let Some(index) = column(series) {
            columns[index] = Some(series);
        }
    }
    columns
}

/// Up to the last value.
pub(super) fn without_tail(values: &[f64]) -> &[f64] {
    let end = values.iter().rposition(|value| !value.is_nan()).map_or(0, |last| last + 1);
    &values[..end]
}

/// What `other` holds of a type; null is «no value».
#[derive(Serialize, Deserialize)]
struct Other {
    #[serde(default)]
    unit: Option<Arc<str>>,
    values: Vec<Option<f64>>,
}

/// The JSON text of the series without a column, if any.
pub(super) fn others(telemetry: &Telemetry) -> Option<String> {
    let value = |value: &f64| (!value.is_nan()).then_some(*value);
    let other =
        |series: &Series| Other { unit: series.unit.clone(), values: series.values.iter().map(value).collect() };
    let rest = telemetry.series.iter().filter(|series| column(series).is_none());
    let members: BTreeMap<&str, Other> = rest.map(|series| (series.metric.name(), other(series))).collect();
    (!members.is_empty())
        .then(|| serde_json::to_string(&members).expect("numbers and texts under text keys always fit JSON"))
}

/// The series of a row: those with a column in column order, then the others by name.
pub(super) fn series(
    slots: usize,
    columns: [Option<Vec<f64>>; COLUMNS],
    other: Option<&str>,
) -> Result<Vec<Series>, Fault> {
    let mut all = Vec::with_capacity(4);
    let whole = |mut values: Vec<f64>| {
        if values.len() > slots {
            return Err(CORRUPT);
        }
        values.resize(slots, f64::NAN);
        Ok(values)
    };
    for (known, values) in Known::ALL.into_iter().zip(columns) {
        if let Some(values) = values {
            all.push(Series { metric: Metric::Known(known), unit: None, values: whole(values)? });
        }
    }
    if let Some(text) = other {
        let members: BTreeMap<String, Other> = serde_json::from_str(text).map_err(|_| CORRUPT)?;
        for (name, Other { unit, values }) in members {
            let values = values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect();
            all.push(Series { metric: Metric::parse(&name).ok_or(CORRUPT)?, unit, values: whole(values)? });
        }
    }
    Ok(all)
}

const CORRUPT: Fault = Fault::Corrupt("telemetry");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn there_and_back(offsets_us: &[i64]) -> Vec<i64> {
        let slots = i16::try_from(offsets_us.len()).unwrap();
        match axis(offsets_us) {
            Axis::Regular { first_us, step_us } => offsets(slots, Some(first_us), Some(step_us), None).unwrap(),
            Axis::Irregular(each) => offsets(slots, None, None, Some(each.to_vec())).unwrap(),
        }
    }

    #[test]
    fn samples_at_one_distance_are_two_numbers() {
        let regular = |first_us, step_us| Axis::Regular { first_us, step_us };
        assert_eq!(axis(&[-9_000_000, -8_000_000, -7_000_000]), regular(-9_000_000, 1_000_000));
        assert_eq!(axis(&[-5]), regular(-5, 0));
        assert_eq!(axis(&[3, 3]), regular(3, 0));
        assert_eq!(axis(&[0, 1, 3]), Axis::Irregular(&[0, 1, 3]));
        assert_eq!(axis(&[]), Axis::Irregular(&[]));
        assert_eq!(axis(&[0, 1 << 40, 2 << 40]), Axis::Irregular(&[0, 1 << 40, 2 << 40]), "a step beyond 35 minutes");
        assert_eq!(axis(&[i64::MIN, i64::MAX]), Axis::Irregular(&[i64::MIN, i64::MAX]));
    }

    proptest! {
        #[test]
        fn every_axis_comes_back(any in prop::collection::vec(any::<i64>(), 0..6),
                                 start in any::<i32>(), step in -5i64..5, len in 0i64..40) {
            prop_assert_eq!(there_and_back(&any), any);
            let regular: Vec<i64> = (0..len).map(|n| i64::from(start) + n * step).collect();
            prop_assert_eq!(there_and_back(&regular), regular);
        }
    }
}
