//! The map of text that the unwinder reads, made anew for each change and put in place by writing one word.

use alloc::{boxed::Box, vec, vec::Vec};
use core::sync::atomic::Ordering;
use handoff::layout::THUNKS;
use linker::{Placement, Span};
use unwind::{TextMap, TextRange};

/// A map and its rows. Its address goes into the roots, so it stays boxed.
#[derive(Debug)]
pub struct Map {
    map: TextMap,
    /// The rows, which `map` points to.
    ranges: Vec<TextRange>,
    /// Unwind table and index of the area of thunks, which one of the rows points to.
    thunks: Box<[u8]>,
}

// SAFETY: the pointers lead to what the map itself owns and does not change.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// A map of copies: (cell's number, how often reseated, flags, placement).
    pub fn new<'p>(copies: impl Iterator<Item = (u32, u32, u32, &'p Placement)>) -> Box<Map> {
        let mut ranges: Vec<TextRange> = copies.filter(|(.., placement)| placement.text.len > 0).map(row).collect();
        let area = Span { address: THUNKS.start, len: THUNKS.end - THUNKS.start };
        // The table's fields are relative to where it lies; its pointers reach 2 GiB, so it is told apart by an index
        // of its own whose one entry is looked up by the unwinder alone.
        let (table, index) = linker::for_thunks(area, 0);
        let thunks = vec![0; table.len() + 8].into_boxed_slice();
        let mut map = Box::new(Map { map: TextMap { ranges: core::ptr::null(), len: 0 }, ranges: Vec::new(), thunks });
        let at = (map.thunks.as_ptr() as u64).next_multiple_of(8);
        let skip = (at - map.thunks.as_ptr() as u64) as usize;
        let (table, index) = (linker::for_thunks(area, at).0, index);
        map.thunks[skip..skip + table.len()].copy_from_slice(&table);
        ranges.push(TextRange {
            start: area.address,
            text_len: area.len,
            eh_frame: at,
            eh_frame_len: index,
            eh_frame_hdr: at + index,
            eh_frame_hdr_len: table.len() as u64 - index,
            cell: u32::MAX,
            copy: 0,
            flags: unwind::THUNKS,
            reserved: 0,
        });
        ranges.sort_unstable_by_key(|range| range.start);
        map.ranges = ranges;
        map.map = TextMap { ranges: map.ranges.as_ptr(), len: map.ranges.len() };
        map
    }

    /// What the root `text_map` holds for this map.
    pub fn root(&self) -> u64 {
        &raw const self.map as u64
    }

    /// Puts the map in place directly: at boot, when nothing can be unwinding.
    pub(crate) fn install(&self) {
        platform::roots().text_map.store((&raw const self.map).cast_mut().cast(), Ordering::Release);
    }
}

fn row((cell, copy, flags, placement): (u32, u32, u32, &Placement)) -> TextRange {
    TextRange {
        start: placement.text.address,
        text_len: placement.text.len,
        eh_frame: placement.unwind.address,
        eh_frame_len: placement.unwind.len + 4,
        eh_frame_hdr: placement.index.address,
        eh_frame_hdr_len: placement.index.len,
        cell,
        copy,
        flags,
        reserved: 0,
    }
}
