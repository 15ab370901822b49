//! Memory while there is no allocator of frames: which is free, what the rest is used for, and a heap for linking.
//!
//! Everything is taken from the top of usable memory below 4 GiB, except code, which grows upwards block by block in the
//! longest run. What a table of 32 rows remembers of it goes into the hand-off. The heap takes pieces of 2 MiB when it
//! needs them and gives nothing back: all of it is freed with `nano_core` itself.

use crate::error::Error;
use crate::info::{MEMORY_ROWS, REACH};
use crate::ranges::{self, RangeSet};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use handoff::layout::{BLOCK, PAGE};
use handoff::{Range, Use, Used};

/// Rows of the hand-off's table of uses.
pub const USES: usize = 32;

struct State {
    /// What `nano_core` may still take: rows for all of usable memory and for a hole per use.
    free: RangeSet<{ MEMORY_ROWS + USES }>,
    used: [Used; USES],
    used_count: usize,
    /// The heap's current piece: next free byte, and end.
    heap: (u64, u64),
}

struct Global(UnsafeCell<State>);

// SAFETY: one CPU runs nano_core, with interrupts off.
unsafe impl Sync for Global {}

const NOTHING: Used = Used { range: Range { start: 0, len: 0 }, what: Use::None, reserved: 0 };

static STATE: Global =
    Global(UnsafeCell::new(State { free: RangeSet::new(), used: [NOTHING; USES], used_count: 0, heap: (0, 0) }));

unsafe extern "C" {
    static nano_core_start: u8;
    static nano_core_end: u8;
}

/// Where `nano_core` itself lies: whole pages.
pub fn image() -> Range {
    ranges::between(&raw const nano_core_start as u64, &raw const nano_core_end as u64)
}

/// Begins with `usable` memory, in which the archive lies at `archive`. Returns where the archive is from now on:
/// where it was, or copied if it did not begin at a page or not all of its pages were usable memory.
pub fn start(usable: &RangeSet<MEMORY_ROWS>, archive: Range) -> Result<Range, Error> {
    let pages = ranges::outer(archive, PAGE);
    with(|state| {
        for row in usable.rows() {
            state.free.insert(*row).map_err(|_| TOO_MANY)?;
        }
        state.free.remove(pages).map_err(|_| TOO_MANY)?;
        state.free.remove(image()).map_err(|_| TOO_MANY)?;
        state.remember(image(), Use::NanoCore)
    })?;
    if archive.start == pages.start && usable.contains(pages) {
        with(|state| state.remember(pages, Use::Archive))?;
        return Ok(archive);
    }
    let to = take(archive.len, PAGE, Use::Archive, "the archive of cells")?;
    // SAFETY: both lie below 4 GiB, where everything is mapped; the target was free, so they do not overlap.
    unsafe { core::ptr::copy_nonoverlapping(archive.start as *const u8, to as *mut u8, archive.len as usize) };
    Ok(Range { start: to, len: archive.len })
}

/// Takes `len` bytes (rounded up to pages) from the top, at a multiple of `align`. The contents are what they were.
pub fn take(len: u64, align: u64, use_as: Use, what: &'static str) -> Result<u64, Error> {
    let len = ranges::up(len, PAGE);
    with(|state| {
        let start = state.free.highest(len, align, REACH).ok_or(Error::OutOfMemory { what, len })?;
        state.claim(Range { start, len }, use_as)?;
        Ok(start)
    })
}

/// Takes exactly `range`, if it is free.
pub fn take_at(range: Range, use_as: Use, what: &'static str) -> Result<(), Error> {
    with(|state| match state.free.contains(range) && ranges::end(range) <= REACH {
        true => state.claim(range, use_as),
        false => Err(Error::OutOfMemory { what, len: range.len }),
    })
}

/// The start of the longest free run of whole blocks.
pub fn longest_run() -> Option<u64> {
    with(|state| state.free.longest(BLOCK, REACH))
}

/// What memory is used for, and how many rows are valid.
pub fn uses() -> ([Used; USES], usize) {
    with(|state| (state.used, state.used_count))
}

const TOO_MANY: Error = Error::TooManyUses { limit: USES };

impl State {
    fn claim(&mut self, range: Range, what: Use) -> Result<(), Error> {
        self.free.remove(range).map_err(|_| TOO_MANY)?;
        self.remember(range, what)
    }

    /// Enters a use, extending a row of the same kind that touches it.
    fn remember(&mut self, range: Range, what: Use) -> Result<(), Error> {
        for row in self.used.iter_mut().take(self.used_count).filter(|row| row.what == what) {
            if ranges::end(range) == row.range.start {
                row.range = ranges::between(range.start, ranges::end(row.range));
                return Ok(());
            }
            if ranges::end(row.range) == range.start {
                row.range.len += range.len;
                return Ok(());
            }
        }
        let row = self.used.get_mut(self.used_count).ok_or(TOO_MANY)?;
        *row = Used { range, what, reserved: 0 };
        self.used_count += 1;
        Ok(())
    }
}

fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    // SAFETY: only the functions of this file call this; one CPU, interrupts off, and no closure calls `with` again or
    // allocates, so the reference is the only one.
    work(unsafe { &mut *STATE.0.get() })
}

/// The heap: a pointer that only advances, except that the last allocation can be resized and taken back.
struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

impl Heap {
    fn allocate(layout: Layout) -> Option<u64> {
        let fit = |state: &mut State| {
            let start = ranges::up(state.heap.0, layout.align() as u64);
            let end = start.checked_add(layout.size() as u64)?;
            (end <= state.heap.1).then(|| {
                state.heap.0 = end;
                start
            })
        };
        if let Some(start) = with(fit) {
            return Some(start);
        }
        let need = ranges::up((layout.size() + layout.align()) as u64, PAGE);
        let what = "linking";
        let (start, len) = match take(need.max(BLOCK), PAGE, Use::NanoCore, what) {
            Ok(start) => (start, need.max(BLOCK)),
            Err(_) => (take(need, PAGE, Use::NanoCore, what).ok()?, need),
        };
        with(|state| {
            state.heap = (start, start + len);
            fit(state)
        })
    }
}

// SAFETY: memory comes from ranges that were free and is handed out once, until `nano_core` ends. The last allocation
// alone is taken back or resized, by moving the pointer.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Heap::allocate(layout).map_or(core::ptr::null_mut(), |start| start as *mut u8)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        with(|state| {
            if pointer as u64 + layout.size() as u64 == state.heap.0 {
                state.heap.0 = pointer as u64;
            }
        });
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let start = pointer as u64;
        let resized = with(|state| {
            let last = start + layout.size() as u64 == state.heap.0 && start + size as u64 <= state.heap.1;
            if last {
                state.heap.0 = start + size as u64;
            }
            last
        });
        if resized {
            return pointer;
        }
        // SAFETY: the caller's promise about `size` and the alignment of an existing layout.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both are at least this long and, being two allocations, do not overlap.
            unsafe { core::ptr::copy_nonoverlapping(pointer, new, size.min(layout.size())) };
        }
        new
    }
}
