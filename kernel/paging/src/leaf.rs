//! What an address is mapped to.

use crate::tree::ADDRESS;
use x86_64::structures::paging::PageTableFlags as Flags;

/// What may be done with a page. There is no writable and executable one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and executed.
    Execute,
    /// Read.
    Read,
    /// Read and written.
    Write,
}

impl Access {
    pub(crate) fn flags(self) -> u64 {
        let flags = Flags::PRESENT | Flags::GLOBAL;
        let flags = match self {
            Access::Execute => flags,
            Access::Read => flags | Flags::NO_EXECUTE,
            Access::Write => flags | Flags::NO_EXECUTE | Flags::WRITABLE,
        };
        flags.bits()
    }
}

/// One address's mapping, as the page tables of this moment say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The virtual address asked for, or the page's first.
    pub address: u64,
    /// The physical address behind it.
    pub physical: u64,
    /// Bytes of the page: 4 KiB, 2 MiB or 1 GiB.
    pub bytes: u64,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether it may be executed.
    pub executable: bool,
    /// Whether reads go to a device rather than through the caches.
    pub device: bool,
}

impl Leaf {
    pub(crate) fn new(address: u64, entry: u64, level: u32, writable: bool, executable: bool) -> Leaf {
        let bytes = 1 << (12 + 9 * level);
        let physical = (entry & ADDRESS & !(bytes - 1)) | (address & (bytes - 1));
        let device = entry & Flags::NO_CACHE.bits() != 0;
        Leaf { address, physical, bytes, writable, executable, device }
    }

    /// The same as an [`Access`]; None for what must not be: both writable and executable.
    pub fn access(&self) -> Option<Access> {
        match (self.writable, self.executable) {
            (false, true) => Some(Access::Execute),
            (false, false) => Some(Access::Read),
            (true, false) => Some(Access::Write),
            (true, true) => None,
        }
    }
}
