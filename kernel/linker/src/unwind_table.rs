//! Unwind tables (`.eh_frame`): what is checked of them, and the index (`.eh_frame_hdr`) that each copy gets: for each FDE
//! its function's start, sorted, so that a program counter is found by binary search.
//!
//! ```text
//! length │ 0           │ CIE: version, augmentation, factors, return address, encodings, personality, instructions
//! length │ back to CIE │ FDE: function's start, length, augmentation (LSDA), instructions
//! ```
//!
//! A table is read by whoever unwinds, when something has already gone wrong; so everything that leads from one place to
//! another is checked before: entries, the CIE that each FDE names, the function that it is for. Relocations may only fill
//! the fields for that function, the LSDA and the personality. Call-frame instructions are the unwinder's affair.
//! Formats: LSB 5.0, 10.6.1 (`.eh_frame`) and 10.6.2 (`.eh_frame_hdr`); DWARF 4, 6.4 and 7.23.

use crate::{
    Memory,
    error::Error,
    graph::Unit,
    object::{Kind, Relocation, RelocationKind, Section},
    place::{Placement, Span},
};
use alloc::{string::String, vec::Vec};

/// Zero bytes behind the table, which end it for whoever reads it in order.
pub(crate) const END_BYTES: u64 = 4;
/// Bytes before the first entry of the index: version, three encodings, the table's address, the number of entries.
const HEADER_BYTES: u64 = 12;
/// Bytes in an entry of the index: function and FDE, both relative to the index.
const ENTRY_BYTES: u64 = 8;
/// Version 1; table address pcrel sdata4; count udata4; entries datarel sdata4.
const ENCODINGS: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
/// Bytes of an FDE up to its function's start: length, distance to the CIE.
const START: usize = 8;

/// An encoding of a pointer: absolute, 64 bits.
const ABSOLUTE: u8 = 0;
/// An encoding of a pointer: relative to its own place, 32 bits.
const RELATIVE: u8 = 0x1b;

/// What is wrong with a table: the offset of the entry, and the fault.
type Fault = (u64, &'static str);

/// One entry of a table.
struct Entry<'t> {
    /// Its offset, in bytes.
    at: usize,
    /// All of it.
    bytes: &'t [u8],
}

impl Entry<'_> {
    /// What tells the two kinds apart: 0 in a CIE; in an FDE the distance back from this field to its CIE.
    fn id(&self) -> usize {
        word(self.bytes, 4).unwrap_or(0) as usize
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The entries of a table, in order; none behind the first fault.
fn entries(table: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, Fault>> {
    let mut next = 0;
    core::iter::from_fn(move || {
        let at = next;
        if at >= table.len() {
            return None;
        }
        next = table.len();
        let Some(len) = word(table, at) else { return Some(Err((at as u64, "an entry is cut off"))) };
        // All ones stand for a length of 64 bits, zero for the end, which the linker itself adds.
        let end = (at + 4).checked_add(len as usize).filter(|&end| len >= 4 && len != u32::MAX && end <= table.len());
        let Some(end) = end else { return Some(Err((at as u64, "an entry's length is not within the table"))) };
        next = end;
        Some(Ok(Entry { at, bytes: &table[at..end] }))
    })
}

/// Offsets of the FDEs of a table.
fn fdes(table: &[u8]) -> impl Iterator<Item = usize> {
    entries(table).filter_map(|entry| entry.ok().filter(|entry| entry.id() != 0).map(|entry| entry.at))
}

/// What an FDE needs to know of its CIE.
#[derive(Clone, Copy)]
struct Cie {
    at: usize,
    /// Whether augmentation data has a length in front.
    sized: bool,
    /// How the LSDA is encoded, if FDEs name one.
    lsda: Option<u8>,
}

/// Reads bytes one after the other; nothing behind the end.
struct Cursor<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte
    }

    /// An unsigned or signed LEB128 number below 2^63, as far as it matters here: its length.
    fn leb128(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// Bytes of a pointer of this encoding, and the relocation that fills it.
fn pointer(encoding: u8) -> Option<(usize, RelocationKind)> {
    match encoding {
        ABSOLUTE => Some((8, RelocationKind::Absolute64)),
        RELATIVE => Some((4, RelocationKind::Relative32)),
        _ => None,
    }
}

/// The relocations of a table, met one after the other.
struct Fields<'t, I: Iterator<Item = Relocation>> {
    relocations: core::iter::Peekable<I>,
    unit: &'t Unit<'t>,
}

impl<I: Iterator<Item = Relocation>> Fields<'_, I> {
    /// The section that the pointer at `at` leads to and the offset there, if it is relocated as it has to be.
    fn pointer(&mut self, at: usize, kind: RelocationKind) -> Option<(Option<&Section<'_>>, u64)> {
        let relocation =
            self.relocations.next_if(|relocation| relocation.offset == at as u64 && relocation.kind == kind)?;
        let symbol = self.unit.object.symbols.get(relocation.symbol as usize)?;
        let section = symbol.section.map(|section| &self.unit.object.sections[section as usize]);
        Some((section, symbol.value.wrapping_add_signed(relocation.addend)))
    }
}

/// Checks the unwind table of a cell, if it has one.
pub(crate) fn check(unit: &Unit<'_>) -> Result<(), Error> {
    let table = unit.object.sections.iter().find(|section| section.kind == Kind::Unwind);
    let checked = table.map_or(Ok(()), |table| check_table(unit, table));
    checked.map_err(|(offset, what)| Error::Unwind { cell: String::from(unit.name), offset, what })
}

fn check_table(unit: &Unit<'_>, table: &Section<'_>) -> Result<(), Fault> {
    let mut fields = Fields { relocations: table.relocations().peekable(), unit };
    let mut cies: Vec<Cie> = Vec::new();
    for entry in entries(table.bytes) {
        let entry = entry?;
        let fault = |what| (entry.at as u64, what);
        if entry.id() == 0 {
            cies.push(check_cie(&entry, &mut fields).map_err(fault)?);
        } else {
            let cie = (entry.at + 4).checked_sub(entry.id());
            let known = cie.and_then(|cie| cies.binary_search_by_key(&cie, |known| known.at).ok());
            let known = known.ok_or_else(|| fault("an entry does not lead back to a CIE"))?;
            check_fde(&entry, cies[known], &mut fields).map_err(fault)?;
        }
        let end = (entry.at + entry.bytes.len()) as u64;
        if fields.relocations.peek().is_some_and(|relocation| relocation.offset < end) {
            return Err(fault("a relocation fills another field than a pointer of the entry"));
        }
    }
    Ok(())
}

fn check_cie<I: Iterator<Item = Relocation>>(
    entry: &Entry<'_>,
    fields: &mut Fields<'_, I>,
) -> Result<Cie, &'static str> {
    let cut_off = "a CIE is cut off";
    let mut cursor = Cursor { bytes: entry.bytes, at: START };
    if cursor.byte() != Some(1) {
        return Err("a CIE is not of version 1");
    }
    let start = cursor.at;
    while cursor.byte().ok_or(cut_off)? != 0 {}
    let augmentation = &entry.bytes[start..cursor.at - 1];
    for _factor in 0..2 {
        cursor.leb128().ok_or(cut_off)?;
    }
    cursor.byte().ok_or(cut_off)?;
    let mut cie = Cie { at: entry.at, sized: false, lsda: None };
    let mut encoding = ABSOLUTE;
    let mut end = None;
    for (index, letter) in augmentation.iter().enumerate() {
        match letter {
            b'z' if index == 0 => {
                let len = cursor.leb128().ok_or(cut_off)?;
                let behind = (cursor.at as u64).checked_add(len).filter(|&behind| behind <= entry.bytes.len() as u64);
                (cie.sized, end) = (true, Some(behind.ok_or(cut_off)?));
            }
            b'R' => encoding = cursor.byte().ok_or(cut_off)?,
            b'L' => cie.lsda = Some(cursor.byte().ok_or(cut_off)?),
            b'P' => {
                let (len, kind) =
                    cursor.byte().and_then(pointer).ok_or("a CIE encodes its personality in an unknown way")?;
                fields.pointer(entry.at + cursor.at, kind).ok_or("a CIE's personality is not relocated")?;
                cursor.at += len;
            }
            b'S' => {}
            _ => return Err("a CIE has an unknown augmentation"),
        }
    }
    if cursor.at > entry.bytes.len() || end.is_some_and(|end| end != cursor.at as u64) {
        return Err("a CIE's augmentation has not the length that it says");
    }
    match (encoding, cie.lsda.map(pointer)) {
        (RELATIVE, None | Some(Some(_))) => Ok(cie),
        (RELATIVE, Some(None)) => Err("a CIE encodes LSDAs in an unknown way"),
        _ => Err("a CIE encodes functions otherwise than relative and in 32 bits"),
    }
}

fn check_fde<I: Iterator<Item = Relocation>>(
    entry: &Entry<'_>,
    cie: Cie,
    fields: &mut Fields<'_, I>,
) -> Result<(), &'static str> {
    let len = word(entry.bytes, START + 4).ok_or("an entry is too short for a function")?;
    let function = fields.pointer(entry.at + START, RelocationKind::Relative32);
    let (text, offset) = function.ok_or("an entry's function is not relocated")?;
    let text = text.filter(|text| text.kind == Kind::Text).ok_or("an entry is for no function of this cell")?;
    if offset.checked_add(len.into()).is_none_or(|end| end > text.size) {
        return Err("an entry's function reaches out of its section");
    }
    if !cie.sized {
        return Ok(());
    }
    let mut cursor = Cursor { bytes: entry.bytes, at: START + 8 };
    let len = cursor.leb128().ok_or("an entry is cut off")?;
    if len > (entry.bytes.len() - cursor.at) as u64 {
        return Err("an entry's augmentation is not within it");
    }
    if let Some((width, kind)) = cie.lsda.and_then(pointer) {
        if len < width as u64 {
            return Err("an entry has no room for its LSDA");
        }
        // One that is not relocated is null: none.
        let at = entry.at + cursor.at;
        let relocated = fields.relocations.peek().is_some_and(|relocation| relocation.offset == at as u64);
        let lsda = fields.pointer(at, kind);
        let fits = lsda.is_some_and(|(section, offset)| {
            section.is_some_and(|section| section.kind == Kind::Lsda && offset < section.size)
        });
        let null = entry.bytes[cursor.at..cursor.at + width].iter().all(|&byte| byte == 0);
        if relocated && !fits || !relocated && !null {
            return Err("an entry's LSDA is none of this cell");
        }
    }
    Ok(())
}

/// Bytes of the index of a cell's unwind table.
pub(crate) fn index_bytes(unit: &Unit<'_>) -> u64 {
    let tables = unit.object.sections.iter().filter(|section| section.kind == Kind::Unwind);
    HEADER_BYTES + tables.map(|section| fdes(section.bytes).count() as u64 * ENTRY_BYTES).sum::<u64>()
}

/// The index of the relocated unwind table of a copy, which has been checked.
pub(crate) fn index(unit: &Unit<'_>, placement: &Placement, memory: &dyn Memory) -> Result<Vec<u8>, Error> {
    let Placement { text, unwind, index: at, .. } = *placement;
    let table = if unwind.len == 0 { &[] } else { memory.bytes(unwind.address, unwind.len) };
    let mut entries: Vec<(i32, i32)> = Vec::new();
    for fde in fdes(table) {
        let field = fde + START;
        let relative = word(table, field).unwrap_or(0) as i32;
        let start = (unwind.address + field as u64).wrapping_add_signed(relative.into());
        // A function may be empty and lie behind all others.
        if !(text.address..=text.end()).contains(&start) {
            let (offset, what) = (fde as u64, "an entry is for no function of this cell");
            return Err(Error::Unwind { cell: String::from(unit.name), offset, what });
        }
        entries.push((distance(at.address, start), distance(at.address, unwind.address + fde as u64)));
    }
    entries.sort_unstable();
    let bytes = encode(&entries, at.address, unwind.address);
    if bytes.len() as u64 != at.len {
        return Err(Error::Unreadable { cell: String::from(unit.name), address: unwind.address, len: unwind.len });
    }
    Ok(bytes)
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
