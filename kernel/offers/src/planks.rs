//! The ship's planks: how much of the memory of text and unwind tables is still that of the boot.

use alloc::vec::Vec;
use handoff::layout::PAGE;
use loader::World;

/// A cell as a plank.
#[derive(Clone, Debug)]
pub struct Plank {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// How often it has been replaced.
    pub replaced: u32,
    /// How long the running copy has been in place, in nanoseconds.
    pub age_ns: u64,
    /// Bytes of its text and tables in pages that it was booted in.
    pub original: u64,
    /// Bytes of its text and tables.
    pub total: u64,
}

/// All planks. Bytes are those in use; constants and thunks, which stay by design, are counted apart.
#[derive(Clone, Debug)]
pub struct Planks {
    /// By cell.
    pub planks: Vec<Plank>,
    /// Bytes in pages of the boot.
    pub original: u64,
    /// Bytes in all.
    pub total: u64,
    /// Bytes of constants.
    pub constants: u64,
    /// Bytes of thunks.
    pub thunks: u64,
}

/// Counts the planks. A page of the boot is one of `world.boot_pages` that is still mapped to the same frame.
pub fn planks(world: &World) -> Planks {
    let mut planks = Vec::new();
    let now_ns = time::now_ns();
    for (id, cell) in world.graph.cells() {
        let Some(placement) = &cell.placement else { continue };
        let parts = [placement.text, placement.tables];
        let original = parts.iter().map(|part| original(world, part.address, part.len)).sum();
        let age_ns = world.copies.get(id.0 as usize).map_or(0, |copy| now_ns.saturating_sub(copy.since_ns));
        let total = parts.iter().map(|part| part.len).sum();
        planks.push(Plank { name: cell.name, version: cell.version, replaced: cell.reseated, age_ns, original, total });
    }
    let (constants, thunks) = world.graph.shared_bytes();
    let sum = |of: fn(&Plank) -> u64| planks.iter().map(of).sum();
    Planks { original: sum(|plank| plank.original), total: sum(|plank| plank.total), constants, thunks, planks }
}

/// Bytes of a range that lie in pages of the boot.
fn original(world: &World, address: u64, len: u64) -> u64 {
    let mut bytes = 0;
    let mut at = address;
    while at < address + len {
        let page = at & !(PAGE - 1);
        let end = (page + PAGE).min(address + len);
        let physical = paging::query(page).map(|leaf| leaf.physical);
        let booted = world.boot_pages.binary_search_by_key(&page, |(page, _)| *page);
        if booted.is_ok_and(|index| Some(world.boot_pages[index].1) == physical) {
            bytes += end - at;
        }
        at = end;
    }
    bytes
}
