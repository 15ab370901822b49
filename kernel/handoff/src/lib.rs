//! What `nano_core` leaves behind: the layout of the address space, the hand-off block, the roots, and the head of
//! each CPU's private area.
//!
//! Everything here is `repr(C)` and written by one program (`nano_core`) for another (the cells), so nothing of it may
//! depend on how a compiler lays out a type. The crate holds no code that runs on its own and depends on nothing.
#![no_std]

pub mod layout;

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

/// `Handoff::magic`: "DELIAS" and the version of this layout.
pub const MAGIC: u64 = 0x0001_5341_494c_4544;

/// A range of physical memory in bytes: `start..start + len`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First byte's physical address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Why a range of usable memory is not free when the first cell starts.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Use {
    /// Unused row of the table.
    #[default]
    None = 0,
    /// `nano_core`'s image, page tables, stack and scratch memory: freed, after it has been overwritten.
    NanoCore = 1,
    /// The archive of cells: kept for as long as its objects are what runs.
    Archive = 2,
    /// Two-megabyte blocks for page tables, absent from the physical map, seen through [`layout::TABLE_WINDOW`].
    Tables = 3,
    /// Two-megabyte blocks for text, constants and thunks, absent from the physical map.
    Code = 4,
    /// Frames of the hosted statics.
    Hosted = 5,
    /// The boot CPU's private area, its event stack, and the roots.
    Cpu = 6,
    /// The frames of this block.
    Handoff = 7,
}

/// One row of [`Handoff::used`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// The range; frame-aligned at both ends.
    pub range: Range,
    /// What it is used for.
    pub what: Use,
    /// Zero.
    pub reserved: u32,
}

/// Where the next object goes in each area of the arena: virtual addresses, page-aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Arena {
    /// Text, unwind tables and jump tables of cells.
    pub text: u64,
    /// Interned constants.
    pub constants: u64,
    /// Thunks.
    pub thunks: u64,
    /// Hosted statics and caches.
    pub hosted: u64,
    /// Offset in the per-CPU area of the next per-CPU value, in bytes.
    pub per_cpu: u64,
    /// Frames already taken from the [`Use::Code`] blocks, in order from the first block's start.
    pub code_frames: u64,
    /// Frames already taken from the [`Use::Tables`] blocks, in order from the first block's start.
    pub table_frames: u64,
}

/// The block that `nano_core` passes to the first cell.
#[repr(C)]
#[derive(Debug)]
pub struct Handoff {
    /// [`MAGIC`].
    pub magic: u64,
    /// 1: multiboot2; 2: PVH.
    pub boot_protocol: u32,
    /// Valid rows of `memory`.
    pub memory_count: u32,
    /// Valid rows of `used`.
    pub used_count: u32,
    /// Bytes valid in `command_line`.
    pub command_line_len: u32,
    /// The archive of cells (a tar file), in physical memory.
    pub archive: Range,
    /// Physical address of the ACPI RSDP, or 0.
    pub rsdp: u64,
    /// Physical address of the top page table (what CR3 holds).
    pub root_table: u64,
    /// Time-stamp counter at `nano_core`'s first instruction in long mode.
    pub tsc_first: u64,
    /// Time-stamp counter before the boot set was linked, and after.
    pub tsc_link: [u64; 2],
    /// Where the areas of the arena end.
    pub arena: Arena,
    /// Usable memory, sorted, not overlapping, frame-aligned.
    pub memory: [Range; 64],
    /// What of it is not free.
    pub used: [Used; 32],
    /// The boot command line, UTF-8.
    pub command_line: [u8; 8192],
}

/// Pointers to what every cell may need before it can ask for it by name. One page, mapped for ever, shared by all CPUs.
///
/// Each is written once by its owner at boot and afterwards only by the applier.
#[repr(C)]
#[derive(Debug)]
pub struct Roots {
    /// The hand-off block, until the starter has given it back.
    pub handoff: AtomicPtr<Handoff>,
    /// Owned by `frames`.
    pub frames: AtomicPtr<()>,
    /// Owned by `paging`.
    pub paging: AtomicPtr<()>,
    /// Owned by `heap`.
    pub heap: AtomicPtr<()>,
    /// Owned by `state_db`.
    pub state_db: AtomicPtr<()>,
    /// Owned by `unwind`: where text and its unwind tables lie.
    pub text_map: AtomicPtr<()>,
    /// Owned by the platform.
    pub platform: AtomicPtr<()>,
    /// Reserved for roots to come.
    pub spare: [AtomicPtr<()>; 9],
}

/// The head of each CPU's private area, which the GS base points to. Per-CPU values of cells follow at
/// [`layout::PER_CPU_VALUES`].
#[repr(C)]
#[derive(Debug)]
pub struct PerCpuHead {
    /// Offset 0: this structure's own address.
    pub this: u64,
    /// Offset 8: the roots.
    pub roots: *const Roots,
    /// Offset 16: number of this CPU, from 0.
    pub cpu: u32,
    /// Offset 20: while not 0, the running task is not preempted.
    pub preempt_depth: AtomicU32,
    /// Offset 24: top of the event stack, on which interrupts, switching and scheduling run.
    pub event_stack: u64,
    /// Offset 32: the running task, as `Ref` bits; 0 before the first.
    pub task: AtomicU64,
    /// Offset 40: a task asked for the CPU while preemption was off.
    pub resched: AtomicU32,
    /// Offset 44: not 0 while the event kernel runs on this CPU; see [`event`].
    pub in_event: AtomicU32,
    /// Offset 48: spare.
    pub spare: [u64; 10],
}

/// What [`PerCpuHead::in_event`] says.
pub mod event {
    /// A task runs.
    pub const NO: u32 = 0;
    /// The event kernel runs.
    pub const RUNS: u32 = 1;
    /// It has failed and is being unwound to where that is caught.
    pub const UNWINDS: u32 = 2;
    /// It has failed where nothing catches that: the machine is being left.
    pub const OVER: u32 = u32::MAX;
}

const _: () = assert!(core::mem::size_of::<PerCpuHead>() <= layout::PER_CPU_VALUES as usize);
const _: () = assert!(core::mem::offset_of!(PerCpuHead, preempt_depth) == 20);
const _: () = assert!(core::mem::offset_of!(PerCpuHead, event_stack) == 24);
const _: () = assert!(core::mem::offset_of!(PerCpuHead, task) == 32);
const _: () = assert!(core::mem::offset_of!(PerCpuHead, resched) == 40);
const _: () = assert!(core::mem::offset_of!(PerCpuHead, in_event) == 44);
