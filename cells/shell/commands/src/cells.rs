//! Commands about cells: which there are, who refers to whom, what lies where.

use crate::{
    Call, Command, Done, Failure,
    identify::Id,
    usage::{Usage, flag},
};
use core::fmt::Write;
use linker::CellId;
use loader::{World, with_world};
use syntax::value::Shown;

pub(crate) const CELLS: Command = Command {
    name: "cells",
    usage: Usage { flags: &[flag("--json"), flag("--old"), flag("--verify")], ..Usage::NOTHING },
    about: "the planks: version, size, address, how often reseated; --old: replaced copies still in use; --verify: all against memory",
    run: cells,
};

fn cells(call: &mut Call<'_>) -> Result<Done, Failure> {
    let (json, old, verify) = (call.has("--json"), call.has("--old"), call.has("--verify"));
    if old && verify {
        return Err(Failure::new(format_args!("--old and --verify ask for different things; give one of them")));
    }
    with_world(|world| match (old, verify) {
        (true, _) => list_old(world, json, call),
        (_, true) => check(world, json, call),
        _ if json => list_json(world, call),
        _ => list(world, call),
    })??;
    Ok(Done::Now)
}

/// Room for a cell's name, where none is longer.
const CELL_WIDTH: usize = 22;

fn list(world: &World, call: &mut Call<'_>) -> Result<(), Failure> {
    let width = world.graph.cells().map(|(_, cell)| cell.name.len()).max().unwrap_or_default().max(CELL_WIDTH);
    writeln!(call.out, "{:width$} {:12} {:>8} {:>7}  {:18} reseated", "cell", "version", "text", "rodata", "address")?;
    for (_, cell) in world.graph.cells() {
        let (text, rodata) = cell.sizes();
        let address = cell.span().map_or(0, |span| span.address);
        writeln!(
            call.out,
            "{:width$} {:12} {text:8} {rodata:7}  {address:#018x} {:8}",
            cell.name, cell.version, cell.reseated
        )?;
    }
    for refused in &world.refused {
        writeln!(call.out, "{:width$} refused: {}", refused.cell, refused.why)?;
    }
    write!(call.out, "{} cells, running {:.12}", world.graph.count(), Id(&world.running_id))?;
    let base = identity::known(world).base;
    if base != world.running_id {
        write!(call.out, ": {:.12}+{}", Id(&base), world.guests.len())?;
        for guest in &world.guests {
            write!(call.out, " {}{}", guest.name, if guest.pinned { " (pinned)" } else { "" })?;
        }
    }
    writeln!(call.out)?;
    Ok(())
}

fn list_json(world: &World, call: &mut Call<'_>) -> Result<(), Failure> {
    let nano_core = state_db::find::<starter::Boot>("boot")?
        .with(|boot| boot.nano_core_bytes.load(core::sync::atomic::Ordering::Relaxed))
        .map_err(state_db::Error::from)?;
    json::object(call.out, |o| {
        o.field("boot_id", json::Text(Id(&world.archive.manifest.image_id)))?;
        o.field("running_id", json::Text(Id(&world.running_id)))?;
        o.field("base_id", json::Text(Id(&identity::known(world).base)))?;
        o.array("guests", |list| world.guests.iter().try_for_each(|guest| list.item(guest.name.as_str())))?;
        o.object("nano_core", |o| o.field("bytes_in_use", nano_core))?;
        o.array("cells", |list| {
            for (id, cell) in world.graph.cells() {
                let (text, rodata) = cell.sizes();
                list.object(|o| {
                    o.field("name", cell.name)?;
                    o.field("number", u64::from(id.0))?;
                    o.field("version", cell.version)?;
                    o.field("object", world.hashes.get(id.0 as usize).map(|hash| json::Text(Id(hash))))?;
                    o.field("text", text)?;
                    o.field("rodata", rodata)?;
                    o.field("address", json::Hex(cell.span().map_or(0, |span| span.address)))?;
                    o.field("reseated", cell.reseated)
                })?;
            }
            Ok(())
        })
    })?;
    writeln!(call.out)?;
    Ok(())
}

fn list_old(world: &World, json: bool, call: &mut Call<'_>) -> Result<(), Failure> {
    if json {
        json::array(call.out, |list| {
            for old in &world.old {
                list.object(|o| {
                    o.field("name", old.name)?;
                    o.field("copy", old.replaced.copy)?;
                    o.field("address", json::Hex(old.replaced.placement.text.address))?;
                    o.field("pin", old.pin.as_str())
                })?;
            }
            Ok(())
        })?;
        writeln!(call.out)?;
        return Ok(());
    }
    for old in &world.old {
        let name = old.name;
        writeln!(
            call.out,
            "{name} copy {} at {:#x}: {}",
            old.replaced.copy, old.replaced.placement.text.address, old.pin
        )?;
    }
    if world.old.is_empty() {
        writeln!(call.out, "no old copy is left")?;
    }
    Ok(())
}

fn check(world: &World, json: bool, call: &mut Call<'_>) -> Result<(), Failure> {
    let verified = identity::verify(world)?;
    if let Some(cell) = verified.changed.first() {
        return Err(Failure::new(format_args!(
            "the object of cell {cell} in memory is not the one that the manifest lists"
        )));
    }
    if verified.id != world.running_id {
        let (found, expected) = (Id(&verified.id), Id(&world.running_id));
        return Err(Failure::new(format_args!("what runs has id {found}, expected {expected}")));
    }
    if json {
        json::object(call.out, |o| {
            o.field("id", json::Text(Id(&verified.id)))?;
            o.field("cells", world.graph.count())
        })?;
        writeln!(call.out)?;
    } else {
        writeln!(call.out, "{} cells verified, id {}", world.graph.count(), Id(&verified.id))?;
    }
    Ok(())
}

pub(crate) const DEPS: Command = Command {
    name: "deps",
    usage: Usage { words: &["CELL"], flags: &[flag("--json")], ..Usage::NOTHING },
    about: "the cells that a cell refers to, with the number of references",
    run: |call| references(call, |world, id| world.graph.dependencies(id)),
};

pub(crate) const WHO_USES: Command = Command {
    name: "who-uses",
    usage: Usage { words: &["CELL"], flags: &[flag("--json")], ..Usage::NOTHING },
    about: "the cells that refer to a cell, with the number of references",
    run: |call| references(call, users),
};

fn users(world: &World, id: CellId) -> alloc::vec::Vec<(CellId, u32)> {
    let uses = |(user, _): (CellId, _)| {
        let found = world.graph.dependencies(user).into_iter().find(|(to, _)| *to == id)?;
        Some((user, found.1))
    };
    world.graph.cells().filter_map(uses).collect()
}

fn references(
    call: &mut Call<'_>,
    find: fn(&World, CellId) -> alloc::vec::Vec<(CellId, u32)>,
) -> Result<Done, Failure> {
    with_world(|world| -> Result<(), Failure> {
        let id = named(world, call.first())?;
        let list = find(world, id);
        if call.has("--json") {
            json::array(call.out, |out| {
                list.iter().try_for_each(|(other, count)| {
                    out.object(|o| {
                        o.field("name", world.graph.cell(*other).name)?;
                        o.field("references", *count)
                    })
                })
            })?;
            writeln!(call.out)?;
        } else {
            for (other, count) in &list {
                writeln!(call.out, "{:22} {count:6}", world.graph.cell(*other).name)?;
            }
        }
        Ok(())
    })??;
    Ok(Done::Now)
}

/// The cell that a person names; `-` may stand for `_`, as in crate names.
pub(crate) fn named(world: &World, name: &str) -> Result<CellId, Failure> {
    let found = world.graph.cells().find(|(_, cell)| {
        cell.name.len() == name.len()
            && cell.name.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    });
    found
        .map(|(id, _)| id)
        .ok_or_else(|| Failure::new(format_args!("there is no cell `{}`; `cells` lists them", Shown(name))))
}

pub(crate) const ADDR: Command = Command {
    name: "addr",
    usage: Usage { words: &["NAME|0x…"], flags: &[flag("--json")], ..Usage::NOTHING },
    about: "the cell, function and offset of an address, or the addresses of functions of a name",
    run: addr,
};

/// Functions of one name that are shown.
const SHOWN: usize = 8;

fn addr(call: &mut Call<'_>) -> Result<Done, Failure> {
    let word = call.first();
    let json = call.has("--json");
    if word.starts_with("0x") {
        let address = syntax::value::parse_address(word)?;
        let found = with_world(|world| loader::name(world, address))?;
        let Some(found) = found else {
            return Err(Failure::new(format_args!("no cell lies at {address:#x}")));
        };
        if json {
            json::object(call.out, |o| {
                o.field("cell", found.cell)?;
                o.field("function", found.function.as_str())?;
                o.field("offset", found.offset)
            })?;
            writeln!(call.out)?;
        } else if found.function.is_empty() {
            writeln!(call.out, "{address:#x}: cell {}, offset {:#x}, no function", found.cell, found.offset)?;
        } else {
            writeln!(
                call.out,
                "{address:#x}: cell {}, function {}, offset {:#x}",
                found.cell, found.function, found.offset
            )?;
        }
        return Ok(Done::Now);
    }
    with_world(|world| -> Result<(), Failure> {
        let found = world.functions(word, SHOWN + 1);
        if found.is_empty() {
            return Err(Failure::new(format_args!("no function is called `{}`", Shown(word))));
        }
        if json {
            json::array(call.out, |list| {
                found.iter().take(SHOWN).try_for_each(|(id, path, address, size)| {
                    list.object(|o| {
                        o.field("cell", world.graph.cell(*id).name)?;
                        o.field("function", path.as_str())?;
                        o.field("address", json::Hex(*address))?;
                        o.field("size", *size)
                    })
                })
            })?;
            writeln!(call.out)?;
            return Ok(());
        }
        for (id, path, address, size) in found.iter().take(SHOWN) {
            writeln!(call.out, "{address:#x}: cell {}, function {path}, {size} bytes", world.graph.cell(*id).name)?;
        }
        if found.len() > SHOWN {
            writeln!(call.out, "and more; give more of the path")?;
        }
        Ok(())
    })??;
    Ok(Done::Now)
}
