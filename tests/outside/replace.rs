//! Guests in the place of cells of the image.

use super::{Outside, append};
use crate::bench::{Bench, cell_names, contains, equal, nothing_old};
use crate::workbench::Workbench;
use anyhow::{Context, Result, ensure};
use delias::qemu::Machine;
use delias::session::Session;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

/// A guest takes the place of a cell of the image, if nothing was compiled against that.
pub fn replaces(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let work = outside.work();
    let mut session = bench.boot()?;
    let _known = outside.meet(&bench.project, &session)?;
    let booted = session.json("cells --json")?["running_id"].clone();
    outside.fails(&work, &["new", "app_hello"], "has a cell app_hello of its own")?;
    let folder = stand_in(&outside, "app_hello", "delias_app_hello")?;
    let (manifest, source) = (folder.join("Cargo.toml"), folder.join("src/lib.rs"));
    outside.fails(&folder, &["push"], "has a cell app_hello of its own")?;
    outside.fails(&folder, &["push", "--replace", "count"], "the guest is called app_hello")?;
    contains(&outside.succeeds(&folder, &["push", "--replace", "app_hello"])?, "applied")?;
    contains(&session.run("run hello Ada")?, "Hallo von app_hello.")?;
    contains(&session.run("ns")?, "apps:")?;
    outside.fails(&folder, &["push", "--ns", "base"], "is in that one's namespace")?;
    contains(&session.run("services start app_hello")?, "stands in for the image's cell app_hello")?;
    contains(&session.run("unload app_hello")?, "stands in for the image's cell app_hello")?;
    // What travels along comes into its namespace.
    append(&manifest, "itoa = \"1\"\n")?;
    append(
        &source,
        "\n/// Newer.\n#[inline(never)]\npub fn newer(x: u64) -> usize {\n    itoa::Buffer::new().format(x).len()\n}\n",
    )?;
    contains(&outside.succeeds(&folder, &["push"])?, "applied")?;
    ensure!(
        cell_names(&session.json("cells --json")?).contains(&"apps::itoa".to_owned()),
        "what travels along is elsewhere"
    );
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    contains(&session.run("rollback 2")?, "2 updates taken back")?;
    contains(&session.run("run hello")?, "Hello from a cell.")?;
    equal("the id of what was booted", &session.json("cells --json")?["running_id"], &booted)?;
    let text = fs::read_to_string(&manifest).context("no file")?;
    fs::write(
        &manifest,
        text.replace("name = \"app_hello\"", "name = \"console\"")
            .replace("console =", "log =")
            .replace("/console", "/log"),
    )
    .context("cannot write a file")?;
    outside.fails(
        &folder,
        &["push", "--replace", "console"],
        "compiled against it and would have to be built again",
    )?;
    nothing_old(&mut session)
}

/// A guest in the place of a cell of the image stays there while the base changes, that cell included, and goes when it is dropped.
pub fn stands(bench: &Bench) -> Result<()> {
    const HELLO: &str = "cells/apps/hello/src/lib.rs";
    let mut workbench = Workbench::open(&bench.project)?;
    let (_, folder) = workbench.build()?;
    let outside = Outside::new(&workbench.project)?;
    let mut session = Session::boot(&bench.project, &folder, &Machine::default())?;
    let _known = outside.meet(&workbench.project, &session)?;
    let (tool, root) = (workbench.project.build("delias"), workbench.project.root.clone());
    let guest = stand_in(&outside, "app_hello", "delias_app_hello")?;
    outside.succeeds(&guest, &["push", "--replace", "app_hello"])?;
    for sentence in ["Hello from another cell", "Hello from a third cell"] {
        workbench.begin();
        workbench.edit(HELLO, "Hello from a cell", sentence)?;
        let said = outside.run_tool(&tool, &root, &["offer", "--apply"], &[])?;
        workbench.undo()?;
        ensure!(said.succeeded, "{}{}", said.out, said.errors);
        contains(&session.run("run hello Ada")?, "Hallo von app_hello.")?;
        ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    }
    let said = outside.run_tool(&tool, &root, &["offer", "--apply"], &[("DROP", "app_hello")])?;
    ensure!(said.succeeded, "{}{}", said.out, said.errors);
    contains(&session.run("run hello")?, "Hello from a cell.")?;
    equal("the guests", &session.json("cells --json")?["guests"], &json!([]))?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    nothing_old(&mut session)
}

/// A guest of the name of an image's cell, made of a new app.
fn stand_in(outside: &Outside, name: &str, symbol: &str) -> Result<PathBuf> {
    outside.succeeds(&outside.work(), &["new", "greeter"])?;
    let folder = outside.work().join(name);
    fs::rename(outside.work().join("greeter"), &folder).context("cannot rename a folder")?;
    for file in ["Cargo.toml", "src/lib.rs"] {
        let text = fs::read_to_string(folder.join(file)).context("no file")?;
        fs::write(
            folder.join(file),
            text.replace("delias_guest_greeter", symbol).replace("greeter", name).replace("Hello from", "Hallo von"),
        )
        .context("cannot write a file")?;
    }
    Ok(folder)
}
