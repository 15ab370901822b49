//! Apps, and what becomes of those that go wrong.

use crate::bench::{Bench, Test, contains, equal, soon};
use anyhow::{Context, Result, ensure};
use delias::session::Session;

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
    let memory = |session: &mut Session, field: &str| {
        let memory = session.json("mem --json")?;
        memory[field].as_u64().with_context(|| format!("mem --json has no {field}: {memory}"))
    };
    let (frames, heap) = (memory(&mut session, "frames_free")?, memory(&mut session, "heap_in_use")?);
    for _ in 0..10 {
        session.run("run panic")?;
    }
    // Destructors give back what a panicking app held; a fault may leave some of it, which is counted and shown.
    soon("the heap has what it had before ten panics", || Ok(memory(&mut session, "heap_in_use")? <= heap))?;
    for _ in 0..10 {
        session.run("run fault")?;
    }
    soon("the frames of ended tasks are free again", || Ok(memory(&mut session, "frames_free")? >= frames))
}
