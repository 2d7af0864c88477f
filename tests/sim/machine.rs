//! What the engine drives.

use lychgate::base::time::Instant;
use lychgate::machine::listener::Listener;
use lychgate::machine::listener::seam::{Input, Outbox};

/// What is simulated: the real machine, or one written wrong on purpose to test the tests.
pub(crate) trait Machine {
    fn step(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox);
    fn deadline(&self) -> Instant;

    /// What the machine still counts after all is over; an error names what it should not.
    fn rest(&self) -> Result<(), String> {
        Ok(())
    }

    /// The marks of requests for the garden, with their states.
    fn in_garden(&self, _now: Instant) -> Vec<(u32, &'static str)> {
        Vec::new()
    }
}

impl Machine for Listener {
    fn step(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        Self::step(self, now, input, out);
    }

    fn deadline(&self) -> Instant {
        Self::deadline(self)
    }

    fn rest(&self) -> Result<(), String> {
        let tally = self.tally();
        if tally.connections_open != 0 || tally.upstream_idle != 0 {
            return Err(format!("all is over, and it counts {tally:?}"));
        }
        Ok(())
    }
}
