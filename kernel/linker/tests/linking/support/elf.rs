//! A writer of relocatable objects that also writes what no compiler would.

/// Section types and flags, symbol kinds and relocations, by their names in the System V ABI.
pub const PROGBITS: u32 = 1;
pub const NOBITS: u32 = 8;
pub const UNWIND: u32 = 0x7000_0001;
pub const WRITE: u64 = 1;
pub const ALLOC: u64 = 2;
pub const EXEC: u64 = 4;
pub const MERGE: u64 = 0x10;
pub const STRINGS: u64 = 0x20;
pub const TLS: u64 = 0x400;
pub const LOCAL: u8 = 0;
pub const GLOBAL: u8 = 0x10;
pub const WEAK: u8 = 0x20;
pub const OBJECT: u8 = 1;
pub const FUNC: u8 = 2;
pub const SECTION: u8 = 3;
pub const HIDDEN: u8 = 2;
pub const ABS: u16 = 0xfff1;
pub const R_64: u32 = 1;
pub const R_PC32: u32 = 2;
pub const R_PLT32: u32 = 4;
pub const R_32S: u32 = 11;

/// One relocation: offset, type, symbol, addend.
pub type Rela = (u64, u32, u32, i64);

#[derive(Clone, Debug)]
pub struct Section {
    pub name: String,
    pub kind: u32,
    pub flags: u64,
    pub align: u64,
    pub entry: u64,
    pub bytes: Vec<u8>,
    /// Bytes in memory of a section without any in the file.
    pub size: u64,
    pub relocations: Vec<Rela>,
}

#[derive(Clone, Debug)]
pub struct Symbol {
    pub name: String,
    pub info: u8,
    /// Visibility.
    pub other: u8,
    pub section: u16,
    pub value: u64,
    pub size: u64,
}

/// An object in the making. Sections are numbered from 1 and symbols from 1, in the order in which they are added.
#[derive(Clone, Debug, Default)]
pub struct Elf {
    pub sections: Vec<Section>,
    pub symbols: Vec<Symbol>,
}

impl Elf {
    pub fn section(&mut self, name: &str, flags: u64, align: u64, bytes: &[u8]) -> u16 {
        let kind = if name == ".eh_frame" { UNWIND } else { PROGBITS };
        self.sections.push(Section {
            name: name.to_owned(),
            kind,
            flags: flags | ALLOC,
            align,
            entry: u64::from(flags & MERGE != 0),
            bytes: bytes.to_vec(),
            size: 0,
            relocations: Vec::new(),
        });
        self.sections.len() as u16
    }

    pub fn symbol(&mut self, name: &str, info: u8, section: u16, value: u64, size: u64) -> u32 {
        self.symbols.push(Symbol { name: name.to_owned(), info, other: 0, section, value, size });
        self.symbols.len() as u32
    }

    /// The symbol of a section.
    pub fn section_symbol(&mut self, section: u16) -> u32 {
        self.symbol("", SECTION, section, 0, 0)
    }

    /// A symbol that another object defines.
    pub fn undefined(&mut self, name: &str, info: u8) -> u32 {
        self.symbol(name, info, 0, 0, 0)
    }

    pub fn relocate(&mut self, section: u16, rela: Rela) {
        self.sections[usize::from(section) - 1].relocations.push(rela);
    }

    pub fn at(&mut self, section: u16) -> &mut Section {
        &mut self.sections[usize::from(section) - 1]
    }

    /// The file, in words, so that it begins where an object has to.
    pub fn finish(&self) -> Aligned {
        let mut rows: Vec<[u64; 10]> = vec![[0; 10]];
        let (mut out, mut names) = (vec![0; 64], vec![0]);
        let mut add = |out: &mut Vec<u8>, name: &str, bytes: &[u8], mut row: [u64; 10]| {
            row[0] = names.len() as u64;
            names.extend(name.bytes().chain([0]));
            out.resize(out.len().next_multiple_of(8), 0);
            row[4] = out.len() as u64;
            if row[1] != u64::from(NOBITS) {
                row[5] = bytes.len() as u64;
            }
            out.extend(bytes);
            if name == ".shstrtab" {
                let end = row[4] as usize;
                out.truncate(end);
                out.extend(&names);
                row[5] = names.len() as u64;
            }
            rows.push(row);
        };
        for s in &self.sections {
            add(&mut out, &s.name, &s.bytes, [0, s.kind.into(), s.flags, 0, 0, s.size, 0, 0, s.align, s.entry]);
        }
        let (mut symbols, mut strings) = (vec![0; 24], vec![0]);
        for symbol in &self.symbols {
            let name = if symbol.name.is_empty() { 0 } else { strings.len() as u32 };
            if name != 0 {
                strings.extend(symbol.name.bytes().chain([0]));
            }
            symbols.extend(name.to_le_bytes());
            symbols.extend([symbol.info, symbol.other]);
            symbols.extend(symbol.section.to_le_bytes());
            symbols.extend(symbol.value.to_le_bytes());
            symbols.extend(symbol.size.to_le_bytes());
        }
        let table = self.sections.len() as u64 + 1;
        add(&mut out, ".symtab", &symbols, [0, 2, 0, 0, 0, 0, table + 1, 1, 8, 24]);
        add(&mut out, ".strtab", &strings, [0, 3, 0, 0, 0, 0, 0, 0, 1, 0]);
        for (index, section) in self.sections.iter().enumerate().filter(|(_, s)| !s.relocations.is_empty()) {
            let entry = |&(offset, kind, symbol, addend): &Rela| {
                [offset, u64::from(symbol) << 32 | u64::from(kind), addend as u64]
            };
            let bytes: Vec<u8> = section.relocations.iter().flat_map(entry).flat_map(u64::to_le_bytes).collect();
            add(
                &mut out,
                &format!(".rela{}", section.name),
                &bytes,
                [0, 4, 0x40, 0, 0, 0, table, index as u64 + 1, 8, 24],
            );
        }
        add(&mut out, ".shstrtab", &[], [0, 3, 0, 0, 0, 0, 0, 0, 1, 0]);
        out.resize(out.len().next_multiple_of(8), 0);
        let (start, count) = (out.len() as u64, rows.len() as u16);
        for row in &rows {
            out.extend((row[0] as u32).to_le_bytes());
            out.extend((row[1] as u32).to_le_bytes());
            out.extend(row[2..6].iter().flat_map(|word| word.to_le_bytes()));
            out.extend((row[6] as u32).to_le_bytes());
            out.extend((row[7] as u32).to_le_bytes());
            out.extend(row[8..].iter().flat_map(|word| word.to_le_bytes()));
        }
        out[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        out[16..24].copy_from_slice(&[1, 0, 62, 0, 1, 0, 0, 0]);
        out[40..48].copy_from_slice(&start.to_le_bytes());
        for (at, half) in [(52, 64), (58, 64), (60, count), (62, count - 1)] {
            out[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
        Aligned::new(&out)
    }
}

/// Bytes that begin at a multiple of eight.
#[derive(Clone, Debug)]
pub struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl Aligned {
    pub fn new(bytes: &[u8]) -> Aligned {
        let word = |chunk: &[u8]| chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        Aligned { words: bytes.chunks(8).map(word).collect(), len: bytes.len() }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the words are as many bytes at least, and bytes need no alignment.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }

    pub fn set(&mut self, at: usize, byte: u8) {
        assert!(at < self.len);
        let shift = at % 8 * 8;
        self.words[at / 8] = self.words[at / 8] & !(0xff << shift) | u64::from(byte) << shift;
    }

    /// For as long as the test runs.
    pub fn leak(self) -> &'static [u8] {
        Box::leak(Box::new(self)).bytes()
    }
}

/// An object with one function of 32 bytes, its first section and symbol.
pub fn with_function(name: &str) -> Elf {
    let mut elf = Elf::default();
    let text = elf.section(&format!(".text.{name}"), EXEC, 16, &[0x90; 32]);
    elf.symbol(name, FUNC | GLOBAL, text, 0, 32);
    elf
}

/// Overwrites bytes.
pub fn put(bytes: &mut [u8], at: usize, word: &[u8]) {
    bytes[at..at + word.len()].copy_from_slice(word);
}
