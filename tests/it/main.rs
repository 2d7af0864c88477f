//! The one integration binary: the house rules, and the product end to end against scripted peers
//! and real programs. Every end-to-end test runs under both engines unless `LYCHGATE_TEST_ENGINE`
//! names one of them.

#![expect(clippy::unwrap_used, reason = "a test ends where its expectation does")]

mod harness;

mod answers;
mod balance;
mod bulk;
mod command;
mod control;
mod deadline;
mod forward;
#[path = "../garden/mod.rs"]
mod garden;
mod gardens;
mod life;
mod load;
mod logs;
mod pages;
mod pools;
mod programs;
mod queue;
mod relay;
mod ring;
mod routing;
#[path = "../sim/mod.rs"]
mod sim;
mod steady;
mod strict;
mod succession;
mod tidy;
mod tunnel;
