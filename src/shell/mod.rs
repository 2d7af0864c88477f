//! Floor 4: carries facts from `sys` to the machines and orders back; no decision that a test
//! would miss.

pub mod api;
pub mod config;
pub mod control;
pub mod data;
pub mod demo;
pub mod listener;
pub mod logs;
pub mod paths;
pub mod supervisor;
pub mod view;
pub mod visible;
