//! Guests in namespaces.

use super::{Outside, append};
use crate::bench::{Bench, contains, equal, nothing_old};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;

/// A guest links what its namespace grants, and no more; two versions of one library run in two namespaces.
pub fn namespaces(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let work = outside.work();
    let mut session = bench.boot()?;
    let _known = outside.meet(&bench.project, &session)?;
    let booted = session.json("cells --json")?["running_id"].clone();
    let basics = [
        "alloc",
        "compiler_builtins",
        "console",
        "core",
        "interrupts",
        "runtime",
        "state_db",
        "sync",
        "task",
        "unwinding",
        "delias_platform_irq_restore",
        "delias_platform_irq_save",
    ];
    for (name, version) in [("left", "=1.0.10"), ("right", "=1.0.15")] {
        outside.succeeds(&work, &["new", name])?;
        let folder = work.join(name);
        append(&folder.join("Cargo.toml"), &format!("itoa = \"{version}\"\n"))?;
        let source = folder.join("src/lib.rs");
        let text = fs::read_to_string(&source).context("no source")?;
        fs::write(
            &source,
            text.replace(
                "    0\n}",
                "    console::println!(\"{} words.\", itoa::Buffer::new().format(words.len()));\n    0\n}",
            ),
        )
        .context("cannot write the source")?;
        outside.fails(&folder, &["push", "--ns", name], &format!("there is no namespace {name}"))?;
        // Nothing is granted that is not named.
        contains(&outside.succeeds(&work, &["ns", "new", name, "--allow", "core"])?, "is made")?;
        outside.fails(&folder, &["push", "--ns", name], "of cell console, which namespace")?;
        outside.fails(&folder, &["push", "--ns", name], "E_UNRESOLVED")?;
        contains(&session.run(&format!("ns remove {name}"))?, "is removed")?;
        let words = [&["ns", "new", name, "--allow"][..], &basics].concat();
        outside.succeeds(&work, &words)?;
        contains(&outside.succeeds(&folder, &["push", "--ns", name])?, "applied")?;
        contains(&session.run(&format!("run {name} a b"))?, "2 words.")?;
    }
    let world = session.json("cells --json")?;
    let version = |cell: &str| {
        world["cells"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row["name"] == cell)
            .map(|row| row["version"].clone())
    };
    equal("the library of one", version("left::itoa"), Some(json!("1.0.10")))?;
    equal("the library of the other", version("right::itoa"), Some(json!("1.0.15")))?;
    contains(&session.run("ns remove left")?, "namespace left is used by")?;
    contains(&session.run("ns remove apps")?, "is of the image")?;
    // Where it was put it stays.
    append(
        &work.join("left/src/lib.rs"),
        "\n/// Newer.\n#[inline(never)]\npub fn newer(x: u64) -> u64 {\n    x.rotate_left(3)\n}\n",
    )?;
    outside.succeeds(&work.join("left"), &["push"])?;
    contains(&session.run("ns")?, "left: left::itoa left;")?;
    // It grows beyond what is granted, and is refused with what it wants.
    let source = work.join("left/src/lib.rs");
    let text = fs::read_to_string(&source).context("no source")?;
    append(&work.join("left/Cargo.toml"), "log = { path = \".delias/log\" }\n")?;
    append(&source, "\n/// Logs.\npub fn logs() {\n    log::info!(\"here\");\n}\n")?;
    outside.fails(&work.join("left"), &["push"], "of cell log, which namespace left does not allow")?;
    fs::write(&source, text).context("cannot write the source")?;
    // In the base it may link everything.
    outside.succeeds(&work.join("left"), &["push", "--ns", "base"])?;
    contains(&session.run("ns")?, "left: no cells;")?;
    contains(&session.run("run left a b")?, "2 words.")?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    for line in ["unload left", "unload right", "ns remove left", "ns remove right"] {
        ensure!(session.succeeds(line)?, "`{line}` fails: {}", session.transcript());
    }
    equal("the id of what was booted", &session.json("cells --json")?["running_id"], &booted)?;
    nothing_old(&mut session)
}
