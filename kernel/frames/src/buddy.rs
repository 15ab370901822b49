//! The free frames: a buddy system over bit sets, one set for each size. Pure; frames are numbers.
//!
//! A free block of order `k` is 2^k frames, begins at a multiple of 2^k, and its buddy is not free (else the two are one
//! block of order `k + 1`), so the sets are a function of which frames are free, not of the order in which they became so.
//! Allocation takes the smallest order that fits and in it the lowest address: the same frames free, the same answer.

use crate::bits::Bits;
use core::ops::Range;

/// Orders there are; the largest block is 2^18 frames (1 GiB).
pub const ORDERS: usize = 19;

/// A refusal to give back what is not out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frames {start}..{end} are not allocated", start = .0.start, end = .0.end)]
pub struct NotAllocated(pub FrameRange);

/// A run of frame numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    /// The first.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

/// The free frames among those numbered below some bound.
#[derive(Debug)]
pub struct Buddy<'a> {
    words: &'a mut [u64],
    orders: [Bits; ORDERS],
    bound: u32,
    free: u32,
}

fn shapes(bound: u32) -> ([Bits; ORDERS], u32) {
    let mut orders = [Bits::default(); ORDERS];
    let mut at = 0;
    for (order, bits) in orders.iter_mut().enumerate() {
        (*bits, at) = Bits::new(bound.div_ceil(1 << order), at);
    }
    (orders, at)
}

/// Words that the sets need for frames numbered below `bound`.
pub fn words_needed(bound: u32) -> usize {
    shapes(bound).1 as usize
}

/// The blocks that make up `range`, each at a multiple of its length: first frame and order.
fn blocks(range: Range<u32>) -> impl Iterator<Item = (u32, usize)> {
    let mut at = range.start;
    core::iter::from_fn(move || {
        let left = range.end.checked_sub(at).filter(|left| *left != 0)?;
        let order = at.trailing_zeros().min(left.ilog2()).min(ORDERS as u32 - 1);
        let block = (at, order as usize);
        at += 1 << order;
        Some(block)
    })
}

impl<'a> Buddy<'a> {
    /// With no frame free. `words` has [`words_needed`] words.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn new(words: &'a mut [u64], bound: u32) -> Buddy<'a> {
        let (orders, needed) = shapes(bound);
        assert!(words.len() >= needed as usize, "the frame table has {} words of {needed}", words.len());
        words.fill(0);
        Buddy { words, orders, bound, free: 0 }
    }

    /// Free frames.
    pub fn free_count(&self) -> u32 {
        self.free
    }

    /// Takes `count` frames out, beginning at a multiple of 2^`align_order`. None if no run is long enough.
    pub fn allocate(&mut self, count: u32, align_order: usize) -> Option<u32> {
        let order = (count.max(1).checked_next_power_of_two()?.ilog2() as usize).max(align_order);
        for from in order..ORDERS {
            if let Some(index) = self.orders[from].first(self.words) {
                self.orders[from].clear(self.words, index);
                let start = index << from;
                let end = start + (1 << from);
                self.free -= 1 << from;
                for (at, order) in blocks(start + count..end) {
                    self.put(at, order);
                }
                return Some(start);
            }
        }
        None
    }

    /// Puts the frames of `range` back.
    ///
    /// # Errors
    /// If one of them is free already or beyond the bound; then nothing changes.
    pub fn give_back(&mut self, range: Range<u32>) -> Result<(), NotAllocated> {
        if range.end > self.bound || range.start > range.end || self.any_free(range.clone()) {
            return Err(NotAllocated(FrameRange { start: range.start, end: range.end }));
        }
        for (at, order) in blocks(range) {
            self.put(at, order);
        }
        Ok(())
    }

    /// Every run of free frames: first frame and length; those of one length in order.
    pub fn each_free(&self, mut each: impl FnMut(u32, u32)) {
        for (order, bits) in self.orders.iter().enumerate() {
            bits.each(self.words, |index| each(index << order, 1 << order));
        }
    }

    /// Frames are numbered below this.
    pub fn bound(&self) -> u32 {
        self.bound
    }

    /// Whether any frame of `range` is free.
    pub fn any_free(&self, range: Range<u32>) -> bool {
        !range.is_empty()
            && self
                .orders
                .iter()
                .enumerate()
                .any(|(order, bits)| bits.any(self.words, range.start >> order, ((range.end - 1) >> order) + 1))
    }

    fn put(&mut self, start: u32, order: usize) {
        self.free += 1 << order;
        let (mut index, mut order) = (start >> order, order);
        while order + 1 < ORDERS && self.orders[order].get(self.words, index ^ 1) {
            self.orders[order].clear(self.words, index ^ 1);
            index >>= 1;
            order += 1;
        }
        self.orders[order].set(self.words, index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Allocate(u32, usize),
        Free(usize),
        FreePart(usize, u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (1u32..70, 0usize..7).prop_map(|(count, align)| Op::Allocate(count, align)),
            2 => any::<usize>().prop_map(Op::Free),
            1 => (any::<usize>(), any::<u32>()).prop_map(|(which, at)| Op::FreePart(which, at)),
        ]
    }

    proptest! {
        /// No frame is given out twice, the count is exact, and when all is back the table is as it was.
        #[test]
        fn ownership_algebra(bound in 1u32..3000, hole in 0u32..3000, ops in prop::collection::vec(op(), 0..200)) {
            let mut words = vec![0; words_needed(bound)];
            let mut buddy = Buddy::new(&mut words, bound);
            let hole = hole.min(bound - 1);
            buddy.give_back(0..hole).unwrap();
            buddy.give_back(hole + 1..bound).unwrap();
            let at_start = buddy.words.to_vec();
            let mut out: Vec<Range<u32>> = vec![hole..hole + 1];
            for op in ops {
                match op {
                    Op::Allocate(count, align) => {
                        if let Some(start) = buddy.allocate(count, align) {
                            let new = start..start + count;
                            prop_assert!(new.end <= bound);
                            prop_assert_eq!(start % (1 << align), 0);
                            prop_assert!(out.iter().all(|other| other.end <= new.start || new.end <= other.start));
                            out.push(new);
                        }
                    }
                    Op::Free(which) if out.len() > 1 => {
                        let range = out.remove(1 + which % (out.len() - 1));
                        buddy.give_back(range.clone()).unwrap();
                        prop_assert!(buddy.give_back(range).is_err());
                    }
                    Op::FreePart(which, at) if out.len() > 1 => {
                        let which = 1 + which % (out.len() - 1);
                        let middle = out[which].start + at % (out[which].len() as u32);
                        buddy.give_back(middle..out[which].end).unwrap();
                        out[which].end = middle;
                        if out[which].is_empty() {
                            out.remove(which);
                        }
                    }
                    _ => {}
                }
                let held: usize = out.iter().map(ExactSizeIterator::len).sum();
                prop_assert_eq!(buddy.free_count() as usize, bound as usize - held);
            }
            for range in out.drain(1..) {
                buddy.give_back(range).unwrap();
            }
            prop_assert_eq!(&buddy.words[..], &at_start[..]);
        }
    }

    #[test]
    fn refuses_what_is_not_out_and_changes_nothing() {
        let mut words = vec![0; words_needed(64)];
        let mut buddy = Buddy::new(&mut words, 64);
        buddy.give_back(0..32).unwrap();
        let before = buddy.words.to_vec();
        assert!(buddy.give_back(30..40).is_err());
        assert!(buddy.give_back(60..65).is_err());
        assert!(buddy.give_back(0..64).is_err());
        assert_eq!((buddy.words.to_vec(), buddy.free_count()), (before, 32));
    }

    #[test]
    fn takes_the_lowest_of_the_smallest_that_fits() {
        let mut words = vec![0; words_needed(64)];
        let mut buddy = Buddy::new(&mut words, 64);
        buddy.give_back(0..64).unwrap();
        assert_eq!(buddy.allocate(3, 0), Some(0));
        assert_eq!(buddy.allocate(4, 0), Some(4));
        assert_eq!(buddy.allocate(1, 0), Some(3));
        assert_eq!(buddy.allocate(100, 0), None);
    }
}
