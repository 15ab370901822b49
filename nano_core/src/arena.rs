//! The memory the linker writes to: the arena, mapped as the cells will see it.
//!
//! While `nano_core` runs, CR0.WP is clear, so that pages of text and constants can be written through their final
//! read-only mappings; it is set before the first cell runs.

use crate::error::Error;
use crate::memory;
use crate::tables::{DATA, Tables};
use handoff::layout::{BLOCK, HOSTED, PAGE, TEXT};
use handoff::{Range, Use};
use linker::{Access, Memory, OutOfMemory};
use x86_64::structures::paging::PageTableFlags as Flags;

unsafe extern "C" {
    /// The top table that `nano_core` runs on, in `boot.s`.
    static mut boot_tables: [u64; 512];
}

/// The arena.
pub struct Arena<'a> {
    tables: &'a mut Tables,
    /// Blocks of code taken so far, one after the other.
    blocks: Range,
    /// Bytes used in them.
    used: u64,
}

impl<'a> Arena<'a> {
    /// Shows the arena of `tables` to `nano_core`.
    pub fn new(tables: &'a mut Tables) -> Result<Arena<'a>, Error> {
        let start = memory::longest_run().ok_or(Error::OutOfMemory { what: CODE, len: BLOCK })?;
        // SAFETY: an entry that was not present becomes present; nothing else of nano_core touches its tables.
        unsafe { (&raw mut boot_tables).cast::<u64>().add(511).write_volatile(tables.arena_entry()) };
        Ok(Arena { tables, blocks: Range { start, len: 0 }, used: 0 })
    }

    /// The blocks that hold code.
    pub const fn blocks(&self) -> Range {
        self.blocks
    }

    /// Frames used in the blocks, in order.
    pub const fn frames(&self) -> u64 {
        self.used / PAGE
    }

    fn code(&mut self, len: u64) -> Result<u64, Error> {
        while self.blocks.len - self.used < len {
            let next = Range { start: self.blocks.start + self.blocks.len, len: BLOCK };
            memory::take_at(next, Use::Code, CODE)?;
            self.blocks.len += BLOCK;
        }
        let start = self.blocks.start + self.used;
        self.used += len;
        Ok(start)
    }

    /// `address`, after making sure that the bytes from it on are backed.
    fn backed(&self, address: u64, len: u64) -> u64 {
        let last = address + len.max(1) - 1;
        for at in [address, last] {
            let inside = (TEXT.start..HOSTED.end).contains(&at);
            // SAFETY: the entry is one of the arena's tables, which cover what `inside` allows.
            assert!(inside && unsafe { self.tables.arena_page(at).read() } != 0, "{at:#x} is not backed by memory");
        }
        address
    }
}

const CODE: &str = "code";

impl Memory for Arena<'_> {
    fn back(&mut self, address: u64, len: u64, access: Access) -> Result<(), OutOfMemory> {
        assert!(
            address.is_multiple_of(PAGE) && len.is_multiple_of(PAGE),
            "{address:#x} and {len:#x} are not whole pages"
        );
        let hosted = HOSTED.contains(&address);
        let area = if hosted { HOSTED } else { TEXT.start..HOSTED.start };
        if !area.contains(&address) || len > area.end - address {
            return Err(OutOfMemory { len });
        }
        let taken = if hosted { memory::take(len, PAGE, Use::Hosted, "hosted statics") } else { self.code(len) };
        let frames = taken.map_err(|_| OutOfMemory { len })?;
        // SAFETY: the frames were free, lie below 4 GiB and are mapped one to one.
        unsafe { core::ptr::write_bytes(frames as *mut u8, 0, len as usize) };
        let flags = match access {
            Access::Execute => DATA - Flags::WRITABLE - Flags::NO_EXECUTE,
            Access::Read => DATA - Flags::WRITABLE,
            Access::Write => DATA,
        };
        for offset in (0..len).step_by(PAGE as usize) {
            let entry = self.tables.arena_page(address + offset);
            // SAFETY: the entry is one of the arena's tables, which cover `area`.
            let before = unsafe { entry.replace((frames + offset) | flags.bits()) };
            assert!(before == 0, "{:#x} is backed twice", address + offset);
        }
        Ok(())
    }

    fn bytes_mut(&mut self, address: u64, len: u64) -> &mut [u8] {
        // SAFETY: backed, mapped at its own address since `new`, writable while CR0.WP is clear, and borrowed from the
        // one `Arena` there is.
        unsafe { core::slice::from_raw_parts_mut(self.backed(address, len) as *mut u8, len as usize) }
    }

    fn bytes(&self, address: u64, len: u64) -> &[u8] {
        // SAFETY: as above, and shared.
        unsafe { core::slice::from_raw_parts(self.backed(address, len) as *const u8, len as usize) }
    }
}
