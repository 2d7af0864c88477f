//! The life of a pool's workers in a world whose every turn the bytes decide: no rule of the
//! oracle may break, and nothing may panic. The first byte chooses between that world and one that
//! says whatever it likes to the machine.

#![no_main]
#![allow(dead_code, reason = "the simulation has parts that only its tests use")]

#[path = "../../tests/garden/mod.rs"]
mod garden;

use garden::dice::Dice;
use garden::world::World;
use libfuzzer_sys::fuzz_target;
use lychgate::base::time::Instant;
use lychgate::machine::pool::Pool;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let seed = u64::from(*first);
    let mut dice = Dice::of(rest.to_vec(), seed);
    if first % 2 == 1 {
        return garden::babble::run(&mut dice, Pool::new(Instant(0), seed), rest.len());
    }
    if let Err((fault, _)) = World::new(dice, Pool::new(Instant(0), seed), false).run() {
        panic!("{}: {}", fault.rule, fault.text);
    }
});
