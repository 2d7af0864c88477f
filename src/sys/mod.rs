//! Floor 3: the only floor that touches the kernel, and the only one with `unsafe`. It decides
//! nothing and never sees a machine.

pub mod engine;
