//! The command about namespaces: which cell may link which.

use crate::{
    Call, Command, Done, Failure,
    usage::{Usage, flag},
};
use core::fmt::Write;
use loader::{World, with_world};
use namespace::{BASE, Namespace};

pub(crate) const NS: Command = Command {
    name: "ns",
    usage: Usage { flags: &[flag("--json")], ..Usage::NOTHING },
    about: "the namespaces: their cells, and what these may link besides each other",
    run: ns,
};

fn ns(call: &mut Call<'_>) -> Result<Done, Failure> {
    let json = call.has("--json");
    with_world(|world| if json { list_json(world, call) } else { list(world, call) })??;
    Ok(Done::Now)
}

/// The names of the cells that run and are in no namespace.
fn base(world: &World) -> impl Iterator<Item = &str> {
    world.graph.cells().map(|(_, cell)| cell.name).filter(|name| world.graph.namespaces().of(name).is_none())
}

fn list(world: &World, call: &mut Call<'_>) -> Result<(), Failure> {
    writeln!(call.out, "{BASE}: {} cells, which may link every cell", base(world).count())?;
    for Namespace { name, cells, allows } in world.graph.namespaces().iter() {
        writeln!(call.out, "{name}: {}; may link {}", cells.join(" "), allows.join(" "))?;
    }
    Ok(())
}

fn list_json(world: &World, call: &mut Call<'_>) -> Result<(), Failure> {
    json::array(call.out, |list| {
        list.object(|o| {
            o.field("name", BASE)?;
            o.array("cells", |cells| base(world).try_for_each(|cell| cells.item(cell)))
        })?;
        for Namespace { name, cells, allows } in world.graph.namespaces().iter() {
            list.object(|o| {
                o.field("name", name.as_str())?;
                o.array("cells", |list| cells.iter().try_for_each(|cell| list.item(cell.as_str())))?;
                o.array("allows", |list| allows.iter().try_for_each(|cell| list.item(cell.as_str())))
            })?;
        }
        Ok(())
    })?;
    writeln!(call.out)?;
    Ok(())
}
