//! The state behind [`Frames`](crate::Frames): made once from the hand-off, found through `roots().frames`.

use crate::buddy::{Buddy, words_needed};
use crate::ranges::free_ranges;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use handoff::layout::{PAGE, PHYSICAL_MAP};
use handoff::{Handoff, Range, Use};
use sync::IrqLock;

/// Memory below this address is left for what needs low addresses, as far as the table itself is concerned.
const LOW: u64 = 1 << 20;

struct State {
    buddy: Buddy<'static>,
    memory: [Range; 64],
    total: u64,
    /// One bit for each [`Use`] whose memory has been released.
    released: u32,
}

type Root = IrqLock<State>;

/// How many frames there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames of usable RAM.
    pub total: u64,
    /// Frames that are free here; `paging` keeps others.
    pub free: u64,
}

fn root() -> &'static Root {
    let root = NonNull::new(platform::roots().frames.load(Ordering::Acquire)).expect("frames are not started");
    // SAFETY: written once by `start`, which made a `Root` there that is never given back.
    unsafe { root.cast().as_ref() }
}

/// Takes the hand-off's account of memory over. Called once per boot, before anything else allocates.
///
/// # Panics
/// If no free range has room for the table: the machine has too little memory.
pub fn start(handoff: &Handoff) {
    let memory = &handoff.memory[..handoff.memory_count as usize];
    let used = &handoff.used[..handoff.used_count as usize];
    let bound = memory.iter().map(|range| (range.start + range.len) / PAGE).max().unwrap_or(0);
    let bound = u32::try_from(bound).expect("physical memory ends beyond 16 TiB");
    let words = words_needed(bound);
    let head = size_of::<Root>().next_multiple_of(64) as u64;
    let bytes = (head + words as u64 * 8).next_multiple_of(PAGE);

    let mut place = None;
    free_ranges(memory, used, |free| {
        let from = free.start.max(LOW);
        if place.is_none() && free.start + free.len >= from + bytes {
            place = Some(from);
        }
    });
    let place = place.expect("no free range of memory has room for the table of frames");
    let address = PHYSICAL_MAP + place;
    // SAFETY: `place..place + bytes` is free RAM, mapped writable in the physical map, and from here on never free; the
    // words lie after the `Root`, so the two do not overlap.
    let words = unsafe { core::slice::from_raw_parts_mut((address + head) as *mut u64, words) };

    let mut buddy = Buddy::new(words, bound);
    free_ranges(memory, used, |free| {
        let (from, to) = (free.start, free.start + free.len);
        for part in [from..to.min(place), from.max(place + bytes)..to] {
            if part.start < part.end {
                let result = buddy.give_back((part.start / PAGE) as u32..(part.end / PAGE) as u32);
                result.expect("the hand-off lists a range of memory twice");
            }
        }
    });
    let total = memory.iter().map(|range| range.len / PAGE).sum();
    let root = address as *mut Root;
    // SAFETY: as above; a frame's start is aligned for `Root`.
    unsafe { root.write(IrqLock::new(State { buddy, memory: handoff.memory, total, released: 0 })) };
    platform::roots().frames.store(root.cast(), Ordering::Release);
}

pub(crate) fn allocate(count: u32, align_order: usize) -> Option<u32> {
    root().lock().buddy.allocate(count, align_order)
}

pub(crate) fn give_back(range: core::ops::Range<u32>) {
    let result = root().lock().buddy.give_back(range);
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// How many frames there are, and how many are free.
pub fn counts() -> Counts {
    let state = root().lock();
    Counts { total: state.total, free: u64::from(state.buddy.free_count()) }
}

/// Frames are numbered below this.
pub fn bound() -> usize {
    root().lock().buddy.bound() as usize
}

/// Shows every run of free frames: number of the first, and how many. Under a lock: for who only takes notes.
pub fn each_free(mut each: impl FnMut(usize, usize)) {
    root().lock().buddy.each_free(|first, count| each(first as usize, count as usize));
}

/// Whether any byte of `start..start + len` (physical) is usable RAM.
pub fn is_memory(start: u64, len: u64) -> bool {
    let end = start.saturating_add(len);
    root().lock().memory.iter().any(|range| range.len != 0 && range.start < end && start < range.start + range.len)
}

/// Overwrites with zeros and frees what the hand-off lists under `what`; returns how many frames that were, 0 if it was
/// done before. After [`Use::Handoff`] the hand-off is gone and `roots().handoff` is null.
///
/// # Safety
/// Nothing refers to that memory any more, and all of it is in the physical map.
pub unsafe fn release_boot_memory(what: Use) -> u64 {
    let Some(handoff) = NonNull::new(platform::roots().handoff.load(Ordering::Acquire)) else { return 0 };
    let bit = 1 << what as u32;
    {
        let mut state = root().lock();
        if what == Use::None || state.released & bit != 0 {
            return 0;
        }
        state.released |= bit;
    }
    let (used, used_count) = {
        // SAFETY: not null, so the block still stands; it is not written.
        let handoff = unsafe { handoff.as_ref() };
        (handoff.used, handoff.used_count as usize)
    };
    if what == Use::Handoff {
        platform::roots().handoff.store(core::ptr::null_mut(), Ordering::Release);
    }
    let mut count = 0;
    for row in used[..used_count].iter().filter(|row| row.what == what && row.range.len != 0) {
        // SAFETY: the frames were never free, and the caller says that nobody uses them.
        let mut frames = unsafe { crate::Frames::from_raw(row.range.start, (row.range.len / PAGE) as usize) };
        frames.clear();
        count += frames.count() as u64;
    }
    count
}
