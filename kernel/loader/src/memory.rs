//! The linker's memory in the running system.

use alloc::{vec, vec::Vec};
use handoff::layout::{HOSTED, PAGE, TEXT};
use linker::{Access, Memory, OutOfMemory};
use paging::{CodeMapping, Mapping};

/// Memory of one link: fresh pages at their final address, writable until [`seal`](Live::seal).
#[derive(Debug, Default)]
pub struct Live {
    /// Where text is to lie, if it is not to follow the last.
    text: Option<u64>,
    code: Vec<(CodeMapping, Access)>,
    hosted: Vec<Mapping>,
}

impl Live {
    /// Memory for a link whose text is to lie at an address.
    pub fn at(text: u64) -> Live {
        Live { text: Some(text), ..Live::default() }
    }

    /// Gives each page its final access, and the mappings to whoever keeps them.
    ///
    /// # Errors
    /// What changing the page tables answers.
    pub fn seal(mut self) -> Result<(Vec<CodeMapping>, Vec<Mapping>), paging::Error> {
        for (mapping, access) in &mut self.code {
            let access = match access {
                Access::Execute => paging::Access::Execute,
                Access::Read => paging::Access::Read,
                Access::Write => continue,
            };
            mapping.protect(0..mapping.pages(), access)?;
        }
        Ok((self.code.into_iter().map(|(mapping, _)| mapping).collect(), self.hosted))
    }

    fn range(&mut self, address: u64) -> Option<&mut [u8]> {
        let code = self.code.iter_mut().rev().find(|(mapping, _)| mapping.range().contains(&address));
        if let Some((mapping, _)) = code {
            let at = (address - mapping.address()) as usize;
            return mapping.bytes_mut().map(|bytes| &mut bytes[at..]);
        }
        let hosted =
            self.hosted.iter_mut().find(|m| (m.address()..m.address() + m.pages() as u64 * PAGE).contains(&address))?;
        let at = (address - hosted.address()) as usize;
        Some(&mut hosted.bytes_mut()[at..])
    }
}

impl Memory for Live {
    fn back(&mut self, address: u64, len: u64, access: Access) -> Result<(), OutOfMemory> {
        let refuse = |error| {
            log::warn!("no memory at {address:#x} for a link: {error}");
            OutOfMemory { len }
        };
        let pages = len.div_ceil(PAGE) as usize;
        if access == Access::Write {
            self.hosted.push(Mapping::new(address, pages).map_err(refuse)?);
        } else {
            self.code.push((paging::map_code(address, pages).map_err(refuse)?, access));
        }
        Ok(())
    }

    fn room_for_text(&mut self, _: u64) -> Option<u64> {
        self.text
    }

    fn bytes_mut(&mut self, address: u64, len: u64) -> &mut [u8] {
        self.range(address).and_then(|bytes| bytes.get_mut(..len as usize)).unwrap_or_default()
    }

    fn bytes(&self, address: u64, len: u64) -> &[u8] {
        Running.at(address, len)
    }
}

/// What is linked already, to be read.
#[derive(Clone, Copy, Debug)]
pub struct Running;

impl Running {
    /// Bytes of the arena; none if they are not all mapped.
    pub fn at(self, address: u64, len: u64) -> &'static [u8] {
        let Some(end) = address.checked_add(len).filter(|&end| TEXT.start <= address && end <= HOSTED.end) else {
            return &[];
        };
        if len == 0 {
            return &[];
        }
        let mut page = address & !(PAGE - 1);
        while page < end {
            if paging::query(page).is_none() {
                return &[];
            }
            page += PAGE;
        }
        // SAFETY: every page is mapped, and sealed or owned by this link; the world is locked by whoever links, so that
        // none is unmapped meanwhile.
        unsafe { core::slice::from_raw_parts(address as *const u8, len as usize) }
    }
}

impl Memory for Running {
    fn back(&mut self, _: u64, len: u64, _: Access) -> Result<(), OutOfMemory> {
        Err(OutOfMemory { len })
    }

    fn bytes_mut(&mut self, _: u64, _: u64) -> &mut [u8] {
        &mut []
    }

    fn bytes(&self, address: u64, len: u64) -> &[u8] {
        self.at(address, len)
    }
}

/// Memory in which the boot set is linked once more, to be compared with what runs.
#[derive(Debug, Default)]
pub(crate) struct Rehearsal(Vec<(u64, Vec<u8>, Access)>);

impl Rehearsal {
    /// What was linked: address, bytes, access.
    pub fn parts(&self) -> impl Iterator<Item = (u64, &[u8], Access)> {
        self.0.iter().map(|(address, bytes, access)| (*address, &bytes[..], *access))
    }

    fn find(&self, address: u64) -> Option<usize> {
        self.0.iter().rposition(|(start, bytes, _)| (*start..*start + bytes.len() as u64).contains(&address))
    }
}

impl Memory for Rehearsal {
    fn back(&mut self, address: u64, len: u64, access: Access) -> Result<(), OutOfMemory> {
        self.0.push((address, vec![0; len as usize], access));
        Ok(())
    }

    fn bytes_mut(&mut self, address: u64, len: u64) -> &mut [u8] {
        let Some(index) = self.find(address) else { return &mut [] };
        let (start, bytes, _) = &mut self.0[index];
        let at = (address - *start) as usize;
        &mut bytes[at..at + len as usize]
    }

    fn bytes(&self, address: u64, len: u64) -> &[u8] {
        let Some(index) = self.find(address) else { return &[] };
        let (start, bytes, _) = &self.0[index];
        let at = (address - start) as usize;
        &bytes[at..at + len as usize]
    }
}
