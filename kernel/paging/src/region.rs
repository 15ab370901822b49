//! What all mappings have in common: a run of virtual pages with a frame of its own behind each, both owned.

use crate::error::Error;
use crate::flush::forget;
use crate::leaf::Access;
use crate::root::{Origin, root};
use crate::tree;
use core::ops::Range;
use handoff::layout::{BLOCK, PAGE};
use x86_64::structures::paging::PageTableFlags as Flags;

const PRESENT: u64 = Flags::PRESENT.bits();

/// An owned run of pages. Dropping it unmaps them everywhere and gives the frames, and tables left empty, back.
#[derive(Debug)]
pub struct Region {
    /// Number of the first page. Not its address: whoever looks through memory for pointers must not take an owner's record
    /// for a user.
    first: u64,
    pages: usize,
    origin: Origin,
    /// Whether empty tables are given back; those of the arena are kept for ever.
    prune: bool,
}

impl Region {
    /// Maps `pages` zeroed frames, writable, at `address`, a page's first.
    pub fn new(address: u64, pages: usize, origin: Origin, prune: bool) -> Result<Region, Error> {
        let mut region = Region { first: address / PAGE, pages: 0, origin, prune };
        for page in 0..pages as u64 {
            // On an error the region that was made so far is dropped, and with it what it mapped.
            root().lock().map_new(address + page * PAGE, origin)?;
            region.pages += 1;
        }
        region.bytes_mut().fill(0);
        Ok(region)
    }

    /// Takes over pages that were mapped before this crate ran.
    ///
    /// # Safety
    /// Nobody else owns them.
    pub unsafe fn adopt(address: u64, pages: usize, origin: Origin, prune: bool) -> Result<Region, Error> {
        let state = root().lock();
        for page in 0..pages as u64 {
            let address = address + page * PAGE;
            let leaf = tree::leaf(&state.tables, state.root, address).filter(|leaf| leaf.bytes == PAGE);
            let leaf = leaf.ok_or(Error::NotMapped(address))?;
            let code = state.code.contains(leaf.physical);
            if code != (origin == Origin::Code) {
                return Err(Error::NotMapped(address));
            }
        }
        Ok(Region { first: address / PAGE, pages, origin, prune })
    }

    pub fn address(&self) -> u64 {
        self.first * PAGE
    }

    pub fn pages(&self) -> usize {
        self.pages
    }

    pub fn range(&self) -> Range<u64> {
        self.address()..self.address() + self.pages as u64 * PAGE
    }

    /// What the pages hold.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as `self` lives, any content is a valid `u8`, and writers need `&mut self` or are the
        // applier, which stops everybody.
        unsafe { core::slice::from_raw_parts(self.address() as *const u8, self.pages * PAGE as usize) }
    }

    /// What the pages hold; the caller knows that all are writable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped, writable, and owned by `self` alone.
        unsafe { core::slice::from_raw_parts_mut(self.address() as *mut u8, self.pages * PAGE as usize) }
    }

    /// Gives some of the pages another access.
    pub fn protect(&mut self, pages: Range<usize>, access: Access) -> Result<(), Error> {
        if pages.start > pages.end || pages.end > self.pages {
            return Err(Error::Pages { from: pages.start, to: pages.end, pages: self.pages });
        }
        let range = self.address() + pages.start as u64 * PAGE..self.address() + pages.end as u64 * PAGE;
        for address in range.clone().step_by(PAGE as usize) {
            let mut state = root().lock();
            let root = state.root;
            let change = |old: u64| old & tree::ADDRESS | access.flags();
            tree::change(&mut state.tables, root, address, 0, change).ok_or(Error::NotMapped(address))?;
        }
        forget(range);
        Ok(())
    }

    /// Splits the run: `self` keeps the first `at` pages, the rest is returned.
    pub fn split_off(&mut self, at: usize) -> Region {
        assert!(at > 0 && at < self.pages, "a mapping of {} pages cannot be split at {at}", self.pages);
        let rest = Region { first: self.first + at as u64, pages: self.pages - at, ..*self };
        self.pages = at;
        rest
    }

    /// Gives up the ownership; the pages stay mapped.
    pub fn leak(self) {
        core::mem::forget(self);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let range = self.range();
        if range.is_empty() {
            return;
        }
        // First nobody may use the translation any more, then the frame may have another owner.
        for address in range.clone().step_by(PAGE as usize) {
            let mut state = root().lock();
            let root = state.root;
            let old = tree::change(&mut state.tables, root, address, 0, |old| old & !PRESENT);
            assert!(
                old.is_some_and(|old| old & PRESENT != 0),
                "page {address:#x} was unmapped behind its owner's back"
            );
        }
        forget(range.clone());
        for address in range.clone().step_by(PAGE as usize) {
            let mut state = root().lock();
            let root = state.root;
            if let Some(old) = tree::change(&mut state.tables, root, address, 0, |_| 0) {
                state.give(self.origin, old & tree::ADDRESS);
            }
            let last_of_table = (address + PAGE).is_multiple_of(BLOCK) || address + PAGE == range.end;
            if self.prune && last_of_table {
                tree::prune(&mut state.tables, root, address);
                forget(address..address + PAGE);
                state.settle();
            }
        }
    }
}
