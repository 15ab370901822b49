//! Names of places in text, for people.

use crate::world::World;
use alloc::{format, string::String};
use linker::CellId;

/// Where an address lies, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The cell's name.
    pub cell: &'static str,
    /// The function's path, demangled, without hashes; empty between functions.
    pub function: String,
    /// Offset in the function, in bytes; without one, in the copy.
    pub offset: u64,
}

/// The path of a mangled symbol, without hashes.
pub fn plain(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// Names an address of a running copy.
pub fn name(world: &World, address: u64) -> Option<Named> {
    let found = world.graph.locate(address)?;
    Some(Named {
        cell: world.graph.cell(found.cell).name,
        function: found.function.map(plain).unwrap_or_default(),
        offset: found.offset,
    })
}

impl World {
    /// Names a place by its cell's number and its offset in the copy's text, as a trace keeps it.
    pub fn name_in_cell(&self, cell: u32, offset: u64) -> Option<Named> {
        let placement = self.graph.cells().find(|(id, _)| id.0 == cell)?.1.placement.as_ref()?;
        name(self, placement.text.address + offset)
    }

    /// Functions whose path is `path` or ends with it, with their addresses: at most `most`.
    pub fn functions(&self, path: &str, most: usize) -> alloc::vec::Vec<(CellId, String, u64, u64)> {
        let tail = format!("::{path}");
        let mut found = alloc::vec::Vec::new();
        for (id, cell) in self.graph.cells() {
            let Some(placement) = &cell.placement else { continue };
            for function in &cell.functions {
                let symbol = cell.object.name(&cell.object.symbols[function.symbol as usize]);
                // Mangled names hold the path's last word as it is: most functions need not be demangled.
                let last = path.rsplit("::").next().unwrap_or(path);
                if !symbol.contains(last) {
                    continue;
                }
                let plain = plain(symbol);
                if plain == path || plain.ends_with(&tail) {
                    found.push((id, plain, placement.address(function.section, function.value), function.size));
                    if found.len() == most {
                        return found;
                    }
                }
            }
        }
        found
    }
}
