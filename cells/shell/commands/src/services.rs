//! The command about services: what is bound, by which cell.

use crate::{
    Call, Command, Done, Failure,
    usage::{Usage, flag},
};
use core::fmt::Write;
use loader::{Listed, World, with_world};

pub(crate) const SERVICES: Command = Command {
    name: "services",
    usage: Usage { words: &["[start|stop]", "[GUEST]", "[PARAMETERS]"], flags: &[flag("--json")], ..Usage::NOTHING },
    about: "the services: their cells, their parameters, and whether an update can end them; starts or ends a guest's",
    run: services,
};

fn services(call: &mut Call<'_>) -> Result<Done, Failure> {
    match call.words[..] {
        [] => {}
        ["start", guest] => return started(call, guest, ""),
        ["start", guest, parameters] => return started(call, guest, parameters),
        ["stop", guest] => {
            offers::stop(guest)?;
            return call.tell("ended", guest, format_args!("service {guest} is ended"));
        }
        _ => {
            return Err(Failure::new(format_args!(
                "expected `services`, `services start GUEST [PARAMETERS]` or `services stop GUEST`"
            )));
        }
    }
    let json = call.has("--json");
    with_world(|world| if json { list_json(world, call) } else { list(world, call) })??;
    Ok(Done::Now)
}

fn started(call: &mut Call<'_>, guest: &str, parameters: &str) -> Result<Done, Failure> {
    offers::start(guest, parameters)?;
    call.tell("started", guest, format_args!("service {guest} is started"))
}

/// The cell that implements a service.
fn cell<'w>(world: &'w World, listed: &Listed) -> &'w str {
    world.graph.definer(&listed.service.implementation).map_or("no cell", |id| world.graph.cell(id).name)
}

fn can_end(world: &World, listed: &Listed) -> bool {
    world.graph.definer(&listed.service.revocation()).is_some()
}

fn list(world: &World, call: &mut Call<'_>) -> Result<(), Failure> {
    for listed in &world.services {
        let stays = if can_end(world, listed) { "" } else { ", stays until power-off" };
        write!(call.out, "{:16} {:16}", listed.service.name, cell(world, listed))?;
        match &listed.left_out {
            None => write!(call.out, " bound{stays}")?,
            Some(why) => write!(call.out, " left out: {why}")?,
        }
        match listed.service.parameters.as_str() {
            "" => writeln!(call.out)?,
            parameters => writeln!(call.out, "; {parameters}")?,
        }
    }
    Ok(())
}

fn list_json(world: &World, call: &mut Call<'_>) -> Result<(), Failure> {
    json::array(call.out, |list| {
        world.services.iter().try_for_each(|listed| {
            list.object(|o| {
                o.field("name", listed.service.name.as_str())?;
                o.field("cell", cell(world, listed))?;
                o.field("implementation", listed.service.implementation.as_str())?;
                o.field("parameters", listed.service.parameters.as_str())?;
                o.field("bound", listed.left_out.is_none())?;
                o.field("why_not", listed.left_out.as_deref().unwrap_or_default())?;
                o.field("can_end", can_end(world, listed))
            })
        })
    })?;
    writeln!(call.out)?;
    Ok(())
}
