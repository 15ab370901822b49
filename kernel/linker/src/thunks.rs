//! Thunks: one jump for each function whose address is kept by data. It never moves; an update moves its target.

use crate::{graph::CellId, veil::Veiled};
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
    /// 0 once it has been given up: its number waits for another.
    pub address: Veiled,
    pub cell: CellId,
    pub section: u32,
    pub value: u64,
    /// Its function is one of a replaced object that the new one does not lead on: it stays where it leads.
    pub orphan: bool,
}

/// All thunks. A thunk's number is its place in the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thunks {
    pub list: Vec<Thunk>,
    index: HashMap<(CellId, u32, u64), u32, FxBuildHasher>,
    /// Numbers of thunks that have been given up.
    free: Vec<u32>,
}

impl Thunks {
    /// The address of a function's thunk.
    pub fn get(&self, cell: CellId, section: u32, value: u64) -> Option<u64> {
        self.number(cell, section, value).map(|number| self.list[number as usize].address.get())
    }

    /// The number of a function's thunk.
    pub fn number(&self, cell: CellId, section: u32, value: u64) -> Option<u32> {
        self.index.get(&(cell, section, value)).copied()
    }

    pub fn insert(&mut self, thunk: Thunk) -> u32 {
        let number = match self.free.pop() {
            Some(number) => {
                self.list[number as usize] = thunk;
                number
            }
            None => {
                self.list.push(thunk);
                self.list.len() as u32 - 1
            }
        };
        self.index.insert((thunk.cell, thunk.section, thunk.value), number);
        number
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
        for (number, thunk) in self.list.iter().enumerate().filter(|(_, thunk)| thunk.cell == cell && !thunk.orphan) {
            self.index.insert((cell, thunk.section, thunk.value), number as u32);
        }
    }

    /// Leaves the thunks of a cell that goes with its last copy.
    pub fn leave(&mut self, cell: CellId) {
        self.rehome(cell, |_, _| None);
    }

    /// The thunks of a cell that have become orphans since `before`.
    pub fn orphaned(&self, before: &Thunks, cell: CellId) -> Vec<u32> {
        let pairs = before.list.iter().zip(&self.list).enumerate();
        pairs
            .filter(|(_, (was, is))| was.cell == cell && !was.orphan && is.orphan)
            .map(|(number, _)| number as u32)
            .collect()
    }

    /// Forgets an orphan that nothing refers to. Its address is not given to another.
    pub fn give_up(&mut self, number: u32) {
        let thunk = &mut self.list[number as usize];
        if thunk.orphan && thunk.address.get() != 0 {
            thunk.address = Veiled::default();
            self.free.push(number);
        }
    }

    /// The thunks there are.
    pub fn living(&self) -> impl Iterator<Item = (u32, &Thunk)> {
        self.list.iter().enumerate().filter(|(_, thunk)| thunk.address.get() != 0).map(|(at, thunk)| (at as u32, thunk))
    }

    pub fn bytes(&self) -> u64 {
        (self.list.len() - self.free.len()) as u64 * THUNK_BYTES
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
