//! Mappings in the arena: text, constants and thunks in frames that nothing else maps, and hosted statics.

use crate::error::Error;
use crate::leaf::Access;
use crate::region::Region;
use crate::root::Origin;
use core::ops::Range;
use handoff::layout::{CONSTANTS, HOSTED, PAGE, TEXT, THUNKS};

fn within(areas: &[Range<u64>], address: u64, pages: usize) -> Result<(), Error> {
    let end = (pages as u64).checked_mul(PAGE).and_then(|bytes| address.checked_add(bytes));
    let fits = |area: &Range<u64>| area.start <= address && end.is_some_and(|end| end <= area.end);
    if address.is_multiple_of(PAGE) && pages != 0 && areas.iter().any(fits) {
        Ok(())
    } else {
        Err(Error::Outside { address, pages })
    }
}

/// Pages of text, constants or thunks, owned; dropping it unmaps them and gives the frames back. Their frames are not in
/// the physical map, so what is sealed here has no writable alias.
///
/// Nothing may be called, read or written through a mapping that is gone:
/// ```compile_fail,E0382
/// let code = paging::map_code(handoff::layout::TEXT.start, 1).unwrap();
/// drop(code);
/// let _ = code.bytes();
/// ```
/// ```compile_fail,E0505
/// let mut code = paging::map_code(handoff::layout::TEXT.start, 1).unwrap();
/// let bytes = code.bytes_mut();
/// drop(code);
/// bytes.unwrap()[0] = 0xcc;
/// ```
/// nor can one mapping have two owners:
/// ```compile_fail,E0599
/// let code = paging::map_code(handoff::layout::TEXT.start, 1).unwrap();
/// let again = code.clone();
/// ```
#[derive(Debug)]
#[must_use]
pub struct CodeMapping {
    region: Region,
    /// A page has become something else than writable.
    sealed: bool,
}

/// Maps `pages` fresh zeroed code frames at `address`, writable and not executable. Both are the caller's choice within
/// the areas for text, constants and thunks.
///
/// # Errors
/// If memory is short, the range does not lie in one of these areas, or something is mapped there.
pub fn map_code(address: u64, pages: usize) -> Result<CodeMapping, Error> {
    within(&[TEXT, CONSTANTS, THUNKS], address, pages)?;
    Ok(CodeMapping { region: Region::new(address, pages, Origin::Code, false)?, sealed: false })
}

/// Takes over what was linked before the system ran: `pages` pages of sealed code at `address`.
///
/// # Safety
/// No [`CodeMapping`] has them.
///
/// # Errors
/// If a page is not mapped to a code frame.
pub unsafe fn adopt_code(address: u64, pages: usize) -> Result<CodeMapping, Error> {
    within(&[TEXT, CONSTANTS, THUNKS], address, pages)?;
    // SAFETY: passed on to the caller.
    Ok(CodeMapping { region: unsafe { Region::adopt(address, pages, Origin::Code, false)? }, sealed: true })
}

impl CodeMapping {
    /// First virtual address.
    pub fn address(&self) -> u64 {
        self.region.address()
    }

    /// Pages mapped.
    pub fn pages(&self) -> usize {
        self.region.pages()
    }

    /// The virtual addresses.
    pub fn range(&self) -> Range<u64> {
        self.region.range()
    }

    /// What the pages hold.
    pub fn bytes(&self) -> &[u8] {
        self.region.bytes()
    }

    /// What the pages hold; None as soon as one of them has been sealed.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if self.sealed { None } else { Some(self.region.bytes_mut()) }
    }

    /// Seals some pages, counted from the first: makes them readable or executable. What was sealed may be sealed
    /// otherwise, but never written again.
    ///
    /// # Errors
    /// If pages are not of this mapping, or are to become writable after a first seal.
    pub fn protect(&mut self, pages: Range<usize>, access: Access) -> Result<(), Error> {
        if access == Access::Write {
            return if self.sealed { Err(Error::Sealed(self.address())) } else { Ok(()) };
        }
        self.region.protect(pages, access)?;
        self.sealed = true;
        Ok(())
    }

    /// Splits the mapping: `self` keeps the first `at` pages, the rest is returned.
    ///
    /// # Panics
    /// If `at` is 0 or not less than the pages there are.
    pub fn split_off(&mut self, at: usize) -> CodeMapping {
        CodeMapping { region: self.region.split_off(at), sealed: self.sealed }
    }

    /// Gives up the ownership; the pages stay mapped until [`adopt_code`] takes them up again.
    pub fn leak(self) {
        self.region.leak();
    }
}

/// Pages of ordinary memory in the area of hosted statics, owned, writable and not executable; dropping it unmaps them and
/// gives the frames back.
/// ```compile_fail,E0382
/// let mapping = paging::Mapping::new(handoff::layout::HOSTED.start, 1).unwrap();
/// drop(mapping);
/// let _ = mapping.bytes();
/// ```
#[derive(Debug)]
#[must_use]
pub struct Mapping {
    region: Region,
}

impl Mapping {
    /// Maps `pages` fresh zeroed frames at `address`, the caller's choice within the area of hosted statics.
    ///
    /// # Errors
    /// If memory is short, the range does not lie in that area, or something is mapped there.
    pub fn new(address: u64, pages: usize) -> Result<Mapping, Error> {
        within(&[HOSTED], address, pages)?;
        Ok(Mapping { region: Region::new(address, pages, Origin::Memory, false)? })
    }

    /// Takes over pages of hosted statics that were mapped before the system ran.
    ///
    /// # Safety
    /// No [`Mapping`] has them.
    ///
    /// # Errors
    /// If a page is not mapped to a frame of ordinary memory.
    pub unsafe fn adopt(address: u64, pages: usize) -> Result<Mapping, Error> {
        within(&[HOSTED], address, pages)?;
        // SAFETY: passed on to the caller.
        Ok(Mapping { region: unsafe { Region::adopt(address, pages, Origin::Memory, false)? } })
    }

    /// First virtual address.
    pub fn address(&self) -> u64 {
        self.region.address()
    }

    /// Pages mapped.
    pub fn pages(&self) -> usize {
        self.region.pages()
    }

    /// What the pages hold.
    pub fn bytes(&self) -> &[u8] {
        self.region.bytes()
    }

    /// What the pages hold.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.region.bytes_mut()
    }

    /// Gives up the ownership; the pages stay mapped until [`Mapping::adopt`] takes them up again.
    pub fn leak(self) {
        self.region.leak();
    }
}
