//! The id of what runs, computed from memory: the objects that the cells were linked from are hashed again, and every byte
//! of every copy is compared with what its object says.
#![no_std]

extern crate alloc;

use alloc::{string::String, vec::Vec};
use loader::{Error, World};
use manifest::{Cell, id_input};

/// What was computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The id of the cells that run with their services and namespaces, and the toolchain of the archive.
    pub id: [u8; 32],
    /// Cells whose object in memory has another hash than the manifest says.
    pub changed: Vec<String>,
}

/// Hashes every running cell's object, and compares every copy with its object.
///
/// # Errors
/// [`Error::Link`] with the first byte of a copy that differs.
pub fn verify(world: &World) -> Result<Verified, Error> {
    world.verify()?;
    let manifest = world.archive.manifest;
    let mut hashes = Vec::new();
    let mut changed = Vec::new();
    for (id, cell) in world.graph.cells() {
        let hash = *blake3::hash(cell.object.bytes).as_bytes();
        if world.hashes.get(id.0 as usize) != Some(&hash) {
            changed.push(String::from(cell.name));
        }
        let key = Cell { name: cell.name.into(), version: cell.version.into(), ..Cell::default() }.key();
        hashes.push((key, hash));
    }
    let cells = hashes.iter().map(|(key, hash)| (key.clone(), hash));
    let services = world.services.iter().map(|listed| &listed.service);
    let input = id_input(cells, services, world.graph.namespaces().iter(), &manifest.toolchain);
    Ok(Verified { id: *blake3::hash(input.as_bytes()).as_bytes(), changed })
}
