//! Updates by difference: what is offered, the plan, applying it, the list, and back.

use crate::{
    Call, Command, Done, Failure,
    identify::Id,
    usage::{Flag, Usage, flag},
};
use bundle::What;
use core::fmt::Write;
use offers::{Outcome, Plan};

pub(crate) const UPDATE: Command = Command {
    name: "update",
    usage: Usage { words: &["[CELL]"], flags: &[flag("--yes"), flag("--dry-run"), flag("--json")], ..Usage::NOTHING },
    about: "shows what the host offers, or of it one cell, and what it would change, asks, and applies it; --yes does not ask, --dry-run only shows",
    run: update,
};

fn update(call: &mut Call<'_>) -> Result<Done, Failure> {
    let (yes, dry, json) = (call.has("--yes"), call.has("--dry-run"), call.has("--json"));
    if yes && dry {
        return Err(Failure::new(format_args!("--yes and --dry-run ask for different things; give one of them")));
    }
    let only = call.words.first().copied();
    if !yes {
        let plan = offers::plan(only)?;
        if json {
            plan_json(&plan, call)?
        } else {
            show(&plan, call)?
        }
        return match (dry || json, plan.refused.is_empty()) {
            (true, _) => Ok(Done::Now),
            (false, true) => Ok(Done::Ask {
                question: "apply it? [y/N] ",
                line: only.map_or_else(|| "update --yes".into(), |cell| alloc::format!("update {cell} --yes")),
            }),
            (false, false) => Err(Failure::new(format_args!("nothing was changed"))),
        };
    }
    let (cells, done) = offers::apply(only)?;
    let (copies, words, frames, migrated) = (done.cells, done.words, done.frames, done.migrated);
    if json {
        json::object(call.out, |o| {
            o.field("copies", copies)?;
            o.field("words", words)?;
            o.field("frames", frames)?;
            o.field("migrated", migrated)?;
            o.field("rendezvous_ns", done.rendezvous_ns)
        })?;
        writeln!(call.out)?;
    } else {
        let word = if words == 1 { "word" } else { "words" };
        let (changed, copy) = (if cells == 1 { "cell" } else { "cells" }, if copies == 1 { "copy" } else { "copies" });
        writeln!(
            call.out,
            "applied: {cells} {changed} changed, {copies} new {copy}, {words} {word} written, {frames} of them frames of tasks"
        )?;
        if migrated > 0 {
            writeln!(call.out, "{migrated} value{} migrated", if migrated == 1 { "" } else { "s" })?;
        }
    }
    Ok(Done::Now)
}

fn word(what: What) -> &'static str {
    match what {
        What::Replace => "replace",
        What::Add => "add",
        What::Remove => "remove",
    }
}

/// Reasons of a cell that are shown.
const REASONS: usize = 4;

fn show(plan: &Plan, call: &mut Call<'_>) -> Result<(), Failure> {
    writeln!(call.out, "from {:.16} to {:.16}", Id(&plan.base), Id(&plan.target))?;
    for cell in &plan.cells {
        let reasons = cell.reasons.iter().take(REASONS);
        write!(call.out, "  {:7} {} {}", word(cell.what), cell.name, cell.version)?;
        for (number, reason) in reasons.enumerate() {
            write!(call.out, "{}{reason}", if number == 0 { ": " } else { ", " })?;
        }
        let more = cell.reasons.len().saturating_sub(REASONS);
        if more > 0 {
            write!(call.out, ", and {more} more")?;
        }
        writeln!(call.out)?;
        for function in &cell.not_followed {
            writeln!(call.out, "          not followed: {function}")?;
        }
    }
    let (cells, copies, words) = (plan.cells.len(), plan.copies, plan.words);
    let noun = if cells == 1 { "cell changes" } else { "cells change" };
    if plan.refused.is_empty() {
        writeln!(
            call.out,
            "{cells} {noun}, {copies} get a new copy, {words} words are written besides frames of tasks"
        )?;
    }
    for claim in &plan.migrates {
        writeln!(call.out, "migrates {claim}")?;
    }
    for name in &plan.ends {
        writeln!(call.out, "ends service {name}")?;
    }
    for name in &plan.starts {
        writeln!(call.out, "starts service {name}")?;
    }
    for reason in &plan.refused {
        writeln!(call.out, "refused: {reason}")?;
    }
    if plan.boot_pending {
        writeln!(call.out, "nano_core differs too: boot: pending")?;
    }
    Ok(())
}

fn plan_json(plan: &Plan, call: &mut Call<'_>) -> Result<(), Failure> {
    json::object(call.out, |o| {
        o.field("base", json::Text(Id(&plan.base)))?;
        o.field("target", json::Text(Id(&plan.target)))?;
        o.field("copies", plan.copies)?;
        o.field("words", plan.words)?;
        o.field("boot_pending", plan.boot_pending)?;
        o.array("migrates", |list| plan.migrates.iter().try_for_each(|claim| list.item(claim.as_str())))?;
        o.array("ends", |list| plan.ends.iter().try_for_each(|name| list.item(name.as_str())))?;
        o.array("starts", |list| plan.starts.iter().try_for_each(|name| list.item(name.as_str())))?;
        o.array("refused", |list| plan.refused.iter().try_for_each(|reason| list.item(reason.as_str())))?;
        o.array("cells", |list| {
            plan.cells.iter().try_for_each(|cell| {
                list.object(|o| {
                    o.field("name", cell.name.as_str())?;
                    o.field("what", word(cell.what))?;
                    o.field("version", cell.version.as_str())?;
                    o.array("reasons", |list| cell.reasons.iter().try_for_each(|reason| list.item(reason.as_str())))?;
                    o.array("not_followed", |list| {
                        cell.not_followed.iter().try_for_each(|name| list.item(name.as_str()))
                    })
                })
            })
        })
    })?;
    writeln!(call.out)?;
    Ok(())
}

pub(crate) const UPDATES: Command = Command {
    name: "updates",
    usage: Usage { flags: &[flag("--json")], ..Usage::NOTHING },
    about: "the updates that were applied: ids, cells, pause, outcome",
    run: updates,
};

fn updates(call: &mut Call<'_>) -> Result<Done, Failure> {
    let outcome = |outcome: &Outcome| match outcome {
        Outcome::Applied => alloc::string::String::from("applied"),
        Outcome::RolledBack => alloc::string::String::from("rolled back"),
        Outcome::Failed(why) => alloc::format!("taken back: {why}"),
    };
    if call.has("--json") {
        json::array(call.out, |list| {
            let mut written = Ok(());
            let shown = offers::each_applied(|applied| {
                let row = list.object(|o| {
                    o.field("number", applied.number)?;
                    o.field("base", json::Text(Id(&applied.base)))?;
                    o.field("target", json::Text(Id(&applied.target)))?;
                    o.array("cells", |list| applied.cells.iter().try_for_each(|cell| list.item(cell.as_str())))?;
                    o.field("words", applied.words)?;
                    o.field("frames", applied.frames)?;
                    o.field("pause_ns", applied.pause_ns)?;
                    o.field("migrated", applied.migrated)?;
                    o.field("outcome", outcome(&applied.outcome).as_str())
                });
                written = written.and(row);
            });
            written.and(shown.map_err(|_| core::fmt::Error))
        })?;
        writeln!(call.out)?;
        return Ok(Done::Now);
    }
    let mut wrong = Ok(());
    let out = &mut *call.out;
    offers::each_applied(|applied| {
        let (number, us, count) = (applied.number, applied.pause_ns / 1000, applied.cells.len());
        let noun = if count == 1 { "cell " } else { "cells" };
        let row = writeln!(
            out,
            "{number:4} {:.12} -> {:.12}  {count:3} {noun}  {us:7} us  {}",
            Id(&applied.base),
            Id(&applied.target),
            outcome(&applied.outcome)
        );
        wrong = wrong.and(row);
    })?;
    wrong?;
    Ok(Done::Now)
}

pub(crate) const ROLLBACK: Command = Command {
    name: "rollback",
    usage: Usage { words: &["[N]"], flags: &[flag("--json")], ..Usage::NOTHING },
    about: "takes the last update back, or the last N",
    run: rollback,
};

fn rollback(call: &mut Call<'_>) -> Result<Done, Failure> {
    let count = match call.words.first() {
        Some(word) => syntax::value::parse_u64(word)?,
        None => 1,
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count == 0 {
        return Err(Failure::new(format_args!("0 updates are nothing to take back")));
    }
    let taken = offers::rollback(count)?;
    let noun = if taken == 1 { "update" } else { "updates" };
    call.tell("updates", taken, format_args!("{taken} {noun} taken back"))
}

pub(crate) const UNLOAD: Command = Command {
    name: "unload",
    usage: Usage { words: &["GUEST"], flags: &[flag("--json")], ..Usage::NOTHING },
    about: "takes the cells of a guest out, unless somebody needs them",
    run: unload,
};

fn unload(call: &mut Call<'_>) -> Result<Done, Failure> {
    let name = call.words.first().copied().ok_or_else(|| Failure::new(format_args!("GUEST is missing")))?;
    let cells = offers::unload(name)?;
    let noun = if cells == 1 { "cell" } else { "cells" };
    call.tell("cells", cells, format_args!("{cells} {noun} unloaded"))
}

pub(crate) const SHIP: Command = Command {
    name: "ship",
    usage: Usage {
        flags: &[flag("--sail"), flag("--json"), Flag { name: "--pause", value: Some("TIME") }],
        ..Usage::NOTHING
    },
    about: "the system as planks: age and replacements of each cell, original bytes left; --sail replaces plank after plank",
    run: ship,
};

fn ship(call: &mut Call<'_>) -> Result<Done, Failure> {
    let json = call.has("--json");
    let pause_ns = call.value("--pause").map(syntax::value::parse_duration).transpose()?.unwrap_or(0);
    if !call.has("--sail") && call.value("--pause").is_some() {
        return Err(Failure::new(format_args!("--pause is between the planks of --sail; give both")));
    }
    if call.has("--sail") {
        let names: alloc::vec::Vec<alloc::string::String> =
            loader::with_world(|world| world.graph.cells().map(|(_, cell)| cell.name.into()).collect())?;
        let count = names.len();
        for (number, name) in names.iter().enumerate() {
            // A cell that has gone meanwhile is no plank any more.
            loader::with_world(|world| world.graph.find(name).map(|id| update::reseat(world, &[id])))?.transpose()?;
            if pause_ns > 0 && task::sleep_ns(pause_ns).is_err() {
                return Err(Failure::new(format_args!("interrupted after {} of {count} planks", number + 1)));
            }
        }
    }
    let report = loader::with_world(|world| offers::planks(world))?;
    if json {
        json::object(call.out, |o| {
            o.field("original", report.original)?;
            o.field("total", report.total)?;
            o.field("constants", report.constants)?;
            o.field("thunks", report.thunks)?;
            o.array("planks", |list| {
                report.planks.iter().try_for_each(|plank| {
                    list.object(|o| {
                        o.field("name", plank.name)?;
                        o.field("version", plank.version)?;
                        o.field("replaced", plank.replaced)?;
                        o.field("age_ns", plank.age_ns)?;
                        o.field("original", plank.original)?;
                        o.field("total", plank.total)
                    })
                })
            })
        })?;
        writeln!(call.out)?;
        return Ok(Done::Now);
    }
    for plank in &report.planks {
        let (name, version, replaced, age) = (plank.name, plank.version, plank.replaced, plank.age_ns / 1_000_000_000);
        writeln!(
            call.out,
            "{name:22} {version:12} {age:6} s old, replaced {replaced:4} times, original {:7} of {:7}",
            plank.original, plank.total
        )?;
    }
    let (original, total) = (report.original, report.total);
    writeln!(call.out, "original bytes left: {original} of {total}")?;
    writeln!(call.out, "constants {} and thunks {} stay where they are by design", report.constants, report.thunks)?;
    Ok(Done::Now)
}
