//! From an rlib to a cell's object: the one object in it, without what does not run.
//!
//! What stays: allocated sections, their relocations, and the symbols of both, in the compiler's order. What goes: debug
//! information (kept apart as the cell's companion), `.comment`, notes, the symbol that holds the file's name, and
//! symbols that only those parts used. File offsets are given anew. So two builds of the same code give the same bytes
//! wherever they are made, and a change that only moves line numbers changes none.
//!
//! ```text
//! header │ allocated sections │ symbols │ names of symbols │ relocations │ names of sections │ section headers
//! ```

use anyhow::{Context, Result, ensure};
use object::LittleEndian as Le;
use object::elf::{self, FileHeader64};
use object::read::archive::ArchiveFile;
use object::read::elf::{FileHeader, Rela, SectionHeader, SectionTable, Sym, SymbolTable};
use std::collections::HashMap;

type Header = FileHeader64<Le>;

const HEADER_BYTES: usize = 64;
const SECTION_HEADER_BYTES: usize = 64;
const SYMBOL_BYTES: u64 = 24;
const RELOCATION_BYTES: u64 = 24;

/// The one object in an rlib, as the compiler wrote it.
///
/// # Errors
/// The file is no archive, or holds another number of objects than one.
pub fn object_of(rlib: &[u8]) -> Result<&[u8]> {
    let archive = ArchiveFile::parse(rlib).context("not an archive")?;
    let mut objects = Vec::new();
    for member in archive.members() {
        let member = member.context("a member of the archive cannot be read")?;
        if member.name().ends_with(b".o") {
            objects.push(member.data(rlib).context("a member of the archive reaches past its end")?);
        }
    }
    ensure!(objects.len() == 1, "{} objects in one crate, expected 1", objects.len());
    Ok(objects[0])
}

/// A section header to be written.
#[derive(Clone, Copy, Default)]
struct Row {
    name: u32,
    kind: u32,
    flags: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entry: u64,
}

/// Strings that end with a zero, each kept once.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    known: HashMap<Vec<u8>, u32>,
}

impl Names {
    fn new() -> Names {
        Names { bytes: vec![0], known: HashMap::from([(Vec::new(), 0)]) }
    }

    fn add(&mut self, name: &[u8]) -> u32 {
        if let Some(&at) = self.known.get(name) {
            return at;
        }
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.known.insert(name.to_vec(), at);
        at
    }
}

/// The file as it grows.
struct Out {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    names: Names,
}

impl Out {
    /// Appends a section's bytes where its alignment allows.
    fn section(&mut self, name: &[u8], row: Row, bytes: &[u8]) {
        let at = self.bytes.len().next_multiple_of(row.align.max(1) as usize);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(bytes);
        let name = self.names.add(name);
        let size = if row.kind == elf::SHT_NOBITS.0 { row.size } else { bytes.len() as u64 };
        self.rows.push(Row { name, offset: at as u64, size, ..row });
    }

    /// The whole file: section names and headers behind the rest, the header in front.
    fn finish(mut self) -> Vec<u8> {
        let own = self.names.add(b".shstrtab");
        let names = std::mem::take(&mut self.names.bytes);
        let names_at = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&names);
        let size = names.len() as u64;
        self.rows.push(Row { name: own, kind: elf::SHT_STRTAB.0, offset: names_at, size, align: 1, ..Row::default() });
        let table = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(table, 0);
        for row in &self.rows {
            self.bytes.extend(row.name.to_le_bytes());
            self.bytes.extend(row.kind.to_le_bytes());
            for field in [row.flags, 0, row.offset, row.size] {
                self.bytes.extend(field.to_le_bytes());
            }
            self.bytes.extend(row.link.to_le_bytes());
            self.bytes.extend(row.info.to_le_bytes());
            self.bytes.extend(row.align.to_le_bytes());
            self.bytes.extend(row.entry.to_le_bytes());
        }
        let mut head = Vec::with_capacity(HEADER_BYTES);
        // Class 64, little-endian, version 1, System V.
        head.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        head.extend(elf::ET_REL.0.to_le_bytes());
        head.extend(elf::EM_X86_64.0.to_le_bytes());
        head.extend(1_u32.to_le_bytes());
        for field in [0, 0, table as u64] {
            head.extend(field.to_le_bytes());
        }
        head.extend(0_u32.to_le_bytes());
        let (count, last) = (self.rows.len() as u16, self.rows.len() as u16 - 1);
        for field in [HEADER_BYTES as u16, 0, 0, SECTION_HEADER_BYTES as u16, count, last] {
            head.extend(field.to_le_bytes());
        }
        self.bytes[..HEADER_BYTES].copy_from_slice(&head);
        self.bytes
    }
}

/// What is read of the object.
struct Input<'a> {
    bytes: &'a [u8],
    sections: SectionTable<'a, Header>,
    symbols: SymbolTable<'a, Header>,
    /// By section: its number in the output, if it stays.
    kept: Vec<Option<u16>>,
}

/// The relocations of one section that stays.
struct Relocations<'a> {
    of: usize,
    entries: &'a [elf::Rela64<Le>],
}

impl<'a> Input<'a> {
    fn read(bytes: &'a [u8]) -> Result<Input<'a>> {
        let header = Header::parse(bytes).context("not an ELF64 object")?;
        ensure!(header.e_type(Le) == elf::ET_REL, "not a relocatable object");
        let sections = header.sections(Le, bytes).context("its sections cannot be read")?;
        let symbols = sections.symbols(Le, bytes, elf::SHT_SYMTAB).context("its symbols cannot be read")?;
        let mut count = 0;
        let stays = |section: &elf::SectionHeader64<Le>| section.sh_flags(Le).0 & elf::SHF_ALLOC.0 != 0;
        let kept = sections
            .iter()
            .map(|section| {
                count += u16::from(stays(section));
                stays(section).then_some(count)
            })
            .collect();
        // Beyond this section numbers are reserved and a second table would be needed.
        ensure!(sections.len() < usize::from(elf::SHN_LORESERVE), "{} sections, too many", sections.len());
        Ok(Input { bytes, sections, symbols, kept })
    }

    fn relocations(&self) -> Result<Vec<Relocations<'a>>> {
        let mut found = Vec::new();
        for section in self.sections.iter() {
            let Some((entries, _)) = section.rela(Le, self.bytes).context("relocations cannot be read")? else {
                continue;
            };
            let of = section.sh_info(Le) as usize;
            if self.kept.get(of).copied().flatten().is_some() && !entries.is_empty() {
                found.push(Relocations { of, entries });
            }
        }
        Ok(found)
    }

    /// By symbol: its number in the output, if it stays; and how many local symbols stay, the null symbol included.
    fn choose_symbols(&self, relocations: &[Relocations]) -> Result<(Vec<u32>, Vec<usize>, u32)> {
        let mut used = vec![false; self.symbols.len()];
        for entry in relocations.iter().flat_map(|section| section.entries) {
            let symbol = entry.r_sym(Le, false) as usize;
            *used.get_mut(symbol).context("a relocation names a symbol that is not there")? = true;
        }
        let (mut numbers, mut order, mut locals) = (vec![0; used.len()], Vec::new(), 1);
        for (index, symbol) in self.symbols.enumerate() {
            let section = usize::from(symbol.st_shndx(Le).0);
            let defined = self.kept.get(section).copied().flatten().is_some();
            let kind = symbol.st_type();
            let stays = match kind {
                _ if index.0 == 0 || kind == elf::STT_FILE => false,
                elf::STT_SECTION => defined && used[index.0],
                _ => defined || used[index.0],
            };
            if stays {
                order.push(index.0);
                numbers[index.0] = order.len() as u32;
                locals += u32::from(symbol.st_bind() == elf::STB_LOCAL);
            }
        }
        Ok((numbers, order, locals))
    }
}

/// The object in canonical form.
///
/// # Errors
/// It is no relocatable ELF object, or damaged.
pub fn canonical(object: &[u8]) -> Result<Vec<u8>> {
    let input = Input::read(object)?;
    let relocations = input.relocations()?;
    let (numbers, order, locals) = input.choose_symbols(&relocations)?;
    let mut out = Out { bytes: vec![0; HEADER_BYTES], rows: vec![Row::default()], names: Names::new() };
    // The names of relocation sections first: the name of what they relocate is their end.
    for section in &relocations {
        let header = input.sections.section(object::SectionIndex(section.of))?;
        let name = [b".rela", input.sections.section_name(Le, header)?].concat();
        let at = out.names.add(&name);
        out.names.known.insert(name[5..].to_vec(), at + 5);
    }
    for (section, _) in input.sections.iter().zip(&input.kept).filter(|(_, kept)| kept.is_some()) {
        let row = Row {
            kind: section.sh_type(Le).0,
            flags: section.sh_flags(Le).0,
            size: section.sh_size(Le),
            align: section.sh_addralign(Le),
            entry: section.sh_entsize(Le),
            ..Row::default()
        };
        let bytes = section.data(Le, object).context("a section reaches past the end")?;
        out.section(input.sections.section_name(Le, section)?, row, bytes);
    }
    let symbol_table = out.rows.len() as u32;
    let mut names = Names::new();
    let mut table = vec![0; SYMBOL_BYTES as usize];
    for &index in &order {
        let symbol = input.symbols.symbol(object::SymbolIndex(index))?;
        let section = symbol.st_shndx(Le).0;
        let number = match input.kept.get(usize::from(section)) {
            // Undefined.
            Some(_) if section == 0 => 0,
            Some(kept) => kept.context("something that runs refers to something that does not")?,
            // A number instead of a section: an absolute symbol.
            None => section,
        };
        table.extend(names.add(input.symbols.symbol_name(Le, symbol)?).to_le_bytes());
        table.extend([symbol.st_info().0, symbol.st_other().0]);
        table.extend(number.to_le_bytes());
        table.extend(symbol.st_value(Le).to_le_bytes());
        table.extend(symbol.st_size(Le).to_le_bytes());
    }
    let row = Row { link: symbol_table + 1, info: locals, align: 8, entry: SYMBOL_BYTES, ..Row::default() };
    out.section(b".symtab", Row { kind: elf::SHT_SYMTAB.0, ..row }, &table);
    out.section(b".strtab", Row { kind: elf::SHT_STRTAB.0, align: 1, ..Row::default() }, &names.bytes);
    for section in &relocations {
        let header = input.sections.section(object::SectionIndex(section.of))?;
        let name = [b".rela", input.sections.section_name(Le, header)?].concat();
        let mut bytes = Vec::new();
        for entry in section.entries {
            let number = numbers[entry.r_sym(Le, false) as usize];
            bytes.extend(entry.r_offset(Le).to_le_bytes());
            bytes.extend((u64::from(number) << 32 | u64::from(entry.r_type(Le, false).0)).to_le_bytes());
            bytes.extend(entry.r_addend(Le).to_le_bytes());
        }
        let row = Row {
            kind: elf::SHT_RELA.0,
            flags: elf::SHF_INFO_LINK.0,
            link: symbol_table,
            info: u32::from(input.kept[section.of].unwrap_or(0)),
            align: 8,
            entry: RELOCATION_BYTES,
            ..Row::default()
        };
        out.section(&name, row, &bytes);
    }
    Ok(out.finish())
}
