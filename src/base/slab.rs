//! A slab with generations: O(1) insert and remove, no allocation once it has grown to its load.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// The generations wrap at 24 bits: an engine packs them beside index and operation in 64.
pub const GENERATION_MASK: u32 = 0x00ff_ffff;

/// Places in one piece of memory. Growing adds a chunk and moves nothing: no copy of everything,
/// and no old half left behind in the allocator.
const CHUNK: usize = 64;

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// Values addressed by (index, generation); an address whose generation is stale finds nothing.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Box<[Place<T>]>>,
    free: Vec<u32>,
    count: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), count: 0 }
    }
}

impl<T> Slab<T> {
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Puts a value in a free place and returns its (index, generation).
    pub fn insert(&mut self, value: T) -> (u32, u32) {
        self.count += 1;
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.grow(),
        };
        let place = self.place_mut(index).expect("a free index is in some chunk");
        place.value = Some(value);
        (index, place.generation)
    }

    /// Adds a chunk; returns its first index and leaves the others free, lowest on top.
    fn grow(&mut self) -> u32 {
        let first = self.chunks.len() * CHUNK;
        let index_of = |at: usize| u32::try_from(at).expect("fewer than 2^32 places");
        self.chunks.push((0..CHUNK).map(|_| Place { generation: 0, value: None }).collect());
        self.free.extend((first + 1..first + CHUNK).rev().map(index_of));
        index_of(first)
    }

    fn place(&self, index: u32) -> Option<&Place<T>> {
        let at = index as usize;
        self.chunks.get(at / CHUNK).map(|chunk| &chunk[at % CHUNK])
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place<T>> {
        let at = index as usize;
        self.chunks.get_mut(at / CHUNK).map(|chunk| &mut chunk[at % CHUNK])
    }

    pub fn get(&self, index: u32, generation: u32) -> Option<&T> {
        let place = self.place(index)?;
        if place.generation == generation { place.value.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let place = self.place_mut(index)?;
        if place.generation == generation { place.value.as_mut() } else { None }
    }

    /// The value at an index, of whatever generation.
    pub fn at(&self, index: u32) -> Option<&T> {
        self.place(index)?.value.as_ref()
    }

    /// The value at an index, of whatever generation.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.place_mut(index)?.value.as_mut()
    }

    pub fn remove(&mut self, index: u32, generation: u32) -> Option<T> {
        let place = self.place_mut(index)?;
        if place.generation != generation {
            return None;
        }
        let value = place.value.take()?;
        place.generation = (generation + 1) & GENERATION_MASK;
        self.free.push(index);
        self.count -= 1;
        Some(value)
    }

    /// Removes the value at an index, of whatever generation.
    pub fn remove_at(&mut self, index: u32) -> Option<T> {
        let generation = self.place(index)?.generation;
        self.remove(index, generation)
    }

    /// All values, in index order, with (index, generation).
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, &T)> {
        (0u32..).zip(self.chunks.iter().flatten()).filter_map(|(index, place)| {
            place.value.as_ref().map(|value| (index, place.generation, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_address_finds_nothing() {
        let mut slab = Slab::default();
        let (index, generation) = slab.insert('a');
        assert_eq!(slab.remove(index, generation), Some('a'));
        let (again, next) = slab.insert('b');
        assert_eq!((again, next), (index, generation + 1));
        assert_eq!(slab.get(index, generation), None);
        assert_eq!(slab.remove(index, generation), None);
        assert_eq!(slab.get(index, next), Some(&'b'));
        assert_eq!(slab.count(), 1);
    }
}
