//! Reading an object: everything that another part of the crate relies on is checked here, once.
//!
//! xmas-elf reads the structures; every offset, size, alignment and count is checked before it is asked to, because it
//! asserts where a cell must be refused. What is accepted is what a compiler writes for one crate, which is less than the
//! format allows: no section that nothing here would read, no names that are not UTF-8, no two relocations of one field.
//! Format: System V ABI, chapter 4, and its AMD64 supplement.

use crate::{
    error::ObjectError,
    object::{Binding, Kind, MAX_ALIGN, MAX_BYTES, MAX_RELOCATIONS, RelocationKind, Section, Symbol, SymbolKind},
};
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
/// The first section number that has a meaning of its own.
const SHN_LORESERVE: u16 = 0xff00;
const SHN_ABS: u16 = 0xfff1;
/// Bytes in the file's header and in a section's.
const HEADER_BYTES: usize = 64;
/// Bytes in a symbol and in a relocation.
const ENTRY_BYTES: u64 = 24;

/// By number in the file: the index of the section, if it is allocated.
pub(crate) type Numbers = [Option<u32>];

/// The zero-terminated string at `at`; nothing if none begins and ends there.
fn string(table: &str, at: u32) -> Option<&str> {
    let rest = table.get(at as usize..)?;
    let len = rest.bytes().position(|byte| byte == 0)?;
    rest.get(..len)
}

/// The file's tables, each within the file.
pub(crate) struct Tables<'a> {
    bytes: &'a [u8],
    file: ElfFile<'a>,
    headers: Vec<SectionHeader<'a>>,
    names: &'a str,
}

impl<'a> Tables<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Tables<'a>, ObjectError> {
        let found = bytes.len() as u64;
        if found > MAX_BYTES {
            return Err(ObjectError::TooMany { what: "bytes", found, limit: MAX_BYTES });
        }
        if bytes.len() < HEADER_BYTES {
            return Err(ObjectError::Truncated { what: "ELF header", expected: HEADER_BYTES as u64, found });
        }
        if !bytes.as_ptr().addr().is_multiple_of(8) {
            return Err(ObjectError::Unaligned { address: bytes.as_ptr().addr() as u64 });
        }
        let word = |at: usize| u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let checks: [(&str, u64, u64); 8] = [
            ("ELF magic", 0x464c_457f, u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))),
            ("ELF class", 2, u64::from(bytes[4])),
            ("byte order", 1, u64::from(bytes[5])),
            ("ELF version", 1, u64::from(bytes[6])),
            ("file type", 1, word(16)),
            ("machine", 62, word(18)),
            ("number of program headers", 0, word(56)),
            ("size of a section header", HEADER_BYTES as u64, word(58)),
        ];
        for (what, expected, found) in checks {
            if expected != found {
                return Err(ObjectError::Header { what, expected, found });
            }
        }
        let file = ElfFile::new(bytes).map_err(|reason| ObjectError::Malformed { reason })?;
        let (start, count) = (file.header.pt2.sh_offset(), file.header.pt2.sh_count());
        if count >= SHN_LORESERVE {
            return Err(ObjectError::TooMany {
                what: "sections",
                found: count.into(),
                limit: u64::from(SHN_LORESERVE) - 1,
            });
        }
        if start < HEADER_BYTES as u64 || !start.is_multiple_of(8) {
            return Err(ObjectError::Malformed {
                reason: "its section table does not lie behind it at a multiple of 8",
            });
        }
        let end = start.saturating_add(u64::from(count) * HEADER_BYTES as u64);
        if end > found {
            return Err(ObjectError::Truncated { what: "section table", expected: end, found });
        }
        let mut tables = Tables { bytes, file, headers: Vec::with_capacity(usize::from(count)), names: "" };
        for index in 0..count {
            let header = tables.file.section_header(index).map_err(|reason| ObjectError::Malformed { reason })?;
            tables.check_header(index.into(), &header)?;
            tables.headers.push(header);
        }
        tables.names = tables.string_table(tables.file.header.pt2.sh_str_index().into())?;
        Ok(tables)
    }

    /// Checks what is common to all sections.
    fn check_header(&self, index: u32, header: &SectionHeader<'a>) -> Result<(), ObjectError> {
        let refuse = |what, found, expected| Err(ObjectError::Section { index, what, found, expected });
        let kind = self.kind(index);
        if kind == SHT_NULL {
            return Ok(());
        }
        if !matches!(kind, SHT_PROGBITS | SHT_SYMTAB | SHT_STRTAB | SHT_RELA | SHT_NOBITS | SHT_X86_64_UNWIND) {
            return refuse("type", kind.into(), "code, data, symbols, strings, relocations or unwind tables");
        }
        if header.address() != 0 {
            return refuse("address", header.address(), "0, as in every relocatable object");
        }
        let end = header.offset().saturating_add(header.size());
        if kind != SHT_NOBITS && end > self.bytes.len() as u64 {
            return refuse("end", end, "an offset within the file");
        }
        Ok(())
    }

    /// A word of a section's header that xmas-elf keeps to itself or cuts off.
    fn raw<const N: usize>(&self, index: u32, offset: usize) -> [u8; N] {
        let at = self.file.header.pt2.sh_offset() as usize + index as usize * HEADER_BYTES + offset;
        self.bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    /// The type: xmas-elf shows it only as far as it knows the number.
    fn kind(&self, index: u32) -> u32 {
        u32::from_le_bytes(self.raw(index, 4))
    }

    /// The size of an entry, of which xmas-elf shows 32 bits.
    fn entry_bytes(&self, index: u32) -> u64 {
        u64::from_le_bytes(self.raw(index, 56))
    }

    /// The bytes of a section whose range was checked.
    fn data(&self, header: &SectionHeader<'a>) -> &'a [u8] {
        let start = header.offset() as usize;
        &self.bytes[start..start + header.size() as usize]
    }

    /// A string table that ends with a zero, so that every string in it ends.
    fn string_table(&self, index: u32) -> Result<&'a str, ObjectError> {
        let refuse = |what, found, expected| ObjectError::Section { index, what, found, expected };
        let Some(header) = self.headers.get(index as usize) else {
            return Err(refuse("number", index.into(), "that of a string table"));
        };
        if self.kind(index) != SHT_STRTAB {
            return Err(refuse("type", self.kind(index).into(), "a string table"));
        }
        let table = self.data(header);
        if table.last() != Some(&0) {
            return Err(refuse("size", header.size(), "strings that end with a zero"));
        }
        core::str::from_utf8(table)
            .map_err(|error| refuse("strings with a fault at", error.valid_up_to() as u64, "UTF-8"))
    }

    /// The allocated sections, and the index of each by its number in the file.
    pub fn sections(&self) -> Result<(Vec<Section<'a>>, Vec<Option<u32>>), ObjectError> {
        let mut sections: Vec<Section<'a>> = Vec::new();
        let mut numbers = alloc::vec![None; self.headers.len()];
        let mut total = 0;
        for (number, header) in self.headers.iter().enumerate() {
            let index = number as u32;
            if self.kind(index) == SHT_NULL || header.flags() & SHF_ALLOC == 0 {
                continue;
            }
            let section = self.section(index, header)?;
            if section.kind == Kind::Unwind && sections.iter().any(|other| other.kind == Kind::Unwind) {
                return Err(ObjectError::Forbidden {
                    index,
                    name: String::from(section.name),
                    what: "a second unwind table",
                });
            }
            // Neither term is above 32 MiB, and there are less than 2^16 sections.
            total += section.size + section.align - 1;
            if total > MAX_BYTES {
                return Err(ObjectError::TooMany { what: "bytes in memory", found: total, limit: MAX_BYTES });
            }
            numbers[number] = Some(sections.len() as u32);
            sections.push(section);
        }
        Ok((sections, numbers))
    }

    fn section(&self, index: u32, header: &SectionHeader<'a>) -> Result<Section<'a>, ObjectError> {
        let refuse = |what, found, expected| ObjectError::Section { index, what, found, expected };
        let (kind, flags) = (self.kind(index), header.flags());
        let Some(name) = string(self.names, header.name()) else {
            return Err(refuse("name", header.name().into(), "an offset in the string table"));
        };
        let align = header.align().max(1);
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(refuse("alignment", align, "a power of two up to 4096"));
        }
        if header.size() > MAX_BYTES {
            return Err(refuse("size", header.size(), "at most 32 MiB"));
        }
        let forbidden = |what| ObjectError::Forbidden { index, name: String::from(name), what };
        if flags & SHF_TLS != 0 {
            return Err(forbidden("thread-local"));
        }
        let (write, execute) = (flags & SHF_WRITE != 0, flags & SHF_EXECINSTR != 0);
        let entry = self.entry_bytes(index);
        let named =
            |prefix: &str| name == prefix || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
        let bytes = if kind == SHT_NOBITS { &[][..] } else { self.data(header) };
        let kind = match (kind, write, execute) {
            (_, true, true) => return Err(forbidden("writable and executable")),
            (SHT_PROGBITS, false, true) => Kind::Text,
            (SHT_X86_64_UNWIND, false, false) => Kind::Unwind,
            (SHT_PROGBITS, false, false) if name == ".eh_frame" => Kind::Unwind,
            (SHT_PROGBITS, false, false) if named(".gcc_except_table") => Kind::Lsda,
            (SHT_PROGBITS, false, false) if flags & SHF_MERGE != 0 && (1..=64).contains(&entry) => {
                let (entry, strings) = (entry as u32, flags & SHF_STRINGS != 0);
                if !header.size().is_multiple_of(entry.into()) {
                    return Err(refuse("size", header.size(), "whole elements"));
                }
                if strings && !bytes.is_empty() && bytes[bytes.len() - entry as usize..].iter().any(|&byte| byte != 0) {
                    return Err(refuse("size", header.size(), "strings that end with a zero"));
                }
                Kind::Mergeable { entry, strings }
            }
            (SHT_PROGBITS, false, false) => Kind::Constant,
            (SHT_PROGBITS | SHT_NOBITS, true, false) if named(".cache") => Kind::Cache,
            (SHT_PROGBITS | SHT_NOBITS, true, false) if named(".percpu") => Kind::PerCpu,
            (SHT_PROGBITS | SHT_NOBITS, true, false) => Kind::Writable,
            (found, ..) => {
                return Err(refuse("type", found.into(), "code, data or unwind tables, since it is allocated"));
            }
        };
        Ok(Section { name, kind, bytes, size: header.size(), align, relocations: &[] })
    }

    /// The symbols, and the table of their names.
    pub fn symbols(&self, numbers: &Numbers, sections: &[Section<'a>]) -> Result<(Vec<Symbol>, &'a str), ObjectError> {
        let mut tables = (0..self.headers.len() as u32).filter(|&index| self.kind(index) == SHT_SYMTAB);
        let Some(index) = tables.next() else {
            return Ok((Vec::new(), ""));
        };
        if let Some(second) = tables.next() {
            return Err(ObjectError::Section {
                index: second,
                what: "type",
                found: SHT_SYMTAB.into(),
                expected: "one symbol table only",
            });
        }
        let header = &self.headers[index as usize];
        self.check_table(index, header)?;
        let strings = self.string_table(header.link())?;
        let Ok(SectionData::SymbolTable64(entries)) = header.get_data(&self.file) else {
            return Err(ObjectError::Section { index, what: "contents", found: 0, expected: "64-bit symbols" });
        };
        match entries.first() {
            None => {
                return Err(ObjectError::Section { index, what: "size", found: 0, expected: "a null symbol at least" });
            }
            Some(null) if (null.name(), null.info(), null.shndx(), null.value(), null.size()) != (0, 0, 0, 0, 0) => {
                return Err(ObjectError::Symbol {
                    index: 0,
                    what: "section",
                    found: null.shndx().into(),
                    expected: "nothing, as in every first symbol",
                });
            }
            Some(_) => {}
        }
        let mut symbols = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            symbols.push(symbol(index as u32, entry, strings, numbers, sections)?);
        }
        Ok((symbols, strings))
    }

    /// Checks a table of 24-byte entries: what symbols and relocations are.
    fn check_table(&self, index: u32, header: &SectionHeader<'a>) -> Result<(), ObjectError> {
        let entry = self.entry_bytes(index);
        if entry != ENTRY_BYTES || !header.size().is_multiple_of(ENTRY_BYTES) {
            return Err(ObjectError::Section {
                index,
                what: "entry size",
                found: entry,
                expected: "whole entries of 24 bytes",
            });
        }
        if !header.offset().is_multiple_of(8) {
            return Err(ObjectError::Section {
                index,
                what: "offset",
                found: header.offset(),
                expected: "a multiple of 8",
            });
        }
        Ok(())
    }

    /// Gives each allocated section its relocations.
    pub fn relocations(
        &self,
        numbers: &Numbers,
        sections: &mut [Section<'a>],
        symbols: u32,
    ) -> Result<(), ObjectError> {
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
                return Err(ObjectError::Section {
                    index,
                    what: "target",
                    found: header.info().into(),
                    expected: "a section without relocations yet",
                });
            }
            check_relocations(section, relocations, symbols)?;
            section.relocations = relocations;
        }
        Ok(())
    }
}

fn check_relocations(section: &Section<'_>, relocations: &[Rela<u64>], symbols: u32) -> Result<(), ObjectError> {
    let mut last = 0;
    for (index, rela) in relocations.iter().enumerate() {
        let refuse = |what, found, expected| ObjectError::Relocation {
            section: String::from(section.name),
            index: index as u32,
            what,
            found,
            expected,
        };
        let Some(kind) = RelocationKind::read(rela.get_type()) else {
            return Err(refuse("type", rela.get_type().into(), "R_X86_64_64, PC32, PLT32 or 32S"));
        };
        let offset = rela.get_offset();
        let Some(end) = offset.checked_add(kind.width()).filter(|&end| end <= section.bytes.len() as u64) else {
            return Err(refuse("offset", offset, "a field within the section"));
        };
        if offset < last {
            return Err(refuse("offset", offset, "a field behind the one before"));
        }
        last = end;
        if rela.get_symbol_table_index() >= symbols {
            return Err(refuse("symbol", rela.get_symbol_table_index().into(), "an index in the symbol table"));
        }
    }
    Ok(())
}

fn symbol(
    index: u32,
    entry: &Entry64,
    strings: &str,
    numbers: &Numbers,
    sections: &[Section<'_>],
) -> Result<Symbol, ObjectError> {
    let refuse = |what, found, expected| ObjectError::Symbol { index, what, found, expected };
    let Some(name) = string(strings, entry.name()) else {
        return Err(refuse("name", entry.name().into(), "an offset in the string table"));
    };
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
    if binding != Binding::Local && name.is_empty() {
        return Err(refuse("name", entry.name().into(), "a name, since other cells see it"));
    }
    let number = entry.shndx();
    let mut symbol = Symbol {
        name: (entry.name(), name.len() as u32),
        section: None,
        absolute: false,
        detached: false,
        value: entry.value(),
        size: entry.size(),
        kind,
        binding,
    };
    match number {
        0 if index > 0 && binding == Binding::Local => {
            return Err(refuse("section", 0, "a section, since it is local"));
        }
        0 => {}
        SHN_ABS => symbol.absolute = true,
        _ => match numbers.get(usize::from(number)) {
            Some(&Some(section)) => {
                let size = sections[section as usize].size;
                if symbol.value.checked_add(symbol.size).is_none_or(|end| end > size) {
                    return Err(refuse(
                        "end",
                        symbol.value.saturating_add(symbol.size),
                        "an offset within its section",
                    ));
                }
                symbol.section = Some(section);
            }
            Some(None) => symbol.detached = true,
            None => return Err(refuse("section", number.into(), "an index in the section table")),
        },
    }
    Ok(symbol)
}
