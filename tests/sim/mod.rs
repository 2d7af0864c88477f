//! The data plane, simulated: a second ring loop. From one seed come clients, servers, a kernel
//! and their mishaps in virtual time; an oracle that knows what everybody sent judges what came
//! of it. It stands outside the library, so that it can see no more of the machine than an
//! engine does, and is mounted both by the integration tests and by the fuzz target.
//!
//! `SEEDS=n` runs so many seeds, `SEED=n` one of them with a trace.

pub(crate) mod act;
pub(crate) mod chance;
pub(crate) mod client;
pub(crate) mod cover;
pub(crate) mod engine;
pub(crate) mod fault;
pub(crate) mod garden;
pub(crate) mod ledger;
pub(crate) mod link;
pub(crate) mod machine;
pub(crate) mod mouth;
pub(crate) mod ops;
pub(crate) mod oracle;
pub(crate) mod parse;
pub(crate) mod request;
#[cfg(test)]
mod saboteur;
pub(crate) mod server;
pub(crate) mod setting;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
pub(crate) mod verdict;
pub(crate) mod world;
