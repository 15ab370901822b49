//! The id of what runs, computed from memory: the objects that the cells were linked from are hashed again, and every byte
//! of every copy is compared with what its object says.
#![no_std]

extern crate alloc;

use alloc::{string::String, vec::Vec};
use loader::{Error, World};
use manifest::{Cell, id};

/// What was computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The id of the cells that run with their services and namespaces, and the toolchain of the archive.
    pub id: [u8; 32],
    /// Cells whose object in memory has another hash than the manifest says.
    pub changed: Vec<String>,
}

/// The id of what runs without its guests, from the hashes that the loader has.
pub fn base(world: &World) -> [u8; 32] {
    let is_guest = |name: &str| world.guests.iter().any(|guest| guest.cells.iter().any(|cell| cell == name));
    let cells = world.graph.cells().filter(|(_, cell)| !is_guest(cell.name)).map(|(id, cell)| {
        let key = Cell { name: cell.name.into(), version: cell.version.into(), ..Cell::default() }.key();
        (cell.name, key, world.hashes.get(id.0 as usize).unwrap_or(&[0; 32]))
    });
    let services = world.services.iter().map(|listed| &listed.service);
    let blake3 = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
    id(blake3, cells, services, world.graph.namespaces().iter(), &[], &world.archive.manifest.toolchain)
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
        hashes.push((cell.name, key, hash));
    }
    let cells = hashes.iter().map(|(name, key, hash)| (*name, key.clone(), hash));
    let services = world.services.iter().map(|listed| &listed.service);
    let blake3 = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
    Ok(Verified { id: id(blake3, cells, services, world.graph.namespaces().iter(), &world.guests, &manifest.toolchain), changed })
}
