//! Empty byte vectors for reuse: a steady state takes and returns them without allocating.

use alloc::vec::Vec;

/// A vector that grew beyond this is freed rather than kept.
const KEPT_SIZE_MAX: usize = 16 * 1024;
const KEPT_COUNT_MAX: usize = 512;
const FRESH_SIZE: usize = 1024;

#[derive(Debug, Default)]
pub struct Shelf {
    free: Vec<Vec<u8>>,
}

impl Shelf {
    pub fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_else(|| Vec::with_capacity(FRESH_SIZE))
    }

    /// Puts back what `vector` held, leaving it without memory.
    pub fn put(&mut self, vector: &mut Vec<u8>) {
        let mut vector = core::mem::take(vector);
        let is_worth = vector.capacity() > 0 && vector.capacity() <= KEPT_SIZE_MAX;
        if is_worth && self.free.len() < KEPT_COUNT_MAX {
            vector.clear();
            self.free.push(vector);
        }
    }
}
