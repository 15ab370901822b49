//! The state behind the mappings: the pools and the stack slots, made once from the hand-off, found through
//! `roots().paging`. The page tables themselves say what is mapped to what; there is no second record.

use crate::error::Error;
use crate::flush::forget;
use crate::leaf::Access;
use crate::pool::Pool;
use crate::tree::{self, Refused, Tables};
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use frames::Frames;
use handoff::layout::{BLOCK, CPUS, PAGE, PHYSICAL_MAP, STACK_SLOTS, TABLE_WINDOW};
use handoff::{Handoff, Use};
use sync::IrqLock;

/// Blocks of page tables there can be: tables for 32 GiB of small pages.
pub const TABLE_BLOCKS: usize = 32;
/// Blocks of code there can be; the arena has room for 84.
pub const CODE_BLOCKS: usize = 96;
/// Tables kept free, so that the pool can always be extended.
const SPARE_TABLES: u64 = 4;
const SLOT_WORDS: usize = (STACK_SLOTS / 64) as usize;

/// The tables in use, seen through the table window.
pub struct Window {
    pub pool: Pool<TABLE_BLOCKS>,
}

/// Everything that changes, under one lock.
pub struct State {
    pub root: u64,
    pub tables: Window,
    pub code: Pool<CODE_BLOCKS>,
    /// One bit a stack slot; 1: taken.
    pub slots: [u64; SLOT_WORDS],
}

pub type Root = IrqLock<State>;

/// Where the frames of a mapping come from and go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `frames`.
    Memory,
    /// The pool of code frames.
    Code,
}

/// How many frames are kept here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames in blocks of code.
    pub code_total: u64,
    /// Free ones of them.
    pub code_free: u64,
    /// Frames in blocks of page tables.
    pub tables_total: u64,
    /// Free ones of them.
    pub tables_free: u64,
}

impl Window {
    fn word(&self, table: u64, index: u64) -> *mut u64 {
        assert!(self.pool.contains(table), "page table {table:#x} does not lie in a block of page tables");
        (TABLE_WINDOW + table + (index % tree::ENTRIES) * 8) as *mut u64
    }
}

impl Tables for Window {
    fn entry(&self, table: u64, index: u64) -> u64 {
        // SAFETY: a frame of the pool, so mapped in the table window; volatile, since the CPU writes entries too.
        unsafe { self.word(table, index).read_volatile() }
    }

    fn set(&mut self, table: u64, index: u64, entry: u64) {
        // SAFETY: as above. That the entry is right is what the types of this crate are for.
        unsafe { self.word(table, index).write_volatile(entry) }
    }

    fn take(&mut self) -> Option<u64> {
        let table = self.pool.take()?;
        // SAFETY: as above; the frame was free, so nobody reads it.
        unsafe { ((TABLE_WINDOW + table) as *mut u8).write_bytes(0, PAGE as usize) };
        Some(table)
    }

    fn give(&mut self, table: u64) {
        // A table made by nano_core in its own memory does not lie in the pool and goes with that memory.
        let _ = self.pool.contains(table) && self.pool.give(table);
    }

    fn readable(&self, table: u64) -> bool {
        self.pool.contains(table)
    }
}

/// The state, locked by the caller for as short as it can.
pub fn root() -> &'static Root {
    let root = NonNull::new(platform::roots().paging.load(Ordering::Acquire)).expect("paging is not started");
    // SAFETY: written once by `start`, which made a `Root` there that is never given back.
    unsafe { root.cast().as_ref() }
}

/// Takes the hand-off's page tables over. Called once per boot, after `frames::start`.
///
/// # Panics
/// If the hand-off's blocks are not blocks, or memory for the state is missing.
pub fn start(handoff: &Handoff) {
    let mut tables = Pool::new();
    let mut code = Pool::new();
    let used = &handoff.used[..handoff.used_count as usize];
    let fits = fill(used, Use::Tables, handoff.arena.table_frames, |start, used| tables.add(start, used))
        && fill(used, Use::Code, handoff.arena.code_frames, |start, used| code.add(start, used));
    assert!(fits, "the hand-off's blocks of code and page tables are not blocks, overlap, or are too many");

    let mut slots = [0; SLOT_WORDS];
    slots[..(CPUS / 64) as usize].fill(u64::MAX);
    let state = State { root: platform::root_table(), tables: Window { pool: tables }, code, slots };
    let frames =
        Frames::allocate(size_of::<Root>().div_ceil(PAGE as usize)).expect("no memory for the state of paging");
    let root = (PHYSICAL_MAP + frames.leak()) as *mut Root;
    // SAFETY: fresh frames, large enough, aligned to a page, and never given back.
    unsafe { root.write(IrqLock::new(state)) };
    platform::roots().paging.store(root.cast(), Ordering::Release);
}

/// Calls `add` with each block used for `what`, lowest first, and how many of its frames are taken, `taken` in all.
fn fill(used: &[handoff::Used], what: Use, mut taken: u64, mut add: impl FnMut(u64, u64) -> bool) -> bool {
    let mut last = None;
    let rows = || used.iter().filter(|row| row.what == what && row.range.len != 0).map(|row| row.range);
    while let Some(range) =
        rows().filter(|range| last.is_none_or(|last| range.start > last)).min_by_key(|range| range.start)
    {
        last = Some(range.start);
        for start in (range.start..range.start + range.len).step_by(BLOCK as usize) {
            let here = taken.min(BLOCK / PAGE);
            taken -= here;
            if !add(start, here) {
                return false;
            }
        }
    }
    taken == 0
}

impl State {
    /// Maps one small page.
    pub fn map(&mut self, address: u64, physical: u64, flags: u64) -> Result<(), Error> {
        self.spare_tables()?;
        tree::map(&mut self.tables, self.root, address, 0, physical | flags).map_err(|refused| refuse(refused, address))
    }

    /// Takes a frame and maps it, writable, at `address`.
    pub fn map_new(&mut self, address: u64, origin: Origin) -> Result<(), Error> {
        let frame = self.take(origin)?;
        let result = self.map(address, frame, Access::Write.flags());
        if result.is_err() {
            self.give(origin, frame);
        }
        result
    }

    fn take(&mut self, origin: Origin) -> Result<u64, Error> {
        match origin {
            Origin::Memory => Ok(Frames::allocate(1)?.leak()),
            Origin::Code => {
                if self.code.free() == 0 {
                    self.grow_code()?;
                }
                self.code.take().ok_or(Error::Code(CODE_BLOCKS))
            }
        }
    }

    /// Puts a frame that is no longer mapped anywhere back where it came from.
    pub fn give(&mut self, origin: Origin, frame: u64) {
        match origin {
            // SAFETY: the frame was taken by `take` and has just been unmapped; nobody else owns it.
            Origin::Memory => drop(unsafe { Frames::from_raw(frame, 1) }),
            Origin::Code => {
                let given = self.code.give(frame);
                assert!(given, "code frame {frame:#x} was given back twice");
                if let Some(start) = self.code.release() {
                    self.show(start);
                }
            }
        }
    }

    fn grow_code(&mut self) -> Result<(), Error> {
        if self.code.is_full() {
            return Err(Error::Code(CODE_BLOCKS));
        }
        let start = Frames::allocate_block()?.leak();
        self.hide(start);
        let added = self.code.add(start, 0);
        assert!(added, "code block {start:#x} is in the pool already");
        Ok(())
    }

    /// Makes sure that a few tables are free, so that any one mapping can be made.
    fn spare_tables(&mut self) -> Result<(), Error> {
        if self.tables.pool.free() >= SPARE_TABLES {
            return Ok(());
        }
        if self.tables.pool.is_full() {
            return Err(Error::Tables(TABLE_BLOCKS));
        }
        let block = Frames::allocate_block()?;
        let address = TABLE_WINDOW + block.start();
        tree::map(&mut self.tables, self.root, address, 1, block.start() | Access::Write.flags())
            .map_err(|refused| refuse(refused, address))?;
        let start = block.leak();
        self.hide(start);
        let added = self.tables.pool.add(start, 0);
        assert!(added, "block of page tables {start:#x} is in the pool already");
        Ok(())
    }

    /// After tables were given back: returns a block of them that has become superfluous.
    pub fn settle(&mut self) {
        if self.tables.pool.free() < BLOCK / PAGE + SPARE_TABLES {
            return;
        }
        if let Some(start) = self.tables.pool.release() {
            let address = TABLE_WINDOW + start;
            tree::change(&mut self.tables, self.root, address, 1, |_| 0);
            forget(address..address + BLOCK);
            tree::prune(&mut self.tables, self.root, address);
            self.show(start);
        }
    }

    /// Takes a block out of the physical map. Its tables there stay, so that it can always be put back.
    fn hide(&mut self, start: u64) {
        let address = PHYSICAL_MAP + start;
        let old = tree::change(&mut self.tables, self.root, address, 1, |_| 0);
        assert!(old.is_some_and(|old| old & tree::ADDRESS == start), "block {start:#x} is not in the physical map");
        forget(address..address + BLOCK);
    }

    /// Puts a block back into the physical map and gives it to `frames`.
    fn show(&mut self, start: u64) {
        let address = PHYSICAL_MAP + start;
        let result = tree::map(&mut self.tables, self.root, address, 1, start | Access::Write.flags());
        assert!(result.is_ok(), "block {start:#x} is in the physical map already");
        // SAFETY: the block was leaked when it left the physical map, or came so from the hand-off, and is wholly free.
        drop(unsafe { Frames::from_raw(start, (BLOCK / PAGE) as usize) });
    }
}

fn refuse(refused: Refused, address: u64) -> Error {
    match refused {
        Refused::Occupied => Error::Mapped(address),
        Refused::NoTable => Error::Tables(TABLE_BLOCKS),
    }
}

/// How many frames are kept here.
pub fn counts() -> Counts {
    let state = root().lock();
    let tables = &state.tables.pool;
    Counts {
        code_total: state.code.total(),
        code_free: state.code.free(),
        tables_total: tables.total(),
        tables_free: tables.free(),
    }
}
