//! Whether a server is well: what active checks say, and what requests found out on their way.

use crate::base::time::Instant;
use crate::plan::Check;
use core::time::Duration;

/// First suspicion lasts this long, each further failure in a row doubles it.
pub const SUSPICION_MIN: Duration = Duration::from_secs(1);
pub const SUSPICION_MAX: Duration = Duration::from_secs(16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Well,
    /// Requests failed to connect; worth a try when nobody else is left.
    Suspected {
        until: Instant,
    },
    /// Active checks failed.
    Down,
}

/// Facts about one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    is_down: bool,
    /// Checks in a row that contradict `is_down`.
    contrary: u32,
    /// Failures of requests in a row.
    failures: u32,
    suspected_until: Instant,
}

impl Health {
    pub fn verdict(&self, now: Instant) -> Verdict {
        if self.is_down {
            Verdict::Down
        } else if self.suspected_until > now {
            Verdict::Suspected { until: self.suspected_until }
        } else {
            Verdict::Well
        }
    }

    /// A new connection could not be made, or died before its first answer.
    pub fn failed(&mut self, now: Instant) {
        let doubled = SUSPICION_MIN * (1 << self.failures.min(4));
        self.failures = self.failures.saturating_add(1);
        self.suspected_until = now + doubled.min(SUSPICION_MAX);
    }

    /// A response arrived.
    pub fn answered(&mut self) {
        self.failures = 0;
        self.suspected_until = Instant(0);
    }

    /// Another thread's checks came to this verdict.
    pub fn judged(&mut self, is_well: bool) {
        self.is_down = !is_well;
    }

    /// An active check ended; true when that changed the verdict.
    pub fn checked(&mut self, is_well: bool, check: &Check) -> bool {
        if is_well {
            self.answered();
        }
        if is_well != self.is_down {
            self.contrary = 0;
            return false;
        }
        self.contrary += 1;
        let needed = if is_well { check.rise } else { check.fall };
        if self.contrary < needed {
            return false;
        }
        self.contrary = 0;
        self.is_down = !is_well;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn checks_change_the_verdict_after_fall_and_rise_in_a_row() {
        let check = Check {
            path: String::from("/"),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
        };
        let mut health = Health::default();
        let mut said = |is_well| {
            let changed = health.checked(is_well, &check);
            (changed, health.verdict(Instant(5)) == Verdict::Down)
        };
        assert_eq!(said(false), (false, false));
        assert_eq!(said(false), (false, false));
        assert_eq!(said(true), (false, false), "the row is broken");
        assert_eq!(said(false), (false, false));
        assert_eq!(said(false), (false, false));
        assert_eq!(said(false), (true, true));
        assert_eq!(said(true), (false, true));
        assert_eq!(said(false), (false, true));
        assert_eq!(said(true), (false, true));
        assert_eq!(said(true), (true, false));
    }

    #[test]
    fn suspicion_doubles_is_bounded_and_ends_with_an_answer() {
        let mut health = Health::default();
        let now = Instant(1_000);
        for expected in [1, 2, 4, 8, 16, 16] {
            health.failed(now);
            let until = now + Duration::from_secs(expected);
            assert_eq!(health.verdict(now), Verdict::Suspected { until });
            assert_eq!(health.verdict(until), Verdict::Well);
        }
        health.answered();
        assert_eq!(health.verdict(now), Verdict::Well);
    }
}
