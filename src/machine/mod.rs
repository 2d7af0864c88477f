//! Floor 2, pure: everything that decides. Machines have one shape, `step(now, input, out)`;
//! inputs are past tense, effects imperative; none of them sees a descriptor or a clock.

pub mod backoff;
pub mod cause;
pub mod event;
pub mod gate;
pub mod listener;
pub mod pool;
pub mod record;
pub mod route;
pub mod shelf;
pub mod supervisor;
pub mod tally;
pub mod upstream;
