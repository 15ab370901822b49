//! Apps, and what becomes of those that go wrong.

use crate::bench::{Bench, Test, contains, equal, soon};
use anyhow::{Context, Result, ensure};

pub const TESTS: &[Test] = &[
    Test { name: "app-hello", limit_s: 120, run: hello },
    Test { name: "app-panic-ends-alone", limit_s: 120, run: panic },
    Test { name: "app-fault-ends-alone", limit_s: 120, run: fault },
    Test { name: "app-failures-leak-nothing", limit_s: 180, run: leaks },
];

fn hello(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    ensure!(session.succeeds("run hello")?, "hello failed");
    contains(&session.run("run hello")?.to_lowercase(), "hello")
}

fn panic(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    let text = session.run("run panic")?;
    // Cell, function and offset of where it happened.
    contains(&text, "app_panic")?;
    contains(&text, "offset 0x")?;
    ensure!(!session.succeeds("run panic")?, "a panic counts as a success");
    equal("the shell afterwards", session.run("echo alive")?.as_str(), "alive")
}

fn fault(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    let text = session.run("run fault")?;
    contains(&text, "app_fault")?;
    contains(&text, "offset 0x")?;
    ensure!(!session.succeeds("run fault")?, "a fault counts as a success");
    equal("the shell afterwards", session.run("echo alive")?.as_str(), "alive")
}

fn leaks(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    // Once for what is set up the first time.
    session.run("run panic; run fault")?;
    let free = |memory: &serde_json::Value| memory["frames_free"].as_u64();
    let before = session.json("mem --json")?;
    for _ in 0..10 {
        session.run("run panic; run fault")?;
    }
    soon("the frames of ended tasks are free again", || {
        let now = session.json("mem --json")?;
        Ok(free(&now).context("mem --json has no frames_free")? >= free(&before).unwrap_or(0))
    })
}
