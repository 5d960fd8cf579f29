//! Figures of the process itself, read from `/proc`. On a system without `/proc` they are simply absent.

use std::fmt::Write as _;
use std::fs;

use super::catalogue::{
    PROCESS_CPU_SECONDS, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT_BYTES, PROCESS_THREADS,
    PROCESS_VIRTUAL_BYTES,
};

/// Clock ticks a second in `/proc/self/stat`: USER_HZ, 100 for every Linux program on the architectures Rust supports.
const TICKS_A_SECOND: f64 = 100.0;

/// Takes the figures of now.
pub(super) fn sample() {
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kib) = field(&status, "VmRSS:") {
            PROCESS_RESIDENT_BYTES.set(&[], kib * 1024.0);
        }
        if let Some(kib) = field(&status, "VmSize:") {
            PROCESS_VIRTUAL_BYTES.set(&[], kib * 1024.0);
        }
        if let Some(threads) = field(&status, "Threads:") {
            PROCESS_THREADS.set(&[], threads);
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // The directory being read is a descriptor too; it is gone by the time anybody looks.
        let open = u32::try_from(entries.count().saturating_sub(1)).unwrap_or(u32::MAX);
        PROCESS_OPEN_FDS.set(&[], f64::from(open));
    }
    if let Some(limit) = fs::read_to_string("/proc/self/limits").ok().and_then(|l| field(&l, "Max open files")) {
        PROCESS_MAX_FDS.set(&[], limit);
    }
}

/// Appends the processor time. The recorder's counters are whole numbers and seconds are the base unit, so this one line
/// is written here, as of the moment of the scrape.
pub(super) fn render_cpu(page: &mut String) {
    let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) else { return };
    let def = PROCESS_CPU_SECONDS;
    let _ = writeln!(page, "# HELP {0} {1}\n# TYPE {0} counter\n{0} {seconds}", def.name, def.help);
}

/// The first number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// User and system time: fields 14 and 15, counted behind the command's name, which may hold blanks and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_a_name_with_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 8 0 100 1 2";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds("nonsense"), None);
    }

    #[test]
    fn a_field_is_the_first_number_behind_its_name() {
        assert_eq!(field("VmHWM:\t1 kB\nVmRSS:\t  5120 kB\n", "VmRSS:"), Some(5120.0));
        assert_eq!(
            field("Max open files            1024                 4096   files", "Max open files"),
            Some(1024.0)
        );
        assert_eq!(field("Max open files            unlimited            unlimited   files", "Max open files"), None);
    }
}
