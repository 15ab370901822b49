//! Every plank is replaced by a second copy of itself, and nothing changes.

use crate::bench::{Bench, Test, address, cell_names, contains, equal, memory_at_rest, nothing_old};
use anyhow::{Context, Result, ensure};

pub const TESTS: &[Test] = &[
    Test { name: "cells-verify", limit_s: 180, run: verify },
    Test { name: "reseat-each", limit_s: 400, run: each },
    Test { name: "reseat-all", limit_s: 300, run: all },
    Test { name: "reseat-under-load", limit_s: 300, run: under_load },
    Test { name: "reseat-keeps-memory", limit_s: 400, run: keeps_memory },
    Test { name: "ship-sails", limit_s: 300, run: ship },
];

fn verify(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.run("cells --verify")?);
    Ok(())
}

fn each(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    let before = session.json("cells --json")?;
    for name in cell_names(&before) {
        ensure!(session.succeeds(&format!("reseat {name}"))?, "reseat {name} failed: {}", session.transcript());
    }
    let after = session.json("cells --json")?;
    equal("the id afterwards", &after["running_id"], &before["boot_id"])?;
    nothing_old(&mut session)?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed");
    Ok(())
}

fn all(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    let before = session.json("cells --json")?;
    ensure!(session.succeeds("reseat --all")?, "reseat --all failed: {}", session.transcript());
    let after = session.json("cells --json")?;
    for name in cell_names(&before) {
        let (old, new) = (address(&before, &name), address(&after, &name));
        ensure!(new.is_some() && old != new, "cell {name} was at {old:?} and is at {new:?}");
    }
    nothing_old(&mut session)?;
    for name in cell_names(&before) {
        let old = address(&before, &name).context("a cell without an address")?;
        ensure!(!session.succeeds(&format!("peek {old}"))?, "the old copy of {name} is still mapped at {old}");
    }
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed");
    equal("the shell afterwards", session.run("echo sailing")?.as_str(), "sailing")
}

fn under_load(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    session.run("run count &")?;
    session.run("run spin &")?;
    session.run("sleep 100 &")?;
    for _ in 0..3 {
        ensure!(session.succeeds("reseat --all")?, "reseat --all failed: {}", session.transcript());
    }
    nothing_old(&mut session)?;
    let tasks = session.run("ps")?;
    for app in ["count", "spin"] {
        ensure!(tasks.contains(app), "{app} has gone: {tasks}");
    }
    Ok(())
}

/// Plank after plank is replaced under a counter, until none is the one that was booted.
fn ship(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    session.run("run count &")?;
    let before = session.json("ship --json")?;
    ensure!(before["original"] == before["total"] && before["total"].as_u64() > Some(0), "at first {before}");
    let young = before["planks"].as_array().is_some_and(|planks| planks.iter().all(|plank| plank["replaced"] == 0));
    ensure!(young, "a plank was replaced before the sail");
    contains(&session.run("ship --pause 1ms")?, "give both")?;
    let cells = cell_names(&session.json("cells --json")?).len();
    let begun = session.json("uptime --json")?["ns"].as_u64().context("no time is told")?;
    contains(&session.run("ship --sail --pause 20ms")?, "original bytes left: 0 of ")?;
    let took_ns = session.json("uptime --json")?["ns"].as_u64().context("no time is told")? - begun;
    ensure!(took_ns >= 20_000_000 * cells as u64, "{cells} planks with 20 ms between them took {took_ns} ns");
    let after = session.json("ship --json")?;
    let planks = after["planks"].as_array().context("no planks are listed")?;
    ensure!(planks.iter().all(|plank| plank["replaced"].as_u64() > Some(0)), "a plank was not replaced: {after}");
    let oldest = planks.iter().filter_map(|plank| plank["age_ns"].as_u64()).max();
    let up = session.json("uptime --json")?["ns"].as_u64();
    ensure!(oldest < up, "a plank is {oldest:?} ns old, the system {up:?}");
    contains(&session.run("ps")?, "count")?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed");
    Ok(())
}

fn keeps_memory(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    session.run("reseat --all")?;
    nothing_old(&mut session)?;
    let before = memory_at_rest(&mut session)?;
    for _ in 0..10 {
        ensure!(session.succeeds("reseat --all")?, "reseat --all failed: {}", session.transcript());
    }
    nothing_old(&mut session)?;
    equal("memory in use", memory_at_rest(&mut session)?, before)
}
