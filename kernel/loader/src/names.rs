//! Names of places in text, for people.

use crate::world::World;
use alloc::{format, string::String};
use core::fmt;
use linker::CellId;
use unwind::{Caught, Failure};

/// Cells whose frames are the way of a panic, not its place.
const MACHINERY: [&str; 6] = ["core", "alloc", "runtime", "unwind", "unwinding", "compiler_builtins"];

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

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in cell {}, function {}, offset {:#x}", self.cell, self.function, self.offset)
    }
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
    /// Names a place by its cell's number, its copy's, and its offset in the copy's text, as a trace keeps it. Of a copy that is
    /// gone, and was of another object than the running one, only the cell is known.
    pub fn name_in_cell(&self, number: u32, copy: u32, offset: u64) -> Option<Named> {
        let (_, cell) = self.graph.cells().find(|(id, _)| id.0 == number)?;
        if copy >= cell.since {
            return name(self, cell.placement.as_ref()?.text.address + offset);
        }
        let old = self.old.iter().find(|old| old.replaced.cell.0 == number && old.replaced.copy == copy);
        let function = old.and_then(|old| {
            let placement = &old.replaced.placement;
            old.replaced.unit.locate(old.replaced.cell, placement, placement.text.address + offset).function
        });
        let function = function.map_or_else(|| String::from("of a version that is gone"), plain);
        Some(Named { cell: cell.name, function, offset })
    }

    /// Names the place of a failure: the innermost that is not on the way of a panic.
    pub fn name_failure(&self, caught: &Caught) -> Option<Named> {
        let panic = caught.failure == Failure::Panic;
        // A panic's places are return addresses: the call stands before them.
        let named = caught.trace.iter().filter_map(|place| {
            self.name_in_cell(place.cell?, place.copy, place.offset.saturating_sub(u64::from(panic)))
        });
        let mut named = named.filter(|named| !panic || !MACHINERY.contains(&named.cell));
        named.next()
    }

    /// The same in words, for the middle of a sentence.
    pub fn place_of(&self, caught: &Caught) -> String {
        self.name_failure(caught).map_or_else(|| String::from("outside of every cell"), |named| format!("{named}"))
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
