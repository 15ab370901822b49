//! The archive of cells: a tar file in memory, first the manifest, then `cells/NAME.o`.

use crate::error::Error;
use alloc::{boxed::Box, format, string::String};
use handoff::{Range, layout::PHYSICAL_MAP};
use manifest::Manifest;
use tar_no_std::TarArchiveRef;

/// The archive that the system was booted from. Its memory is kept: objects are read again whenever a cell is.
#[derive(Clone, Copy, Debug)]
pub struct Archive {
    /// The whole file.
    pub bytes: &'static [u8],
    /// What it says about itself.
    pub manifest: &'static Manifest,
}

impl Archive {
    /// Opens the archive in physical memory.
    ///
    /// # Safety
    /// `range` is mapped in the physical map and stays as it is.
    pub(crate) unsafe fn open(range: Range) -> Result<Archive, Error> {
        let start = (PHYSICAL_MAP + range.start) as *const u8;
        // SAFETY: passed on to the caller.
        let bytes: &'static [u8] = unsafe { core::slice::from_raw_parts(start, range.len as usize) };
        let file = find(bytes, manifest::FILE)?;
        let manifest = Box::leak(Box::new(Manifest::read(file)?));
        Ok(Archive { bytes, manifest })
    }

    /// A cell's object.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn object(&self, cell: &str) -> Result<&'static [u8], Error> {
        find(self.bytes, &format!("cells/{cell}.o"))
    }
}

fn find(bytes: &'static [u8], name: &str) -> Result<&'static [u8], Error> {
    let archive = TarArchiveRef::new(bytes).map_err(|_| Error::Archive(bytes.len()))?;
    let found = archive.entries().find(|entry| entry.filename().as_str() == Ok(name));
    found.map(|entry| entry.data()).ok_or_else(|| Error::Missing(String::from(name)))
}
