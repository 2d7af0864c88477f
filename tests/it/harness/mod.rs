//! What the end-to-end tests are made of: the gate under test, scripted origins behind it, raw
//! clients before it, and the real programs found on the machine.

pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod engine;
pub(crate) mod gate;
pub(crate) mod message;
pub(crate) mod origin;
pub(crate) mod port;
pub(crate) mod program;
pub(crate) mod recipe;
pub(crate) mod spawn;
pub(crate) mod tree;
