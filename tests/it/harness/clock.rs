//! Waiting with an end: no test sleeps for an event, it asks for it until a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything a healthy product needs, on a machine that compiles meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "tests measure the product from outside")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks until there is an answer; fails the test, naming what it waited for, after [`PATIENCE`].
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// [`wait_for`] a condition.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}
