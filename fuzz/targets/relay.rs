//! The whole data plane under arbitrary doings of peers, kernel and operator: it may not panic,
//! break the contract with its engine, or leave anything open.

#![no_main]
#![allow(dead_code, reason = "the simulation has parts that only its tests use")]

#[path = "../../tests/sim/mod.rs"]
mod sim;

use libfuzzer_sys::fuzz_target;
use lychgate::base::time::Instant;
use lychgate::machine::listener::{Listener, Shared};
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let machine = Listener::new(Instant(0), 0, 1, Arc::new(Shared::default()));
    if let Err(why) = sim::ops::run(machine, bytes) {
        panic!("{why}");
    }
});
