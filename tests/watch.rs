//! `delias watch`, as a person sees it.

use crate::bench::{Bench, Test, equal};
use crate::tool::Rooms;
use crate::workbench::Workbench;
use anyhow::{Context, Result, ensure};
use delias::qemu::Machine;
use delias::session::Session;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

pub const TESTS: &[Test] = &[Test { name: "watch", limit_s: 900, run: watch }];

/// Every source that is saved becomes running code, and the watcher says how long that took.
fn watch(bench: &Bench) -> Result<()> {
    let mut workbench = Workbench::open(&bench.project)?;
    let (_, folder) = workbench.build()?;
    let mut session = Session::boot(&bench.project, &folder, &Machine::default())?;
    let rooms = Rooms::with("watch", &workbench.project, &session)?;
    let mut watcher = rooms
        .tool(&workbench.project, &workbench.project.root)
        .arg("watch")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start delias")?;
    let output = watcher.stdout.take().context("it has no output")?;
    let seen = watched(&mut workbench, &mut session, output);
    // It has nothing to lose.
    let _ = watcher.kill();
    let _ = watcher.wait();
    seen
}

fn watched(workbench: &mut Workbench, session: &mut Session, output: impl Read) -> Result<()> {
    let mut lines = BufReader::new(output).lines();
    let mut until = |part: &str| -> Result<String> {
        let mut all = String::new();
        loop {
            let line = lines
                .next()
                .with_context(|| format!("it ended without {part:?}: {all}"))?
                .context("it cannot be read")?;
            all = all + &line + "\n";
            if line.contains(part) {
                return Ok(all);
            }
        }
    };
    until("watching")?;
    until("nothing differs")?;
    const HELLO: &str = "cells/apps/hello/src/lib.rs";
    workbench.begin();
    workbench.edit(HELLO, "Hello from a cell.", "Hello from a watched cell.")?;
    let said = until("after the save")?;
    ensure!(said.contains("app_hello: applied"), "it says {said:?}");
    equal("the app", session.run("run hello")?.trim_end(), "Hello from a watched cell.")?;
    workbench.edit(HELLO, "console::println!(", "console::printn!(")?;
    until("do not compile")?;
    workbench.edit(HELLO, "console::printn!(", "console::println!(")?;
    until("nothing differs")?;
    workbench.undo()?;
    until("app_hello: applied")?;
    equal("the app", session.run("run hello")?.trim_end(), "Hello from a cell.")
}
