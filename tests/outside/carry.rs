//! Guests under a base that changes.

use super::{Outside, append};
use crate::bench::{Bench, cell_names, contains, equal, nothing_old};
use crate::migrations;
use crate::workbench::Workbench;
use anyhow::{Context, Result, ensure};
use delias::qemu::Machine;
use delias::session::Session;
use serde_json::json;
use std::fs;

/// From an empty folder with the SDK alone: an app with a dependency, a service with a state entry and a scheduler are pushed,
/// updated, taken back and unloaded under load; then the base is updated under all three.
pub fn three(bench: &Bench) -> Result<()> {
    const CONSOLE: &str = "cells/console/interface/src/lib.rs";
    let mut workbench = Workbench::open(&bench.project)?;
    let (_, folder) = workbench.build()?;
    let outside = Outside::new(&workbench.project)?;
    let mut session = Session::boot(&bench.project, &folder, &Machine::default())?;
    let _known = outside.meet(&workbench.project, &session)?;
    let (tool, root, work) = (workbench.project.build("delias"), workbench.project.root.clone(), outside.work());
    for line in ["run count &", "run count &", "run spin &"] {
        session.run(line)?;
    }
    for (name, kind) in [("hey", "app"), ("ticker", "service"), ("fair", "scheduler")] {
        outside.succeeds(&work, &["new", name, "--kind", kind])?;
    }
    // A macro brings much source along, and a crate for tests alone its manifest.
    append(
        &work.join("hey/Cargo.toml"),
        "itoa = \"1\"\nnum_enum = { version = \"0.7\", default-features = false }\n\n[dev-dependencies]\nfnv = \"1\"\n",
    )?;
    append(
        &work.join("hey/src/lib.rs"),
        "\n/// Words.\n#[derive(num_enum::TryFromPrimitive)]\n#[repr(u8)]\npub enum Word {\n    /// The only one.\n    Hey,\n}\n\n/// The digits of a number.\npub fn digits(n: u64) -> usize {\n    itoa::Buffer::new().format(n).len()\n}\n",
    )?;
    // Its build script leaves a mark wherever it may, notes what it sees, and where it is built again puts a link in the way.
    let (mark, trap, target) = (work.join("mark"), work.join("trap"), "target/x86_64-unknown-delias/release/build");
    fs::create_dir(&trap).context("cannot create a folder")?;
    let script = r#"use std::io::Write;
fn main() {
    let (mark, trap) = (std::path::Path::new(MARK), std::path::Path::new(TRAP));
    let seen = std::env::var("OUT_DIR").unwrap() + "/seen";
    std::fs::write(seen, trap.exists().to_string()).unwrap();
    if std::env::current_dir().unwrap().ends_with("guests/hey/guest") {
        let _ = std::fs::remove_dir_all("target/delias");
        std::os::unix::fs::symlink(trap, "target/delias").unwrap();
    }
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(mark) {
        writeln!(file, "here").unwrap();
    }
}
"#;
    let script = script.replace("MARK", &format!("{mark:?}")).replace("TRAP", &format!("{trap:?}"));
    fs::write(work.join("hey/build.rs"), script).context("cannot write a file")?;
    for (name, run) in [("hey", ""), ("ticker", "20"), ("fair", "")] {
        outside.succeeds(&work.join(name), &["push", "--run", run])?;
    }
    let pushed = session.json("cells --json")?["running_id"].clone();
    for name in ["hey", "ticker", "fair"] {
        append(
            &work.join(name).join("src/lib.rs"),
            "\n/// Newer.\n#[inline(never)]\npub fn newer(x: u64) -> u64 {\n    x.rotate_left(3)\n}\n",
        )?;
        contains(&outside.succeeds(&work.join(name), &["push"])?, "applied")?;
    }
    let newer = session.json("cells --json")?["running_id"].clone();
    contains(&session.run("rollback 3")?, "3 updates taken back")?;
    equal("the id", &session.json("cells --json")?["running_id"], &pushed)?;
    for name in ["hey", "ticker", "fair"] {
        contains(&outside.succeeds(&work.join(name), &["push"])?, "applied")?;
    }
    equal("the id", &session.json("cells --json")?["running_id"], &newer)?;
    contains(&session.run("sched")?, "fair             fair             decides")?;

    // The same source gives the same objects, from whatever crates.
    let said = outside.run_tool(&tool, &root, &["diff", "--drop", "fair"], &[])?;
    ensure!(said.succeeded, "{}{}", said.out, said.errors);
    contains(&said.out, "1 cell")?;
    let marks = fs::read_to_string(&mark).context("the build script did not run")?;
    workbench.begin();
    let text = workbench.read(CONSOLE)?;
    workbench.write(CONSOLE, &format!("{text}\n/// More.\n#[inline(never)]\npub fn more() -> u64 {{\n    7\n}}\n"))?;
    let said = outside.run_tool(&tool, &root, &["offer", "--apply"], &[])?;
    workbench.undo()?;
    ensure!(said.succeeded, "{}{}", said.out, said.errors);
    contains(&said.out, "applied")?;
    // Of a guest that comes out of the system nothing runs outside of a sandbox.
    equal("marks of the build script", fs::read_to_string(&mark).context("there is no mark")?, marks)?;
    let scripts = fs::read_dir(root.join("build/guests/hey/guest").join(target)).context("hey was not built")?;
    let seen: Vec<String> =
        scripts.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("out/seen")).ok()).collect();
    ensure!(!seen.is_empty() && seen.iter().all(|seen| seen == "false"), "the build script saw {seen:?}");
    ensure!(fs::read_dir(&trap).context("the trap has gone")?.next().is_none(), "something was written through a link");
    equal("the guests", &session.json("cells --json")?["guests"], &json!(["fair", "hey", "ticker"]))?;
    contains(&session.run("sched")?, "fair             fair             decides")?;
    contains(&session.run("services")?, "ticker           ticker           bound; 20")?;
    contains(&session.run("run hey you")?, "Hello, you.")?;
    ensure!(session.succeeds("reseat --all")?, "reseat --all failed: {}", session.transcript());
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    for line in ["sched use round_robin", "services stop ticker", "unload hey", "unload ticker", "unload fair"] {
        ensure!(session.succeeds(line)?, "`{line}` fails: {}", session.transcript());
    }
    equal("the guests", &session.json("cells --json")?["guests"], &json!([]))?;
    equal("apps that still run", session.run("ps")?.matches("count").count(), 2)?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    nothing_old(&mut session)
}

/// An update of the base carries guests along, built again for it; one that does not build stops it, and can be dropped.
pub fn carried(bench: &Bench) -> Result<()> {
    const CONSOLE: &str = "cells/console/interface/src/lib.rs";
    let mut workbench = Workbench::open(&bench.project)?;
    let (_, folder) = workbench.build()?;
    let mut outside = Outside::new(&workbench.project)?;
    let mut session = Session::boot(&bench.project, &folder, &Machine::default())?;
    let _known = outside.meet(&workbench.project, &session)?;
    let (tool, root, work) = (workbench.project.build("delias"), workbench.project.root.clone(), outside.work());
    let offer = |outside: &Outside, variables: &[(&str, &str)]| {
        outside.run_tool(&tool, &root, &["offer", "--apply"], variables)
    };
    outside.succeeds(&work, &["new", "visitor"])?;
    outside.succeeds(&work.join("visitor"), &["push"])?;
    session.run("run count &")?;
    let before = session.json("cells --json")?["running_id"].clone();

    workbench.begin();
    let text = workbench.read(CONSOLE)?;
    workbench.write(CONSOLE, &format!("{text}\n/// More.\n#[inline(never)]\npub fn more() -> u64 {{\n    7\n}}\n"))?;
    let said = offer(&outside, &[])?;
    ensure!(said.succeeded, "{}{}", said.out, said.errors);
    contains(&said.out, "applied")?;
    let after = session.json("cells --json")?;
    ensure!(after["running_id"] != before, "the base is as it was");
    equal("the guests", &after["guests"], &json!(["visitor"]))?;
    contains(&session.run("run visitor you")?, "Hello, you.")?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    // The SDK is of another image now, and says so with both ids.
    append(&work.join("visitor/src/lib.rs"), "\n/// New.\npub fn new() {}\n")?;
    outside.fails(&work.join("visitor"), &["push"], "this SDK is of image")?;

    // A guest of the new base, which does not compile against the next one.
    outside.renew(&workbench.project)?;
    let caller = work.join("patron");
    outside.succeeds(&work, &["new", "patron"])?;
    append(&caller.join("src/lib.rs"), "\n/// Calls.\npub fn call() -> u64 {\n    console::more()\n}\n")?;
    outside.succeeds(&caller, &["push"])?;
    let before = session.json("cells --json")?;
    equal("the guests", &before["guests"], &json!(["patron", "visitor"]))?;
    workbench.undo()?;
    let said = offer(&outside, &[])?;
    ensure!(!said.succeeded, "a guest that does not build is passed over: {}", said.out);
    contains(&said.errors, "guest patron cannot be carried along, and nothing was changed")?;
    equal("the id", &session.json("cells --json")?["running_id"], &before["running_id"])?;
    contains(&offer(&outside, &[("DROP", "nobody")])?.errors, "DROP names guest nobody, which is not there")?;
    contains(&offer(&outside, &[("PIN", "nobody")])?.errors, "PIN names guest nobody, which is not there")?;

    // What it uses of the base can be kept for it, over several updates.
    let said = offer(&outside, &[("PIN", "patron")])?;
    ensure!(said.succeeded, "{}{}", said.out, said.errors);
    let pinned = session.json("cells --json")?;
    equal("the guests", &pinned["guests"], &before["guests"])?;
    ensure!(cell_names(&pinned).contains(&"patron::console".to_owned()), "the old console is not kept");
    contains(&session.run("run patron you")?, "Hello, you.")?;
    ensure!(session.succeeds("reseat --all")?, "reseat --all fails: {}", session.transcript());
    workbench.begin();
    let text = workbench.read(CONSOLE)?;
    workbench
        .write(CONSOLE, &format!("{text}\n/// Other.\n#[inline(never)]\npub fn other() -> u64 {{\n    8\n}}\n"))?;
    let said = offer(&outside, &[])?;
    ensure!(said.succeeded, "{}{}", said.out, said.errors);
    contains(&said.errors, "keeping for guest patron")?;
    contains(&session.run("run patron you")?, "Hello, you.")?;
    contains(&session.run("run visitor you")?, "Hello, you.")?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    workbench.undo()?;
    // Data may change that a pinned guest knows nothing of, and none that it knows.
    for (change, refused) in
        [("a field of a service's entry", false), ("a method in the middle of a trait in slots", true)]
    {
        let change = migrations::ALL.iter().find(|known| known.name == change).context("there is no such change")?;
        workbench.begin();
        (change.make)(&mut workbench)?;
        let said = offer(&outside, &[])?;
        workbench.undo()?;
        equal("whether it is refused", !said.succeeded, refused)?;
        contains(&said.out, if refused { "which guest patron is pinned to as it was" } else { "applied" })?;
    }
    contains(&session.run("rollback 3")?, "3 updates taken back")?;
    equal("the id", &session.json("cells --json")?["running_id"], &before["running_id"])?;
    let said = offer(&outside, &[("DROP", "patron")])?;
    ensure!(said.succeeded, "{}{}", said.out, said.errors);
    equal("the guests", &session.json("cells --json")?["guests"], &json!(["visitor"]))?;
    contains(&session.run("run visitor you")?, "Hello, you.")?;
    contains(&session.run("rollback")?, "1 update taken back")?;
    let after = session.json("cells --json")?;
    equal("the guests", &after["guests"], &before["guests"])?;
    equal("the id", &after["running_id"], &before["running_id"])?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    contains(&session.run("ps")?, "count")?;
    nothing_old(&mut session)
}
