//! The only place that reads a clock.

use crate::base::time::{Instant, nanos};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The monotonic clock now: nanoseconds since boot, less time spent suspended (clock_gettime(2)).
pub fn now() -> Instant {
    Instant(read(ClockId::CLOCK_MONOTONIC))
}

/// Unix time in nanoseconds at [`Instant`] zero: add an instant and have its wall time. It moves
/// when the wall clock is set or slewed, so it is to be asked for again about once a second.
pub fn wall_origin() -> u64 {
    // The wall clock is read second: a pause between the two makes the origin too late by its
    // length, never too early, so no log line bears a time before its request.
    let monotonic = read(ClockId::CLOCK_MONOTONIC);
    read(ClockId::CLOCK_REALTIME).saturating_sub(monotonic)
}

fn read(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux and the address is ours, so the call cannot fail.
    let time = clock_gettime(clock).unwrap_or(TimeSpec::new(0, 0));
    nanos(Duration::from(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_run_backwards_and_the_origin_leads_to_the_wall_clock() {
        let (first, origin) = (now(), wall_origin());
        let second = now();
        assert!(second >= first && first.0 > 0);
        let year_2020 = 1_577_836_800_000_000_000;
        assert!(origin + second.0 > year_2020);
    }
}
