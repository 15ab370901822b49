//! The command about the scheduling policy: which ones there are, which one decides, and another in its place.

use crate::{
    Call, Command, Done, Failure,
    usage::{Usage, flag},
};
use alloc::vec::Vec;
use core::fmt::Write;
use loader::with_world;
use services::{deciding, policies};
use syntax::value::Shown;

pub(crate) const SCHED: Command = Command {
    name: "sched",
    usage: Usage { words: &["[use]", "[NAME]"], flags: &[flag("--json")], ..Usage::NOTHING },
    about: "the scheduling policies, and which one decides; `sched use NAME` lets another decide, with all tasks that are ready",
    run: sched,
};

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
            all.iter().try_for_each(|policy| {
                list.object(|o| {
                    o.field("name", policy.name.as_str())?;
                    o.field("cell", policy.cell.as_str())?;
                    o.field("decides", policy.cell == decides)
                })
            })
        })?;
        writeln!(call.out)?;
        return Ok(Done::Now);
    }
    for policy in &all {
        let mark = if policy.cell == decides { " decides" } else { "" };
        writeln!(call.out, "{:16} {:16}{mark}", policy.name, policy.cell)?;
    }
    Ok(Done::Now)
}

fn put_in_place(call: &mut Call<'_>, name: &str) -> Result<Done, Failure> {
    let (all, before) = with_world(|world| (policies(world), deciding(world)))?;
    let Some(policy) = all.iter().find(|policy| policy.name == name) else {
        let names: Vec<&str> = all.iter().map(|policy| policy.name.as_str()).collect();
        return Err(Failure::new(format_args!("there is no policy `{}`; there are {}", Shown(name), names.join(", "))));
    };
    if before.as_ref() == Some(&policy.cell) {
        writeln!(call.out, "{name} decides already")?;
        return Ok(Done::Now);
    }
    let moved = services::use_policy(name).map_err(|why| Failure::new(format_args!("{why}")))?;
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
    Ok(Done::Now)
}
