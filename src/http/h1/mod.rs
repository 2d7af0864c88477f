//! HTTP/1.1 on the wire.

pub mod body;
pub mod emit;
pub mod fields;
pub mod head;
