//! A relocatable object, checked once: what is here can be trusted by the rest of the crate.
//!
//! xmas-elf reads the structures; every offset, size, alignment and count is checked before it is asked to, because it
//! asserts where a cell must be refused. Format: System V ABI, AMD64 supplement.

use crate::error::ObjectError;
use alloc::{string::String, vec::Vec};
use xmas_elf::{
    ElfFile,
    sections::{Rela, SectionData, SectionHeader},
    symbol_table::{self, Entry, Entry64},
};

const SHT_NULL: u32 = 0;
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_RELA: u32 = 4;
const SHT_NOBITS: u32 = 8;
const SHT_X86_64_UNWIND: u32 = 0x7000_0001;
const SHF_WRITE: u64 = 1;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;
const SHF_MERGE: u64 = 0x10;
const SHF_STRINGS: u64 = 0x20;
const SHF_TLS: u64 = 0x400;
const SHN_ABS: u16 = 0xfff1;
const HEADER_BYTES: usize = 64;

/// The largest object that is accepted, in bytes.
pub const MAX_BYTES: u64 = 32 << 20;
/// The most relocations that are accepted.
pub const MAX_RELOCATIONS: u64 = 400_000;
/// The largest alignment of a section that is accepted, in bytes.
pub const MAX_ALIGN: u64 = 4096;

/// What a section is, told from its flags and, for the few cases where flags do not tell, its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Functions.
    Text,
    /// Read-only data.
    Constant,
    /// Read-only data made of elements that may be shared one by one: of `entry` bytes, or strings that end with a zero.
    Mergeable {
        /// Bytes in an element.
        entry: u32,
        /// Whether each element is a string that ends with a zero element.
        strings: bool,
    },
    /// `.eh_frame`.
    Unwind,
    /// `.gcc_except_table`: what to do where an exception passes.
    Lsda,
    /// `.cache`: writable words, zero at first, that may be wiped at any moment.
    Cache,
    /// `.percpu`: one zeroed value for each CPU; the symbol's value is an offset in the CPU's private area.
    PerCpu,
    /// Any other writable section: a static that lives longer than its cell, if it is listed, or a spilled state.
    Writable,
}

/// One allocated section.
#[derive(Debug)]
pub struct Section<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Its bytes; empty where the file has none (then it is zeros).
    pub bytes: &'a [u8],
    /// Its length in memory, in bytes.
    pub size: u64,
    /// Its alignment, a power of two, at most [`MAX_ALIGN`].
    pub align: u64,
    relocations: &'a [Rela<u64>],
}

/// How a relocated field is computed and how wide it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocationKind {
    /// `S + A`, 64 bits.
    Absolute64,
    /// `S + A`, 32 bits, sign-extended.
    Absolute32,
    /// `S + A - P`, 32 bits, of data.
    Relative32,
    /// `S + A - P`, 32 bits, of a branch.
    Branch32,
}

/// One relocation.
#[derive(Clone, Copy, Debug)]
pub struct Relocation {
    /// Offset of the field in its section, in bytes.
    pub offset: u64,
    /// How it is computed.
    pub kind: RelocationKind,
    /// Index of the symbol.
    pub symbol: u32,
    /// What is added.
    pub addend: i64,
}

impl RelocationKind {
    fn read(number: u32) -> Option<RelocationKind> {
        Some(match number {
            1 => RelocationKind::Absolute64,
            2 => RelocationKind::Relative32,
            4 => RelocationKind::Branch32,
            11 => RelocationKind::Absolute32,
            _ => return None,
        })
    }

    /// Bytes in the field.
    pub fn width(self) -> u64 {
        if self == RelocationKind::Absolute64 { 8 } else { 4 }
    }
}

impl<'a> Section<'a> {
    /// The section's relocations, in the order of the file.
    pub fn relocations(&self) -> impl ExactSizeIterator<Item = Relocation> + 'a {
        self.relocations.iter().map(|rela| Relocation {
            offset: rela.get_offset(),
            // Checked by `parse`; the fallback is never reached.
            kind: RelocationKind::read(rela.get_type()).unwrap_or(RelocationKind::Absolute64),
            symbol: rela.get_symbol_table_index(),
            addend: rela.get_addend() as i64,
        })
    }

    /// Whether the section has relocations.
    pub fn is_relocated(&self) -> bool {
        !self.relocations.is_empty()
    }
}

/// Where a symbol can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// In its object only.
    Local,
    /// Everywhere.
    Global,
    /// Everywhere; undefined, it is 0.
    Weak,
}

/// What a symbol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolKind {
    /// Nothing said.
    None,
    /// Data.
    Object,
    /// A function.
    Function,
    /// A section.
    Section,
}

/// One symbol.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    name: u32,
    /// Index into [`Object::sections`] of the section it lies in.
    pub section: Option<u32>,
    /// Neither in a section nor undefined: its value is a number.
    pub absolute: bool,
    /// In a section that is not allocated: nothing allocated may refer to it.
    pub detached: bool,
    /// Offset in its section, in bytes.
    pub value: u64,
    /// Length in bytes.
    pub size: u64,
    /// What it names.
    pub kind: SymbolKind,
    /// Where it is seen.
    pub binding: Binding,
}

impl Symbol {
    /// Whether another cell has to define it (or, if weak, may).
    pub fn is_undefined(&self) -> bool {
        self.section.is_none() && !self.absolute && !self.detached
    }

    /// Whether other cells can see it. `HIDDEN` symbols are seen: an image is one program.
    pub fn is_exported(&self) -> bool {
        self.binding != Binding::Local && (self.section.is_some() || self.absolute)
    }
}

/// A checked object.
#[derive(Debug)]
pub struct Object<'a> {
    /// All of it, as it lies in the archive.
    pub bytes: &'a [u8],
    /// Its allocated sections.
    pub sections: Vec<Section<'a>>,
    /// Its symbols, by index; the first is the null symbol.
    pub symbols: Vec<Symbol>,
    strings: &'a [u8],
}

impl<'a> Object<'a> {
    /// Reads and checks an object. `bytes` must begin at an address that is a multiple of 8.
    ///
    /// # Errors
    /// [`ObjectError`] for whatever is not as a cell's object must be.
    pub fn parse(bytes: &'a [u8]) -> Result<Object<'a>, ObjectError> {
        let tables = Tables::read(bytes)?;
        let mut sections = Vec::new();
        let mut numbers = alloc::vec![None; tables.headers.len()];
        for (index, header) in tables.headers.iter().enumerate() {
            if let Some(section) = tables.section(index as u32, header)? {
                numbers[index] = Some(sections.len() as u32);
                sections.push(section);
            }
        }
        let (symbols, strings) = tables.symbols(&numbers, &sections)?;
        tables.relocations(&numbers, &mut sections, symbols.len() as u32)?;
        Ok(Object { bytes, sections, symbols, strings })
    }

    /// A symbol's name.
    pub fn name(&self, symbol: &Symbol) -> &'a str {
        string(self.strings, symbol.name)
    }

    /// Names that this object gives to others.
    pub fn defined(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.symbols.iter().filter(|s| s.is_exported()).map(|s| self.name(s))
    }

    /// Names that this object needs from others.
    pub fn undefined(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.symbols.iter().skip(1).filter(|s| s.is_undefined() && s.binding == Binding::Global).map(|s| self.name(s))
    }

    /// How a place is called in an error: the symbol's name, or the section's and an offset.
    pub(crate) fn describe(&self, symbol: u32) -> String {
        let Some(symbol) = self.symbols.get(symbol as usize) else { return String::from("?") };
        match (symbol.kind, symbol.section) {
            (SymbolKind::Section, Some(section)) => String::from(self.sections[section as usize].name),
            _ => String::from(self.name(symbol)),
        }
    }
}

/// A zero-terminated string of a checked table; empty where it is not UTF-8.
fn string(table: &[u8], at: u32) -> &str {
    let rest = table.get(at as usize..).unwrap_or(&[]);
    let len = rest.iter().position(|&b| b == 0).unwrap_or(0);
    core::str::from_utf8(&rest[..len]).unwrap_or("")
}

/// The file's tables, each within the file.
struct Tables<'a> {
    bytes: &'a [u8],
    file: ElfFile<'a>,
    headers: Vec<SectionHeader<'a>>,
    names: &'a [u8],
}

impl<'a> Tables<'a> {
    fn read(bytes: &'a [u8]) -> Result<Tables<'a>, ObjectError> {
        let found = bytes.len() as u64;
        if found > MAX_BYTES {
            return Err(ObjectError::TooMany { what: "bytes", found, limit: MAX_BYTES });
        }
        if bytes.len() < HEADER_BYTES {
            return Err(ObjectError::Truncated { what: "ELF header", expected: HEADER_BYTES as u64, found });
        }
        if bytes.as_ptr() as usize % 8 != 0 {
            return Err(ObjectError::Unaligned { address: bytes.as_ptr() as u64 });
        }
        let word = |at: usize| u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let checks: [(&str, u64, u64); 7] = [
            ("ELF magic", 0x464c_457f, u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))),
            ("ELF class", 2, u64::from(bytes[4])),
            ("byte order", 1, u64::from(bytes[5])),
            ("ELF version", 1, u64::from(bytes[6])),
            ("file type", 1, word(16)),
            ("machine", 62, word(18)),
            ("size of a section header", 64, word(58)),
        ];
        for (what, expected, found) in checks {
            if expected != found {
                return Err(ObjectError::Header { what, expected, found });
            }
        }
        let file = ElfFile::new(bytes).map_err(|reason| ObjectError::Malformed { reason })?;
        let (start, count) = (file.header.pt2.sh_offset(), file.header.pt2.sh_count());
        let end = start.checked_add(u64::from(count) * 64).filter(|&end| end <= found);
        if end.is_none() || start % 8 != 0 || count >= 0xff00 {
            return Err(ObjectError::Truncated { what: "section table", expected: start.saturating_add(u64::from(count) * 64), found });
        }
        let mut headers = Vec::with_capacity(usize::from(count));
        for index in 0..count {
            let header = file.section_header(index).map_err(|reason| ObjectError::Malformed { reason })?;
            if raw_type(bytes, start, index) != SHT_NOBITS && raw_type(bytes, start, index) != SHT_NULL {
                let end = header.offset().checked_add(header.size());
                if end.is_none_or(|end| end > found) {
                    return Err(ObjectError::Section {
                        index: index.into(),
                        what: "end",
                        found: header.offset().saturating_add(header.size()),
                        expected: "an offset within the file",
                    });
                }
            }
            headers.push(header);
        }
        let mut tables = Tables { bytes, file, headers, names: &[] };
        let names = u32::from(tables.file.header.pt2.sh_str_index());
        tables.names = tables.string_table(names)?;
        Ok(tables)
    }

    fn kind(&self, index: u32) -> u32 {
        raw_type(self.bytes, self.file.header.pt2.sh_offset(), index as u16)
    }

    /// The bytes of a section whose range was checked.
    fn data(&self, header: &SectionHeader<'a>) -> &'a [u8] {
        let start = header.offset() as usize;
        &self.bytes[start..start + header.size() as usize]
    }

    /// A string table that ends with a zero, so that every string in it ends.
    fn string_table(&self, index: u32) -> Result<&'a [u8], ObjectError> {
        let header = self.headers.get(index as usize).filter(|_| self.kind(index) == SHT_STRTAB);
        let Some(header) = header else {
            return Err(ObjectError::Section { index, what: "type", found: 0, expected: "a string table" });
        };
        let table = self.data(header);
        if table.last() != Some(&0) {
            return Err(ObjectError::Section { index, what: "size", found: header.size(), expected: "strings that end with a zero" });
        }
        Ok(table)
    }

    /// The section, if it is allocated.
    fn section(&self, index: u32, header: &SectionHeader<'a>) -> Result<Option<Section<'a>>, ObjectError> {
        let flags = header.flags();
        if self.kind(index) == SHT_NULL || flags & SHF_ALLOC == 0 {
            return Ok(None);
        }
        if header.name() as usize >= self.names.len() {
            return Err(ObjectError::Section { index, what: "name", found: header.name().into(), expected: "an offset in the string table" });
        }
        let name = string(self.names, header.name());
        let align = header.align().max(1);
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(ObjectError::Section { index, what: "alignment", found: align, expected: "a power of two up to 4096" });
        }
        if header.size() > MAX_BYTES {
            return Err(ObjectError::Section { index, what: "size", found: header.size(), expected: "at most 32 MiB" });
        }
        let forbidden = |what| ObjectError::Forbidden { index, name: String::from(name), what };
        if flags & SHF_TLS != 0 {
            return Err(forbidden("thread-local"));
        }
        let (write, execute) = (flags & SHF_WRITE != 0, flags & SHF_EXECINSTR != 0);
        let kind = match (self.kind(index), write, execute) {
            (_, true, true) => return Err(forbidden("writable and executable")),
            (SHT_PROGBITS, false, true) => Kind::Text,
            (SHT_X86_64_UNWIND, false, false) => Kind::Unwind,
            (SHT_PROGBITS, false, false) if name == ".eh_frame" => Kind::Unwind,
            (SHT_PROGBITS, false, false) if name.starts_with(".gcc_except_table") => Kind::Lsda,
            (SHT_PROGBITS, false, false) if flags & SHF_MERGE != 0 && (1..=64).contains(&header.entry_size()) => {
                Kind::Mergeable { entry: header.entry_size(), strings: flags & SHF_STRINGS != 0 }
            }
            (SHT_PROGBITS, false, false) => Kind::Constant,
            (SHT_PROGBITS | SHT_NOBITS, true, false) if name == ".cache" || name.starts_with(".cache.") => Kind::Cache,
            (SHT_PROGBITS | SHT_NOBITS, true, false) if name.starts_with(".percpu") => Kind::PerCpu,
            (SHT_PROGBITS | SHT_NOBITS, true, false) => Kind::Writable,
            (found, ..) => {
                return Err(ObjectError::Section { index, what: "type", found: found.into(), expected: "code, data or unwind tables" });
            }
        };
        let bytes = if self.kind(index) == SHT_NOBITS { &[][..] } else { self.data(header) };
        Ok(Some(Section { name, kind, bytes, size: header.size(), align, relocations: &[] }))
    }

    /// The symbols, and the table of their names.
    fn symbols(&self, numbers: &[Option<u32>], sections: &[Section<'a>]) -> Result<(Vec<Symbol>, &'a [u8]), ObjectError> {
        let mut tables = (0..self.headers.len() as u32).filter(|&index| self.kind(index) == SHT_SYMTAB);
        let Some(index) = tables.next() else {
            return Ok((Vec::new(), &[0]));
        };
        if let Some(second) = tables.next() {
            return Err(ObjectError::Section { index: second, what: "type", found: SHT_SYMTAB.into(), expected: "one symbol table only" });
        }
        let header = &self.headers[index as usize];
        self.check_table(index, header)?;
        let strings = self.string_table(header.link())?;
        let Ok(SectionData::SymbolTable64(entries)) = header.get_data(&self.file) else {
            return Err(ObjectError::Section { index, what: "contents", found: 0, expected: "64-bit symbols" });
        };
        let mut symbols = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            symbols.push(symbol(index as u32, entry, strings, numbers, sections)?);
        }
        Ok((symbols, strings))
    }

    /// Checks a table of 24-byte entries: what symbols and relocations are.
    fn check_table(&self, index: u32, header: &SectionHeader<'a>) -> Result<(), ObjectError> {
        if header.entry_size() != 24 || header.size() % 24 != 0 {
            return Err(ObjectError::Section { index, what: "entry size", found: header.entry_size().into(), expected: "whole entries of 24 bytes" });
        }
        if header.offset() % 8 != 0 {
            return Err(ObjectError::Section { index, what: "offset", found: header.offset(), expected: "a multiple of 8" });
        }
        Ok(())
    }

    fn relocations(&self, numbers: &[Option<u32>], sections: &mut [Section<'a>], symbols: u32) -> Result<(), ObjectError> {
        let mut total = 0;
        for (index, header) in self.headers.iter().enumerate() {
            let index = index as u32;
            if self.kind(index) != SHT_RELA {
                continue;
            }
            let Some(&Some(target)) = numbers.get(header.info() as usize) else {
                continue; // of a section that is not allocated
            };
            self.check_table(index, header)?;
            let Ok(SectionData::Rela64(relocations)) = header.get_data(&self.file) else {
                return Err(ObjectError::Section { index, what: "contents", found: 0, expected: "64-bit relocations" });
            };
            total += relocations.len() as u64;
            if total > MAX_RELOCATIONS {
                return Err(ObjectError::TooMany { what: "relocations", found: total, limit: MAX_RELOCATIONS });
            }
            let section = &mut sections[target as usize];
            if section.is_relocated() {
                return Err(ObjectError::Section { index, what: "target", found: header.info().into(), expected: "a section without relocations yet" });
            }
            check_relocations(section, relocations, symbols)?;
            section.relocations = relocations;
        }
        Ok(())
    }
}

fn check_relocations(section: &Section<'_>, relocations: &[Rela<u64>], symbols: u32) -> Result<(), ObjectError> {
    for (index, rela) in relocations.iter().enumerate() {
        let refuse = |what, found, expected| ObjectError::Relocation { section: String::from(section.name), index: index as u32, what, found, expected };
        let Some(kind) = RelocationKind::read(rela.get_type()) else {
            return Err(refuse("type", rela.get_type().into(), "R_X86_64_64, PC32, PLT32 or 32S"));
        };
        if rela.get_offset().checked_add(kind.width()).is_none_or(|end| end > section.bytes.len() as u64) {
            return Err(refuse("offset", rela.get_offset(), "a field within the section"));
        }
        if rela.get_symbol_table_index() >= symbols {
            return Err(refuse("symbol", rela.get_symbol_table_index().into(), "an index in the symbol table"));
        }
    }
    Ok(())
}

/// The type word of a section header; xmas-elf shows it only as far as it knows the number.
fn raw_type(bytes: &[u8], table: u64, index: u16) -> u32 {
    let at = table as usize + usize::from(index) * 64 + 4;
    bytes.get(at..at + 4).map_or(SHT_NULL, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn symbol(index: u32, entry: &Entry64, strings: &[u8], numbers: &[Option<u32>], sections: &[Section<'_>]) -> Result<Symbol, ObjectError> {
    let refuse = |what, found, expected| ObjectError::Symbol { index, what, found, expected };
    if entry.name() as usize >= strings.len() {
        return Err(refuse("name", entry.name().into(), "an offset in the string table"));
    }
    let kind = match entry.get_type() {
        Ok(symbol_table::Type::NoType | symbol_table::Type::File) => SymbolKind::None,
        Ok(symbol_table::Type::Object) => SymbolKind::Object,
        Ok(symbol_table::Type::Func) => SymbolKind::Function,
        Ok(symbol_table::Type::Section) => SymbolKind::Section,
        _ => return Err(refuse("type", u64::from(entry.info() & 15), "none, object, function, section or file")),
    };
    let binding = match entry.get_binding() {
        Ok(symbol_table::Binding::Local) => Binding::Local,
        Ok(symbol_table::Binding::Global) => Binding::Global,
        Ok(symbol_table::Binding::Weak) => Binding::Weak,
        _ => return Err(refuse("binding", u64::from(entry.info() >> 4), "local, global or weak")),
    };
    let number = entry.shndx();
    let mut symbol = Symbol { name: entry.name(), section: None, absolute: false, detached: false, value: entry.value(), size: entry.size(), kind, binding };
    match number {
        0 => {}
        SHN_ABS => symbol.absolute = true,
        _ => match numbers.get(usize::from(number)) {
            Some(&Some(section)) => {
                let size = sections[section as usize].size;
                if symbol.value > size || symbol.value.checked_add(symbol.size).is_none_or(|end| end > size) {
                    return Err(refuse("end", symbol.value.saturating_add(symbol.size), "an offset within its section"));
                }
                symbol.section = Some(section);
            }
            Some(None) => symbol.detached = true,
            None => return Err(refuse("section", number.into(), "an index in the section table")),
        },
    }
    Ok(symbol)
}
