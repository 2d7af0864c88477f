//! The life of a pool's workers, simulated: from one seed come processes that fail to start, hang,
//! leak, crash and ignore signals, a listener that comes and goes, clients, an operator and
//! supervisors that die, all in virtual time; an oracle that keeps its own books judges every order
//! of the machine. It stands outside the library, so that it can see no more of the machine than
//! the supervisor does, and is mounted both by the integration tests and by the fuzz target.
//!
//! `LYCHGATE_TEST_SEEDS=n` runs so many seeds, `LYCHGATE_TEST_SEED=n` one of them with its trace.

pub(crate) mod babble;
pub(crate) mod cover;
pub(crate) mod dice;
mod doing;
mod door;
pub(crate) mod machine;
mod obey;
pub(crate) mod oracle;
mod orders;
mod process;
#[cfg(test)]
mod saboteur;
mod setting;
mod span;
#[cfg(test)]
mod tests;
mod verdict;
mod window;
pub(crate) mod world;
