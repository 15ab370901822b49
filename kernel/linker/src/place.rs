//! Where one copy of a cell lies, and where what it shares lies.
//!
//! ```text
//! base ┌─────────────┐ page
//!      │ text        │ read, run
//!      ├─────────────┤ page
//!      │ jump tables │ read
//!      │ LSDA        │
//!      │ unwind table│ with its four zero bytes of end
//!      │ index of it │
//! end  └─────────────┘ page
//! ```
//!
//! Constants, hosted statics, caches and per-CPU values lie elsewhere and stay where they are when a second copy comes.

use crate::{PAGE, graph::Unit, object::Kind, round_up, unwind_table, veil::Veiled};
use alloc::{boxed::Box, vec::Vec};

/// A range of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub address: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl Span {
    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.address + self.len
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: u64) -> bool {
        (self.address..self.end()).contains(&address)
    }
}

/// A direct branch from this copy to a function of another cell.
#[derive(Clone, Copy, Debug)]
pub struct Branch {
    /// Offset of the 32-bit field in the copy's text, in bytes.
    pub at: u32,
    /// Index of the symbol.
    pub symbol: u32,
    /// Offset of the function from the symbol, in bytes.
    pub offset: i64,
}

/// An element of a mergeable section: its offset there, and its address in the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub offset: u64,
    address: Veiled,
}

impl Piece {
    pub fn new(offset: u64, address: u64) -> Piece {
        Piece { offset, address: Veiled::new(address) }
    }

    pub fn address(&self) -> u64 {
        self.address.get()
    }
}

/// Where a copy lies.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// Its text, in bytes used; the pages end at `tables.address`.
    pub text: Span,
    /// Its tables.
    pub tables: Span,
    /// Its unwind table, without the four zero bytes that end it.
    pub unwind: Span,
    /// The index of the unwind table, sorted by address.
    pub index: Span,
    /// The first page behind it.
    pub end: u64,
    /// Its branches into other cells.
    pub branches: Vec<Branch>,
    /// By section: its address; 0 while not known.
    at: Vec<Veiled>,
    /// Elements of its mergeable sections, by section.
    pub(crate) pieces: Vec<(u32, Box<[Piece]>)>,
    /// The constants it uses.
    pub(crate) constants: Vec<u32>,
}

impl Placement {
    /// Places the parts of a copy, from `base` on. Shared parts are not placed yet.
    pub(crate) fn new(cell: &Unit<'_>, base: u64) -> Placement {
        let sections = &cell.object.sections;
        let mut at = alloc::vec![Veiled::default(); sections.len()];
        let mut next = base;
        let mut lay = |next: &mut u64, want: &dyn Fn(usize, Kind) -> bool| {
            let mut start = None;
            for (index, section) in sections.iter().enumerate().filter(|(i, s)| want(*i, s.kind)) {
                *next = round_up(*next, section.align);
                start = start.or(Some(*next));
                at[index] = Veiled::new(*next);
                *next += section.size;
            }
            let address = start.unwrap_or(*next);
            Span { address, len: *next - address }
        };
        let text = lay(&mut next, &|_, kind| kind == Kind::Text);
        next = round_up(next, PAGE);
        let start = next;
        lay(&mut next, &|index, kind| kind == Kind::Lsda || cell.jump_tables[index]);
        next = round_up(next, 8);
        let unwind = lay(&mut next, &|_, kind| kind == Kind::Unwind);
        next = round_up(next + unwind_table::END_BYTES, 8);
        let index = Span { address: next, len: unwind_table::index_bytes(cell) };
        next += index.len;
        let tables = Span { address: start, len: next - start };
        let end = round_up(next, PAGE);
        Placement {
            text,
            tables,
            unwind,
            index,
            end,
            branches: Vec::new(),
            at,
            pieces: Vec::new(),
            constants: Vec::new(),
        }
    }

    /// All pages of the copy.
    pub fn copy(&self) -> Span {
        Span { address: self.text.address, len: self.end - self.text.address }
    }

    /// The address of a section; 0 while not known.
    pub(crate) fn at(&self, section: u32) -> u64 {
        self.at[section as usize].get()
    }

    pub(crate) fn set_at(&mut self, section: u32, address: u64) {
        self.at[section as usize] = Veiled::new(address);
    }

    /// The address of a place in a section. In a mergeable section, whose elements lie apart, it is a place in the element
    /// that holds `offset`, in the last one if none does.
    pub fn address(&self, section: u32, offset: u64) -> u64 {
        let base = self.at(section);
        if base != 0 {
            return base.wrapping_add(offset);
        }
        let pieces = self.pieces(section);
        let index = pieces.partition_point(|piece| piece.offset <= offset).saturating_sub(1);
        pieces.get(index).map_or(0, |piece| piece.address().wrapping_add(offset.wrapping_sub(piece.offset)))
    }

    /// The elements of a mergeable section that is shared by element.
    pub(crate) fn pieces(&self, section: u32) -> &[Piece] {
        self.pieces.binary_search_by_key(&section, |(s, _)| *s).map_or(&[], |found| &self.pieces[found].1)
    }
}
