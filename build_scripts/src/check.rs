//! The link check: the whole image is linked on the host with the linker that the system itself uses, into memory that
//! is only a vector. An undefined or doubled symbol is so a build error and not a boot error. goblin reads each object
//! too; the two readers must see the same.

use crate::cellset::{CellObject, ENTRY};
use anyhow::{Context, Result, anyhow, bail, ensure};
use goblin::elf::Elf;
use handoff::layout;
use linker::{Access, Graph, Memory, Object, OutOfMemory, Places};
use manifest::{Hosted, Manifest};
use namespace::Namespaces;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The arena, backed range by range.
#[derive(Debug, Default)]
pub struct HostMemory {
    ranges: BTreeMap<u64, Vec<u8>>,
}

impl HostMemory {
    fn find(&self, address: u64) -> (u64, usize) {
        let (&start, _) = self.ranges.range(..=address).next_back().expect("the linker asks for what it has backed");
        (start, (address - start) as usize)
    }
}

impl Memory for HostMemory {
    fn back(&mut self, address: u64, len: u64, _: Access) -> Result<(), OutOfMemory> {
        let len = usize::try_from(len).map_err(|_| OutOfMemory { len })?;
        // Ranges that touch become one, as in an address space.
        let last = self.ranges.range_mut(..=address).next_back();
        match last.filter(|(start, bytes)| *start + bytes.len() as u64 == address) {
            Some((_, bytes)) => bytes.resize(bytes.len() + len, 0),
            None => drop(self.ranges.insert(address, vec![0; len])),
        }
        Ok(())
    }

    fn bytes_mut(&mut self, address: u64, len: u64) -> &mut [u8] {
        let (start, at) = self.find(address);
        let bytes = self.ranges.get_mut(&start).expect("it was found just now");
        &mut bytes[at..at + len as usize]
    }

    fn bytes(&self, address: u64, len: u64) -> &[u8] {
        let (start, at) = self.find(address);
        &self.ranges[&start][at..at + len as usize]
    }
}

/// Where an image begins on the machine.
pub fn places() -> Places {
    Places {
        text: layout::TEXT.start,
        constants: layout::CONSTANTS.start,
        thunks: layout::THUNKS.start,
        hosted: layout::HOSTED.start,
        per_cpu: layout::PER_CPU_VALUES,
    }
}

/// Where the areas end on the machine.
fn ends() -> Places {
    Places {
        text: layout::TEXT.end,
        constants: layout::CONSTANTS.end,
        thunks: layout::THUNKS.end,
        hosted: layout::HOSTED.end,
        per_cpu: layout::PER_CPU_BYTES,
    }
}

/// Adds all cells to one graph.
///
/// # Errors
/// An object is refused, or a symbol is defined twice.
pub fn graph<'a>(cells: &'a [CellObject], hosted: &'a [Hosted]) -> Result<(Graph<'a>, Vec<linker::CellId>)> {
    let mut graph = Graph::new(places());
    graph.limit(ends());
    for row in hosted {
        graph.allow_hosted(&row.symbol);
    }
    let mut ids = Vec::new();
    for cell in cells {
        let object = Object::parse(cell.object.bytes()).with_context(|| format!("cell {}", cell.cell.name))?;
        ids.push(graph.add(&cell.cell.name, &cell.cell.version, object)?);
    }
    Ok((graph, ids))
}

/// Every needed symbol that no cell defines, with who needs it; empty if there is none.
fn undefined(cells: &[CellObject]) -> Result<BTreeMap<String, Vec<&str>>> {
    let mut objects = Vec::new();
    for cell in cells {
        objects.push((cell, Object::parse(cell.object.bytes()).with_context(|| format!("cell {}", cell.cell.name))?));
    }
    let defined: std::collections::HashSet<&str> = objects.iter().flat_map(|(_, object)| object.defined()).collect();
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (cell, object) in &objects {
        for name in object.undefined().filter(|name| !defined.contains(name)) {
            missing.entry(name.to_owned()).or_default().push(&cell.cell.name);
        }
    }
    Ok(missing)
}

/// A sentence with its mangled symbols as people write them.
fn readable(sentence: &str) -> String {
    let word = |word: &str| match rustc_demangle::try_demangle(word) {
        Ok(name) => format!("{name:#}"),
        Err(_) => word.to_owned(),
    };
    sentence.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Links the image.
///
/// # Errors
/// Whatever the linker refuses, namespaces included, and a service or an entry that no cell defines.
pub fn link(cells: &[CellObject], manifest: &Manifest) -> Result<()> {
    let missing = undefined(cells)?;
    if !missing.is_empty() {
        let lines: Vec<String> = missing
            .iter()
            .map(|(name, by)| format!("  {:#} ({name}), needed by {}", rustc_demangle::demangle(name), by.join(", ")))
            .collect();
        bail!("{} symbols that no cell defines:\n{}", missing.len(), lines.join("\n"));
    }
    let (mut graph, ids) = graph(cells, &manifest.hosted)?;
    graph.set_namespaces(Arc::new(Namespaces::new(&manifest.namespaces)?));
    graph.link(&ids, &mut HostMemory::default()).map_err(|error| anyhow!("{}", readable(&error.to_string())))?;
    for name in manifest.services.iter().map(|service| service.implementation.as_str()).chain([ENTRY]) {
        ensure!(graph.definer(name).is_some(), "no cell defines {name}, which cfg/boot.toml or nano_core asks for");
    }
    Ok(())
}

/// Of each cell: its sections with code, and their offsets in a copy's text, in bytes.
///
/// # Errors
/// As [`link`].
pub fn sections(cells: &[CellObject], manifest: &Manifest) -> Result<Vec<Vec<(String, u64)>>> {
    let (mut graph, ids) = graph(cells, &manifest.hosted)?;
    graph.link(&ids, &mut HostMemory::default()).map_err(|error| anyhow!("{}", readable(&error.to_string())))?;
    let of = |id: &linker::CellId| {
        let cell = graph.cell(*id);
        let Some(placement) = cell.placement.as_deref() else { return Vec::new() };
        let text = placement.text;
        let placed = cell
            .object
            .sections
            .iter()
            .enumerate()
            .map(|(index, section)| (section.name.to_owned(), placement.address(index as u32, 0)));
        placed
            .filter(|(_, address)| (text.address..text.end()).contains(address))
            .map(|(name, address)| (name, address - text.address))
            .collect()
    };
    Ok(ids.iter().map(of).collect())
}

/// Reads each object with goblin as well and compares what was seen.
///
/// # Errors
/// The readers differ.
pub fn second_reader(cells: &[CellObject]) -> Result<()> {
    for cell in cells {
        let name = &cell.cell.name;
        let ours = Object::parse(cell.object.bytes()).with_context(|| format!("cell {name}"))?;
        let theirs = Elf::parse(cell.object.bytes()).with_context(|| format!("goblin refuses cell {name}"))?;
        let allocated = theirs.section_headers.iter().filter(|header| header.is_alloc()).count();
        let relocations: usize = theirs.shdr_relocs.iter().map(|(_, relocations)| relocations.len()).sum();
        let seen = [
            ("allocated sections", ours.sections.len(), allocated),
            ("symbols", ours.symbols.len(), theirs.syms.len()),
            ("relocations", ours.sections.iter().map(|section| section.relocations().len()).sum(), relocations),
        ];
        for (what, linker, goblin) in seen {
            ensure!(linker == goblin, "cell {name}: the linker sees {linker} {what}, goblin {goblin}");
        }
    }
    Ok(())
}
