//! Provided buffers: blocks that the kernel picks from by itself when bytes arrive, so that a
//! socket that waits owns none.

use super::ring::Ring;
use crate::sys::engine::pages::Pages;
use crate::sys::engine::store::Group;
use crate::sys::errno::Error;
use io_uring::types::BufRingEntry;
use std::sync::atomic::{AtomicU16, Ordering};

/// The kernel's ring of free blocks of one group.
///
/// The kernel takes blocks in the order they were given, so all that it has are used in rotation.
/// To keep the ones in use few, and so warm, it is given no more than lately needed; the others
/// wait on a stack.
#[derive(Debug)]
pub(super) struct Provided {
    entries: Pages,
    group: u16,
    size: u16,
    tail: u16,
    /// Blocks that the kernel has.
    given: u16,
    /// Blocks that the kernel should have after the next return.
    wanted: u16,
    spare: Vec<u16>,
    /// Blocks of the completions being handled.
    taken: Vec<u16>,
}

impl Provided {
    /// Registers group number `group` for the blocks of `blocks`, whose count is a power of two,
    /// and gives the kernel `at_first` of them.
    pub(super) fn register(
        ring: &Ring,
        group: u16,
        blocks: &Group,
        at_first: u16,
    ) -> Result<Self, Error> {
        let size = blocks.blocks;
        assert!(size.is_power_of_two());
        let entries = Pages::map(usize::from(size) * size_of::<BufRingEntry>())
            .map_err(|errno| Error::new("mmap", errno))?;
        let address = entries.at(0).addr() as u64;
        // SAFETY: the entries are page-aligned, of the size told, and live as long as the ring:
        // the engine drops the ring before them.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, size, group, 0) }
            .map_err(Error::by("io_uring_register IORING_REGISTER_PBUF_RING"))?;
        let mut provided = Self {
            entries,
            group,
            size,
            tail: 0,
            given: 0,
            wanted: at_first.min(size),
            spare: (0..size).rev().collect(),
            taken: Vec::new(),
        };
        provided.refill(blocks);
        Ok(provided)
    }

    pub(super) fn group(&self) -> u16 {
        self.group
    }

    /// A completion says that the kernel filled a block. False if it cannot be so.
    pub(super) fn take(&mut self, block: u16) -> bool {
        if block >= self.size || self.given == 0 {
            return false;
        }
        self.given -= 1;
        self.taken.push(block);
        true
    }

    /// A receive found no block: give more from now on.
    pub(super) fn starved(&mut self) {
        self.wanted = self.wanted.saturating_mul(2).min(self.size);
    }

    /// Gives the blocks of the turn back, the last used first.
    pub(super) fn give_back(&mut self, blocks: &Group) {
        if self.taken.is_empty() && self.given >= self.wanted {
            return;
        }
        // A turn that used half of what was there may need all of it next time.
        if self.taken.len() * 2 > usize::from(self.wanted) {
            self.starved();
        }
        self.spare.append(&mut self.taken);
        self.refill(blocks);
    }

    fn refill(&mut self, blocks: &Group) {
        let tail = self.tail;
        while self.given < self.wanted {
            let Some(block) = self.spare.pop() else { break };
            self.write(blocks, block);
            self.given += 1;
        }
        if self.tail != tail {
            // SAFETY: the base is that of the entries, which are initialised (zeroed by mmap).
            let address = unsafe { BufRingEntry::tail(self.base()) };
            // SAFETY: the tail is a u16 of the mapping, aligned as the kernel's structure lays it
            // out; only we write it and the kernel reads it atomically.
            let shared = unsafe { AtomicU16::from_ptr(address.cast_mut()) };
            shared.store(self.tail, Ordering::Release);
        }
    }

    fn base(&self) -> *mut BufRingEntry {
        #[expect(clippy::cast_ptr_alignment, reason = "a mapping starts at a page")]
        let base = self.entries.at(0).cast::<BufRingEntry>();
        base
    }

    fn write(&mut self, blocks: &Group, block: u16) {
        let place = usize::from(self.tail & (self.size - 1));
        let entry = self.base();
        // SAFETY: the place is below the ring's size, so within the mapping.
        let entry = unsafe { entry.add(place) };
        // SAFETY: the place lies within the mapping and is aligned, entries being 16 bytes from a
        // page's start; the kernel does not look at it before the tail passes it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(blocks.pages.at(blocks.offset(block)).addr() as u64);
        entry.set_len(blocks.block_size);
        entry.set_bid(block);
        self.tail = self.tail.wrapping_add(1);
    }
}
