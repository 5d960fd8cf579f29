//! A device's energy over time: from its telemetry, or from the hours of it that are kept beside the rollups.
//!
//! Promise: the pieces of a range are exact at its borders (the neighbouring hours, whose samples reach into it, are read
//! too), and the same to the bit whether hours are kept or not. Memory does not grow with the range. Must not know: HTTP,
//! SQL; the rules of energy are the domain's ([`domain::energy`](crate::domain::energy)).
//!
//! Start from [`pieces`]; [`Roll`] makes what is kept, in the same pass as the rollups.

mod codec;
mod kept;
mod roll;
mod source;

use std::ops::ControlFlow;

pub use roll::{Roll, hours_of};

use crate::domain::energy::{HOUR_US, Join, Piece, hour_of, hours_for};
use crate::domain::{DeviceId, Timestamp};
use crate::history::{Error, History};

/// Under which name hours are kept; no quantity is called so.
pub const KEY: &str = "=energy";

/// Of which device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// The device.
    pub device: DeviceId,
    /// Widest distance of a sample from its message.
    pub span_us: i64,
}

/// The whole hours within a range, which need not be taken apart where only its sum is asked for.
pub fn whole_hours(start: Timestamp, stop: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let first = hour_of(start.plus_us(HOUR_US - 1));
    let last = hour_of(stop);
    (first < last).then_some((first, last))
}

/// Calls `each` with the pieces of `start..stop` (whole minutes) of which there is something to tell, in order, until it
/// breaks, or `go_on`, which is asked now and then: minutes, but for the hours in `whole`, which stay whole. Blocks.
pub fn pieces(
    history: &History,
    job: &Job,
    (start, stop): (Timestamp, Timestamp),
    whole: Option<(Timestamp, Timestamp)>,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
    each: &mut dyn FnMut(&Piece) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    if start >= stop {
        return Ok(ControlFlow::Continue(()));
    }
    let mut flow = ControlFlow::Continue(());
    let mut give = |piece: Piece| {
        if flow.is_continue() && start <= piece.start && piece.start < stop {
            flow = each(&piece);
        }
        flow
    };
    let mut join = Join::new(whole);
    let read = kept::hours(history, job, hours_for(start, stop), whole, go_on, &mut |hour| {
        let mut flow = ControlFlow::Continue(());
        join.push(hour, &mut |piece| flow = give(piece));
        flow
    })?;
    if read.is_break() {
        return Ok(read);
    }
    join.finish(&mut |piece| {
        let _ = give(piece);
    });
    Ok(flow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_whole_hours_where_one_fits() {
        let check = |start_min: i64, stop_min: i64, expected: Option<(i64, i64)>| {
            let at = |minute: i64| Timestamp(minute * 60_000_000);
            let expected = expected.map(|(from, to)| (at(from), at(to)));
            assert_eq!(whole_hours(at(start_min), at(stop_min)), expected, "{start_min} {stop_min}");
        };
        check(0, 60, Some((0, 60)));
        check(1, 119, None);
        check(1, 120, Some((60, 120)));
        check(-61, 61, Some((-60, 60)));
        check(30, 30, None);
    }
}
