//! The command about namespaces: which cell may link which.

use crate::{
    Call, Command, Done, Failure,
    usage::{Usage, flag},
};
use core::fmt::Write;
use loader::{World, with_world};
use namespace::{BASE, Namespace};
use syntax::value::Shown;

/// The longest name of a namespace.
const NAME_BYTES: usize = 32;

pub(crate) const NS: Command = Command {
    name: "ns",
    usage: Usage { words: &["[new|remove]", "[NAME]"], rest: true, flags: &[flag("--json")] },
    about: "the namespaces: their cells, and what these may link besides each other; `ns new NAME --allow CELL…` makes one, `ns remove NAME` ends it",
    run: ns,
};

fn ns(call: &mut Call<'_>) -> Result<Done, Failure> {
    // Behind the words that a namespace is made with, options are words too.
    if call.words.pop_if(|word| *word == "--json").is_some() {
        call.options.push(("--json", None));
    }
    match call.words[..] {
        [] => {}
        ["new", name, "--allow", ref allows @ ..] if !allows.is_empty() => {
            check_name(name)?;
            offers::make_namespace(name, allows)?;
            return call.tell("made", name, format_args!("namespace {name} is made"));
        }
        ["remove", name] => {
            offers::remove_namespace(name)?;
            return call.tell("removed", name, format_args!("namespace {name} is removed"));
        }
        _ => return Err(Failure::new(format_args!("expected `ns`, `ns new NAME --allow CELL…` or `ns remove NAME`"))),
    }
    let json = call.has("--json");
    with_world(|world| if json { list_json(world, call) } else { list(world, call) })??;
    Ok(Done::Now)
}

/// A namespace is named as a cell is.
fn check_name(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(good) && name.len() <= NAME_BYTES {
        true => Ok(()),
        false => Err(Failure::new(format_args!(
            "`{}` cannot be a namespace's name: expected small letters, digits and `_`, a letter first, {NAME_BYTES} at most",
            Shown(name)
        ))),
    }
}

/// The names of the cells that run and are in no namespace.
fn base(world: &World) -> impl Iterator<Item = &str> {
    world.graph.cells().map(|(_, cell)| cell.name).filter(|name| world.graph.namespaces().of(name).is_none())
}

fn list(world: &World, call: &mut Call<'_>) -> Result<(), Failure> {
    writeln!(call.out, "{BASE}: {} cells, which may link every cell", base(world).count())?;
    for Namespace { name, cells, allows, .. } in world.graph.namespaces().iter() {
        let cells = if cells.is_empty() { "no cells".into() } else { cells.join(" ") };
        let allows = if allows.is_empty() { "nothing else".into() } else { allows.join(" ") };
        writeln!(call.out, "{name}: {cells}; may link {allows}")?;
    }
    Ok(())
}

fn list_json(world: &World, call: &mut Call<'_>) -> Result<(), Failure> {
    json::array(call.out, |list| {
        list.object(|o| {
            o.field("name", BASE)?;
            o.field("made", false)?;
            o.array("cells", |cells| base(world).try_for_each(|cell| cells.item(cell)))
        })?;
        for Namespace { name, cells, allows, made } in world.graph.namespaces().iter() {
            list.object(|o| {
                o.field("name", name.as_str())?;
                o.field("made", *made)?;
                o.array("cells", |list| cells.iter().try_for_each(|cell| list.item(cell.as_str())))?;
                o.array("allows", |list| allows.iter().try_for_each(|cell| list.item(cell.as_str())))
            })?;
        }
        Ok(())
    })?;
    writeln!(call.out)?;
    Ok(())
}
