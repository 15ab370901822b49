//! Multiboot2: what GRUB leaves (Multiboot2 Specification 2.0, 3.6).

use super::{BootInfo, CommandLine, Protocol, Rsdp, reachable, usable};
use crate::error::Error;
use crate::ranges;
use handoff::Range;
use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType};

/// Reads the boot information at `address`.
pub fn read(address: u64) -> Result<BootInfo, Error> {
    // SAFETY: the boot loader put its information below 4 GiB, where everything is mapped; nothing writes there before
    // `BootInfo` holds copies of all that is used.
    let information = unsafe { BootInformation::load(address as *const BootInformationHeader) }
        .map_err(|reason| Error::Multiboot { address, reason })?;

    let map = information.memory_map_tag().ok_or(Error::Missing { what: "memory map" })?;
    let rows = map.memory_areas().iter().map(|area| {
        let range = Range { start: area.start_address(), len: area.size() };
        (range, area.typ() == MemoryAreaType::Available)
    });

    let module = information.module_tags().next();
    let module = module.ok_or(Error::Missing { what: "archive of cells, expected as its first module" })?;
    let archive = ranges::between(u64::from(module.start_address()), u64::from(module.end_address()));

    let text = match information.command_line_tag().map(|tag| tag.cmdline()) {
        Some(Ok(text)) => text,
        Some(Err(_)) => return Err(Error::CommandLineText { at: 0 }),
        None => "",
    };

    Ok(BootInfo {
        protocol: Protocol::Multiboot2,
        memory: usable(rows)?,
        archive: reachable(archive, "archive of cells")?,
        rsdp: rsdp(&information),
        command_line: CommandLine::new(text.as_bytes())?,
    })
}

/// The boot loader passes a copy; the original, where the BIOS keeps it, is preferred because it outlives the copy.
fn rsdp(information: &BootInformation<'_>) -> Rsdp {
    let found = Rsdp::search();
    if found != Rsdp::None {
        return found;
    }
    let copy = if let Some(tag) = information.rsdp_v2_tag() {
        // SAFETY: the tag is its 8-byte header and then the structure itself, 36 bytes (3.6.16 of the specification).
        unsafe { (core::ptr::from_ref(tag).cast::<u8>().add(8)).cast::<[u8; 36]>().read() }
    } else if let Some(tag) = information.rsdp_v1_tag() {
        let mut copy = [0; 36];
        // SAFETY: as above, 20 bytes (3.6.15).
        let bytes = unsafe { (core::ptr::from_ref(tag).cast::<u8>().add(8)).cast::<[u8; 20]>().read() };
        copy[..20].copy_from_slice(&bytes);
        copy
    } else {
        return Rsdp::None;
    };
    Rsdp::Copy(copy)
}
