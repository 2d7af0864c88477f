//! lychgate: an `io_uring` front door that parses, queues and relays requests to worker processes.
//!
//! The floors, lowest first. A floor imports only from those above it in this list, and
//! `machine` and `sys` never import each other; `tests/it/tidy.rs` enforces it.

extern crate alloc;

pub mod base;
pub mod cli;
pub mod http;
pub mod machine;
pub mod plan;
pub mod shell;
#[allow(unsafe_code, reason = "the one floor that talks to the kernel")]
pub mod sys;
