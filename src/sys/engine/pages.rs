//! Memory straight from the kernel: page-aligned, zeroed, touched only where used.

use nix::errno::Errno;
use nix::libc;
use std::ptr::{self, NonNull};

/// An anonymous private mapping, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Pages {
    start: NonNull<u8>,
    size: usize,
}

impl Pages {
    /// Maps `size` bytes, more than none. Nothing is backed by memory before it is written.
    pub(super) fn map(size: usize) -> Result<Self, Errno> {
        assert!(size > 0);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory
        // that anybody else knows of.
        let start = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let start: NonNull<u8> = NonNull::new(start.cast()).ok_or(Errno::ENOMEM)?;
        // Huge pages would back a whole 2 MiB for the first byte. Refusal only costs memory.
        // SAFETY: the range is the mapping just made, and the advice changes no content.
        unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_NOHUGEPAGE) };
        Ok(Self { start, size })
    }

    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.size);
        // SAFETY: the offset lies within the mapping or one past its end, as asserted.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// The caller keeps writers (the kernel among them) away from the range while it is borrowed:
    /// a buffer is read only between its completion and its return.
    pub(super) fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.size));
        // SAFETY: the range lies within the mapping, which is initialised (zeroed by the kernel)
        // and lives as long as `self`; that nobody writes is the caller's part, stated above.
        unsafe { std::slice::from_raw_parts(self.at(offset), len) }
    }

    pub(super) fn bytes_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.size));
        // SAFETY: as in `bytes`; `&mut self` keeps out every other borrow.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset), len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and no borrow of it outlives `self`. The kernel
        // holds no address in it: its owner drops the ring first.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}
