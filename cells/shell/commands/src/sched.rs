//! The command about the scheduling policy: which ones there are, which one decides, and another in its place.
#![allow(unsafe_code, reason = "calls a policy's cell by the address of its symbol")]

use crate::{
    Call, Command, Done, Failure,
    usage::{Usage, flag},
};
use alloc::{format, string::String, vec::Vec};
use core::fmt::Write;
use loader::{World, with_world};
use syntax::value::Shown;
use task::Scheduler;

pub(crate) const SCHED: Command = Command {
    name: "sched",
    usage: Usage { words: &["[use]", "[NAME]"], flags: &[flag("--json")], ..Usage::NOTHING },
    about: "the scheduling policies, and which one decides; `sched use NAME` lets another decide, with all tasks that are ready",
    run: sched,
};

/// How symbols begin that give a policy.
const GIVES: &str = "delias_scheduler_";

/// How symbols begin that take a policy's state back.
const RELIEVES: &str = "delias_relieve_";

type Give = extern "Rust" fn() -> Result<&'static dyn Scheduler, String>;
type Relieve = extern "Rust" fn() -> Result<(), String>;

fn sched(call: &mut Call<'_>) -> Result<Done, Failure> {
    match call.words[..] {
        [] => {}
        ["use", name] => return put_in_place(call, name),
        _ => return Err(Failure::new(format_args!("expected `sched` or `sched use NAME`"))),
    }
    let json = call.has("--json");
    let (all, decides) = with_world(|world| (policies(world), deciding(world)))?;
    let decides = decides.unwrap_or_default();
    if json {
        json::array(call.out, |list| {
            all.iter().try_for_each(|(name, cell)| {
                list.object(|o| {
                    o.field("name", name.as_str())?;
                    o.field("cell", cell.as_str())?;
                    o.field("decides", *cell == decides)
                })
            })
        })?;
        writeln!(call.out)?;
        return Ok(Done::Now);
    }
    for (name, cell) in &all {
        writeln!(call.out, "{name:16} {cell:16}{}", if *cell == decides { " decides" } else { "" })?;
    }
    Ok(Done::Now)
}

/// Each policy's name and cell.
fn policies(world: &World) -> Vec<(String, String)> {
    let of = |(_, cell): (_, &linker::Cell<'static>)| {
        let names = cell.object.defined().filter_map(|symbol| symbol.strip_prefix(GIVES));
        names.map(|name| (name.into(), cell.name.into())).collect::<Vec<_>>()
    };
    let mut all: Vec<(String, String)> = world.graph.cells().flat_map(of).collect();
    all.sort_unstable();
    all
}

/// The cell whose policy decides.
fn deciding(world: &World) -> Option<String> {
    let method = task::scheduler_method()?;
    let located = world.graph.locate(world.graph.behind_thunk(method))?;
    Some(world.graph.cell(located.cell).name.into())
}

fn put_in_place(call: &mut Call<'_>, name: &str) -> Result<Done, Failure> {
    let (all, before) = with_world(|world| (policies(world), deciding(world)))?;
    let Some((_, cell)) = all.iter().find(|(known, _)| known == name) else {
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Failure::new(format_args!("there is no policy `{}`; there are {}", Shown(name), names.join(", "))));
    };
    if before.as_ref() == Some(cell) {
        writeln!(call.out, "{name} decides already")?;
        return Ok(Done::Now);
    }
    // SAFETY: the symbol's name says that it is a `Give`; the address is its thunk.
    let give = unsafe { core::mem::transmute::<usize, Give>(loader::symbol(&format!("{GIVES}{name}"))?) };
    let policy = services::apart(name, give).map_err(|why| {
        relieve(name);
        Failure::new(format_args!("{name} gives no policy: {why}"))
    })?;
    let moved = match task::use_scheduler(policy) {
        Ok(moved) => moved,
        Err(why) => {
            relieve(name);
            return Err(Failure::new(format_args!("{name} does not take over: {why}")));
        }
    };
    if call.has("--json") {
        json::object(call.out, |o| {
            o.field("decides", name)?;
            o.field("moved", moved)
        })?;
        writeln!(call.out)?;
    } else {
        writeln!(
            call.out,
            "{name} decides now; {moved} ready task{} moved to it",
            if moved == 1 { " has" } else { "s have" }
        )?;
    }
    // Whoever decided before has nothing to decide on any more.
    let old = all.iter().find(|(_, cell)| before.as_ref() == Some(cell));
    if let Some((old, _)) = old {
        relieve(old);
    }
    Ok(Done::Now)
}

/// Lets a policy that decides no more give its state back, if it can.
fn relieve(name: &str) {
    let Ok(address) = loader::symbol(&format!("{RELIEVES}{name}")) else { return };
    // SAFETY: the symbol's name says that it is a `Relieve`; the address is its thunk.
    let relieve = unsafe { core::mem::transmute::<usize, Relieve>(address) };
    if let Err(why) = services::apart(name, relieve) {
        log::warn!("scheduling policy {name} keeps its state: {why}");
    }
}
