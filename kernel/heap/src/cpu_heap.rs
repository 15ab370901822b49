//! One CPU's heap: for each size class the chunk that is being used up, and a list of the others with room. Full chunks
//! are in no list; their objects find them by address.

use crate::chunk::{Bad, CHUNK_BYTES, Header, MAGIC};
use crate::class::{self, CLASSES};
use crate::policy::{ChunkSummary, SHOWN};
use core::ptr::null_mut;

/// The chunks of one CPU.
#[derive(Debug)]
pub struct CpuHeap {
    current: [*mut Header; CLASSES],
    room: [*mut Header; CLASSES],
    /// Bytes of the objects given out.
    pub in_use: u64,
    /// Chunks that belong to a class.
    pub chunks: u64,
}

// SAFETY: the chunks it points to are reached through it alone, by whoever holds the lock around it.
unsafe impl Send for CpuHeap {}

/// The chunk that an address lies in.
pub fn chunk_of(object: *mut u8) -> *mut Header {
    object.with_addr(object.addr() & !(CHUNK_BYTES - 1)).cast()
}

impl CpuHeap {
    /// Without chunks.
    pub const fn new() -> CpuHeap {
        CpuHeap { current: [null_mut(); CLASSES], room: [null_mut(); CLASSES], in_use: 0, chunks: 0 }
    }

    /// Takes an object from the current chunk of `class`; None if that is full, or there is none.
    pub fn take(&mut self, class: u8) -> Option<*mut u8> {
        let chunk = self.current[class as usize];
        // SAFETY: null, or a chunk of this heap, whose header nobody else uses while the lock is held.
        let offset = unsafe { chunk.as_mut() }?.take()?;
        self.in_use += class::size(class) as u64;
        Some(chunk.cast::<u8>().wrapping_add(offset))
    }

    /// Fills `shown` with chunks of `class` that have room; returns how many.
    pub fn show(&self, class: u8, shown: &mut [ChunkSummary; SHOWN]) -> usize {
        let mut chunk = self.room[class as usize];
        let mut count = 0;
        // SAFETY: as in `take`.
        while let (Some(header), Some(place)) = (unsafe { chunk.as_ref() }, shown.get_mut(count)) {
            *place = ChunkSummary { address: chunk.addr() as u64, used: header.used, capacity: class::capacity(class) };
            count += 1;
            chunk = header.next;
        }
        count
    }

    /// Makes the listed chunk at `address` the current one; false if no chunk of `class` with room is there any more.
    pub fn choose(&mut self, class: u8, address: u64) -> bool {
        let mut chunk = self.room[class as usize];
        // SAFETY: as in `take`.
        while let Some(header) = unsafe { chunk.as_ref() } {
            if chunk.addr() as u64 == address {
                self.unlist(chunk);
                self.make_current(class, chunk);
                return true;
            }
            chunk = header.next;
        }
        false
    }

    /// Makes an empty chunk the current one.
    ///
    /// # Safety
    /// `memory` is a chunk that nobody uses.
    pub unsafe fn add(&mut self, class: u8, owner: u16, memory: *mut Header) {
        // SAFETY: the caller's.
        unsafe { memory.write(Header::new(class, owner)) };
        self.chunks += 1;
        self.make_current(class, memory);
    }

    fn make_current(&mut self, class: u8, chunk: *mut Header) {
        let before = core::mem::replace(&mut self.current[class as usize], chunk);
        // SAFETY: as in `take`.
        if unsafe { before.as_ref() }.is_some_and(|before| !before.is_full()) {
            self.list(before);
        }
    }

    /// Puts an object back. Returns its chunk if that has become empty: it no longer belongs to this heap then.
    ///
    /// # Safety
    /// `chunk` is a chunk of this heap.
    pub unsafe fn give(&mut self, object: *mut u8, chunk: *mut Header) -> Result<Option<*mut Header>, Bad> {
        // SAFETY: a chunk of this heap, and the lock is held.
        let header = unsafe { &mut *chunk };
        let was_full = header.is_full();
        header.give(object.addr() - chunk.addr())?;
        let class = header.class;
        let empty = header.used == 0;
        self.in_use -= class::size(class) as u64;
        let is_current = self.current[class as usize] == chunk;
        if empty {
            if is_current {
                self.current[class as usize] = null_mut();
            } else if !was_full {
                self.unlist(chunk);
            }
            header.magic = 0;
            self.chunks -= 1;
            return Ok(Some(chunk));
        }
        if was_full && !is_current {
            self.list(chunk);
        }
        Ok(None)
    }

    fn list(&mut self, chunk: *mut Header) {
        // SAFETY: `chunk` and the chunks of the list belong to this heap, and the lock is held.
        unsafe {
            let head = &mut self.room[(*chunk).class as usize];
            (*chunk).previous = null_mut();
            (*chunk).next = *head;
            (*chunk).listed = 1;
            if let Some(next) = head.as_mut() {
                next.previous = chunk;
            }
            *head = chunk;
        }
    }

    fn unlist(&mut self, chunk: *mut Header) {
        // SAFETY: as in `list`; `chunk` is in the list, so its neighbours are too.
        unsafe {
            let (previous, next) = ((*chunk).previous, (*chunk).next);
            match previous.as_mut() {
                Some(previous) => previous.next = next,
                None => self.room[(*chunk).class as usize] = next,
            }
            if let Some(next) = next.as_mut() {
                next.previous = previous;
            }
            (*chunk).listed = 0;
        }
    }
}

/// Whether there is a chunk of objects at `chunk`.
///
/// # Safety
/// The address can be read.
pub unsafe fn is_chunk(chunk: *const Header) -> bool {
    // SAFETY: the caller's.
    unsafe { (*chunk).magic == MAGIC && ((*chunk).class as usize) < CLASSES }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::alloc::{Layout, alloc, dealloc};

    fn memory() -> *mut Header {
        // SAFETY: the size is not 0.
        unsafe { alloc(Layout::from_size_align(CHUNK_BYTES, CHUNK_BYTES).unwrap()) }.cast()
    }

    proptest! {
        /// Objects of all classes, freed in any order: none overlaps another, the books are exact, every chunk comes back.
        #[test]
        fn ownership_algebra(ops in prop::collection::vec((0u8..3, 6u8..14, any::<usize>()), 0..800)) {
            let mut heap = CpuHeap::new();
            let mut out: Vec<(*mut u8, u8)> = Vec::new();
            let mut made = 0;
            let give = |heap: &mut CpuHeap, object: *mut u8| {
                let chunk = chunk_of(object);
                unsafe {
                    assert!(is_chunk(chunk));
                    let emptied = heap.give(object, chunk).unwrap();
                    if let Some(chunk) = emptied {
                        dealloc(chunk.cast(), Layout::from_size_align(CHUNK_BYTES, CHUNK_BYTES).unwrap());
                    }
                    emptied.is_some()
                }
            };
            for (op, class, which) in ops {
                if op < 2 {
                    let object = heap.take(class).unwrap_or_else(|| {
                        let mut shown = [ChunkSummary::default(); SHOWN];
                        let count = heap.show(class, &mut shown);
                        if count > 0 {
                            assert!(heap.choose(class, shown[which % count].address));
                        } else {
                            unsafe { heap.add(class, 0, memory()) };
                            made += 1;
                        }
                        heap.take(class).unwrap()
                    });
                    prop_assert_eq!(object.addr() % class::alignment(class), 0);
                    let (start, end) = (object.addr(), object.addr() + class::size(class));
                    for (other, class) in &out {
                        prop_assert!(end <= other.addr() || other.addr() + class::size(*class) <= start);
                    }
                    out.push((object, class));
                } else if !out.is_empty() {
                    let (object, _) = out.swap_remove(which % out.len());
                    made -= u64::from(give(&mut heap, object));
                }
                let bytes: usize = out.iter().map(|(_, class)| class::size(*class)).sum();
                prop_assert_eq!((heap.in_use, heap.chunks), (bytes as u64, made));
            }
            for (object, _) in out {
                give(&mut heap, object);
            }
            prop_assert_eq!((heap.in_use, heap.chunks), (0, 0));
            prop_assert!(heap.current.iter().chain(&heap.room).all(|chunk| chunk.is_null()));
        }
    }
}
