//! One section's bytes with every field computed: the one place that knows what a relocation may refer to.

use crate::{
    error::Error,
    graph::{Cell, CellId, Graph, Target},
    object::{Kind, Relocation, RelocationKind, Section},
    place::{Branch, Placement},
    stage::Draft,
};
use alloc::{string::String, vec::Vec};

/// Everything that is placed, seen from a link: the staged copy of a cell where there is one, else the running copy.
pub(crate) struct View<'v, 'a> {
    pub graph: &'v Graph<'a>,
    pub draft: Option<&'v Draft>,
}

/// A section of a copy that is being relocated.
pub(crate) struct Site<'v, 'a> {
    pub id: CellId,
    pub cell: &'v Cell<'a>,
    pub targets: &'v [Target],
    pub section: u32,
    /// Where its first byte lies.
    pub address: u64,
}

impl<'v, 'a> View<'v, 'a> {
    fn placement(&self, cell: CellId) -> Option<&'v Placement> {
        let staged = self.draft.and_then(|draft| draft.placement(cell));
        staged.or_else(|| self.graph.cell(cell).placement.as_ref())
    }

    fn thunk(&self, cell: CellId, section: u32, value: u64) -> Option<u64> {
        let staged = self.draft.and_then(|draft| draft.thunks.get(cell, section, value));
        staged.or_else(|| self.graph.thunks.get(cell, section, value))
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
                        target: site.cell.object.describe(relocation.symbol),
                        value,
                    })?;
                    out[at..at + 4].copy_from_slice(&narrow.to_le_bytes());
                }
            }
        }
        Ok(())
    }

    fn value(&self, site: &Site<'_, 'a>, section: &Section<'a>, relocation: &Relocation) -> Result<u64, Error> {
        let (cell, to, value) = match site.targets[relocation.symbol as usize] {
            Target::Number(number) => return Ok(number.wrapping_add_signed(relocation.addend)),
            Target::Place { cell, section, value } => (cell, section, value),
        };
        let refuse = |what| Error::Disallowed {
            cell: String::from(site.cell.name),
            section: String::from(section.name),
            offset: relocation.offset,
            target: site.cell.object.describe(relocation.symbol),
            what,
        };
        let target = self.graph.cell(cell);
        let Some(placement) = self.placement(cell) else {
            return Err(refuse("its cell has no place yet"));
        };
        let here = site.address + relocation.offset;
        let offset = value.wrapping_add_signed(relocation.addend);
        let address = placement.address(to, value).wrapping_add_signed(relocation.addend);
        let kind = target.object.sections[to as usize].kind;
        match (kind, relocation.kind) {
            (Kind::Text, RelocationKind::Branch32) if section.kind == Kind::Text => {
                if !target.is_function_start(to, offset.wrapping_add(4)) {
                    return Err(refuse("a branch that does not lead to a function's start"));
                }
                Ok(address.wrapping_sub(here))
            }
            (Kind::Text, RelocationKind::Absolute64 | RelocationKind::Absolute32) => {
                if target.is_function_start(to, offset) {
                    return self.thunk(cell, to, offset).ok_or_else(|| refuse("a function without a thunk"));
                }
                if cell == site.id && site.cell.jump_tables[site.section as usize] {
                    return Ok(address);
                }
                Err(refuse("an address inside a function, outside its jump tables"))
            }
            (Kind::Text | Kind::Lsda, RelocationKind::Relative32) if section.kind == Kind::Unwind && cell == site.id => Ok(address.wrapping_sub(here)),
            (Kind::Lsda, RelocationKind::Absolute64) if section.kind == Kind::Unwind && cell == site.id => Ok(address),
            (Kind::Constant, RelocationKind::Absolute64 | RelocationKind::Absolute32) if target.jump_tables[to as usize] && cell != site.id => {
                Err(refuse("another cell's jump table"))
            }
            (Kind::Constant, RelocationKind::Absolute64 | RelocationKind::Absolute32) if target.jump_tables[to as usize] => Ok(address),
            (Kind::Mergeable { .. }, RelocationKind::Absolute64 | RelocationKind::Absolute32) => Ok(placement.address(to, offset)),
            (Kind::Constant | Kind::Cache | Kind::PerCpu | Kind::Writable, RelocationKind::Absolute64 | RelocationKind::Absolute32) => Ok(address),
            (Kind::Constant | Kind::Cache | Kind::Writable, RelocationKind::Relative32) if section.kind == Kind::Text && !target.jump_tables[to as usize] => {
                Ok(address.wrapping_sub(here))
            }
            (_, RelocationKind::Relative32) => Err(refuse("a relative address outside unwind tables")),
            (_, RelocationKind::Branch32) => Err(refuse("a branch to data")),
            (Kind::Unwind | Kind::Lsda, _) => Err(refuse("an unwind table")),
        }
    }
}

/// The branches of a copy into other cells.
pub(crate) fn branches(id: CellId, cell: &Cell<'_>, targets: &[Target], placement: &Placement) -> Vec<Branch> {
    let mut branches = Vec::new();
    for (index, section) in cell.object.sections.iter().enumerate().filter(|(_, s)| s.kind == Kind::Text) {
        let start = placement.at[index] - placement.text.address;
        for relocation in section.relocations().filter(|r| r.kind == RelocationKind::Branch32) {
            if let Target::Place { cell: to, section, value } = targets[relocation.symbol as usize]
                && to != id
            {
                let value = value.wrapping_add_signed(relocation.addend + 4);
                branches.push(Branch { at: (start + relocation.offset) as u32, target: Target::Place { cell: to, section, value } });
            }
        }
    }
    branches.shrink_to_fit();
    branches
}
