//! Floors 0 to 2 without the standard library: what thinks has no clock, no socket and no file to
//! reach for. Built with every `cargo test`; it has nothing to run.

#![no_std]

extern crate alloc;

#[path = "../src/base/mod.rs"]
pub mod base;
#[path = "../src/http/mod.rs"]
pub mod http;
#[path = "../src/machine/mod.rs"]
pub mod machine;
#[path = "../src/plan/mod.rs"]
pub mod plan;
