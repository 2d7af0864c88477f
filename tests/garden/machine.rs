//! What the simulation sees of the machine: no more than the supervisor does.

use lychgate::base::time::Instant;
use lychgate::machine::pool::Pool;
use lychgate::machine::pool::seam::{Input, Order, View};

pub(crate) trait Machine {
    fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Order>);
    fn deadline(&self) -> Instant;
    fn wants_start(&self, now: Instant) -> bool;
    fn is_starting(&self) -> bool;
    fn alive(&self) -> u32;
    fn view(&self, now: Instant) -> View;
    /// One that knows nothing, as the next supervisor has it.
    fn anew(&self, now: Instant, seed: u64) -> Self;
}

impl Machine for Pool {
    fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Order>) {
        Self::step(self, now, input, out);
    }

    fn deadline(&self) -> Instant {
        Self::deadline(self)
    }

    fn wants_start(&self, now: Instant) -> bool {
        Self::wants_start(self, now)
    }

    fn is_starting(&self) -> bool {
        Self::is_starting(self)
    }

    fn alive(&self) -> u32 {
        Self::alive(self)
    }

    fn view(&self, now: Instant) -> View {
        Self::view(self, now)
    }

    fn anew(&self, now: Instant, seed: u64) -> Self {
        Self::new(now, seed)
    }
}
