//! What the boot loader tells, from either protocol, copied out of its memory into one structure. Nothing here is
//! believed beyond what can be checked; what cannot be used ends in an [`Error`].

mod multiboot;
mod pvh;
mod rsdp;

use crate::error::Error;
use crate::ranges::{self, Full, RangeSet};
use handoff::Range;
use handoff::layout::{PAGE, PHYSICAL_MAP, TABLE_WINDOW};

pub use rsdp::Rsdp;

/// Rows of the memory map, as many as the hand-off has.
pub const MEMORY_ROWS: usize = 64;
/// Bytes of the command line, as many as the hand-off has.
pub const COMMAND_LINE_BYTES: usize = 8192;
/// End of what `nano_core`'s first page tables map, in bytes.
pub const REACH: u64 = 4 << 30;
/// Memory below this is left alone: it belongs to the firmware, and other CPUs start there.
pub const LOW: u64 = 1 << 20;
/// Memory above this has no place in the physical map.
const HIGH: u64 = TABLE_WINDOW - PHYSICAL_MAP;

/// How `nano_core` was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Multiboot2 = 1,
    Pvh = 2,
}

/// What the boot loader told.
pub struct BootInfo {
    pub protocol: Protocol,
    /// Usable memory from [`LOW`] up, in whole pages.
    pub memory: RangeSet<MEMORY_ROWS>,
    /// The archive of cells, where the boot loader put it; below [`REACH`].
    pub archive: Range,
    pub rsdp: Rsdp,
    pub command_line: CommandLine,
}

/// The boot command line.
pub struct CommandLine {
    pub bytes: [u8; COMMAND_LINE_BYTES],
    pub len: usize,
}

impl BootInfo {
    /// Reads what the boot loader left at `address`. `protocol` is what the entry in `boot.s` saw.
    pub fn read(protocol: u32, address: u32) -> Result<BootInfo, Error> {
        let address = u64::from(address);
        match protocol {
            1 => multiboot::read(address),
            2 => pvh::read(address),
            _ => Err(Error::Protocol),
        }
    }
}

impl CommandLine {
    fn new(text: &[u8]) -> Result<CommandLine, Error> {
        let mut line = CommandLine { bytes: [0; COMMAND_LINE_BYTES], len: text.len() };
        let too_long = Error::CommandLineLength { found: text.len(), limit: COMMAND_LINE_BYTES };
        line.bytes.get_mut(..text.len()).ok_or(too_long)?.copy_from_slice(text);
        match core::str::from_utf8(text) {
            Ok(_) => Ok(line),
            Err(error) => Err(Error::CommandLineText { at: error.valid_up_to() }),
        }
    }
}

/// Usable memory from the rows (range, usable) of a memory map. Where rows contradict each other, memory is not usable.
fn usable(rows: impl Iterator<Item = (Range, bool)> + Clone) -> Result<RangeSet<MEMORY_ROWS>, Error> {
    let fill = || -> Result<RangeSet<MEMORY_ROWS>, Full> {
        let mut memory = RangeSet::new();
        for (range, _) in rows.clone().filter(|(_, usable)| *usable) {
            memory.insert(ranges::inner(range, PAGE))?;
        }
        for (range, _) in rows.filter(|(_, usable)| !*usable) {
            memory.remove(ranges::outer(range, PAGE))?;
        }
        memory.remove(ranges::between(0, LOW))?;
        memory.remove(ranges::between(HIGH, u64::MAX))?;
        Ok(memory)
    };
    let memory = fill().map_err(|Full| Error::TooManyRanges { limit: MEMORY_ROWS })?;
    if memory.rows().is_empty() {
        return Err(Error::Missing { what: "usable memory" });
    }
    Ok(memory)
}

/// `range`, if `nano_core` can read it.
fn reachable(range: Range, what: &'static str) -> Result<Range, Error> {
    if range.start == 0 || ranges::end(range) > REACH {
        return Err(Error::TooHigh { what, address: range.start, len: range.len });
    }
    Ok(range)
}
