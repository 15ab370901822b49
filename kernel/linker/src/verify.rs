//! Checking what runs against what the objects say: every byte of every copy and constant, every thunk, computed again.

use crate::{
    Memory,
    error::Error,
    graph::{CellId, Graph},
    object::Kind,
    relocate::{Site, View},
    thunks, unwind_table,
};
use alloc::{string::String, vec::Vec};

impl<'a> View<'_, 'a> {
    /// The address of a place of a cell, in its staged copy if there is one.
    pub(crate) fn address(&self, cell: CellId, section: u32, value: u64) -> u64 {
        let staged = self.draft.and_then(|draft| draft.placement(cell));
        staged.or_else(|| self.graph.cell(cell).placement.as_ref()).map_or(0, |placement| placement.address(section, value))
    }
}

impl<'a> Graph<'a> {
    /// Computes a running cell again from its object and compares it with memory.
    ///
    /// # Errors
    /// [`Error::Differs`] with the first byte that is not as it should be, or what linking it would answer.
    pub fn verify(&self, id: CellId, memory: &dyn Memory) -> Result<(), Error> {
        let cell = self.cell(id);
        let Some(placement) = &cell.placement else { return Ok(()) };
        let view = View { graph: self, draft: None };
        let compare = |address: u64, expected: &[u8]| {
            let found = memory.bytes(address, expected.len() as u64);
            match expected.iter().zip(found).position(|(a, b)| a != b) {
                None => Ok(()),
                Some(at) => Err(Error::Differs { cell: String::from(cell.name), address: address + at as u64, expected: expected[at], found: found[at] }),
            }
        };
        let mut bytes = Vec::new();
        for (number, section) in cell.object.sections.iter().enumerate() {
            let number = number as u32;
            if matches!(section.kind, Kind::Cache | Kind::PerCpu | Kind::Writable) {
                continue;
            }
            let address = placement.at[number as usize];
            if address == 0 {
                // A mergeable section: its elements lie apart.
                let mut at = 0;
                while at < section.bytes.len() {
                    compare(placement.address(number, at as u64), &section.bytes[at..=at])?;
                    at += 1;
                }
                continue;
            }
            bytes.clear();
            bytes.resize(section.size as usize, 0);
            view.render(&Site { id, cell, targets: &cell.targets, section: number, address }, &mut bytes)?;
            compare(address, &bytes)?;
        }
        let table = memory.bytes(placement.unwind.address, placement.unwind.len);
        compare(placement.index.address, &unwind_table::index(cell, table, placement.unwind.address, placement.text, placement.index.address)?)?;
        for thunk in self.thunks.list.iter().filter(|thunk| thunk.cell == id) {
            if let Some(expected) = thunks::encode(thunk.address, placement.address(thunk.section, thunk.value)) {
                compare(thunk.address, &expected)?;
            }
        }
        Ok(())
    }
}
