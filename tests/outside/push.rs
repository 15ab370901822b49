//! A guest comes, is replaced, goes; and the system goes while one comes.

use super::{Outside, append};
use crate::bench::{Bench, cell_names, contains, equal, nothing_old};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// A guest is pushed, runs, is replaced by a newer version of itself, taken back, and unloaded; then the world is what was booted.
pub fn pushes(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let (work, app) = (outside.work(), outside.work().join("visitor"));
    outside.succeeds(&work, &["new", "visitor"])?;
    outside.fails(&app, &["push"], "no system runs")?;
    let mut session = bench.boot()?;
    let _known = outside.meet(&bench.project, &session)?;
    let booted = session.json("cells --json")?["running_id"].clone();
    session.run("run count &")?;

    contains(&outside.succeeds(&app, &["push", "--run", "you"])?, "visitor runs")?;
    let world = session.json("cells --json")?;
    // Nobody has to ask how it ended.
    let end = Instant::now() + Duration::from_secs(10);
    while session.run("ps")?.contains("visitor") {
        ensure!(Instant::now() < end, "the record of an app that has ended stays: {}", session.transcript());
    }
    equal("the guests", &world["guests"], &json!(["visitor"]))?;
    ensure!(cell_names(&world).contains(&"visitor".to_owned()), "the guest is no cell");
    ensure!(world["running_id"] != booted, "the id is still that of the image");
    let base = booted.as_str().context("no id")?.get(..12).context("a short id")?.to_owned();
    contains(&session.run("cells")?, &format!(": {base}+1 visitor"))?;
    equal("the id of the base", &world["base_id"], &booted)?;
    contains(&session.run("run visitor you")?, "Hello, you.")?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    contains(&session.run("reseat visitor")?, "1 cell reseated")?;
    contains(&outside.succeeds(&app, &["push"])?, "nothing differs")?;

    // A newer version, with a crate that travels along, is an update like any other.
    let (manifest, source) = (app.join("Cargo.toml"), app.join("src/lib.rs"));
    append(&manifest, "itoa = \"1\"\n")?;
    let text = fs::read_to_string(&source).context("no source")?;
    let newer = text.replace(
        "    for name",
        "    console::println!(\"{} words.\", itoa::Buffer::new().format(words.len()));\n    for name",
    );
    fs::write(&source, newer).context("cannot write the source")?;
    contains(&outside.succeeds(&app, &["push"])?, "applied")?;
    contains(&session.run("run visitor a b")?, "2 words.")?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    contains(&session.run("rollback")?, "1 update taken back")?;
    equal("the id", &session.json("cells --json")?["running_id"], &world["running_id"])?;
    ensure!(!session.run("run visitor a b")?.contains("words."), "the newer version still runs");
    contains(&outside.succeeds(&app, &["push"])?, "applied")?;

    // A second guest with the same crate.
    outside.succeeds(&work, &["new", "friend"])?;
    append(&work.join("friend/Cargo.toml"), "itoa = \"1\"\n")?;
    append(
        &work.join("friend/src/lib.rs"),
        "\n/// The digits of a number.\npub fn digits(n: u64) -> usize {\n    itoa::Buffer::new().format(n).len()\n}\n",
    )?;
    outside.succeeds(&work.join("friend"), &["push"])?;
    equal("the guests", &session.json("cells --json")?["guests"], &json!(["friend", "visitor"]))?;
    // What another guest has stays.
    contains(&session.run("unload visitor")?, "1 cell unloaded")?;
    ensure!(
        cell_names(&session.json("cells --json")?).contains(&"itoa".to_owned()),
        "a crate has gone that another guest has"
    );
    // The system has come to this world by itself, and the tool still knows its guests.
    append(
        &work.join("friend/src/lib.rs"),
        "\n/// More digits.\npub fn more_digits(n: u64) -> usize {\n    digits(n) + 1\n}\n",
    )?;
    contains(&outside.succeeds(&work.join("friend"), &["push"])?, "applied")?;
    contains(&outside.succeeds(&work, &["unload", "friend"])?, "2 cells unloaded")?;
    contains(&session.run("unload friend")?, "there is no guest \"friend\"")?;
    let after = session.json("cells --json")?;
    equal("the id of what was booted", &after["running_id"], &booted)?;
    equal("the guests", &after["guests"], &json!([]))?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    contains(&session.run("ps")?, "count")?;
    nothing_old(&mut session)
}

/// The system goes in the middle of a push; the next one takes the push from the start.
pub fn goes(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let work = outside.work();
    outside.succeeds(&work, &["new", "large"])?;
    let folder = work.join("large");
    append(
        &folder.join("src/lib.rs"),
        "\n/// Large.\npub static LARGE: [u8; 30 << 20] = [1; 30 << 20];\n/// Looks.\n#[inline(never)]\npub fn look(at: usize) -> u8 {\n    LARGE[at]\n}\n",
    )?;
    outside.succeeds(&folder, &["build"])?;
    // The sooner it goes, the less can have been sent: a fast machine is done before the first.
    let mut said = None;
    for pause_ms in [300, 100, 0] {
        let session = bench.boot()?;
        let known = outside.meet(&bench.project, &session)?;
        let pushed = std::thread::scope(|scope| {
            let pushing = scope.spawn(|| outside.run(&folder, &["push"]));
            // The difference lies there as soon as it is about to be sent.
            let end = Instant::now() + Duration::from_secs(60);
            while !folder.join("target/delias/after/cells.tar").exists() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(pause_ms));
            drop(session);
            pushing.join().map_err(|_| anyhow::anyhow!("the push panics"))?
        })?;
        drop(known);
        fs::remove_dir_all(folder.join("target/delias/after")).context("no difference was made")?;
        if !pushed.succeeded {
            said = Some(pushed);
            break;
        }
    }
    let said = said.context("a push to a system that has gone succeeds")?;
    ensure!(
        ["the system has gone", "the system takes nothing any more"].iter().any(|why| said.errors.contains(why)),
        "{}",
        said.errors
    );
    let mut session = bench.boot()?;
    let _known = outside.meet(&bench.project, &session)?;
    contains(&outside.succeeds(&folder, &["push"])?, "applied")?;
    contains(&session.run("unload large")?, "1 cell unloaded")?;
    nothing_old(&mut session)
}
