//! Unloading a guest: its cells go, unless somebody needs them.

use crate::{
    apply::{Aim, Wanted, remember, transact},
    data::Way,
    error::Error,
    offer::id_with,
    services::Turn,
    store::{owned, take},
};
use alloc::{format, string::String, sync::Arc, vec::Vec};
use bundle::{Change, What};
use linker::CellId;
use loader::{World, with_world};
use manifest::{Guest, Service};
use namespace::Namespace;

/// What a state says of its layout in its cell's object.
const LAYOUT: &str = "STATE_LAYOUT_OF_";
/// Offset of the first method in a vtable, in bytes: behind drop glue, size and alignment.
const FIRST_METHOD: u64 = 24;

/// Takes a guest's cells out, as an update that can be taken back; how many those were. Crates that came along stay for as long as
/// another guest has them.
///
/// # Errors
/// [`Error::NoGuest`]; [`Error::Used`], while a cell, a service, a slot or a value needs it. Nothing has changed then.
pub fn unload(name: &str) -> Result<usize, Error> {
    let mut store = take()?;
    with_world(|world| {
        let (gone, guests): (Vec<Guest>, Vec<Guest>) = world.guests.iter().cloned().partition(|guest| guest.name == name);
        let guest = gone.into_iter().next().ok_or_else(|| Error::NoGuest(owned(name)))?;
        let kept = |cell: &String| guests.iter().any(|other| other.cells.contains(cell));
        let goes: Vec<String> = guest.cells.iter().filter(|cell| !kept(cell)).cloned().collect();
        if let Some(by) = user(world, &goes) {
            return Err(Error::Used { guest: owned(name), by });
        }
        let services: Vec<Service> = world.services.iter().map(|listed| listed.service.clone()).collect();
        let namespaces: Vec<Namespace> = world.graph.namespaces().iter().cloned().collect();
        let changes: Vec<Change> = goes.iter().map(|cell| removal(world, cell)).collect();
        let target = id_with(world, &changes, &services, &namespaces, &guests)?;
        let wanted = goes.into_iter().map(|name| Wanted { name, to: None, follow: Vec::new() }).collect();
        let mut turn = Turn::new(world, &services);
        let before = Arc::new(world.graph.namespaces().clone());
        let aim = Aim { target, data: Arc::default(), way: Way::There, guests };
        let (_, mut applied) = transact(world, &mut store, wanted, aim, &mut turn)?;
        applied.namespaces = before;
        let cells = applied.cells.len();
        remember(&mut store, applied);
        Ok(cells)
    })?
}

fn removal(world: &World, cell: &str) -> Change {
    let hash = world.graph.find(cell).and_then(|id| world.hashes.get(id.0 as usize).copied());
    Change {
        what: What::Remove,
        name: owned(cell),
        version: String::new(),
        base_hash: hash.unwrap_or_default(),
        object_hash: [0; 32],
        object: Vec::new(),
        reasons: Vec::new(),
        follow: Vec::new(),
        not_followed: Vec::new(),
        along: Vec::new(),
        own: true,
    }
}

/// Who needs one of some cells, as the end of a sentence.
fn user(world: &World, goes: &[String]) -> Option<String> {
    let is_gone = |id: CellId| goes.iter().any(|name| name == world.graph.cell(id).name);
    let others = world.graph.cells().filter(|(id, _)| !is_gone(*id));
    for (id, cell) in others {
        if let Some((needed, _)) = world.graph.dependencies(id).into_iter().find(|(on, _)| is_gone(*on)) {
            return Some(format!("cell {} calls {}", cell.name, world.graph.cell(needed).name));
        }
    }
    let serves = |service: &Service| world.graph.definer(&service.implementation).is_some_and(is_gone);
    if let Some(listed) = world.services.iter().find(|listed| serves(&listed.service)) {
        return Some(format!("service {} is implemented by it", listed.service.name));
    }
    let mut found = None;
    state_db::slots(|slot| {
        let method = (slot.vtable as u64 + FIRST_METHOD) as *const u64;
        // SAFETY: the vtable of an object in a slot, whose trait has a method: it is called through it.
        let function = world.graph.behind_thunk(unsafe { method.read() });
        if found.is_none() && world.graph.locate(function).is_some_and(|located| is_gone(located.cell)) {
            found = Some(format!("slot {} is bound to it", slot.name));
        }
    });
    let layouts = layouts(world, goes);
    state_db::entries(|entry| {
        if found.is_none() && layouts.contains(&entry.layout) {
            found = Some(format!("entry {} holds a value of one of its types", entry.name));
        }
    });
    state_db::opaques(|opaque| {
        if found.is_none() && layouts.contains(&opaque.layout) {
            found = Some(format!("somebody holds an opaque {}", opaque.type_name));
        }
    });
    found
}

/// The layout ids of the states of some cells.
fn layouts(world: &World, cells: &[String]) -> Vec<u64> {
    let mut found = Vec::new();
    for cell in cells.iter().filter_map(|name| world.graph.find(name)).map(|id| world.graph.cell(id)) {
        for symbol in cell.object.symbols.iter().filter(|symbol| cell.object.name(symbol).contains(LAYOUT)) {
            let bytes = symbol.section.and_then(|section| cell.object.sections[section as usize].bytes.get(symbol.value as usize..));
            found.extend(bytes.and_then(<[u8]>::first_chunk).map(|word| u64::from_le_bytes(*word)));
        }
    }
    found
}
