//! A relocatable object, checked once by [`read`](crate::read): what is here can be trusted by the rest of the crate.

use crate::{error::ObjectError, read::Tables};
use alloc::{format, string::String, vec::Vec};
use xmas_elf::sections::Rela;

/// The largest object that is accepted, and the most that its sections may take in memory, in bytes.
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
    pub(crate) relocations: &'a [Rela<u64>],
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
    /// The kind of this number in ELF, if a cell may have it.
    pub(crate) fn read(number: u32) -> Option<RelocationKind> {
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
    /// The section's relocations, by offset; their fields do not overlap.
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
    /// Where its name lies in the string table: offset and length, in bytes.
    pub(crate) name: (u32, u32),
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
    strings: &'a str,
}

impl<'a> Object<'a> {
    /// Reads and checks an object. `bytes` must begin at an address that is a multiple of 8.
    ///
    /// # Errors
    /// [`ObjectError`] for whatever is not as a cell's object must be.
    pub fn parse(bytes: &'a [u8]) -> Result<Object<'a>, ObjectError> {
        let tables = Tables::read(bytes)?;
        let (mut sections, numbers) = tables.sections()?;
        let (symbols, strings) = tables.symbols(&numbers, &sections)?;
        tables.relocations(&numbers, &mut sections, symbols.len() as u32)?;
        Ok(Object { bytes, sections, symbols, strings })
    }

    /// A symbol's name.
    pub fn name(&self, symbol: &Symbol) -> &'a str {
        let (at, len) = (symbol.name.0 as usize, symbol.name.1 as usize);
        self.strings.get(at..at + len).unwrap_or_default()
    }

    /// Names that this object gives to others.
    pub fn defined(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.symbols.iter().filter(|s| s.is_exported()).map(|s| self.name(s))
    }

    /// Names that this object needs from others.
    pub fn undefined(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.symbols.iter().skip(1).filter(|s| s.is_undefined() && s.binding == Binding::Global).map(|s| self.name(s))
    }

    /// How what a relocation refers to is called in an error: by the symbol's name or else its section's, with what is
    /// added.
    pub(crate) fn describe(&self, relocation: &Relocation) -> String {
        let symbol = &self.symbols[relocation.symbol as usize];
        let name = match symbol.section {
            Some(section) if self.name(symbol).is_empty() => self.sections[section as usize].name,
            _ => self.name(symbol),
        };
        match relocation.addend {
            0 => String::from(name),
            addend => format!("{name}{addend:+}"),
        }
    }
}
