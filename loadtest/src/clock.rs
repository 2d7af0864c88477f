//! The two clocks of a measurement: one that only goes forward, and the date for the report.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Time since an arbitrary start; never goes back.
pub(crate) fn now() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

/// From then to now.
pub(crate) fn since(then: Duration) -> Duration {
    now().saturating_sub(then)
}

/// Today in UTC, as `2026-02-28 13:05 UTC`.
pub(crate) fn date() -> String {
    civil(read(ClockId::CLOCK_REALTIME).as_secs())
}

fn read(clock: ClockId) -> Duration {
    Duration::from(clock_gettime(clock).expect("every Linux has these two clocks"))
}

/// Days are counted in 400-year eras that begin on 1 March, so that the leap day comes last.
fn civil(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (seconds % 86_400 / 3_600, seconds % 3_600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn dates_are_civil() {
        assert_eq!(civil(0), "1970-01-01 00:00 UTC");
        assert_eq!(civil(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(civil(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(civil(1_767_225_599), "2025-12-31 23:59 UTC");
        assert_eq!(civil(1_772_283_900), "2026-02-28 13:05 UTC");
    }
}
