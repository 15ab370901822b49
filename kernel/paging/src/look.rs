//! Looking at what is mapped, without owning it: for people, for tests, and for what walks memory.

use crate::error::Error;
use crate::leaf::{Access, Leaf};
use crate::pool::Pool;
use crate::root::{CODE_BLOCKS, State, root};
use crate::tree;
use handoff::layout::{BLOCK, DEVICES, PAGE, TABLE_WINDOW};
use x86_64::structures::paging::PageTableFlags as Flags;

/// Bytes of physical address space that the device area has room for.
const DEVICE_SPACE: u64 = 1 << 44;

fn canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

/// Maps a device's registers, uncached, and returns where they are. The same registers are always at the same address,
/// mapped once and for ever.
///
/// # Errors
/// If the range is RAM, too high, or frames for page tables are short.
pub fn device(physical: u64, len: u64) -> Result<*mut u8, Error> {
    let pages = (physical % PAGE + len).div_ceil(PAGE);
    let start = physical - physical % PAGE;
    if len == 0 || physical.checked_add(len).is_none_or(|end| end > DEVICE_SPACE) {
        return Err(Error::Outside { address: physical, pages: pages as usize });
    }
    if frames::is_memory(start, pages * PAGE) {
        return Err(Error::Memory(physical));
    }
    let flags = Access::Write.flags() | (Flags::NO_CACHE | Flags::WRITE_THROUGH).bits();
    for physical in (start..start + pages * PAGE).step_by(PAGE as usize) {
        match root().lock().map(DEVICES + physical, physical, flags) {
            Ok(()) | Err(Error::Mapped(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((DEVICES + physical) as *mut u8)
}

/// What `address` is mapped to, at this moment.
pub fn query(address: u64) -> Option<Leaf> {
    let state = root().lock();
    if canonical(address) { tree::leaf(&state.tables, state.root, address) } else { None }
}

/// Calls `found` with every mapping, in the order of addresses. `found` must not come back into this crate.
pub fn walk(found: &mut dyn FnMut(Leaf)) {
    let state = root().lock();
    tree::walk(&state.tables, state.root, found);
}

/// Reads the eight bytes at `address`; None if one of them is not mapped, or belongs to a device, whose registers may
/// change by being read.
pub fn peek(address: u64) -> Option<u64> {
    let last = address.checked_add(7)?;
    let state = root().lock();
    for end in [address, last] {
        let leaf = if canonical(end) { tree::leaf(&state.tables, state.root, end) } else { None };
        leaf.filter(|leaf| !leaf.device)?;
    }
    // SAFETY: both ends are mapped to memory, and stay so while the lock is held; eight bytes reach into two pages at most.
    Some(unsafe { (address as *const u64).read_unaligned() })
}

/// Removes what nano_core was mapped at: everything in the lowest 512 GiB. Called once nothing of it runs any more.
pub fn drop_identity() {
    let mut state = root().lock();
    let top = state.root;
    tree::remove_top(&mut state.tables, top, 0);
    platform::flush_all();
}

/// A pair of mappings, or one, that lets memory be both written and executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// One page allows both.
    #[error("page {0:#x} is writable and executable")]
    Both(u64),
    /// Text outside the frames that are kept for it.
    #[error("page {0:#x} is executable but its frame is ordinary memory")]
    Ordinary(u64),
    /// A frame of code or of page tables is seen at a second address.
    #[error("page {0:#x} shows a frame of code or of page tables a second time")]
    Alias(u64),
}

/// Looks at every mapping: no page is writable and executable, what is executable lies in code frames, each of these is
/// mapped once, and page tables are seen through their window alone.
///
/// # Errors
/// The first violation.
pub fn check_access() -> Result<(), Violation> {
    let state = root().lock();
    let mut seen = Pool::<CODE_BLOCKS>::new();
    let mut result = Ok(());
    for start in state.code.blocks() {
        let _ = seen.add(start, BLOCK / PAGE);
    }
    tree::walk(&state.tables, state.root, &mut |leaf| {
        if result.is_ok() {
            result = check_leaf(&state, &mut seen, leaf);
        }
    });
    result
}

/// `seen` holds the same blocks as the pool of code; a frame is free in it once it was met.
fn check_leaf(state: &State, seen: &mut Pool<CODE_BLOCKS>, leaf: Leaf) -> Result<(), Violation> {
    if leaf.writable && leaf.executable {
        return Err(Violation::Both(leaf.address));
    }
    // Both pools hold whole blocks, so one frame of each block under a larger page says all.
    for at in (0..leaf.bytes).step_by(BLOCK as usize) {
        let physical = leaf.physical + at;
        let (table, code) = (state.tables.pool.contains(physical), state.code.contains(physical));
        if table && leaf.address + at != TABLE_WINDOW + physical {
            return Err(Violation::Alias(leaf.address));
        }
        if code && (leaf.bytes != PAGE || !seen.give(physical)) {
            return Err(Violation::Alias(leaf.address));
        }
        if leaf.executable && !code {
            return Err(Violation::Ordinary(leaf.address));
        }
    }
    Ok(())
}
