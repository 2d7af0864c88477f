//! Floor 4: carries facts from `sys` to the machines and orders back; no decision that a test
//! would miss.

pub mod config;
pub mod data;
pub mod logs;
