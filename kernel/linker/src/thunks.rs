//! Thunks: one jump for each function whose address is kept by data. It never moves; an update moves its target.

use crate::graph::CellId;
use alloc::vec::Vec;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// Bytes in a thunk: `jmp rel32` and three traps, so that the field never crosses a cache line.
pub const THUNK_BYTES: u64 = 8;
/// Offset of the 32-bit field in a thunk.
pub(crate) const FIELD: u64 = 1;
const JUMP: u8 = 0xe9;
const TRAP: u8 = 0xcc;

/// One thunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thunk {
    pub address: u64,
    pub cell: CellId,
    pub section: u32,
    pub value: u64,
    /// Its function is one of a replaced object that the new one does not lead on: it stays where it leads.
    pub orphan: bool,
}

/// All thunks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thunks {
    pub list: Vec<Thunk>,
    index: HashMap<(CellId, u32, u64), u64, FxBuildHasher>,
}

impl Thunks {
    pub fn get(&self, cell: CellId, section: u32, value: u64) -> Option<u64> {
        self.index.get(&(cell, section, value)).copied()
    }

    pub fn insert(&mut self, thunk: Thunk) {
        self.index.insert((thunk.cell, thunk.section, thunk.value), thunk.address);
        self.list.push(thunk);
    }

    /// Leads the thunks of a replaced cell to the functions of its new object, where `follow` knows them; the others stay
    /// with the old copy.
    pub fn rehome(&mut self, cell: CellId, follow: impl Fn(u32, u64) -> Option<(u32, u64)>) {
        for thunk in self.list.iter_mut().filter(|thunk| thunk.cell == cell && !thunk.orphan) {
            self.index.remove(&(cell, thunk.section, thunk.value));
            match follow(thunk.section, thunk.value) {
                Some((section, value)) => (thunk.section, thunk.value) = (section, value),
                None => thunk.orphan = true,
            }
        }
        for thunk in self.list.iter().filter(|thunk| thunk.cell == cell && !thunk.orphan) {
            self.index.insert((cell, thunk.section, thunk.value), thunk.address);
        }
    }

    pub fn bytes(&self) -> u64 {
        self.list.len() as u64 * THUNK_BYTES
    }
}

/// The bytes of a thunk at `address` to `target`; nothing if it is out of reach.
pub(crate) fn encode(address: u64, target: u64) -> Option<[u8; THUNK_BYTES as usize]> {
    let field = field(address, target)?.to_le_bytes();
    Some([JUMP, field[0], field[1], field[2], field[3], TRAP, TRAP, TRAP])
}

/// The field of a thunk at `address` to `target`.
pub(crate) fn field(address: u64, target: u64) -> Option<i32> {
    i32::try_from(target.wrapping_sub(address + FIELD + 4) as i64).ok()
}
