//! Times of day at which something is to happen (`recycle.at`), by the wall clock of the machine's
//! time zone: once for each time and day, whatever the clock does.

use crate::base::time::Instant;
use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use std::time::Duration;

/// The wall clock may be set at any time, so it is looked at this often.
const LOOK: Duration = Duration::from_mins(1);
/// A time that passed longer ago unseen (the machine slept, its clock was wrong) is left out.
const LATE_MAX: Duration = Duration::from_hours(1);
/// A clock that went back by more was plainly wrong before.
const BACK_MAX: Duration = Duration::from_hours(24);

/// The time zone of this machine, or that of `TZ`.
pub fn zone() -> TimeZone {
    TimeZone::try_system().unwrap_or_else(|error| {
        tracing::warn!(
            "finding out the time zone: {error}. Times of day are taken as UTC. Set TZ, or \
             /etc/localtime"
        );
        TimeZone::UTC
    })
}

/// How far one list of times has been followed.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The wall clock when it was looked at last.
    seen: Timestamp,
    /// The latest time that was told of.
    told: Option<Timestamp>,
    look: Instant,
}

impl Schedule {
    /// Times up to now are past. `wall` is Unix time in nanoseconds.
    pub fn new(wall: u64) -> Self {
        Self { seen: timestamp(wall), told: None, look: Instant(0) }
    }

    /// When [`Schedule::step`] is to be called again.
    pub fn deadline(&self) -> Instant {
        self.look
    }

    /// Whether a time of `at` (minutes since local midnight) has come. Several that have come at
    /// once are one.
    pub fn step(&mut self, now: Instant, wall: u64, zone: &TimeZone, at: &[u16]) -> bool {
        let wall = timestamp(wall);
        if self.told.is_some_and(|told| told.duration_since(wall) > signed(BACK_MAX)) {
            self.told = None;
        }
        let earliest = wall.saturating_sub(signed(LATE_MAX)).unwrap_or(Timestamp::MIN);
        // A clock that went back makes times come again; those that were told of stay told.
        let mut from = self.seen.clamp(earliest.min(wall), wall);
        from = self.told.map_or(from, |told| from.max(told));
        self.seen = wall;
        let mut is_due = false;
        let mut next = next_after(from, zone, at);
        while let Some(due) = next.filter(|due| *due <= wall) {
            is_due = true;
            self.told = Some(due);
            next = next_after(due, zone, at);
        }
        let rest = next.map_or(LOOK, |next| next.duration_since(wall).try_into().unwrap_or(LOOK));
        self.look = now + rest.min(LOOK);
        is_due
    }
}

/// The first time of `at` behind `moment`; `None` when `at` is empty, or at the end of time.
///
/// A time that a day does not have, because the clock is put forward over it, comes when the clock
/// has been put forward; one that a day has twice comes the first time.
pub fn next_after(moment: Timestamp, zone: &TimeZone, at: &[u16]) -> Option<Timestamp> {
    let today = moment.to_zoned(zone.clone()).date();
    // Yesterday too: a zone's midnight can be put forward.
    let days = [-1, 0, 1, 2].into_iter().filter_map(|days| today.checked_add(days.days()).ok());
    days.flat_map(|day| at.iter().filter_map(move |minute| occurrence(day, *minute, zone)))
        .filter(|time| *time > moment)
        .min()
}

fn occurrence(day: Date, minute: u16, zone: &TimeZone) -> Option<Timestamp> {
    let hour = i8::try_from(minute / 60).ok()?;
    let minute = i8::try_from(minute % 60).ok()?;
    let time = day.to_datetime(Time::new(hour, minute, 0, 0).ok()?);
    let found = zone.to_ambiguous_timestamp(time);
    match found.offset() {
        AmbiguousOffset::Unambiguous { .. } => found.unambiguous().ok(),
        AmbiguousOffset::Fold { .. } => found.earlier().ok(),
        AmbiguousOffset::Gap { .. } => {
            let behind = found.later().ok()?;
            // The moment of the change itself is before what lies behind it, or is it.
            let until = behind.checked_add(1.nanosecond()).ok()?;
            zone.preceding(until).next().map(|change| change.timestamp())
        }
    }
}

fn timestamp(wall: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(wall)).unwrap_or(Timestamp::MAX)
}

fn signed(duration: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central Europe: at 2 put forward on 30 March 2025, at 3 put back on 26 October 2025.
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
    const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";
    /// Half an hour, at 2, on 5 October and 6 April 2025.
    const LORD_HOWE: &str = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
    /// At midnight: 7 September 2025 has no 00:00 to 01:00.
    const SANTIAGO: &str = "<-04>4<-03>,M9.1.6/24,M4.1.6/24";

    fn zone(rule: &str) -> TimeZone {
        TimeZone::posix(rule).unwrap()
    }

    fn times(rule: &str, from: &str, count: usize, at: &[u16]) -> Vec<String> {
        let zone = zone(rule);
        let mut moment: Timestamp = from.parse().unwrap();
        let mut all = Vec::new();
        for _ in 0..count {
            moment = next_after(moment, &zone, at).unwrap();
            all.push(moment.to_zoned(zone.clone()).strftime("%m-%d %H:%M%:z").to_string());
        }
        all
    }

    #[test]
    fn each_day_has_each_time_once() {
        let at = [30, 150, 180];
        assert_eq!(
            times(BERLIN, "2025-03-28T23:30:00Z", 7, &at),
            [
                "03-29 02:30+01:00",
                "03-29 03:00+01:00",
                "03-30 00:30+01:00",
                // 02:30 does not exist, and comes with the change, which is 03:00.
                "03-30 03:00+02:00",
                "03-31 00:30+02:00",
                "03-31 02:30+02:00",
                "03-31 03:00+02:00",
            ]
        );
        assert_eq!(
            times(BERLIN, "2025-10-25T22:30:00Z", 3, &at),
            ["10-26 02:30+02:00", "10-26 03:00+01:00", "10-27 00:30+01:00"]
        );
    }

    #[test]
    fn other_zones_change_at_other_times_and_by_other_amounts() {
        assert_eq!(
            times(NEW_YORK, "2025-03-09T05:00:00Z", 2, &[119, 121]),
            ["03-09 01:59-05:00", "03-09 03:00-04:00"]
        );
        assert_eq!(
            times(NEW_YORK, "2025-11-02T04:00:00Z", 2, &[90]),
            ["11-02 01:30-04:00", "11-03 01:30-05:00"]
        );
        assert_eq!(
            times(LORD_HOWE, "2025-10-04T15:00:00Z", 2, &[135, 150]),
            ["10-05 02:30+11:00", "10-06 02:15+11:00"]
        );
        assert_eq!(
            times(SANTIAGO, "2025-09-06T05:00:00Z", 3, &[0, 30]),
            ["09-07 01:00-03:00", "09-08 00:00-03:00", "09-08 00:30-03:00"]
        );
        assert_eq!(
            times("UTC0", "2024-02-28T12:00:00Z", 3, &[1439]),
            ["02-28 23:59+00:00", "02-29 23:59+00:00", "03-01 23:59+00:00"]
        );
        let moment = "2025-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(next_after(moment, &TimeZone::UTC, &[]), None);
        assert_eq!(next_after(Timestamp::MAX, &TimeZone::UTC, &[0]), None);
        assert_eq!(next_after(moment, &TimeZone::UTC, &[u16::MAX]), None);
    }

    /// A machine's two clocks, the wall clock in seconds since its Sunday's midnight in UTC.
    struct Clocks {
        schedule: Schedule,
        now: Instant,
        zone: TimeZone,
        midnight: u64,
    }

    const HOUR: u64 = 3600;

    impl Clocks {
        fn new(rule: &str, midnight: &str, second: u64) -> Self {
            let midnight: Timestamp = midnight.parse().unwrap();
            let midnight = u64::try_from(midnight.as_nanosecond()).unwrap();
            let schedule = Schedule::new(midnight + second * 1_000_000_000);
            Self { schedule, now: Instant(0), zone: zone(rule), midnight }
        }

        fn look(&mut self, second: u64, at: &[u16]) -> bool {
            let wall = self.midnight + second * 1_000_000_000;
            self.schedule.step(self.now, wall, &self.zone, at)
        }

        fn rest(&self) -> u64 {
            self.schedule.deadline().since(self.now).as_secs()
        }
    }

    #[test]
    fn a_time_comes_once_and_is_awaited_no_longer_than_a_look() {
        let mut clocks = Clocks::new("UTC0", "2025-06-01T00:00:00Z", 0);
        let at = [180];
        assert!(!clocks.look(0, &at));
        assert_eq!(clocks.rest(), 60);
        assert!(!clocks.look(3 * HOUR - 20, &at));
        assert_eq!(clocks.rest(), 20);
        assert!(clocks.look(3 * HOUR, &at));
        assert!(!clocks.look(3 * HOUR, &at));
        assert!(!clocks.look(3 * HOUR + 1, &at));
        // Two that came together are one, and a list that changed has no past.
        assert!(clocks.look(3 * HOUR + 300, &[181, 182]));
        assert!(!clocks.look(3 * HOUR + 301, &[181, 182, 183]));
        assert!(!clocks.look(4 * HOUR, &[]));
        assert_eq!(clocks.rest(), 60);
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_come_twice() {
        let at = [180, 240];
        let mut clocks = Clocks::new("UTC0", "2025-06-01T00:00:00Z", HOUR);
        assert!(clocks.look(3 * HOUR + 5, &at));
        // Back by ten minutes.
        assert!(!clocks.look(3 * HOUR - 600, &at));
        assert!(!clocks.look(3 * HOUR + 10, &at));
        // Forward over a time, by less and by more than what is late.
        assert!(clocks.look(4 * HOUR + 600, &at));
        assert!(!clocks.look(24 * HOUR + 5 * HOUR + 1, &at));
        assert!(clocks.look(48 * HOUR + 3 * HOUR, &at));
        // It was days ahead: the days it shows from now on are others.
        assert!(!clocks.look(2 * HOUR, &at));
        assert!(clocks.look(3 * HOUR, &at));
    }

    #[test]
    fn a_clock_that_was_ahead_at_the_start_leaves_nothing_out() {
        let mut clocks = Clocks::new("UTC0", "2025-06-01T00:00:00Z", 10 * HOUR);
        assert!(!clocks.look(10 * HOUR, &[180]));
        assert!(!clocks.look(2 * HOUR, &[180]));
        assert!(clocks.look(3 * HOUR, &[180]));
    }

    #[test]
    fn every_quarter_of_both_odd_days_is_told_once() {
        let days = [("2025-03-30T00:00:00+01:00", 23, 92), ("2025-10-26T00:00:00+02:00", 25, 96)];
        for (day, hours, expected) in days {
            let mut clocks = Clocks::new(BERLIN, day, 0);
            let at: Vec<u16> = (0..1440).step_by(15).collect();
            let told = (1..hours * 4).filter(|quarter| clocks.look(quarter * 900, &at)).count();
            // The first was past at the start; the hour that comes twice is told of once.
            assert_eq!(told, expected - 1, "{day}");
        }
    }
}
