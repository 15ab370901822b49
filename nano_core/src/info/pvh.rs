//! PVH: what QEMU's `-kernel` leaves (Xen, `xen/include/public/arch-x86/hvm/start_info.h`).

use super::{BootInfo, COMMAND_LINE_BYTES, CommandLine, Protocol, Rsdp, reachable, usable};
use crate::error::Error;
use handoff::Range;

/// `StartInfo::magic`.
const MAGIC: u32 = 0x336e_c578;
/// `Row::kind` of usable memory.
const USABLE: u32 = 1;
/// Rows of a memory map that are believed.
const ROWS: u32 = 1024;

/// `struct hvm_start_info`, version 1.
#[repr(C)]
#[derive(Clone, Copy)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_rows: u32,
    reserved: u32,
}

/// `struct hvm_modlist_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Module {
    address: u64,
    len: u64,
    command_line: u64,
    reserved: u64,
}

/// `struct hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Row {
    address: u64,
    len: u64,
    kind: u32,
    reserved: u32,
}

/// Reads the start information at `address`.
pub fn read(address: u64) -> Result<BootInfo, Error> {
    let wrong = |what, found, expected| Error::Pvh { address, what, found, expected };
    let start: StartInfo = fetch(address, "PVH start information")?;
    if start.magic != MAGIC {
        return Err(wrong("magic", start.magic.into(), "0x336ec578"));
    }
    if start.version == 0 {
        return Err(wrong("version", 0, "1 or later, with a memory map"));
    }
    if start.memory_rows > ROWS {
        return Err(wrong("memory map rows", start.memory_rows.into(), "at most 1024"));
    }
    if start.modules == 0 {
        return Err(Error::Missing { what: "archive of cells, expected as its first module (initrd)" });
    }
    let row_bytes = size_of::<Row>() as u64;
    let map = Range { start: start.memory_map, len: u64::from(start.memory_rows) * row_bytes };
    reachable(map, "PVH memory map")?;
    let rows = (0..u64::from(start.memory_rows)).filter_map(|number| {
        let row: Row = fetch(map.start + number * row_bytes, "PVH memory map").ok()?;
        Some((Range { start: row.address, len: row.len }, row.kind == USABLE))
    });

    let module: Module = fetch(start.module_list, "PVH module list")?;
    let archive = Range { start: module.address, len: module.len };

    Ok(BootInfo {
        protocol: Protocol::Pvh,
        memory: usable(rows)?,
        archive: reachable(archive, "archive of cells")?,
        rsdp: if start.rsdp != 0 { Rsdp::At(start.rsdp) } else { Rsdp::search() },
        command_line: command_line(start.command_line)?,
    })
}

/// The zero-terminated text at `address`; empty if that is 0.
fn command_line(address: u64) -> Result<CommandLine, Error> {
    if address == 0 {
        return CommandLine::new(&[]);
    }
    // One byte more than is accepted, to see whether it is longer.
    let limit = COMMAND_LINE_BYTES + 1;
    let range = reachable(Range { start: address, len: limit as u64 }, "boot command line")?;
    // SAFETY: below 4 GiB everything is mapped, and nothing writes there before the text has been copied.
    let bytes = unsafe { core::slice::from_raw_parts(range.start as *const u8, limit) };
    CommandLine::new(bytes.split(|byte| *byte == 0).next().unwrap_or(bytes))
}

/// The structure at `address`.
fn fetch<T: Copy>(address: u64, what: &'static str) -> Result<T, Error> {
    let range = reachable(Range { start: address, len: size_of::<T>() as u64 }, what)?;
    // SAFETY: below 4 GiB everything is mapped; the structures above are integers, for which any bytes are valid.
    Ok(unsafe { (range.start as *const T).read_unaligned() })
}
