//! Floor 3: the only floor that touches the kernel, and the only one with `unsafe`. It decides
//! nothing and never sees a machine.

pub mod cgroup;
pub mod clock;
pub mod ears;
pub mod engine;
pub mod errno;
pub mod family;
pub mod fdpass;
pub mod identity;
pub mod journal;
pub mod memfd;
pub mod memory;
pub mod notices;
pub mod notify;
pub mod poll;
pub mod port;
pub mod process;
pub mod rlimit;
pub mod signal;
pub mod socket;
