//! The heap's mechanism: objects up to 2 KiB in chunks of 32 KiB with a header of fixed layout, larger ones in frames of
//! their own. Where the next objects come from is decided by a policy ([`HeapPolicy`]); everything that must be right
//! whatever it decides is here.
//!
//! ```text
//! roots().heap -> Root { policy words, Spare (empty chunks), one CpuHeap per CPU { current and listed chunks per class } }
//! ```
//!
//! An object belongs to the heap of the CPU that its chunk's header names and goes back there from any CPU. Failure is a
//! null pointer; giving back what is not out is a panic that says so.
//! Lock order: a CPU's heap or the spare chunks, never both, then `frames`.
#![cfg_attr(not(test), no_std)]
#![allow(unsafe_code, reason = "hands out memory that it addresses through the physical map")]

mod chunk;
mod class;
mod cpu_heap;
mod policy;
mod root;
mod spare;

pub use chunk::CHUNK_BYTES;
pub use policy::{Choice, ChunkSummary, HeapPolicy, SHOWN};
pub use root::{HeapCounts, counts, set_policy, start};

use core::alloc::Layout;
use core::ptr::null_mut;

/// An object of `layout`, with any content; null if memory is short.
pub fn allocate(layout: Layout) -> *mut u8 {
    match class::of(layout) {
        Some(class) => root::take(class).unwrap_or(null_mut()),
        None => root::take_frames(layout).unwrap_or(null_mut()),
    }
}

/// An object of `layout`, all zero; null if memory is short.
pub fn allocate_zeroed(layout: Layout) -> *mut u8 {
    let object = allocate(layout);
    if !object.is_null() {
        // SAFETY: just allocated with at least this size.
        unsafe { object.write_bytes(0, layout.size()) };
    }
    object
}

/// Gives an object back. Its bytes become zeros: whoever looks through memory for pointers would else find them in the
/// part of a later object that is never written, and take them for pointers that are kept.
///
/// # Safety
/// It was allocated here with this layout and is not used any more.
///
/// # Panics
/// If it is not out, as far as that can be seen.
pub unsafe fn free(object: *mut u8, layout: Layout) {
    // SAFETY: the caller's: it is an object of that many bytes, and nobody uses it.
    unsafe { object.write_bytes(0, layout.size()) };
    match class::of(layout) {
        // SAFETY: the caller's.
        Some(class) => unsafe { root::give(object, class) },
        // SAFETY: the caller's.
        None => unsafe { root::give_frames(object, layout) },
    }
}

/// If a chunk of objects begins at `address`, shows address and length of each object that is out, and gives the chunk's
/// length. For whoever looks through memory while nobody else runs.
///
/// # Safety
/// [`CHUNK_BYTES`] bytes can be read at `address`, a multiple of that, and nobody changes them meanwhile.
pub unsafe fn each_out(address: u64, mut each: impl FnMut(u64, usize)) -> Option<usize> {
    let chunk = address as *const chunk::Header;
    // SAFETY: the caller's; any bytes are a header's, which is asked whether it is one.
    let header = unsafe { cpu_heap::is_chunk(chunk).then(|| &*chunk) }?;
    header.each_out(|offset, len| each(address + offset as u64, len));
    Some(CHUNK_BYTES)
}

/// Changes an object's size, moving it if it must; null if memory is short, and then the object is as it was.
///
/// # Safety
/// It was allocated here with `layout`; `new_size` is not 0 and, rounded up to the alignment, at most `isize::MAX`.
pub unsafe fn reallocate(object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    // SAFETY: the caller's; the alignment is that of a layout.
    let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
    let stays = match (class::of(layout), class::of(new_layout)) {
        (Some(old), Some(new)) => old == new,
        (None, None) => root::frames_for(layout) == root::frames_for(new_layout),
        _ => false,
    };
    if stays {
        return object;
    }
    let new = allocate(new_layout);
    if !new.is_null() {
        // SAFETY: both are objects of at least that many bytes, and different ones; the old one is the caller's to free.
        unsafe {
            new.copy_from_nonoverlapping(object, layout.size().min(new_size));
            free(object, layout);
        }
    }
    new
}
