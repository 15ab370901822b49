//! `make exec`: lines in, text and a status out.

use crate::bench::{Bench, Test, contains, equal};
use anyhow::{Context, Result, ensure};
use delias::session::json_lines;
use std::process::{Command, Output};

pub const TESTS: &[Test] = &[
    Test { name: "exec-lines", limit_s: 120, run: lines },
    Test { name: "exec-status", limit_s: 120, run: status },
    Test { name: "exec-text-survives-make", limit_s: 300, run: text_survives_make },
    Test { name: "exec-hang-124", limit_s: 300, run: hang },
    Test { name: "exec-instruction-count", limit_s: 300, run: instruction_count },
    Test { name: "exec-qemu-refuses", limit_s: 300, run: qemu_refuses },
    Test { name: "exec-little-memory", limit_s: 300, run: little_memory },
];

fn lines(bench: &Bench) -> Result<()> {
    let outcome = bench.exec("help; cells --json; uptime; echo done")?;
    equal("status", outcome.status, Some(0))?;
    equal("last line", outcome.output.trim_end().lines().last(), Some("done"))?;
    let cells = json_lines(&outcome.output).pop().context("cells --json printed no JSON line")?;
    let names = crate::bench::cell_names(&cells);
    ensure!(names.len() >= 40, "expected 40 cells or more, found {}", names.len());
    for name in ["core", "alloc", "compiler_builtins", "state_db", "log", "hashbrown"] {
        ensure!(names.iter().any(|found| found == name), "{name} is no cell");
    }
    equal("bytes of nano_core in use", cells["nano_core"]["bytes_in_use"].as_u64(), Some(0))?;
    equal("running id", &cells["running_id"], &cells["boot_id"])
}

fn status(bench: &Bench) -> Result<()> {
    let outcome = bench.exec("no-such-command")?;
    equal("status of an unknown command", outcome.status, Some(1))?;
    contains(&outcome.output, "no-such-command")?;
    equal("status of the last of two", bench.exec("no-such-command; echo x")?.status, Some(0))?;
    let stopped = bench.exec("no-such-command && echo not-reached")?;
    equal("status of a line cut short", stopped.status, Some(1))?;
    ensure!(!stopped.output.contains("not-reached"), "&& went on after a failure: {}", stopped.output);
    Ok(())
}

/// `make exec` as a person calls it.
fn make_exec(bench: &Bench, variables: &[&str]) -> Result<Output> {
    let mut command = Command::new("make");
    command.current_dir(&bench.project.root).args(["-s", "exec"]).args(variables);
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CMD", "TIMEOUT", "MEM", "ICOUNT", "QEMU_ARGS"] {
        command.env_remove(name);
    }
    command.output().context("cannot start make")
}

fn text_survives_make(bench: &Bench) -> Result<()> {
    let output = make_exec(bench, &[r#"CMD=echo 'a  $b $$c #d' "e's""#])?;
    equal("status", output.status.code(), Some(0))?;
    contains(&String::from_utf8_lossy(&output.stdout), "a  $b $$c #d e's")?;
    let output = make_exec(bench, &["CMD=no-such-command"])?;
    equal("status of a failure, through make", output.status.code(), Some(1))
}

fn hang(bench: &Bench) -> Result<()> {
    let output = make_exec(bench, &["CMD=run spin", "TIMEOUT=5"])?;
    equal("status", output.status.code(), Some(124))?;
    contains(&String::from_utf8_lossy(&output.stderr), "did not end within 5 s")
}

fn instruction_count(bench: &Bench) -> Result<()> {
    let output = make_exec(bench, &["CMD=uptime && echo counted", "ICOUNT=1"])?;
    equal("status", output.status.code(), Some(0))?;
    contains(&String::from_utf8_lossy(&output.stdout), "counted")
}

fn qemu_refuses(bench: &Bench) -> Result<()> {
    let output = make_exec(bench, &["CMD=echo x", "QEMU_ARGS=-no-such-option"])?;
    equal("status", output.status.code(), Some(1))?;
    contains(&String::from_utf8_lossy(&output.stderr), "QEMU did not run the machine")
}

fn little_memory(bench: &Bench) -> Result<()> {
    let output = make_exec(bench, &["CMD=mem --json && echo enough", "MEM=96M"])?;
    equal("status", output.status.code(), Some(0))?;
    contains(&String::from_utf8_lossy(&output.stdout), "enough")
}
