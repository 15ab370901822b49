//! The map of text that the unwinder reads, made anew for each change and put in place by writing one word.

use alloc::{boxed::Box, vec::Vec};
use core::sync::atomic::Ordering;
use handoff::layout::{PAGE, THUNKS};
use linker::{Graph, Placement, Span};
use paging::CodeMapping;
use unwind::{TextMap, TextRange};

/// A map and its rows. Its address goes into the roots, so it stays boxed.
#[derive(Debug)]
pub struct Map {
    map: TextMap,
    /// The rows, which `map` points to.
    ranges: Vec<TextRange>,
}

// SAFETY: the pointers lead to what the map itself owns and does not change.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// A map of copies, (cell's number, how often reseated, flags, placement), and of the thunks.
    pub fn new<'p>(copies: impl Iterator<Item = (u32, u32, u32, &'p Placement)>, thunks: &ThunkTable) -> Box<Map> {
        let mut ranges: Vec<TextRange> = copies.filter(|(.., placement)| placement.text.len > 0).map(row).collect();
        ranges.push(thunks.row());
        ranges.sort_unstable_by_key(|range| range.start);
        let mut map = Box::new(Map { map: TextMap { ranges: core::ptr::null(), len: 0 }, ranges });
        map.map = TextMap { ranges: map.ranges.as_ptr(), len: map.ranges.len() };
        map
    }

    /// What the root `text_map` holds for this map.
    pub fn root(&self) -> u64 {
        &raw const self.map as u64
    }

    /// Puts the map in place directly. Whoever is just unwinding may go on with the one before, which must stay for it.
    pub fn install(&self) {
        platform::roots().text_map.store((&raw const self.map).cast_mut().cast(), Ordering::Release);
    }
}

/// The unwind table of the area of thunks: one entry for all of it. It lies in the arena, since its fields reach 2 GiB.
#[derive(Debug)]
pub struct ThunkTable {
    page: CodeMapping,
    /// Offset of its index, and length of both, in bytes.
    index: u64,
    len: u64,
}

const AREA: Span = Span { address: THUNKS.start, len: THUNKS.end - THUNKS.start };

impl ThunkTable {
    /// Writes the table to a page among the constants.
    pub(crate) fn new(graph: &mut Graph<'static>) -> Result<ThunkTable, paging::Error> {
        let mut page = paging::map_code(graph.take_constants(PAGE), 1)?;
        let (table, index) = linker::for_thunks(AREA, page.address());
        if let Some(bytes) = page.bytes_mut().and_then(|bytes| bytes.get_mut(..table.len())) {
            bytes.copy_from_slice(&table);
        }
        page.protect(0..1, paging::Access::Read)?;
        Ok(ThunkTable { page, index, len: table.len() as u64 })
    }

    fn row(&self) -> TextRange {
        let at = self.page.address();
        TextRange {
            start: AREA.address,
            text_len: AREA.len,
            eh_frame: at,
            eh_frame_len: self.index,
            eh_frame_hdr: at + self.index,
            eh_frame_hdr_len: self.len - self.index,
            cell: u32::MAX,
            copy: 0,
            flags: unwind::THUNKS,
            reserved: 0,
        }
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
