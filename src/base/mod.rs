//! Floor 0, pure: the words that every other floor uses. Imports nothing of ours.

pub mod address;
pub mod ascii;
pub mod ending;
pub mod id;
pub mod limits;
pub mod prng;
pub mod slab;
pub mod time;
pub mod timers;
