//! The id of what runs, computed from memory: the objects that the cells were linked from are hashed again, and every byte
//! of every copy is compared with what its object says.
#![no_std]

extern crate alloc;

use alloc::{string::String, vec::Vec};
use linker::CellId;
use loader::{Error, World};
use manifest::{Ids, ids};

/// What was computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The id of the cells that run with their services and namespaces, and the toolchain of the archive.
    pub id: [u8; 32],
    /// Cells whose object in memory has another hash than the manifest says.
    pub changed: Vec<String>,
}

/// The ids of what runs, from the hashes that the loader has.
pub fn known(world: &World) -> Ids {
    let hash = |id: CellId| world.hashes.get(id.0 as usize).unwrap_or(&[0; 32]);
    of(world, world.graph.cells().map(|(id, cell)| (cell.name, manifest::key(cell.name, cell.version), hash(id))))
}

fn of<'c>(world: &World, cells: impl IntoIterator<Item = (&'c str, String, &'c [u8; 32])>) -> Ids {
    let services = world.services.iter().map(|listed| &listed.service);
    let blake3 = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
    ids(blake3, cells, services, world.graph.namespaces().iter(), &world.guests, &world.archive.manifest.toolchain)
}

/// Hashes every running cell's object, and compares every copy with its object.
///
/// # Errors
/// [`Error::Link`] with the first byte of a copy that differs.
pub fn verify(world: &World) -> Result<Verified, Error> {
    world.verify()?;
    let mut hashes = Vec::new();
    let mut changed = Vec::new();
    for (id, cell) in world.graph.cells() {
        let hash = *blake3::hash(cell.object.bytes).as_bytes();
        if world.hashes.get(id.0 as usize) != Some(&hash) {
            changed.push(String::from(cell.name));
        }
        hashes.push((cell.name, manifest::key(cell.name, cell.version), hash));
    }
    let cells = hashes.iter().map(|(name, key, hash)| (*name, key.clone(), hash));
    Ok(Verified { id: of(world, cells).world, changed })
}
