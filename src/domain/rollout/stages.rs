//! Stages as people write them (`5`, `10%`) and as a rollout needs them: where each one ends.

/// Most stages of a rollout.
pub const MAX_STAGES: usize = 20;

/// How far a stage reaches: so many devices, or a part of all of them; those of the stages before are counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StageSize {
    /// Devices.
    Count(u32),
    /// Percent of all devices, 1…100; any part of a device counts as one.
    Percent(u8),
}

impl StageSize {
    /// Reads `5` or `10%`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|p| (1..=100).contains(p)).map(Self::Percent),
            None => text.parse().ok().filter(|count| *count > 0).map(Self::Count),
        }
    }

    const fn end(self, devices: u32) -> u32 {
        match self {
            Self::Count(count) if count < devices => count,
            Self::Percent(percent) => (devices as u64 * percent as u64).div_ceil(100) as u32,
            Self::Count(_) => devices,
        }
    }
}

/// What is wrong with stages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StageFault {
    /// None, or more than [`MAX_STAGES`].
    Number,
    /// The last one does not reach all devices.
    Last,
    /// A stage ends before the one before it does; its place, from 0.
    Falling(usize),
}

/// Where the stages end among `devices` devices, one at least. Stages that add no device are left out.
pub fn stage_ends(sizes: &[StageSize], devices: u32) -> Result<Vec<u32>, StageFault> {
    if sizes.is_empty() || sizes.len() > MAX_STAGES {
        return Err(StageFault::Number);
    }
    if sizes.last() != Some(&StageSize::Percent(100)) {
        return Err(StageFault::Last);
    }
    let mut ends: Vec<u32> = Vec::with_capacity(sizes.len());
    for (index, size) in sizes.iter().enumerate() {
        let (end, before) = (size.end(devices), ends.last().copied().unwrap_or(0));
        match end {
            _ if end < before => return Err(StageFault::Falling(index)),
            _ if end == before => {}
            _ => ends.push(end),
        }
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_end_where_their_size_says_and_empty_ones_are_left_out() {
        let check = |sizes: &[&str], devices: u32, expected: Result<&[u32], StageFault>| {
            let sizes: Vec<_> = sizes.iter().map(|text| StageSize::parse(text).unwrap()).collect();
            assert_eq!(stage_ends(&sizes, devices), expected.map(<[u32]>::to_vec), "{sizes:?} of {devices}");
        };
        check(&["1%", "10%", "100%"], 1000, Ok(&[10, 100, 1000]));
        check(&["1%", "10%", "100%"], 5, Ok(&[1, 5]));
        check(&["1%", "10%", "100%"], 1, Ok(&[1]));
        check(&["3", "50%", "100%"], 10, Ok(&[3, 5, 10]));
        check(&["20", "100%"], 10, Ok(&[10]));
        check(&["100%"], 4_000_000_000, Ok(&[4_000_000_000]));
        check(&["50%", "3", "100%"], 10, Err(StageFault::Falling(1)));
        check(&["10%"], 10, Err(StageFault::Last));
        check(&[], 10, Err(StageFault::Number));
        check(&["100%"; 21], 10, Err(StageFault::Number));
    }

    #[test]
    fn a_size_is_a_count_or_a_percentage() {
        let check = |text: &str, expected: Option<StageSize>| assert_eq!(StageSize::parse(text), expected, "{text:?}");
        check("5", Some(StageSize::Count(5)));
        check("10%", Some(StageSize::Percent(10)));
        for bad in ["", "%", "0", "0%", "101%", "-1", "1.5%", "10 %"] {
            check(bad, None);
        }
    }
}
