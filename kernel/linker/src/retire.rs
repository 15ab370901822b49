//! What of old copies, constants and thunks is still referred to, and giving up what is not.
//!
//! ```text
//! memory ──▶ thunk ──▶ old copy ──▶ thunk, constant, old copy (by a branch)
//!    └────▶ constant ──▶ thunk, constant
//! ```
//! The roots are what runs, the frames of tasks, and what memory holds: those the caller knows. The rest follows from
//! the books and from the bytes of what is kept. What is not reached can never be reached again.

use crate::{
    Memory,
    graph::{Graph, Target},
    place::Span,
    stage::{Patch, Replaced},
    thunks::THUNK_BYTES,
    veil::Veiled,
};
use alloc::vec::Vec;

/// A byte of freed constants and thunks: the trap instruction.
const TRAP: u64 = 0xcccc_cccc_cccc_cccc;

/// Something in the shared areas that may have outlived its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// A thunk whose function nothing leads on, by its number.
    Thunk(u32),
    /// A constant that no running cell uses, by its number.
    Constant(u32),
}

/// What in the shared areas no running cell uses, by address. Its addresses are veiled: the list lies in the memory that is
/// looked through for them.
#[derive(Clone, Debug, Default)]
pub struct Loose(Vec<(Veiled, u64, Shared)>);

/// What is still referred to.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    thunks: Vec<bool>,
    constants: Vec<bool>,
    /// By old copy: by whom.
    copies: Vec<Option<Because>>,
}

/// Why an old copy stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The caller said so.
    Frame,
    /// A pointer to a function of it is kept: the function's symbol, as an index in the copy's unit.
    Pointer(u32),
    /// Another old copy, by its place in the list, calls it.
    Branch(usize),
}

impl<'a> Graph<'a> {
    /// What in the shared areas no running cell uses.
    pub fn loose(&self) -> Loose {
        let thunks = self.thunks.living().filter(|(_, thunk)| thunk.orphan);
        let thunks = thunks.map(|(number, thunk)| (thunk.address, THUNK_BYTES, Shared::Thunk(number)));
        let constants = self.constants.living().filter(|(_, item)| item.users == 0);
        let constants =
            constants.map(|(number, item)| (Veiled::new(item.address()), item.len, Shared::Constant(number)));
        let mut loose: Vec<(Veiled, u64, Shared)> = thunks.chain(constants).collect();
        loose.sort_unstable_by_key(|(address, ..)| address.get());
        Loose(loose)
    }

    /// The thunks that a cell's objects refers to other than by branches.
    pub(crate) fn thunks_of(&self, id: crate::CellId) -> Vec<u32> {
        let cell = self.cell(id);
        let mut numbers = Vec::new();
        for relocation in cell.object.sections.iter().flat_map(|section| section.relocations()) {
            if relocation.kind == crate::object::RelocationKind::Branch32 {
                continue;
            }
            if let Some(&Target::Place { cell, section, value }) = cell.targets.get(relocation.symbol as usize) {
                numbers.extend(self.thunks.number(cell, section, value.wrapping_add_signed(relocation.addend)));
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The constants of other cells that a cell's text refers to: they are in no book of its own.
    pub(crate) fn constants_of(&self, id: crate::CellId, by_address: &[(u64, u64, u32)]) -> Vec<u32> {
        let cell = self.cell(id);
        let mut numbers = Vec::new();
        for relocation in cell.object.sections.iter().flat_map(|section| section.relocations()) {
            let Some(&Target::Place { cell: to, section, value }) = cell.targets.get(relocation.symbol as usize) else {
                continue;
            };
            let definer = self.cell(to);
            if to == id || !definer.unit.is_interned(section) {
                continue;
            }
            let Some(placement) = &definer.placement else { continue };
            let address = placement.address(section, value);
            let after = by_address.partition_point(|(start, ..)| *start <= address);
            numbers.extend(after.checked_sub(1).map(|at| by_address[at].2));
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Follows references from what is known to be referred to: by `held`, found in memory, and by frames in the `old` copies
    /// for which `framed` says so.
    pub fn reach(&self, held: &[Shared], old: &[&Replaced<'a>], framed: &[bool], memory: &dyn Memory) -> Reached {
        let mut reached = Reached {
            thunks: alloc::vec![false; self.thunks.list.len()],
            constants: alloc::vec![false; self.constants.items.len()],
            copies: alloc::vec![None; old.len()],
        };
        let loose = self.loose();
        let mut todo: Vec<Item> = held.iter().map(|&shared| Item::Shared(shared)).collect();
        todo.extend(
            (0..old.len()).filter(|&at| framed.get(at) == Some(&true)).map(|at| Item::Copy(at, Because::Frame)),
        );
        while let Some(item) = todo.pop() {
            match item {
                Item::Shared(Shared::Thunk(number)) => {
                    if !core::mem::replace(&mut reached.thunks[number as usize], true) {
                        todo.extend(self.led_to(number, old));
                    }
                }
                Item::Shared(Shared::Constant(number)) => {
                    let item = &self.constants.items[number as usize];
                    if item.users == 0 && !core::mem::replace(&mut reached.constants[number as usize], true) {
                        todo.extend(loose.in_bytes(memory.bytes(item.address(), item.len)).map(Item::Shared));
                    }
                }
                Item::Copy(at, because) => {
                    if reached.copies[at].is_some() {
                        continue;
                    }
                    reached.copies[at] = Some(because);
                    todo.extend(old[at].thunks.iter().map(|&number| Item::Shared(Shared::Thunk(number))));
                    let constants = old[at].placement.constants.iter().chain(&old[at].constants);
                    todo.extend(constants.map(|&number| Item::Shared(Shared::Constant(number))));
                    todo.extend(called(old[at], old, memory).map(|callee| Item::Copy(callee, Because::Branch(at))));
                }
            }
        }
        reached
    }

    /// The old copy that an orphaned thunk leads to, and the function.
    fn led_to(&self, number: u32, old: &[&Replaced<'a>]) -> Option<Item> {
        let thunk = &self.thunks.list[number as usize];
        if !thunk.orphan {
            return None;
        }
        // Of several old copies of one cell the thunk stayed with the first that did not lead it on.
        let at = old.iter().position(|copy| copy.cell == thunk.cell && copy.orphans.binary_search(&number).is_ok())?;
        let unit = &old[at].unit;
        let function = unit.functions.iter().find(|f| (f.section, f.value) == (thunk.section, thunk.value));
        Some(Item::Copy(at, Because::Pointer(function.map_or(0, |f| f.symbol))))
    }

    /// The words that fill the places of what has not been reached with traps.
    pub fn traps<'r>(&self, reached: &'r Reached) -> impl Iterator<Item = Patch> + use<'a, 'r> {
        let spans = self.loose().0.into_iter().filter(|(.., shared)| !reached.keeps(*shared));
        spans.flat_map(|(address, len, _)| traps(Span { address: address.get(), len }))
    }

    /// How many loose things have not been reached.
    pub fn unreached(&self, reached: &Reached) -> usize {
        self.loose().all().filter(|&shared| !reached.keeps(shared)).count()
    }

    /// Gives up what has not been reached; `old` are the copies that stay, whose books forget it too.
    pub fn give_up<'o>(&mut self, reached: &Reached, old: impl Iterator<Item = &'o mut Replaced<'a>>)
    where
        'a: 'o,
    {
        for shared in self.loose().all().filter(|&shared| !reached.keeps(shared)) {
            match shared {
                Shared::Thunk(number) => self.thunks.give_up(number),
                Shared::Constant(number) => self.constants.give_up(number),
            }
        }
        // A number that is free will be another thunk's.
        for copy in old {
            copy.orphans.retain(|&number| reached.keeps(Shared::Thunk(number)));
        }
    }

    /// Whether any constant or thunk lies between two addresses.
    pub fn uses_shared(&self, from: u64, to: u64) -> bool {
        let within = |address: u64| (from..to).contains(&address);
        self.constants.living().any(|(_, item)| within(item.address()))
            || self.thunks.living().any(|(_, thunk)| within(thunk.address.get()))
    }
}

enum Item {
    Shared(Shared),
    Copy(usize, Because),
}

impl Reached {
    /// What came after the look was not looked for.
    fn keeps(&self, shared: Shared) -> bool {
        let reached = match shared {
            Shared::Thunk(number) => self.thunks.get(number as usize),
            Shared::Constant(number) => self.constants.get(number as usize),
        };
        reached != Some(&false)
    }

    /// Why an old copy stays; nothing if it can go.
    pub fn why(&self, old: usize) -> Option<Because> {
        self.copies.get(old).copied().flatten()
    }
}

impl Loose {
    /// How many things that are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A thing.
    pub fn shared(&self, at: usize) -> Shared {
        self.0[at].2
    }

    /// All things.
    pub fn all(&self) -> impl Iterator<Item = Shared> {
        self.0.iter().map(|(.., shared)| *shared)
    }

    /// What an address refers to, as places in this list. An address just behind a constant counts: a slice may end there.
    pub fn at(&self, address: u64) -> impl Iterator<Item = usize> {
        let mut at = self.0.partition_point(|(start, ..)| start.get() <= address);
        core::iter::from_fn(move || {
            at = at.checked_sub(1)?;
            let (start, len, shared) = self.0[at];
            let within = match shared {
                Shared::Thunk(_) => start.get() == address,
                Shared::Constant(_) => address <= start.get() + len,
            };
            // Things do not overlap: behind one that ends before the address there is no other.
            within.then_some(at)
        })
    }

    /// What the words in some bytes refer to, whatever their alignment.
    fn in_bytes(&self, bytes: &[u8]) -> impl Iterator<Item = Shared> {
        let words = bytes.array_windows::<8>().map(|word| u64::from_le_bytes(*word));
        words.flat_map(|word| self.at(word)).map(|at| self.shared(at))
    }
}

/// The old copies that an old copy's branches lead to, as its text says.
fn called<'r, 'a>(
    copy: &'r Replaced<'a>,
    old: &'r [&'r Replaced<'a>],
    memory: &'r dyn Memory,
) -> impl Iterator<Item = usize> + 'r {
    let text = memory.bytes(copy.placement.text.address, copy.placement.text.len);
    copy.placement.branches.iter().filter_map(move |branch| {
        let at = branch.at as usize;
        let field: [u8; 4] = text.get(at..at + 4)?.try_into().ok()?;
        let target = (copy.placement.text.address + u64::from(branch.at) + 4)
            .wrapping_add_signed(i32::from_le_bytes(field).into());
        old.iter().position(|other| other.placement.copy().contains(target))
    })
}

/// The words that fill a range with traps. What they replace is not asked for: nobody can tell any more.
fn traps(span: Span) -> impl Iterator<Item = Patch> {
    let mut at = span.address;
    core::iter::from_fn(move || {
        let left = span.end().checked_sub(at).filter(|&left| left > 0)?;
        let width: u8 = if left >= 8 && at.is_multiple_of(8) { 8 } else { 1 };
        let new = TRAP >> (64 - 8 * u32::from(width));
        let word = Patch { address: at, old: new, new, width };
        at += u64::from(width);
        Some(word)
    })
}
