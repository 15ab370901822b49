//! What an update does to data, found in the running system: the host names functions and statics, here they get addresses.

use crate::error::Error;
use alloc::{format, string::String};
use linker::Graph;
use loader::World;
use update::{Data, Holder, Stage, Vtable, read_migration};

/// Which way an update goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the base to the target.
    There,
    /// Back to the base.
    Back,
}

/// Finds everything that `data` names.
///
/// # Errors
/// [`Error::Data`] for what is not there, and [`Error::Irreversible`].
pub(crate) fn find(world: &World, stage: &Stage, data: &bundle::Data, way: Way) -> Result<Data, Error> {
    let (running, next) = (&world.graph, stage.staged().next());
    let mut found = Data::default();
    let (target, holders) = match way {
        Way::There => (next, &data.holders),
        Way::Back => (running, &data.holders_back),
    };
    for place in &data.migrations {
        let (address, size) = locate(target, place)?;
        if size != size_of::<state_db::Migrations>() as u64 {
            return Err(missing(place));
        }
        // SAFETY: the host says that it is one, the length agrees, and the object is the one that the host has read.
        let migration = unsafe { read_migration(target, address, way == Way::Back) };
        match migration {
            Some(migration) => found.migrations.push(migration),
            None if way == Way::Back => irreversible(address)?,
            None => {}
        }
    }
    for holder in holders {
        let (start, len) = locate(running, &holder.place)?;
        let function = loader::plain(&holder.place.symbol);
        let what = format!("{function} of cell {}, which handles {}", holder.place.cell, holder.handles);
        found.holders.push(Holder { start, len, what });
    }
    for vtable in &data.vtables {
        let at = |graph: &Graph<'static>, (section, value): (u32, u64)| -> Option<u64> {
            let cell = graph.cell(graph.find(&vtable.cell)?);
            (section < cell.object.sections.len() as u32).then_some(())?;
            Some(cell.placement.as_ref()?.address(section, value))
        };
        let (from, to) = if way == Way::There { (vtable.old, vtable.new) } else { (vtable.new, vtable.old) };
        let (Some(old), Some(new)) = (at(running, from), at(next, to)) else {
            return Err(Error::Data(format!("the vtable at {}:{} of cell {}", from.0, from.1, vtable.cell)));
        };
        found.vtables.push(Vtable { old, new });
    }
    Ok(found)
}

/// Refuses to leave values behind whose type goes.
///
/// # Errors
/// [`Error::Gone`].
pub(crate) fn refuse_gone(data: &bundle::Data) -> Result<(), Error> {
    let mut left = None;
    let mut see = |name: &str, layout: u64| {
        if let Some(gone) = data.gone.iter().find(|gone| gone.layout == layout).filter(|_| left.is_none()) {
            left = Some(Error::Gone { name: String::from(name), path: gone.path.clone() });
        }
    };
    state_db::entries(|entry| see(entry.name, entry.layout));
    state_db::opaques(|opaque| see(opaque.type_name, opaque.layout));
    left.map_or(Ok(()), Err)
}

fn missing(place: &bundle::Place) -> Error {
    Error::Data(format!("{} of cell {}", loader::plain(&place.symbol), place.cell))
}

/// Where a symbol of a cell lies, and how long it is.
fn locate(graph: &Graph<'static>, place: &bundle::Place) -> Result<(u64, u64), Error> {
    let found = graph.find(&place.cell).and_then(|cell| {
        let cell = graph.cell(cell);
        let symbol = cell.object.symbols.iter().find(|symbol| cell.object.name(symbol) == place.symbol)?;
        Some((cell.placement.as_ref()?.address(symbol.section?, symbol.value), symbol.size))
    });
    found.ok_or_else(|| missing(place))
}

/// Refuses the way back if there are values that have none.
fn irreversible(address: u64) -> Result<(), Error> {
    // SAFETY: as in `find`, which has just read it.
    let there = unsafe { (*(address as *const state_db::Migrations)).there };
    let mut holder = None;
    state_db::entries(|entry| {
        if entry.layout == there.to[0] {
            holder = holder.take().or_else(|| Some(String::from(entry.name)));
        }
    });
    state_db::opaques(|opaque| {
        if opaque.layout == there.to[0] {
            holder = holder.take().or_else(|| Some(String::from(opaque.type_name)));
        }
    });
    holder.map_or(Ok(()), |holder| Err(Error::Irreversible(holder)))
}
