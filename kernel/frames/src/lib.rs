//! Physical frames as owned values: whoever has a [`Frames`] has these frames of RAM, and nobody else has them; dropping
//! it gives them back. Which frames are free is kept by a buddy system ([`buddy`]) in memory carved out at the start and
//! found through `roots().frames`.
//!
//! All frames handed out here are seen, writable and not executable, in the physical map. Frames that may become
//! executable, and those of page tables, leave it in whole blocks and are kept by `paging`.
//!
//! The content of a run that was just allocated is what its last owner left. Lock order: the lock here is innermost.
#![cfg_attr(not(test), no_std)]
#![allow(unsafe_code, reason = "frames are seen through the physical map")]

mod bits;
mod buddy;
mod ranges;
mod root;

use handoff::layout::{BLOCK, PAGE, PHYSICAL_MAP};

pub use root::{Counts, bound, counts, each_free, is_memory, release_boot_memory, start};

/// No run of free frames is long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no free run of {count} frames, at a multiple of {align}, is left")]
pub struct OutOfFrames {
    /// Frames asked for.
    pub count: usize,
    /// Frames the run's start was to be a multiple of.
    pub align: usize,
}

/// A run of frames, owned. Dropping it gives them back.
///
/// They cannot be used after they were given back, nor owned twice:
/// ```compile_fail,E0382
/// let frames = frames::Frames::allocate(1).unwrap();
/// drop(frames);
/// let _ = frames.start();
/// ```
/// ```compile_fail,E0599
/// let frames = frames::Frames::allocate(1).unwrap();
/// let again = frames.clone();
/// ```
/// Nor can what they hold be borrowed for longer than they are owned:
/// ```compile_fail,E0505
/// let mut frames = frames::Frames::allocate(1).unwrap();
/// let bytes = frames.bytes_mut();
/// drop(frames);
/// bytes[0] = 1;
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Frames {
    first: u32,
    count: u32,
}

impl Frames {
    /// Takes a run of `count` free frames, `count` at least 1.
    ///
    /// # Errors
    /// If there is none.
    pub fn allocate(count: usize) -> Result<Frames, OutOfFrames> {
        Frames::allocate_aligned(count, 1)
    }

    /// Takes a run of `count` free frames whose first is a multiple of `align` frames, a power of two.
    ///
    /// # Errors
    /// If there is none, or `count` is 0, or `align` is no power of two.
    pub fn allocate_aligned(count: usize, align: usize) -> Result<Frames, OutOfFrames> {
        let refused = OutOfFrames { count, align };
        let wanted = u32::try_from(count).ok().filter(|wanted| *wanted != 0 && align.is_power_of_two());
        let count = wanted.ok_or(refused)?;
        let first = root::allocate(count, align.trailing_zeros() as usize).ok_or(refused)?;
        Ok(Frames { first, count })
    }

    /// Takes a block of [`BLOCK`] bytes at a multiple of its size.
    ///
    /// # Errors
    /// If there is none.
    pub fn allocate_block() -> Result<Frames, OutOfFrames> {
        Frames::allocate_aligned((BLOCK / PAGE) as usize, (BLOCK / PAGE) as usize)
    }

    /// Physical address of the first frame.
    pub fn start(&self) -> u64 {
        u64::from(self.first) * PAGE
    }

    /// Frames in the run.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Where the run is seen in the physical map.
    pub fn address(&self) -> *mut u8 {
        (PHYSICAL_MAP + self.start()) as *mut u8
    }

    /// What the frames hold.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the run is owned by `self` alone, is RAM (any content is a valid `u8`) and is seen, writable, at this
        // address of the physical map for as long as it is allocated here.
        unsafe { core::slice::from_raw_parts_mut(self.address(), self.count() * PAGE as usize) }
    }

    /// Fills the frames with zeros.
    pub fn clear(&mut self) {
        self.bytes_mut().fill(0);
    }

    /// Splits the run: `self` keeps the first `at` frames, the rest is returned.
    ///
    /// # Panics
    /// If `at` is 0 or not less than the count.
    pub fn split_off(&mut self, at: usize) -> Frames {
        assert!(at > 0 && at < self.count(), "a run of {} frames cannot be split at {at}", self.count);
        let rest = Frames { first: self.first + at as u32, count: self.count - at as u32 };
        self.count = at as u32;
        rest
    }

    /// Gives up the ownership without giving the frames back; returns the physical address of the first.
    pub fn leak(self) -> u64 {
        let start = self.start();
        core::mem::forget(self);
        start
    }

    /// Takes up an ownership that was given up by [`leak`](Frames::leak).
    ///
    /// # Safety
    /// The frames are allocated and nobody owns or uses them.
    pub unsafe fn from_raw(start: u64, count: usize) -> Frames {
        Frames { first: (start / PAGE) as u32, count: count as u32 }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        root::give_back(self.first..self.first + self.count);
    }
}
