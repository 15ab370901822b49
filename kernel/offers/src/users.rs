//! Who needs cells that are to go: other cells, services, and what the database holds.

use alloc::{format, string::String, vec::Vec};
use linker::CellId;
use loader::World;
use manifest::Service;

/// What a state says of its layout in its cell's object.
const LAYOUT: &str = "STATE_LAYOUT_OF_";

/// Which cell or service needs one of some cells, as the end of a sentence.
pub(crate) fn caller<'s>(
    world: &World,
    goes: &[String],
    services: impl IntoIterator<Item = &'s Service>,
) -> Option<String> {
    let is_gone = |id: CellId| goes.iter().any(|name| name == world.graph.cell(id).name);
    let others = world.graph.cells().filter(|(id, _)| !is_gone(*id));
    for (id, cell) in others {
        if let Some((needed, _)) = world.graph.dependencies(id).into_iter().find(|(on, _)| is_gone(*on)) {
            return Some(format!("cell {} calls {}", cell.name, world.graph.cell(needed).name));
        }
    }
    let serves = |service: &&Service| world.graph.definer(&service.implementation).is_some_and(is_gone);
    services.into_iter().find(serves).map(|service| format!("service {} is implemented by it", service.name))
}

/// What the database holds of some cells: a slot bound to one, a value of one of their types, unless values move to other types.
pub(crate) fn holder(world: &World, goes: &[String], values_move: bool) -> Option<String> {
    if goes.is_empty() {
        return None;
    }
    let is_gone = |id: CellId| goes.iter().any(|name| name == world.graph.cell(id).name);
    let mut found = None;
    state_db::slots(|slot| {
        let function = world.graph.behind_thunk(slot.first_method());
        if found.is_none() && world.graph.locate(function).is_some_and(|located| is_gone(located.cell)) {
            found = Some(format!("slot {} is bound to it", slot.name));
        }
    });
    let layouts = if values_move { Vec::new() } else { layouts(world, goes) };
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
            let bytes = symbol
                .section
                .and_then(|section| cell.object.sections[section as usize].bytes.get(symbol.value as usize..));
            found.extend(bytes.and_then(<[u8]>::first_chunk).map(|word| u64::from_le_bytes(*word)));
        }
    }
    found
}
