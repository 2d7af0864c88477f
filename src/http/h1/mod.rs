//! HTTP/1.1 on the wire.

pub mod body;
pub mod emit;
mod facts;
pub mod fields;
pub mod head;
