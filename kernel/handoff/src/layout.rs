//! The address space: one set of page tables, the same for all. Addresses and lengths in bytes.
//!
//! ```text
//! 0xffff_8000_0000_0000  physical map    RW NX, 2 MiB pages, without blocks of code and of page tables
//! 0xffff_8800_0000_0000  table window    RW NX, 2 MiB pages, blocks of page tables only
//! 0xffff_9000_0000_0000  stacks          RW NX, guarded
//! 0xffff_9800_0000_0000  devices         RW NX, uncached
//! 0xffff_ffff_8000_0000  arena           text RX, constants R, thunks RX, hosted statics RW
//! ```

/// Bytes in a frame and in a small page.
pub const PAGE: u64 = 4096;
/// Bytes in a large page; blocks of code and page tables come in this size.
pub const BLOCK: u64 = 2 << 20;

/// Where physical address 0 is seen.
pub const PHYSICAL_MAP: u64 = 0xffff_8000_0000_0000;
/// Where physical address 0 would be seen in the table window; only blocks of page tables are mapped there.
pub const TABLE_WINDOW: u64 = 0xffff_8800_0000_0000;
/// Guarded stacks, in slots of [`STACK_SLOT`] bytes.
pub const STACKS: u64 = 0xffff_9000_0000_0000;
/// One stack's slot: guard page, reserve, guard page, stack; see [`stack`].
pub const STACK_SLOT: u64 = 128 << 10;
/// Slots there are; the first [`CPUS`] are event stacks, by CPU number.
pub const STACK_SLOTS: u64 = 4096;

/// Whether an address lies in the area of stacks.
pub const fn is_stack(address: u64) -> bool {
    address.wrapping_sub(STACKS) < STACK_SLOTS * STACK_SLOT
}
/// CPUs the layout has room for.
pub const CPUS: u64 = 64;
/// Device memory.
pub const DEVICES: u64 = 0xffff_9800_0000_0000;

/// The parts of a stack's slot, as offsets in bytes from the slot's start.
pub mod stack {
    /// The reserve, on which a task that overflowed its stack is unwound. Below it lies a guard page.
    pub const RESERVE: core::ops::Range<u64> = 0x1000..0x7000;
    /// The stack proper. Below it lies a guard page.
    pub const STACK: core::ops::Range<u64> = 0x8000..super::STACK_SLOT;
}

/// Start of the arena on the machine.
pub const ARENA: u64 = 0xffff_ffff_8000_0000;
/// Text, unwind tables and jump tables of cells.
pub const TEXT: core::ops::Range<u64> = ARENA..ARENA + (128 << 20);
/// Interned constants.
pub const CONSTANTS: core::ops::Range<u64> = TEXT.end..TEXT.end + (32 << 20);
/// Thunks.
pub const THUNKS: core::ops::Range<u64> = CONSTANTS.end..CONSTANTS.end + (8 << 20);
/// Hosted statics and caches.
pub const HOSTED: core::ops::Range<u64> = THUNKS.end..THUNKS.end + (2 << 20);

/// Bytes of each CPU's private area.
pub const PER_CPU_BYTES: u64 = 16 << 10;
/// Offset of the first per-CPU value of a cell.
pub const PER_CPU_VALUES: u64 = 256;
