//! Bad input: one sentence that says what is wrong, a status that is not 0, and a shell that goes on.

use crate::bench::{Bench, Test, equal};
use anyhow::{Result, ensure};

pub const TESTS: &[Test] = &[Test { name: "refusals", limit_s: 180, run: refusals }];

const BAD: &[&str] = &[
    "reseat no-such-cell",
    "reseat",
    "reseat ../core",
    "cells --no-such-option",
    "peek",
    "peek zzz",
    "kill 999999",
    "run no-such-app",
    "run hello & & ;",
    "addr 0x",
    "addr nope::nope",
    "sleep -1",
    "sleep 1e99",
    "log --level nonsense",
    "uptime extra words",
    "echo 'open",
];

fn refusals(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    let before = session.json("mem --json")?;
    let long = "x".repeat(5000);
    for line in BAD.iter().copied().chain([long.as_str()]) {
        let shown: String = line.chars().take(30).collect();
        let output = session.run(line)?;
        let lines = output.lines().filter(|line| !line.trim().is_empty()).count();
        ensure!((1..=4).contains(&lines), "`{shown}` was answered with {lines} lines: {output:?}");
        ensure!(!session.succeeds(line)?, "`{shown}` counts as a success");
    }
    equal("the shell afterwards", session.run("echo still-here")?.as_str(), "still-here")?;
    let after = session.json("mem --json")?;
    equal("text in use afterwards", &after["text"], &before["text"])
}
