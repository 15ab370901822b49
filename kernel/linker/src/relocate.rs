//! One section's bytes with every field computed: the one place that knows what a relocation may refer to.

use crate::{
    error::Error,
    graph::{CellId, Graph, Target, Unit},
    object::{Kind, Relocation, RelocationKind, Section, SymbolKind},
    place::{Branch, Placement},
    thunks::{self, THUNK_BYTES, Thunk},
};
use alloc::{string::String, vec::Vec};

/// Everything that is placed.
pub(crate) struct View<'v, 'a> {
    pub graph: &'v Graph<'a>,
}

/// A section of a copy that is being relocated.
pub(crate) struct Site<'v, 'a> {
    pub id: CellId,
    pub cell: &'v Unit<'a>,
    pub targets: &'v [Target],
    pub section: u32,
    /// Where its first byte lies.
    pub address: u64,
}

impl Site<'_, '_> {
    /// Whether the section comes and goes with the copy.
    fn is_of_copy(&self) -> bool {
        let kind = self.cell.object.sections[self.section as usize].kind;
        kind == Kind::Text || self.cell.jump_tables[self.section as usize]
    }
}

impl<'v, 'a> View<'v, 'a> {
    /// The address of a place of a cell; 0 if it has none.
    pub fn address(&self, cell: CellId, section: u32, value: u64) -> u64 {
        self.graph.cell(cell).placement.as_ref().map_or(0, |placement| placement.address(section, value))
    }

    /// The bytes of a thunk.
    pub fn encode(&self, thunk: &Thunk) -> Result<[u8; THUNK_BYTES as usize], Error> {
        let target = self.address(thunk.cell, thunk.section, thunk.value);
        thunks::encode(thunk.address.get(), target).ok_or_else(|| {
            let cell = self.graph.cell(thunk.cell);
            let target_name = String::from(cell.object.sections[thunk.section as usize].name);
            let (cell, section) = (String::from(cell.name), String::from("thunks"));
            Error::Overflow { cell, section, offset: thunk.address.get(), target: target_name, value: target }
        })
    }

    /// Writes the section's relocated bytes over `out`, which has the section's length.
    pub fn render(&self, site: &Site<'_, 'a>, out: &mut [u8]) -> Result<(), Error> {
        let section = &site.cell.object.sections[site.section as usize];
        out[..section.bytes.len()].copy_from_slice(section.bytes);
        for relocation in section.relocations() {
            let value = self.value(site, section, &relocation)?;
            let at = relocation.offset as usize;
            match relocation.kind {
                RelocationKind::Absolute64 => out[at..at + 8].copy_from_slice(&value.to_le_bytes()),
                _ => {
                    let narrow = i32::try_from(value as i64).map_err(|_| Error::Overflow {
                        cell: String::from(site.cell.name),
                        section: String::from(section.name),
                        offset: relocation.offset,
                        target: site.cell.object.describe(&relocation),
                        value,
                    })?;
                    out[at..at + 4].copy_from_slice(&narrow.to_le_bytes());
                }
            }
        }
        Ok(())
    }

    fn value(&self, site: &Site<'_, 'a>, section: &Section<'a>, relocation: &Relocation) -> Result<u64, Error> {
        let refuse = |what| Error::Disallowed {
            cell: String::from(site.cell.name),
            section: String::from(section.name),
            offset: relocation.offset,
            target: site.cell.object.describe(relocation),
            what,
        };
        let here = site.address.wrapping_add(relocation.offset);
        let absolute = matches!(relocation.kind, RelocationKind::Absolute64 | RelocationKind::Absolute32);
        let symbol = &site.cell.object.symbols[relocation.symbol as usize];
        if symbol.detached {
            return Err(refuse("a place in a section that is not allocated"));
        }
        let (cell, to, value) = match site.targets[relocation.symbol as usize] {
            Target::Number(number) if absolute => return Ok(number.wrapping_add_signed(relocation.addend)),
            Target::Number(number) if section.kind == Kind::Text => {
                return Ok(number.wrapping_add_signed(relocation.addend).wrapping_sub(here));
            }
            Target::Number(_) => return Err(refuse("a relative number outside text")),
            Target::Place { cell, section, value } => (cell, section, value),
        };
        let target = self.graph.cell(cell);
        let Some(placement) = &target.placement else {
            return Err(refuse("a cell without a place"));
        };
        let (own, jump_table) = (cell == site.id, target.jump_tables[to as usize]);
        let offset = value.wrapping_add_signed(relocation.addend);
        let address = placement.address(to, value).wrapping_add_signed(relocation.addend);
        let target_section = &target.object.sections[to as usize];
        match (target_section.kind, relocation.kind) {
            (Kind::Text, RelocationKind::Branch32) if section.kind == Kind::Text => {
                if !target.is_function_start(to, offset.wrapping_add(4)) {
                    return Err(refuse("a branch that does not lead to a function's start"));
                }
                Ok(address.wrapping_sub(here))
            }
            (_, RelocationKind::Branch32) => Err(refuse("a branch, which only text may have and only to text")),
            (Kind::Text, _) if absolute => {
                if target.is_function_start(to, offset) {
                    return self.graph.thunks.get(cell, to, offset).ok_or_else(|| refuse("a function without a thunk"));
                }
                if own && site.cell.jump_tables[site.section as usize] {
                    return Ok(address);
                }
                Err(refuse("an address inside a function, outside its jump tables"))
            }
            // A place of the copy itself: its unwind tables may be relative to it, and name their LSDA.
            (Kind::Text | Kind::Lsda, RelocationKind::Relative32) if section.kind == Kind::Unwind && own => {
                Ok(address.wrapping_sub(here))
            }
            (Kind::Lsda, RelocationKind::Absolute64) if section.kind == Kind::Unwind && own => Ok(address),
            (Kind::Text, _) => Err(refuse("a relative address of a function, outside a branch")),
            (Kind::Unwind | Kind::Lsda, _) => Err(refuse("an unwind table")),
            (Kind::Constant, _) if jump_table && !own => Err(refuse("another cell's jump table")),
            (Kind::Constant, _) if jump_table && !site.is_of_copy() => {
                Err(refuse("a jump table, by data that outlives it"))
            }
            // An assembler names an element by its section only if nothing is added; else what is added may lead out of
            // the element, and the symbol says which one is meant.
            (Kind::Mergeable { .. }, _) if absolute && symbol.kind == SymbolKind::Section => {
                if offset > target_section.size {
                    return Err(refuse("an address outside a mergeable section"));
                }
                Ok(placement.address(to, offset))
            }
            (Kind::PerCpu, _) if !absolute => Err(refuse("a relative address of a per-CPU value, which is an offset")),
            (_, _) if absolute => Ok(address),
            (Kind::Mergeable { .. }, _) if symbol.kind == SymbolKind::Section => {
                Err(refuse("a relative address of an unnamed element"))
            }
            (_, _) if section.kind == Kind::Text => Ok(address.wrapping_sub(here)),
            (_, _) => Err(refuse("a relative address outside text")),
        }
    }
}

/// The branches of a copy into other cells.
pub(crate) fn branches(id: CellId, cell: &Unit<'_>, targets: &[Target], placement: &Placement) -> Vec<Branch> {
    let mut branches = Vec::new();
    for (index, section) in cell.object.sections.iter().enumerate().filter(|(_, s)| s.kind == Kind::Text) {
        let start = placement.at(index as u32) - placement.text.address;
        for relocation in section.relocations().filter(|r| r.kind == RelocationKind::Branch32) {
            if matches!(targets[relocation.symbol as usize], Target::Place { cell: to, .. } if to != id) {
                branches.push(Branch {
                    at: (start + relocation.offset) as u32,
                    symbol: relocation.symbol,
                    offset: relocation.addend.wrapping_add(4),
                });
            }
        }
    }
    branches.shrink_to_fit();
    branches
}
