//! Frames that are absent from the physical map, kept in whole two-megabyte blocks: one pool for page tables, one for
//! text, constants and thunks. Pure: frames are physical addresses, and nothing here touches them.
//!
//! The lowest free frame is taken first. Of the blocks that are wholly free one is kept, the others may leave.

use handoff::layout::{BLOCK, PAGE};

const FRAMES: u64 = BLOCK / PAGE;
const WORDS: usize = (FRAMES / 64) as usize;

#[derive(Clone, Copy, Debug)]
struct Block {
    start: u64,
    free: u64,
    /// One bit a frame; 1: free.
    map: [u64; WORDS],
}

/// At most `N` blocks, sorted by address.
#[derive(Debug)]
pub struct Pool<const N: usize> {
    blocks: [Block; N],
    len: usize,
}

impl<const N: usize> Pool<N> {
    /// Without blocks.
    pub const fn new() -> Pool<N> {
        Pool { blocks: [Block { start: 0, free: 0, map: [0; WORDS] }; N], len: 0 }
    }

    /// Whether no further block can be added.
    pub fn is_full(&self) -> bool {
        self.len == N
    }

    /// Frames in the pool.
    pub fn total(&self) -> u64 {
        self.len as u64 * FRAMES
    }

    /// Free frames in the pool.
    pub fn free(&self) -> u64 {
        self.rows().iter().map(|block| block.free).sum()
    }

    fn rows(&self) -> &[Block] {
        &self.blocks[..self.len]
    }

    fn find(&self, frame: u64) -> Result<usize, usize> {
        self.rows().binary_search_by(|block| block.start.cmp(&(frame & !(BLOCK - 1))))
    }

    /// Whether `frame` lies in a block of the pool.
    pub fn contains(&self, frame: u64) -> bool {
        self.find(frame).is_ok()
    }

    /// The blocks' addresses.
    pub fn blocks(&self) -> impl Iterator<Item = u64> {
        self.rows().iter().map(|block| block.start)
    }

    /// Adds a block whose first `used` frames are taken; false if the pool is full, or the block is not one, or is there.
    #[must_use]
    pub fn add(&mut self, start: u64, used: u64) -> bool {
        let Err(at) = self.find(start) else { return false };
        if self.is_full() || !start.is_multiple_of(BLOCK) || used > FRAMES {
            return false;
        }
        let mut block = Block { start, free: FRAMES - used, map: [u64::MAX; WORDS] };
        for frame in 0..used {
            block.map[(frame / 64) as usize] &= !(1 << (frame % 64));
        }
        self.blocks.copy_within(at..self.len, at + 1);
        self.blocks[at] = block;
        self.len += 1;
        true
    }

    /// Takes the lowest free frame.
    pub fn take(&mut self) -> Option<u64> {
        let len = self.len;
        let block = self.blocks[..len].iter_mut().find(|block| block.free != 0)?;
        let word = block.map.iter().position(|word| *word != 0)?;
        let bit = block.map[word].trailing_zeros();
        block.map[word] &= !(1 << bit);
        block.free -= 1;
        Some(block.start + (word as u64 * 64 + u64::from(bit)) * PAGE)
    }

    /// Puts a frame back; false if it is not one that was taken here.
    #[must_use]
    pub fn give(&mut self, frame: u64) -> bool {
        let Ok(at) = self.find(frame) else { return false };
        let block = &mut self.blocks[at];
        let index = (frame - block.start) / PAGE;
        let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
        if block.map[word] & bit != 0 || !frame.is_multiple_of(PAGE) {
            return false;
        }
        block.map[word] |= bit;
        block.free += 1;
        true
    }

    /// If two or more blocks are wholly free, takes the highest of them out of the pool.
    pub fn release(&mut self) -> Option<u64> {
        let mut whole = self.rows().iter().enumerate().filter(|(_, block)| block.free == FRAMES).map(|(at, _)| at);
        let (_, at) = (whole.next()?, whole.next_back()?);
        let start = self.blocks[at].start;
        self.blocks.copy_within(at + 1..self.len, at);
        self.len -= 1;
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(ops in prop::collection::vec((0u8..4, any::<usize>()), 0..1500)) {
            let mut pool = Pool::<4>::new();
            prop_assert!(pool.add(3 * BLOCK, 500));
            let mut free: BTreeSet<u64> = (500..FRAMES).map(|frame| 3 * BLOCK + frame * PAGE).collect();
            let mut out = Vec::new();
            for (op, which) in ops {
                match op {
                    0 | 1 => {
                        let frame = pool.take();
                        prop_assert_eq!(frame, free.pop_first());
                        out.extend(frame);
                    }
                    2 if !out.is_empty() => {
                        let frame = out.swap_remove(which % out.len());
                        prop_assert!(pool.give(frame));
                        prop_assert!(!pool.give(frame));
                        free.insert(frame);
                    }
                    _ if which % 8 == 0 => {
                        let start = (which % 7) as u64 * BLOCK;
                        let fits = !pool.is_full() && !pool.contains(start);
                        prop_assert_eq!(pool.add(start, 0), fits);
                        if fits {
                            free.extend((0..FRAMES).map(|frame| start + frame * PAGE));
                        }
                    }
                    _ => {
                        let before: Vec<u64> = pool.blocks().collect();
                        let whole = |start: &&u64| (0..FRAMES).all(|frame| free.contains(&(**start + frame * PAGE)));
                        let wholes: Vec<u64> = before.iter().filter(whole).copied().collect();
                        let expected = if wholes.len() > 1 { wholes.last().copied() } else { None };
                        let released = pool.release();
                        prop_assert_eq!(released, expected);
                        if let Some(start) = released {
                            free.retain(|frame| !(start..start + BLOCK).contains(frame));
                        }
                    }
                }
                prop_assert_eq!(pool.free(), free.len() as u64);
            }
        }
    }

    #[test]
    fn refuses_strangers() {
        let mut pool = Pool::<2>::new();
        assert!(pool.add(BLOCK, 1));
        assert!(!pool.give(0));
        assert!(!pool.give(BLOCK + PAGE));
        assert!(pool.give(BLOCK));
        assert!(!pool.add(BLOCK, 0));
        assert!(!pool.add(3 * BLOCK + PAGE, 0));
        assert_eq!(pool.release(), None);
    }
}
