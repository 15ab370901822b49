//! Forgetting cached translations. Every change that takes something away comes through here before the frames behind it
//! are used for anything else, so this is the one place where other CPUs have to be told.

use core::ops::Range;
use handoff::layout::PAGE;

/// From this many pages on it is cheaper to forget everything.
const ALL: u64 = 64;

/// Forgets the translations of a range of virtual addresses, on every CPU that may hold them.
pub fn forget(range: Range<u64>) {
    if (range.end - range.start) / PAGE >= ALL {
        platform::flush_all();
        return;
    }
    for address in range.step_by(PAGE as usize) {
        platform::flush(address);
    }
}
