//! Empty chunks, kept for all CPUs. They come from `frames` and go back in batches, so that how many frames the heap holds
//! follows its use in coarse steps, and a chunk that fills and empties in turn costs no frames call.

use crate::chunk::{CHUNK_BYTES, Header};
use core::ptr::null_mut;
use frames::Frames;
use handoff::layout::{PAGE, PHYSICAL_MAP};

/// Chunks that come and go together (2 MiB).
const BATCH: u64 = 64;
/// Empty chunks kept beyond a batch before one goes back.
const SLACK: u64 = 2;
const CHUNK_FRAMES: usize = CHUNK_BYTES / PAGE as usize;

/// The empty chunks, linked through their headers, lowest address first.
#[derive(Debug)]
pub struct Spare {
    first: *mut Header,
    /// Empty chunks.
    pub count: u64,
}

// SAFETY: the chunks it points to are reached through it alone, by whoever holds the lock around it.
unsafe impl Send for Spare {}

impl Spare {
    /// Without chunks.
    pub const fn new() -> Spare {
        Spare { first: null_mut(), count: 0 }
    }

    /// Takes the lowest chunk; if there is none, a batch from `frames` first, or what is left there.
    pub fn take(&mut self) -> Option<*mut Header> {
        if self.count == 0 {
            for _ in 0..BATCH {
                let Ok(frames) = Frames::allocate_aligned(CHUNK_FRAMES, CHUNK_FRAMES) else { break };
                self.insert((PHYSICAL_MAP + frames.leak()) as *mut Header);
            }
        }
        self.remove()
    }

    /// Puts an empty chunk back, and gives a batch to `frames` if there are too many.
    pub fn give(&mut self, chunk: *mut Header) {
        self.insert(chunk);
        if self.count >= BATCH + SLACK {
            for _ in 0..BATCH {
                let Some(chunk) = self.remove() else { break };
                // SAFETY: leaked in `take`, and empty, so nobody uses it.
                drop(unsafe { Frames::from_raw(chunk.addr() as u64 - PHYSICAL_MAP, CHUNK_FRAMES) });
            }
        }
    }

    fn insert(&mut self, chunk: *mut Header) {
        let mut place = &raw mut self.first;
        // SAFETY: the list's chunks are empty and reached through it alone.
        unsafe {
            while !(*place).is_null() && (*place).addr() < chunk.addr() {
                place = &raw mut (**place).next;
            }
            (*chunk).magic = 0;
            (*chunk).next = *place;
            *place = chunk;
        }
        self.count += 1;
    }

    fn remove(&mut self) -> Option<*mut Header> {
        let chunk = self.first;
        // SAFETY: as in `insert`.
        self.first = unsafe { chunk.as_ref() }?.next;
        self.count -= 1;
        Some(chunk)
    }
}
