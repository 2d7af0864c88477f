//! Where received bytes lie during a turn: blocks that the kernel filled, and bytes kept for
//! sockets that were on hold.

use super::pages::Pages;
use nix::errno::Errno;

/// Blocks do not begin at the same place of a page each, or the first lines of all of them, which
/// are all that small messages use, would compete for the same few places of the caches.
const STAGGER: usize = 17 * 64;

/// Blocks of one size in one mapping.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) pages: Pages,
    pub(super) block_size: u32,
    pub(super) blocks: u16,
}

impl Group {
    pub(super) fn map(block_size: u32, blocks: u16) -> Result<Self, Errno> {
        let pages = Pages::map((block_size as usize + STAGGER) * usize::from(blocks))?;
        Ok(Self { pages, block_size, blocks })
    }

    pub(super) fn offset(&self, block: u16) -> usize {
        (self.block_size as usize + STAGGER) * usize::from(block)
    }
}

/// Names of byte sources as [`super::Buffer`] and the queued pieces hold them.
const ARENA: u32 = u32::MAX;
const KEPT: u32 = 1 << 31;
const GROUP_SHIFT: u32 = 16;

/// The name of the turn's arena.
pub(super) const fn arena() -> u32 {
    ARENA
}

/// The name of a block.
pub(super) fn block(group: usize, block: u16) -> u32 {
    debug_assert!(group < 2);
    u32::from(group == 1) << GROUP_SHIFT | u32::from(block)
}

/// Everything a turn's completions may point to.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) groups: Vec<Group>,
    kept: Vec<Vec<u8>>,
}

impl Store {
    pub(super) fn new(groups: Vec<Group>) -> Self {
        assert!(groups.len() <= 2);
        Self { groups, kept: Vec::new() }
    }

    /// Takes in bytes until the end of the turn, and names them.
    pub(super) fn keep(&mut self, bytes: Vec<u8>) -> u32 {
        self.kept.push(bytes);
        KEPT | u32::try_from(self.kept.len() - 1).expect("one entry per socket of the turn")
    }

    pub(super) fn drop_kept(&mut self) {
        self.kept.clear();
    }

    pub(super) fn bytes(&self, source: u32, offset: u32, len: u32) -> &[u8] {
        let (offset, len) = (offset as usize, len as usize);
        if source & KEPT != 0 {
            return &self.kept[(source & !KEPT) as usize][offset..offset + len];
        }
        let group = &self.groups[(source >> GROUP_SHIFT) as usize];
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the block")]
        let block = source as u16;
        assert!(offset + len <= group.block_size as usize, "a block ends there");
        group.pages.bytes(group.offset(block) + offset, len)
    }

    /// As `bytes`, for a name that may also be the arena's.
    pub(super) fn piece<'a>(
        &'a self,
        arena: &'a [u8],
        source: u32,
        offset: u32,
        len: u32,
    ) -> &'a [u8] {
        if source == ARENA {
            &arena[offset as usize..offset as usize + len as usize]
        } else {
            self.bytes(source, offset, len)
        }
    }
}
