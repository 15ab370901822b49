//! Apps, services, schedulers and drivers are started by what they export.

use super::Outside;
use crate::bench::{Bench, contains, equal, nothing_old};
use anyhow::{Context, Result, ensure};
use delias::session::Session;
use std::fs;

/// Each kind of guest is started by what it exports, runs, is replaced, stopped and unloaded.
pub fn kinds(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let work = outside.work();
    let mut session = bench.boot()?;
    let _known = outside.meet(&bench.project, &session)?;
    let booted = session.json("cells --json")?["running_id"].clone();
    for _ in 0..3 {
        session.run("run count &")?;
    }
    let count = |session: &mut Session| -> Result<usize> { Ok(session.run("ps")?.matches("count").count()) };

    outside.succeeds(&work, &["new", "ticker", "--kind", "service"])?;
    let ticker = work.join("ticker");
    outside.fails(&ticker, &["push", "--run", "soon"], "the pause is \"soon\"")?;
    contains(&session.run("services")?, "shell")?;
    ensure!(!session.run("services")?.contains("ticker"), "a service that does not start is on the list");
    contains(&outside.succeeds(&ticker, &["push", "--run", "5"])?, "service ticker is started")?;
    outside.fails(&ticker, &["push", "--run", "5"], "is started already")?;
    contains(&session.run("services")?, "ticker           ticker           bound; 5")?;
    contains(&session.run("reseat ticker")?, "1 cell reseated")?;
    contains(&session.run("unload ticker")?, "service ticker is implemented by it")?;
    // A newer version goes on with the state.
    let source = ticker.join("src/lib.rs");
    let text = fs::read_to_string(&source).context("no source")?;
    fs::write(&source, text.replace("step {steps}", "tick {steps}")).context("cannot write the source")?;
    contains(&outside.succeeds(&ticker, &["push"])?, "applied")?;
    contains(&session.run("services")?, "ticker           ticker           bound; 5")?;
    contains(&session.run("services stop ticker")?, "service ticker is ended")?;
    contains(&session.run("services stop ticker")?, "no guest's service \"ticker\" is started")?;
    contains(&session.run("services stop shell")?, "no guest's service \"shell\" is started")?;
    contains(&session.run("services start ticker 7")?, "service ticker is started")?;
    // Back: the start, then the stop; so it runs with the parameters before.
    contains(&session.run("rollback 2")?, "2 updates taken back")?;
    contains(&session.run("services")?, "ticker           ticker           bound; 5")?;
    contains(&session.run("services stop ticker")?, "is ended")?;
    contains(&session.run("unload ticker")?, "1 cell unloaded")?;

    outside.succeeds(&work, &["new", "fair", "--kind", "scheduler"])?;
    let fair = work.join("fair");
    contains(&outside.succeeds(&fair, &["push", "--run", ""])?, "fair decides now")?;
    contains(&session.run("sched")?, "fair             fair             decides")?;
    contains(&session.run("unload fair")?, "slot scheduler is bound to it")?;
    contains(&session.run("rollback 1")?, "cannot go: slot scheduler is bound to it")?;
    contains(&session.run("reseat fair")?, "1 cell reseated")?;
    contains(&session.run("run hello")?, "Hello from a cell.")?;
    let source = fair.join("src/lib.rs");
    let text = fs::read_to_string(&source).context("no source")?;
    fs::write(&source, text.replace("IN_A_ROW: u32 = 8", "IN_A_ROW: u32 = 4")).context("cannot write the source")?;
    contains(&outside.succeeds(&fair, &["push"])?, "applied")?;
    contains(&session.run("sched use round_robin")?, "round_robin decides now")?;
    contains(&session.run("sched use fair")?, "fair decides now")?;
    contains(&session.run("sched use round_robin")?, "round_robin decides now")?;
    contains(&session.run("sched use nobody")?, "there is no policy `nobody`; there are fair, round_robin")?;
    contains(&session.run("unload fair")?, "1 cell unloaded")?;
    equal("apps that still run", count(&mut session)?, 3)?;

    outside.succeeds(&work, &["new", "clock", "--kind", "driver"])?;
    contains(&outside.succeeds(&work.join("clock"), &["push", "--run", ""])?, "service clock is started")?;
    contains(&session.run("log")?, "it is ")?;
    contains(&session.run("services stop clock")?, "is ended")?;
    contains(&session.run("unload clock")?, "1 cell unloaded")?;
    let after = session.json("cells --json")?;
    equal("the id of what was booted", &after["running_id"], &booted)?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    nothing_old(&mut session)
}
