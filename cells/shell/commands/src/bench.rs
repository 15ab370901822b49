//! `bench`: what parts of the system cost, measured in it. Under an emulator only instruction counts mean something.

use crate::{
    Call, Command, Done, Failure,
    usage::{Usage, flag},
};
use alloc::{format, string::String, vec::Vec};
use core::fmt::Write;
use linker::CellId;
use loader::World;
use update::Cost;

pub(crate) const BENCH: Command = Command {
    name: "bench",
    usage: Usage { words: &["WHAT"], flags: &[flag("--json")], ..Usage::NOTHING },
    about: "measures: `bench update` the parts of an exchange of a leaf, of core, and of all cells",
    run: bench,
};

/// Times each is measured; the least and the middle are shown.
const ROUNDS: usize = 9;

fn bench(call: &mut Call<'_>) -> Result<Done, Failure> {
    if call.first() != "update" {
        return Err(Failure::new(format_args!(
            "there is no measurement `{}`: expected update",
            syntax::value::Shown(call.first())
        )));
    }
    let rows = loader::with_world(measure)??;
    if call.has("--json") {
        json::object(call.out, |o| {
            rows.iter().try_for_each(|(name, values)| {
                o.object(name, |o| {
                    o.field("min", values.first().copied().unwrap_or_default())?;
                    o.field("median", values.get(values.len() / 2).copied().unwrap_or_default())
                })
            })
        })?;
        writeln!(call.out)?;
        return Ok(Done::Now);
    }
    writeln!(call.out, "{:24} {:>12} {:>12}", "ns (or instructions)", "min", "median")?;
    for (name, values) in &rows {
        let (least, middle) =
            (values.first().copied().unwrap_or_default(), values.get(values.len() / 2).copied().unwrap_or_default());
        writeln!(call.out, "{name:24} {least:12} {middle:12}")?;
    }
    Ok(Done::Now)
}

/// A figure's name, and what was measured, sorted.
type Row = (String, Vec<u64>);

fn row(name: String, mut once: impl FnMut() -> Result<u64, update::Error>) -> Result<Row, update::Error> {
    let mut values = (0..ROUNDS).map(|_| once()).collect::<Result<Vec<u64>, _>>()?;
    values.sort_unstable();
    Ok((name, values))
}

/// A part of a cost, in nanoseconds or by number.
type Of = fn(&Cost) -> u64;

fn measure(world: &mut World) -> Result<Vec<Row>, update::Error> {
    let mut rows = Vec::new();
    rows.push(row(String::from("empty_rendezvous"), || update::empty_rendezvous(world))?);
    let leaf: Vec<CellId> = world.graph.find("app_hello").into_iter().collect();
    let core: Vec<CellId> = world.graph.find("core").into_iter().collect();
    let all: Vec<CellId> = world.graph.cells().map(|(id, _)| id).collect();
    for (name, cells) in [("leaf", leaf), ("core", core), ("all", all)] {
        let costs = (0..ROUNDS).map(|_| update::exchange(world, &cells)).collect::<Result<Vec<Cost>, _>>()?;
        let parts: [(&str, Of); 5] = [
            ("stage", |cost| cost.stage_ns),
            ("patches", |cost| cost.patches as u64),
            ("frames", |cost| cost.frames as u64),
            ("pause", |cost| cost.pause_ns),
            ("apply", |cost| cost.apply_ns),
        ];
        for (part, of) in parts {
            let mut values: Vec<u64> = costs.iter().map(of).collect();
            values.sort_unstable();
            rows.push((format!("{name}_{part}"), values));
        }
    }
    let mut whole = Vec::new();
    rows.push(row(String::from("look"), || {
        let (pause_ns, whole_ns) = update::look(world)?;
        whole.push(whole_ns);
        Ok(pause_ns)
    })?);
    whole.sort_unstable();
    rows.push((String::from("retire"), whole));
    Ok(rows)
}
