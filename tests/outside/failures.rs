//! Guests that do wrong.

use super::Outside;
use crate::bench::{Bench, contains, equal, nothing_old, soon};
use anyhow::{Context, Result, ensure};
use std::fs;

/// What a guest does wrong when it is started, stopped or asked leaves nothing behind, and nobody waits for it for ever.
pub fn failures(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let work = outside.work();
    let mut session = bench.boot()?;
    let _known = outside.meet(&bench.project, &session)?;
    let booted = session.json("cells --json")?["running_id"].clone();
    outside.succeeds(&work, &["new", "ticker", "--kind", "service"])?;
    let (ticker, source) = (work.join("ticker"), work.join("ticker/src/lib.rs"));
    let text = fs::read_to_string(&source).context("no source")?;
    let end = "    driven.inspect_err(|_| drop((slot.unbind(), entry.withdraw())))\n";
    ensure!(text.contains(end), "the template is another");
    for (wrong, why) in [
        ("    drop(driven);\n    panic!(\"half done\")\n", "panic: half done"),
        ("    drop(driven);\n    Err(String::from(\"half done\"))\n", "half done"),
        ("    drop(driven);\n    loop {\n        core::hint::spin_loop();\n    }\n", "it did not end within 10 s"),
    ] {
        fs::write(&source, text.replace(end, wrong)).context("cannot write the source")?;
        outside.fails(&ticker, &["push", "--run", "5"], why)?;
        ensure!(!session.run("services")?.contains("ticker"), "a service that does not start is on the list");
        contains(&session.run("services stop ticker")?, "is started")?;
    }
    fs::write(
        &source,
        text.replace(
            "    slot.and(state)",
            "    if state.is_ok() {\n        panic!(\"not like this\");\n    }\n    slot.and(state)",
        ),
    )
    .context("cannot write the source")?;
    contains(&outside.succeeds(&ticker, &["push", "--run", "5"])?, "is started")?;
    contains(&session.run("services stop ticker")?, "not like this (in cell ticker, function delias_revoke_ticker")?;
    contains(&session.run("services")?, "ticker           ticker           bound; 5")?;
    fs::write(&source, &text).context("cannot write the source")?;
    outside.succeeds(&ticker, &["push"])?;
    ensure!(session.succeeds("services stop ticker")?, "a service cannot be ended any more: {}", session.transcript());
    contains(&session.run("unload ticker")?, "1 cell unloaded")?;
    for wrong in ["18446744073709551615", "0", "-1", "x y"] {
        outside.fails(&ticker, &["push", "--run", wrong], "the pause is")?;
    }
    contains(&session.run("unload ticker")?, "1 cell unloaded")?;

    outside.succeeds(&work, &["new", "fair", "--kind", "scheduler"])?;
    let (fair, source) = (work.join("fair"), work.join("fair/src/lib.rs"));
    let text = fs::read_to_string(&source).context("no source")?;
    session.run("run count &")?;
    for (part, wrong, shown) in [
        ("    Ok(&Policy)", "    panic!(\"no policy\")", "no policy"),
        (
            "        READY.with(|ready| ready.by_cpu[cpu as usize].lock().next()).ok().flatten()",
            "        let _ = cpu;\n        Some(task::current())",
            "fair decides now",
        ),
        (
            "            if queue.try_reserve(1).is_ok() {",
            "            if queue.is_empty() {\n                panic!(\"not that one\");\n            }\n            if queue.try_reserve(1).is_ok() {",
            "fair",
        ),
    ] {
        ensure!(text.contains(part), "the template is another");
        fs::write(&source, text.replace(part, wrong)).context("cannot write the source")?;
        let said = outside.run(&fair, &["push", "--run", ""])?;
        contains(&(said.out + &said.errors), shown)?;
        contains(&session.run("run hello")?, "Hello from a cell.")?;
        let said = session.json("sched use round_robin --json");
        let moved = said.ok().and_then(|said| said["moved"].as_u64());
        ensure!(moved.is_none_or(|moved| moved < 20), "{moved:?} tasks were handed over");
        contains(&session.run("sched")?, "round_robin      round_robin      decides")?;
    }
    fs::write(&source, &text).context("cannot write the source")?;
    contains(&outside.succeeds(&fair, &["push", "--run", ""])?, "fair decides now")?;
    contains(&session.run("sched use round_robin")?, "round_robin decides now")?;
    contains(&session.run("unload fair")?, "1 cell unloaded")?;

    // One that fails later, as it decides, is taken back, and the one of the base decides again.
    fs::write(&source, text.replace("    fn pick(&self, cpu: u32) -> Option<TaskRef> {", "    fn pick(&self, cpu: u32) -> Option<TaskRef> {\n        if cpu == 0 {\n            panic!(\"not now\");\n        }"))
        .context("cannot write the source")?;
    let before = session.json("cells --json")?["running_id"].clone();
    outside.run(&fair, &["push", "--run", ""])?;
    soon("the policy is taken back", || Ok(session.json("cells --json")?["running_id"] == before))?;
    contains(&session.run("sched")?, "round_robin      round_robin      decides")?;
    contains(&session.run("updates")?, "not now")?;
    let told = session.run("log")?.matches("could not be taken back").count();
    ensure!(told < 20, "{told} attempts to take it back have failed");

    // Words go to an app as they are written.
    outside.succeeds(&work, &["new", "greeter"])?;
    outside.succeeds(&work.join("greeter"), &["push", "--run", "'; poweroff' \"& echo injected\" Ada"])?;
    outside.fails(&work.join("greeter"), &["push", "--run", "\""], "a quotation mark has no partner")?;
    contains(&session.run("unload greeter")?, "1 cell unloaded")?;
    equal("the id of what was booted", &session.json("cells --json")?["running_id"], &booted)?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    nothing_old(&mut session)
}
