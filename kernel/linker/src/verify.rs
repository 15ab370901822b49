//! Checking what runs against what the objects say: every byte of every copy and constant, every thunk, computed again.

use crate::{
    Memory,
    error::Error,
    graph::{CellId, Graph},
    object::Kind,
    relocate::{Site, View},
    unwind_table,
};
use alloc::{string::String, vec::Vec};

impl<'a> Graph<'a> {
    /// Computes a running cell again from its object and compares it with memory.
    ///
    /// # Errors
    /// [`Error::Differs`] with the first byte that is not as it should be, [`Error::Unreadable`], or what linking it would
    /// answer.
    pub fn verify(&self, id: CellId, memory: &dyn Memory) -> Result<(), Error> {
        let cell = self.cell(id);
        let Some(placement) = &cell.placement else { return Ok(()) };
        let view = View { graph: self };
        let compare = |address: u64, expected: &[u8]| {
            let len = expected.len() as u64;
            let found = if len == 0 { &[] } else { memory.bytes(address, len) };
            if found.len() != expected.len() {
                return Err(Error::Unreadable { cell: String::from(cell.name), address, len });
            }
            match expected.iter().zip(found).position(|(a, b)| a != b) {
                None => Ok(()),
                Some(at) => Err(Error::Differs {
                    cell: String::from(cell.name),
                    address: address + at as u64,
                    expected: expected[at],
                    found: found[at],
                }),
            }
        };
        let mut bytes = Vec::new();
        for (number, section) in cell.object.sections.iter().enumerate() {
            let number = number as u32;
            if matches!(section.kind, Kind::Cache | Kind::PerCpu | Kind::Writable) {
                continue;
            }
            let address = placement.at(number);
            if address == 0 {
                // A mergeable section: its elements lie apart.
                let pieces = placement.pieces(number);
                for (index, piece) in pieces.iter().enumerate() {
                    let end = pieces.get(index + 1).map_or(section.bytes.len(), |next| next.offset as usize);
                    compare(piece.address(), &section.bytes[piece.offset as usize..end])?;
                }
                continue;
            }
            bytes.clear();
            bytes.resize(section.size as usize, 0);
            view.render(&Site { id, cell, targets: &cell.targets, section: number, address }, &mut bytes)?;
            compare(address, &bytes)?;
        }
        compare(placement.index.address, &unwind_table::index(cell, placement, memory)?)?;
        for thunk in self.thunks.list.iter().filter(|thunk| thunk.cell == id && !thunk.orphan) {
            compare(thunk.address.get(), &view.encode(thunk)?)?;
        }
        Ok(())
    }
}
