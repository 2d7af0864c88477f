//! Failures of a pool: how many fall within the window of rapid-fail, and how long the next start
//! waits.

use super::seam::Failure;
use crate::base::time::Instant;
use crate::machine::backoff::Backoff;
use crate::plan::garden::RapidFail;
use alloc::collections::VecDeque;
use core::time::Duration;

/// Failures remembered; more within one window trip every pool that can trip.
const FAILURES_KEPT: usize = 10_000;
/// Who has served this long, died of something else than its start.
const GOOD_LIFE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Guard {
    recent: VecDeque<Instant>,
    total: u64,
    last: Option<(Instant, Failure)>,
    backoff: Backoff,
    until: Option<Instant>,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self {
            recent: VecDeque::new(),
            total: 0,
            last: None,
            backoff: Backoff::forgiving(GOOD_LIFE),
            until: None,
        }
    }

    pub(super) fn failed(&mut self, now: Instant, why: Failure) {
        if self.recent.len() == FAILURES_KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.total += 1;
        self.last = Some((now, why));
    }

    /// A worker is lost that was to stay; `lived`: how long it had served.
    pub(super) fn lost(&mut self, now: Instant, lived: Duration) {
        let wait = self.backoff.died(lived);
        self.until = (!wait.is_zero()).then(|| now + wait);
    }

    /// Failures that still count.
    pub(super) fn count(&self, now: Instant, settings: &RapidFail) -> u32 {
        let counts = |at: &&Instant| now.since(**at) < settings.window;
        let count = self.recent.iter().rev().take_while(counts).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(super) fn has_tripped(&self, now: Instant, settings: &RapidFail) -> bool {
        settings.failures > 0 && self.count(now, settings) >= settings.failures
    }

    /// The operator says that all is well.
    pub(super) fn forgive(&mut self) {
        self.recent.clear();
        self.backoff = Backoff::forgiving(GOOD_LIFE);
        self.until = None;
    }

    pub(super) fn may_start(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// When a start that waits may be made.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Drops what time has settled.
    pub(super) fn settle(&mut self, now: Instant, settings: &RapidFail) {
        self.until = self.until.filter(|until| now < *until);
        while self.recent.front().is_some_and(|at| now.since(*at) >= settings.window) {
            self.recent.pop_front();
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn last(&self) -> Option<(Instant, Failure)> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> Instant {
        Instant(0) + SECOND * seconds
    }

    fn settings(failures: u32) -> RapidFail {
        RapidFail { failures, window: SECOND * 10, command: Vec::new() }
    }

    #[test]
    fn failures_count_as_long_as_the_window_lasts() {
        let mut guard = Guard::new();
        for second in [0, 4, 9] {
            guard.failed(at(second), Failure::PingTimeout);
        }
        assert!(guard.has_tripped(at(9), &settings(3)));
        assert!(!guard.has_tripped(at(9), &settings(4)));
        assert!(!guard.has_tripped(at(10), &settings(3)), "the first no longer counts");
        assert_eq!([13, 14, 19].map(|s| guard.count(at(s), &settings(3))), [2, 1, 0]);
        assert!(!guard.has_tripped(at(9), &settings(0)), "0 is off");
        guard.settle(at(19), &settings(3));
        assert!(guard.recent.is_empty());
        assert_eq!((guard.total(), guard.last()), (3, Some((at(9), Failure::PingTimeout))));
    }

    #[test]
    fn who_served_a_second_is_replaced_at_once_and_failing_starts_wait() {
        let mut guard = Guard::new();
        guard.lost(at(1), Duration::ZERO);
        assert!(guard.may_start(at(1)));
        guard.lost(at(1), Duration::ZERO);
        assert_eq!(guard.until(), Some(at(1) + Duration::from_millis(100)));
        assert!(!guard.may_start(at(1)));
        guard.settle(at(2), &settings(1));
        assert_eq!(guard.until(), None);
        guard.lost(at(2), SECOND);
        assert!(guard.may_start(at(2)));
        guard.lost(at(2), Duration::ZERO);
        guard.forgive();
        assert!(guard.may_start(at(2)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut guard = Guard::new();
        for _ in 0..FAILURES_KEPT * 2 {
            guard.failed(at(0), Failure::Spawn);
        }
        assert_eq!(guard.recent.len(), FAILURES_KEPT);
        assert_eq!(guard.total(), 2 * FAILURES_KEPT as u64);
    }
}
