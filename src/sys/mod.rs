//! Floor 3: the only floor that touches the kernel, and the only one with `unsafe`. It decides
//! nothing and never sees a machine.

pub mod clock;
pub mod engine;
pub mod errno;
pub mod socket;
