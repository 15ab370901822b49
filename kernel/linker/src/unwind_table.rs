//! The index of a copy's unwind table (`.eh_frame_hdr`): for each FDE its function's start, sorted, so that a program
//! counter is found by binary search. Formats: LSB 5.0, 10.6.1 (`.eh_frame`) and 10.6.2 (`.eh_frame_hdr`); DWARF 4, 6.4.

use crate::{error::Error, graph::Cell, object::Kind, place::Span};
use alloc::{string::String, vec::Vec};

/// Zero bytes behind the table, which end it for whoever reads it in order.
pub(crate) const END_BYTES: u64 = 4;
/// Bytes before the first entry of the index: version, three encodings, the table's address, the number of entries.
const HEADER_BYTES: u64 = 12;
/// Bytes in an entry of the index: function and FDE, both relative to the index.
const ENTRY_BYTES: u64 = 8;
/// Version 1; table address pcrel sdata4; count udata4; entries datarel sdata4.
const ENCODINGS: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// Where FDEs begin in an unwind table, with the offset of the field that holds their function's start.
fn fdes(table: &[u8]) -> impl Iterator<Item = Result<u64, (u64, &'static str)>> + '_ {
    let mut at = 0usize;
    core::iter::from_fn(move || {
        while at < table.len() {
            let start = at;
            let word = |at: usize| table.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            let (Some(len), Some(id)) = (word(start), word(start + 4)) else {
                at = table.len();
                return Some(Err((start as u64, "an entry is cut off")));
            };
            if len < 4 || len == u32::MAX || (len as usize) > table.len() - start - 4 {
                at = table.len();
                return Some(Err((start as u64, "an entry's length is not within the table")));
            }
            at = start + 4 + len as usize;
            if id != 0 {
                return Some(if len < 12 { Err((start as u64, "an entry is too short for a function")) } else { Ok(start as u64) });
            }
        }
        None
    })
}

/// Bytes of the index of a cell's unwind table.
pub(crate) fn index_bytes(cell: &Cell<'_>) -> u64 {
    let tables = cell.object.sections.iter().filter(|section| section.kind == Kind::Unwind);
    HEADER_BYTES + tables.map(|section| fdes(section.bytes).count() as u64 * ENTRY_BYTES).sum::<u64>()
}

/// Checks every table's structure, as the index needs it.
pub(crate) fn check(cell: &Cell<'_>) -> Result<(), Error> {
    for section in cell.object.sections.iter().filter(|section| section.kind == Kind::Unwind) {
        for fde in fdes(section.bytes) {
            fde.map_err(|(offset, what)| Error::Unwind { cell: String::from(cell.name), offset, what })?;
        }
    }
    Ok(())
}

/// The index, to lie at `at`, of the relocated `table` at `address`, for functions in `text`.
pub(crate) fn index(cell: &Cell<'_>, table: &[u8], address: u64, text: Span, at: u64) -> Result<Vec<u8>, Error> {
    let refuse = |offset, what| Error::Unwind { cell: String::from(cell.name), offset, what };
    let mut entries: Vec<(i32, i32)> = Vec::new();
    for fde in fdes(table) {
        let fde = fde.map_err(|(offset, what)| refuse(offset, what))?;
        let field = fde as usize + 8;
        let relative = i32::from_le_bytes([table[field], table[field + 1], table[field + 2], table[field + 3]]);
        let start = (address + field as u64).wrapping_add_signed(relative.into());
        if !text.contains(start) {
            return Err(refuse(fde, "an entry is for no function of this cell"));
        }
        entries.push((distance(at, start), distance(at, address + fde)));
    }
    entries.sort_unstable();
    Ok(encode(&entries, at, address))
}

/// The unwind table of an area of thunks, to lie at `at`, and the offset of its index in it: everywhere in the area the
/// return address is the only thing on the stack.
pub fn for_thunks(area: Span, at: u64) -> (Vec<u8>, u64) {
    // CIE: version 1, "zR", factors 1 and -8, return address in column 16, pointers pcrel sdata4;
    // def_cfa rsp+8, the return address at CFA-8, two nops.
    let mut bytes = Vec::from(*b"\x14\0\0\0\0\0\0\0\x01zR\0\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01\0\0");
    let fde = bytes.len() as u64;
    for word in [0x14, fde as u32 + 4, distance(at + fde + 8, area.address) as u32, area.len as u32] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&[0; 8 + END_BYTES as usize]);
    let index = bytes.len() as u64;
    let entry = (distance(at + index, area.address), distance(at + index, at + fde));
    bytes.extend_from_slice(&encode(&[entry], at + index, at));
    (bytes, index)
}

fn encode(entries: &[(i32, i32)], at: u64, table: u64) -> Vec<u8> {
    let mut bytes = Vec::from(ENCODINGS);
    bytes.extend_from_slice(&distance(at + 4, table).to_le_bytes());
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    bytes.extend(entries.iter().flat_map(|&(text, fde)| [text.to_le_bytes(), fde.to_le_bytes()]).flatten());
    bytes
}

/// From one address of the arena, which is 2 GiB, to another.
fn distance(from: u64, to: u64) -> i32 {
    to.wrapping_sub(from) as i64 as i32
}
