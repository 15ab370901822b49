//! The page tables with which the cells run. They are built beside the ones `nano_core` runs on; only the arena is
//! hung into both, so that the linker writes where the bytes will be.
//!
//! ```text
//! PML4   0  nano_core's image, R X, until `paging` frees it
//!      256  physical map: 2 MiB pages, RW NX        272  table window: 2 MiB pages, RW NX
//!      288  stacks: slot 0 is mapped                304  devices: empty
//!      511  arena: every last-level table exists
//! ```

use crate::error::Error;
use crate::info::{LOW, MEMORY_ROWS};
use crate::memory;
use crate::ranges::{self, RangeSet};
use handoff::layout::{ARENA, BLOCK, DEVICES, HOSTED, PAGE, PHYSICAL_MAP, STACKS, TABLE_WINDOW};
use handoff::{Range, Use};
use x86_64::structures::paging::PageTableFlags as Flags;

/// Frames that are left in the blocks for tables to come.
const SPARE: u64 = 256;
/// Tables apart from those of the arena and the physical map: three levels for each of the other areas, and the root.
const FEW: u64 = 24;
/// Last-level tables of the arena.
const ARENA_TABLES: u64 = (HOSTED.end - ARENA).div_ceil(BLOCK);
/// What maps a table.
const TABLE: Flags = Flags::PRESENT.union(Flags::WRITABLE);
/// Bits of an entry that are an address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bytes that one entry maps, by level: 0 the last.
const SPAN: [u64; 4] = [PAGE, BLOCK, 1 << 30, 1 << 39];

/// Read and written, seen by all.
pub const DATA: Flags = TABLE.union(Flags::NO_EXECUTE).union(Flags::GLOBAL);

/// The page tables in the making.
pub struct Tables {
    /// The blocks the tables lie in.
    blocks: Range,
    /// The next free frame in them.
    next: u64,
    root: u64,
    /// First of the arena's last-level tables, which lie one after the other.
    arena: u64,
    /// What the physical map shows, in whole blocks.
    mapped: RangeSet<{ 2 * MEMORY_ROWS }>,
}

impl Tables {
    /// The root, the arena's tables and the upper levels of the other areas.
    pub fn new(usable: &RangeSet<MEMORY_ROWS>, archive: Range) -> Result<Tables, Error> {
        let mut mapped = RangeSet::new();
        let low = ranges::between(0, LOW);
        for range in usable.rows().iter().chain([&archive, &low]) {
            let blocks = ranges::outer(*range, BLOCK);
            mapped.insert(blocks).map_err(|_| Error::TooManyRanges { limit: MEMORY_ROWS })?;
        }
        let directories =
            |range: &Range| ranges::outer(*range, SPAN[2]).len / SPAN[2] + ranges::outer(*range, SPAN[3]).len / SPAN[3];
        let count = ARENA_TABLES + FEW + SPARE + mapped.rows().iter().map(directories).sum::<u64>();
        let len = ranges::up(count * PAGE, BLOCK);
        let start = memory::take(len, BLOCK, Use::Tables, "page tables")?;
        let mut tables = Tables { blocks: Range { start, len }, next: start, root: 0, arena: 0, mapped };
        tables.root = tables.frame();
        for (area, level) in [(ARENA, 2), (STACKS, 3), (DEVICES, 3)] {
            tables.table(area, level);
        }
        tables.arena = tables.next;
        for number in 0..ARENA_TABLES {
            let table = tables.frame();
            tables.set(ARENA + number * BLOCK, 1, table, TABLE);
        }
        Ok(tables)
    }

    /// Physical address of the top table.
    pub const fn root(&self) -> u64 {
        self.root
    }

    /// Frames taken from the blocks.
    pub const fn frames(&self) -> u64 {
        (self.next - self.blocks.start) / PAGE
    }

    /// The entry of the top table under which the arena lies.
    pub fn arena_entry(&self) -> u64 {
        // SAFETY: the root is a table, see `frame`.
        unsafe { (self.root as *const u64).add(511).read() }
    }

    /// Maps the page at `address` to `frame`.
    pub fn map_page(&mut self, address: u64, frame: u64, flags: Flags) {
        self.set(address, 0, frame, flags);
    }

    /// The arena's last-level entry for `address`.
    pub const fn arena_page(&self, address: u64) -> *mut u64 {
        (self.arena as *mut u64).wrapping_add(((address - ARENA) / PAGE) as usize)
    }

    /// Maps what is left: the physical map without `code`, the table window, and the image of `nano_core`.
    pub fn finish(&mut self, code: Range) -> Result<(), Error> {
        for absent in [code, self.blocks] {
            self.mapped.remove(absent).map_err(|_| Error::TooManyRanges { limit: MEMORY_ROWS })?;
        }
        let mapped = self.mapped.clone();
        for range in mapped.rows() {
            self.map_blocks(PHYSICAL_MAP, *range, DATA);
        }
        self.map_blocks(TABLE_WINDOW, self.blocks, DATA);
        // Read and run only: the last instructions need no more. Not global: it disappears again.
        self.map_blocks(0, ranges::outer(memory::image(), BLOCK), Flags::PRESENT);
        Ok(())
    }

    fn map_blocks(&mut self, base: u64, range: Range, flags: Flags) {
        for block in (range.start..ranges::end(range)).step_by(BLOCK as usize) {
            self.set(base + block, 1, block, flags | Flags::HUGE_PAGE);
        }
    }

    /// Writes the entry at `level` that covers `address`, making the tables above it.
    fn set(&mut self, address: u64, level: usize, to: u64, flags: Flags) {
        let table = self.table(address, level + 1);
        // SAFETY: `table` is a table, see `frame`; the index is below 512.
        unsafe { (table as *mut u64).add(index(address, level)).write(to | flags.bits()) };
    }

    /// The table whose entries are of `level - 1` and cover `address`; the root is at level 4.
    fn table(&mut self, address: u64, level: usize) -> u64 {
        let mut table = self.root;
        for above in (level..4).rev() {
            let entry = (table as *mut u64).wrapping_add(index(address, above));
            // SAFETY: `table` is a table, see `frame`; the index is below 512.
            let found = unsafe { entry.read() };
            table = if found == 0 { self.frame() } else { found & ADDRESS };
            if found == 0 {
                // SAFETY: as above.
                unsafe { entry.write(table | TABLE.bits()) };
            }
        }
        table
    }

    /// An empty table from the blocks, which are mapped one to one and which nothing else uses.
    fn frame(&mut self) -> u64 {
        let frame = self.next;
        assert!(frame < ranges::end(self.blocks), "the page tables need more frames than were counted");
        self.next += PAGE;
        // SAFETY: the frame lies in the blocks taken in `new`, below 4 GiB, and is handed out once.
        unsafe { core::ptr::write_bytes(frame as *mut u8, 0, PAGE as usize) };
        frame
    }
}

const fn index(address: u64, level: usize) -> usize {
    (address / SPAN[level]) as usize % 512
}
