//! How long to wait before starting again what has died: at once the first time, then longer and
//! longer, until it has lived well for a while.

use core::time::Duration;

/// The wait after the second death in a row; doubled by each further one.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);
/// A good life, where nothing else is said.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// The deaths of one process in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    deaths: u32,
    good_life: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::forgiving(GOOD_LIFE)
    }
}

impl Backoff {
    /// A life of this length makes the next death the first again.
    pub const fn forgiving(good_life: Duration) -> Self {
        Self { deaths: 0, good_life }
    }

    /// Counts a death after `lived` of good life (zero when it never became ready) and says how
    /// long to wait before the next start.
    pub fn died(&mut self, lived: Duration) -> Duration {
        self.deaths = if lived >= self.good_life { 1 } else { self.deaths.saturating_add(1) };
        match self.deaths {
            1 => Duration::ZERO,
            // 100 ms doubled eight times is past the longest wait, so the shift stays small.
            deaths => (FIRST * (1 << (deaths - 2).min(8))).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn waits_double_to_a_ceiling_and_a_good_life_forgives() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..10).map(|_| backoff.died(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.died(Duration::from_millis(9_999)), LONGEST);
        assert_eq!(backoff.died(GOOD_LIFE), Duration::ZERO);
        assert_eq!(backoff.died(Duration::ZERO), FIRST);
        backoff.deaths = u32::MAX;
        assert_eq!(backoff.died(Duration::ZERO), LONGEST);
    }
}
