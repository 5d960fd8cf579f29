//! Faults on the way from a meter to its brokers: `drop=0.01,dup=0.02,reorder=0.01,reboot=0.001,clock=0.001`.
//!
//! Each is a probability a message. Invariant: what is struck is decided by the seed alone, and every strike is reported
//! to the caller, so that a test can compare the faults with the gaps the server found. `status` messages are spared:
//! they carry no counter, their loss could not be told from silence.

use std::str::FromStr;

use rand::Rng;
use rand::rngs::SmallRng;

use super::options::Error;

/// Probabilities, 0…1, a counted message.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Faults {
    /// The message is lost on the way to every broker; its `seq` is used up.
    pub drop: f64,
    /// The message is published twice.
    pub dup: f64,
    /// The message is held back and published after the next one.
    pub reorder: f64,
    /// The meter loses power after the message: it drops its connections and starts again at `seq` 0.
    pub reboot: f64,
    /// The meter's clock jumps by up to five minutes before the message, or back to right if it was wrong.
    pub clock: f64,
}

impl FromStr for Faults {
    type Err = Error;

    /// Reads `name=probability,…`; the empty text is no fault at all.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut faults = Self::default();
        let mut seen = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim(), value.trim());
            let slot = match name {
                "drop" => &mut faults.drop,
                "dup" => &mut faults.dup,
                "reorder" => &mut faults.reorder,
                "reboot" => &mut faults.reboot,
                "clock" => &mut faults.clock,
                _ => return Err(Error::UnknownFault(name.into())),
            };
            if seen.contains(&name) {
                return Err(Error::FaultTwice(name.into()));
            }
            seen.push(name);
            *slot = value
                .parse()
                .ok()
                .filter(|p| (0.0..=1.0).contains(p))
                .ok_or_else(|| Error::FaultProbability { name: name.into(), value: value.into() })?;
        }
        Ok(faults)
    }
}

/// What befalls one message on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// It arrives.
    Straight,
    /// It is lost.
    Drop,
    /// It arrives twice.
    Dup,
    /// It arrives after the next one.
    Late,
}

impl Faults {
    /// Draws what befalls the next message on its way.
    pub(super) fn way(&self, rng: &mut SmallRng) -> Way {
        let drawn: f64 = rng.random();
        if drawn < self.drop {
            Way::Drop
        } else if drawn < self.drop + self.dup {
            Way::Dup
        } else if drawn < self.drop + self.dup + self.reorder {
            Way::Late
        } else {
            Way::Straight
        }
    }

    /// Draws whether the meter loses power now.
    pub(super) fn strikes_power(&self, rng: &mut SmallRng) -> bool {
        self.reboot > 0.0 && rng.random::<f64>() < self.reboot
    }

    /// Draws whether the clock jumps now, and to which error in microseconds, given the present one.
    pub(super) fn clock_jump_us(&self, rng: &mut SmallRng, present_us: i64) -> Option<i64> {
        if self.clock <= 0.0 || rng.random::<f64>() >= self.clock {
            return None;
        }
        let jump_s: i64 = rng.random_range(3..=300);
        let sign = if rng.random::<bool>() { 1 } else { -1 };
        Some(if present_us == 0 { sign * jump_s * 1_000_000 } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn faults_are_read_strictly_and_unknown_names_are_refused_by_name() {
        let check = |text: &str, expected: Result<Faults, &str>| {
            let got = text.parse::<Faults>().map_err(|e| e.to_string());
            match expected {
                Ok(faults) => assert_eq!(got.unwrap(), faults, "{text}"),
                Err(part) => assert!(got.as_ref().unwrap_err().contains(part), "{text}: {got:?}"),
            }
        };
        let none = Faults::default();
        check("", Ok(none));
        check("drop=0.01", Ok(Faults { drop: 0.01, ..none }));
        check("drop=0.01, dup=1,reorder=0,", Ok(Faults { drop: 0.01, dup: 1.0, ..none }));
        check("reboot=0.5,clock=.25", Ok(Faults { reboot: 0.5, clock: 0.25, ..none }));
        check("dorp=0.1", Err("unknown fault \"dorp\""));
        check("drop", Err("fault \"drop\" needs a probability"));
        check("drop=2", Err("\"2\""));
        check("drop=-0.1", Err("\"-0.1\""));
        check("drop=NaN", Err("\"NaN\""));
        check("drop=0.1,drop=0.2", Err("\"drop\" is given twice"));
    }

    #[test]
    fn faults_strike_about_as_often_as_asked_and_never_unasked() {
        let mut rng = SmallRng::seed_from_u64(1);
        let faults = Faults { drop: 0.1, dup: 0.2, reorder: 0.3, ..Faults::default() };
        let mut seen = [0u32; 4];
        for _ in 0..10_000 {
            seen[faults.way(&mut rng) as usize] += 1;
            assert!(!faults.strikes_power(&mut rng) && faults.clock_jump_us(&mut rng, 0).is_none());
        }
        for (got, expected) in seen.into_iter().zip([4000u32, 1000, 2000, 3000]) {
            assert!(got.abs_diff(expected) < 250, "{seen:?}");
        }
    }
}
