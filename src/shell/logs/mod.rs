//! Two logs: one line a request (access), and what the operator is to know (operational).

mod access;
pub mod operational;

pub use access::{AccessLog, AccessSender, Loss};
