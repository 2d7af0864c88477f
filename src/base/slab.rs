//! A slab with generations: O(1) insert and remove, no allocation once it has grown to its load.

use alloc::vec::Vec;

/// The generations wrap at 24 bits: an engine packs them beside index and operation in 64.
pub const GENERATION_MASK: u32 = 0x00ff_ffff;

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// Values addressed by (index, generation); an address whose generation is stale finds nothing.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    count: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), count: 0 }
    }
}

impl<T> Slab<T> {
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Puts a value in a free place and returns its (index, generation).
    pub fn insert(&mut self, value: T) -> (u32, u32) {
        self.count += 1;
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.value = Some(value);
            return (index, place.generation);
        }
        let index = u32::try_from(self.places.len()).expect("fewer than 2^32 places");
        self.places.push(Place { generation: 0, value: Some(value) });
        (index, 0)
    }

    pub fn get(&self, index: u32, generation: u32) -> Option<&T> {
        let place = self.places.get(index as usize)?;
        if place.generation == generation { place.value.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let place = self.places.get_mut(index as usize)?;
        if place.generation == generation { place.value.as_mut() } else { None }
    }

    /// The value at an index, of whatever generation.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.places.get_mut(index as usize)?.value.as_mut()
    }

    /// Removes the value at an index, of whatever generation.
    pub fn remove_at(&mut self, index: u32) -> Option<T> {
        let generation = self.places.get(index as usize)?.generation;
        self.remove(index, generation)
    }

    /// The value at an index, of whatever generation.
    pub fn at(&self, index: u32) -> Option<&T> {
        self.places.get(index as usize)?.value.as_ref()
    }

    pub fn remove(&mut self, index: u32, generation: u32) -> Option<T> {
        let place = self.places.get_mut(index as usize)?;
        if place.generation != generation {
            return None;
        }
        let value = place.value.take()?;
        place.generation = (generation + 1) & GENERATION_MASK;
        self.free.push(index);
        self.count -= 1;
        Some(value)
    }

    /// All values, in index order, with (index, generation).
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, &T)> {
        (0u32..).zip(&self.places).filter_map(|(index, place)| {
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
