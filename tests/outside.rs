//! Cells from outside the tree, built with the SDK alone.

use crate::bench::{Bench, Test, cell_names, contains, equal, nothing_old};
use crate::workbench::Workbench;
use anyhow::{Context, Result, ensure};
use delias::project::Project;
use delias::qemu::Machine;
use delias::running::Known;
use delias::sdk;
use delias::session::Session;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[
    Test { name: "outside-builds", limit_s: 400, run: builds },
    Test { name: "outside-pushes", limit_s: 400, run: pushes },
    Test { name: "outside-goes", limit_s: 200, run: goes },
    Test { name: "outside-kinds", limit_s: 400, run: kinds },
    Test { name: "outside-failures", limit_s: 400, run: failures },
    Test { name: "outside-namespaces", limit_s: 400, run: namespaces },
    Test { name: "outside-replaces", limit_s: 400, run: replaces },
];

/// Those that build in the workbench.
pub const CARRIED: &[Test] = &[Test { name: "outside-carried", limit_s: 900, run: carried }, Test { name: "outside-three", limit_s: 900, run: three }, Test { name: "outside-stands", limit_s: 900, run: stands }];

/// An unpacked SDK, and a folder to work in.
struct Outside {
    home: PathBuf,
    tool: PathBuf,
}

/// What a command of the tool did.
struct Said {
    succeeded: bool,
    out: String,
    errors: String,
}

impl Outside {
    fn new(project: &Project) -> Result<Outside> {
        let home = std::env::temp_dir().join(format!("delias-outside-{}", std::process::id()));
        fs::create_dir_all(home.join("work")).context("cannot create a folder")?;
        let mut outside = Outside { tool: PathBuf::new(), home };
        outside.renew(project)?;
        Ok(outside)
    }

    /// Takes the SDK of what the project is now.
    fn renew(&mut self, project: &Project) -> Result<()> {
        let archive = sdk::make(project)?;
        let status = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&self.home).status().context("cannot start tar")?;
        ensure!(status.success(), "the SDK cannot be unpacked");
        let name = archive.file_name().unwrap_or_default().to_string_lossy().replace(".tar.gz", "");
        self.tool = self.home.join(name).join("bin/delias");
        Ok(())
    }

    /// Lets the tool find a system.
    fn meet(&self, project: &Project, session: &Session) -> Result<Known> {
        let rooms = self.home.join("delias");
        fs::create_dir_all(&rooms).context("cannot create a folder")?;
        fs::set_permissions(&rooms, fs::Permissions::from_mode(0o700)).context("its rights cannot be set")?;
        let known = Known::at(project, &rooms)?;
        symlink(session.socket(), known.socket()).context("the channel cannot be made known")?;
        Ok(known)
    }

    fn work(&self) -> PathBuf {
        self.home.join("work")
    }

    fn run(&self, folder: &Path, words: &[&str]) -> Result<Said> {
        self.run_tool(&self.tool, folder, words, &[])
    }

    /// Another tool than the SDK's, with what it finds there, and with variables.
    fn run_tool(&self, tool: &Path, folder: &Path, words: &[&str], variables: &[(&str, &str)]) -> Result<Said> {
        let mut command = Command::new(tool);
        command.envs(variables.iter().copied());
        // It knows nothing of the tree that these tests run in.
        for name in ["RUSTC", "CARGO_TARGET_DIR", "CARGO", "RUSTC_BOOTSTRAP"] {
            command.env_remove(name);
        }
        let output = command.args(words).current_dir(folder).env("XDG_RUNTIME_DIR", &self.home).env("XDG_CACHE_HOME", self.home.join("cache")).stdin(Stdio::null()).output().context("cannot start delias")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { succeeded: output.status.success(), out: text(&output.stdout), errors: text(&output.stderr) })
    }

    fn succeeds(&self, folder: &Path, words: &[&str]) -> Result<String> {
        let said = self.run(folder, words)?;
        ensure!(said.succeeded, "{words:?} fails: {}", said.errors);
        Ok(said.out)
    }

    fn fails(&self, folder: &Path, words: &[&str], why: &str) -> Result<()> {
        let said = self.run(folder, words)?;
        ensure!(!said.succeeded, "{words:?} succeeds: {}", said.out);
        contains(&said.errors, why)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Nobody depends on its going.
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn append(file: &Path, text: &str) -> Result<()> {
    let old = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::write(file, old + text).with_context(|| format!("cannot write {}", file.display()))
}

/// Each kind of guest builds as it comes; what the image has of crates is the image's, another travels along; what a cell cannot
/// be is refused by name.
fn builds(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let work = outside.work();
    for kind in ["app", "service", "scheduler", "driver"] {
        let name = format!("my_{kind}");
        outside.succeeds(&work, &["new", &name, "--kind", kind])?;
        let said = outside.run(&work.join(&name), &["build"])?;
        contains(&said.out, &format!("{name} fits the image"))?;
        ensure!(!said.errors.contains("warning"), "a new {kind} compiles with warnings: {}", said.errors);
        contains(&outside.succeeds(&work.join(&name), &["test"])?, "passed, 0 failed")?;
        for_editors(&work.join(&name), &name)?;
        // An editor's check says what the compiler says.
        contains(&outside.succeeds(&work.join(&name), &["build", "--message-format=json"])?, "\"success\":true")?;
    }
    outside.fails(&work, &["new", "../up"], "cannot be a cell's name")?;
    for cell in ["console", "core", "alloc", "compiler_builtins"] {
        outside.fails(&work, &["new", cell], &format!("has a cell {cell} of its own"))?;
    }
    outside.fails(&work, &["new", "fn"], "no word of Rust's own")?;
    outside.fails(&work, &["new", "my_app"], "is there already")?;
    outside.fails(&work, &["new", "scheduler"], "has a service called scheduler")?;
    outside.fails(&work, &["build"], "lies in no crate")?;
    let service = work.join("my_service/src/lib.rs");
    let text = fs::read_to_string(&service).context("no source")?;
    fs::write(&service, text.replace("(\"soon\").is_err()", "(\"soon\").is_ok()")).context("cannot write the source")?;
    let said = outside.run(&work.join("my_service"), &["test"])?;
    ensure!(!said.succeeded, "a test that fails succeeds");
    contains(&said.out, "my_service::wants_milliseconds ... FAILED: panic")?;
    contains(&said.out, "1 passed, 1 failed")?;

    let app = work.join("my_app");
    let (manifest, source) = (app.join("Cargo.toml"), app.join("src/lib.rs"));
    let before = (fs::read_to_string(&manifest).context("no manifest")?, fs::read_to_string(&source).context("no source")?);
    append(&manifest, "itoa = \"1\"\narrayvec = { version = \"0.7\", default-features = false }\n")?;
    append(&source, "\n/// The digits of a number.\npub fn digits(n: u64) -> usize {\n    let mut all = arrayvec::ArrayVec::<u64, 4>::new();\n    all.push(n);\n    itoa::Buffer::new().format(all[0]).len()\n}\n")?;
    let built = outside.succeeds(&app, &["build"])?;
    let cells: BTreeSet<&str> = built.lines().filter_map(|line| line.split(' ').next()).collect();
    equal("its cells", cells, BTreeSet::from(["itoa", "my_app"]))?;

    for (name, lines, script) in [("wrapped", "build = \"build.rs\"\n", "fn main() {\n    println!(\"cargo::rustc-link-lib=z\");\n}\n"), ("round", "[dependencies]\nmy_app = { path = \"..\" }\n", "fn main() {}\n")] {
        fs::create_dir_all(app.join(name).join("src")).context("cannot create a folder")?;
        let text = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{lines}");
        for (file, text) in [("Cargo.toml", text.as_str()), ("build.rs", script), ("src/lib.rs", "#![no_std]\n")] {
            fs::write(app.join(name).join(file), text).context("cannot write a file")?;
        }
    }
    for (more, code, why) in [
        ("fnv = \"1\"\n", "", "fnv 1.0.7 needs `std`, which no cell has"),
        ("", "\nextern crate std;\n", "the guest needs `std`"),
        ("wrapped = { path = \"wrapped\" }\n", "", "wrapped 0.1.0 has code in C (library z)"),
        ("round = { path = \"round\" }\n", "", "cyclic package dependency"),
        ("", "\n/// Large.\npub static LARGE: [u8; 100 << 20] = [1; 100 << 20];\n/// Looks.\n#[inline(never)]\npub fn look(at: usize) -> u8 {\n    LARGE[at]\n}\n", "bytes, at most"),
        ("", "\nfn one() {}\n/// Many.\npub static MANY: [fn(); 1_000_000] = [one; 1_000_000];\n/// Looks.\n#[inline(never)]\npub fn look(at: usize) -> fn() {\n    MANY[at]\n}\n", "relocations, at most"),
        ("hashbrown = { version = \"0.14\", default-features = false }\n", "", "two versions of one crate would be two families of types"),
        ("", "\nstatic COUNT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);\n/// Counts.\npub fn count() -> u64 {\n    COUNT.fetch_add(1, core::sync::atomic::Ordering::Relaxed)\n}\n", "a cell may keep no state of its own"),
        ("", "\nunsafe extern \"Rust\" {\n    safe fn delias_nowhere();\n}\n/// Calls it.\npub fn call() {\n    delias_nowhere()\n}\n", "delias_nowhere"),
        ("", "\nfn wrong() -> u64 {\n    \"text\"\n}\n", "the guest does not compile"),
    ] {
        fs::write(&manifest, before.0.clone() + more).context("cannot write the manifest")?;
        fs::write(&source, before.1.clone() + code).context("cannot write the source")?;
        outside.fails(&app, &["build"], why)?;
    }
    Ok(())
}

/// What an editor is told of a guest leads to files that are there, and from the guest to the image's crates.
fn for_editors(folder: &Path, name: &str) -> Result<()> {
    let text = fs::read(folder.join("rust-project.json")).context("editors are told nothing")?;
    let told: serde_json::Value = serde_json::from_slice(&text).context("editors are told something else than JSON")?;
    let crates = told["crates"].as_array().context("no crates")?;
    let files = crates.iter().flat_map(|one| [&one["root_module"], &one["proc_macro_dylib_path"]]).chain([&told["sysroot_src"], &told["runnables"][0]["program"]]);
    for file in files.filter_map(|file| file.as_str()) {
        ensure!(Path::new(file).exists(), "editors are told of {file}, which is not there");
    }
    let of = |name: &str| crates.iter().find(|one| one["display_name"] == name).with_context(|| format!("editors are not told of {name}"));
    let depends = |one: &serde_json::Value, on: &str| one["deps"].as_array().is_some_and(|deps| deps.iter().any(|dep| dep["name"] == on && crates[dep["crate"].as_u64().unwrap_or(0) as usize]["display_name"] == on));
    ensure!(of(name)?["deps"].as_array().is_some_and(|deps| !deps.is_empty()), "{name} depends on nothing");
    ensure!(depends(of("state_db")?, "state_db_derive") && depends(of("task")?, "state_db"), "the image's crates are not joined");
    Ok(())
}

/// A guest is pushed, runs, is replaced by a newer version of itself, taken back, and unloaded; then the world is what was booted.
fn pushes(bench: &Bench) -> Result<()> {
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
    contains(&session.run("cells")?, "the base and 1 guest: visitor")?;
    contains(&session.run("run visitor you")?, "Hello, you.")?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    contains(&session.run("reseat visitor")?, "1 cell reseated")?;
    contains(&outside.succeeds(&app, &["push"])?, "nothing differs")?;

    // A newer version, with a crate that travels along, is an update like any other.
    let (manifest, source) = (app.join("Cargo.toml"), app.join("src/lib.rs"));
    append(&manifest, "itoa = \"1\"\n")?;
    let text = fs::read_to_string(&source).context("no source")?;
    let newer = text.replace("    for name", "    console::println!(\"{} words.\", itoa::Buffer::new().format(words.len()));\n    for name");
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
    append(&work.join("friend/src/lib.rs"), "\n/// The digits of a number.\npub fn digits(n: u64) -> usize {\n    itoa::Buffer::new().format(n).len()\n}\n")?;
    outside.succeeds(&work.join("friend"), &["push"])?;
    equal("the guests", &session.json("cells --json")?["guests"], &json!(["friend", "visitor"]))?;
    // What another guest has stays.
    contains(&session.run("unload visitor")?, "1 cell unloaded")?;
    ensure!(cell_names(&session.json("cells --json")?).contains(&"itoa".to_owned()), "a crate has gone that another guest has");
    // The system has come to this world by itself, and the tool still knows its guests.
    append(&work.join("friend/src/lib.rs"), "\n/// More digits.\npub fn more_digits(n: u64) -> usize {\n    digits(n) + 1\n}\n")?;
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
fn goes(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let work = outside.work();
    outside.succeeds(&work, &["new", "large"])?;
    let folder = work.join("large");
    append(&folder.join("src/lib.rs"), "\n/// Large.\npub static LARGE: [u8; 30 << 20] = [1; 30 << 20];\n/// Looks.\n#[inline(never)]\npub fn look(at: usize) -> u8 {\n    LARGE[at]\n}\n")?;
    outside.succeeds(&folder, &["build"])?;
    let session = bench.boot()?;
    let known = outside.meet(&bench.project, &session)?;
    let said = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| outside.run(&folder, &["push"]));
        // The difference lies there as soon as it is about to be sent.
        let end = Instant::now() + Duration::from_secs(60);
        while !folder.join("target/delias/after/cells.tar").exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(300));
        drop(session);
        pushing.join().map_err(|_| anyhow::anyhow!("the push panics"))?
    })?;
    ensure!(!said.succeeded, "a push to a system that has gone succeeds: {}", said.out);
    ensure!(["the system has gone", "the system takes nothing any more"].iter().any(|why| said.errors.contains(why)), "{}", said.errors);
    drop(known);
    let mut session = bench.boot()?;
    let _known = outside.meet(&bench.project, &session)?;
    contains(&outside.succeeds(&folder, &["push"])?, "applied")?;
    contains(&session.run("unload large")?, "1 cell unloaded")?;
    nothing_old(&mut session)
}

/// Each kind of guest is started by what it exports, runs, is replaced, stopped and unloaded.
fn kinds(bench: &Bench) -> Result<()> {
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

/// What a guest does wrong when it is started, stopped or asked leaves nothing behind, and nobody waits for it for ever.
fn failures(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let work = outside.work();
    let mut session = bench.boot()?;
    let _known = outside.meet(&bench.project, &session)?;
    let booted = session.json("cells --json")?["running_id"].clone();
    outside.succeeds(&work, &["new", "ticker", "--kind", "service"])?;
    let (ticker, source) = (work.join("ticker"), work.join("ticker/src/lib.rs"));
    let text = fs::read_to_string(&source).context("no source")?;
    let end = "    driven.inspect_err(|_| drop((slot.unbind(), entry.withdraw())))\n";
    ensure!(text.contains(end), "the template is another");
    for (wrong, why) in [
        ("    drop(driven);\n    panic!(\"half done\")\n", "panic: half done"),
        ("    drop(driven);\n    Err(String::from(\"half done\"))\n", "half done"),
        ("    drop(driven);\n    loop {\n        core::hint::spin_loop();\n    }\n", "it did not end within 10 s"),
    ] {
        fs::write(&source, text.replace(end, wrong)).context("cannot write the source")?;
        outside.fails(&ticker, &["push", "--run", "5"], why)?;
        ensure!(!session.run("services")?.contains("ticker"), "a service that does not start is on the list");
        contains(&session.run("services stop ticker")?, "is started")?;
    }
    fs::write(&source, text.replace("    slot.and(state)", "    if state.is_ok() {\n        panic!(\"not like this\");\n    }\n    slot.and(state)")).context("cannot write the source")?;
    contains(&outside.succeeds(&ticker, &["push", "--run", "5"])?, "is started")?;
    contains(&session.run("services stop ticker")?, "not like this")?;
    fs::write(&source, &text).context("cannot write the source")?;
    outside.succeeds(&ticker, &["push"])?;
    ensure!(session.succeeds("services stop ticker")?, "a service cannot be ended any more: {}", session.transcript());
    contains(&session.run("unload ticker")?, "1 cell unloaded")?;
    for wrong in ["18446744073709551615", "0", "-1", "x y"] {
        outside.fails(&ticker, &["push", "--run", wrong], "the pause is")?;
    }
    contains(&session.run("unload ticker")?, "1 cell unloaded")?;

    outside.succeeds(&work, &["new", "fair", "--kind", "scheduler"])?;
    let (fair, source) = (work.join("fair"), work.join("fair/src/lib.rs"));
    let text = fs::read_to_string(&source).context("no source")?;
    session.run("run count &")?;
    for (part, wrong, shown) in [
        ("    Ok(&Policy)", "    panic!(\"no policy\")", "no policy"),
        ("        READY.with(|ready| ready.by_cpu[cpu as usize].lock().next()).ok().flatten()", "        let _ = cpu;\n        Some(task::current())", "fair decides now"),
        ("            if queue.try_reserve(1).is_ok() {", "            if queue.is_empty() {\n                panic!(\"not that one\");\n            }\n            if queue.try_reserve(1).is_ok() {", "fair"),
    ] {
        ensure!(text.contains(part), "the template is another");
        fs::write(&source, text.replace(part, wrong)).context("cannot write the source")?;
        let said = outside.run(&fair, &["push", "--run", ""])?;
        contains(&(said.out + &said.errors), shown)?;
        contains(&session.run("run hello")?, "Hello from a cell.")?;
        let said = session.json("sched use round_robin --json");
        let moved = said.ok().and_then(|said| said["moved"].as_u64());
        ensure!(moved.is_none_or(|moved| moved < 20), "{moved:?} tasks were handed over");
        contains(&session.run("sched")?, "round_robin      round_robin      decides")?;
    }
    fs::write(&source, &text).context("cannot write the source")?;
    contains(&outside.succeeds(&fair, &["push", "--run", ""])?, "fair decides now")?;
    contains(&session.run("sched use round_robin")?, "round_robin decides now")?;
    contains(&session.run("unload fair")?, "1 cell unloaded")?;

    // Words go to an app as they are written.
    outside.succeeds(&work, &["new", "greeter"])?;
    outside.succeeds(&work.join("greeter"), &["push", "--run", "'; poweroff' \"& echo injected\" Ada"])?;
    outside.fails(&work.join("greeter"), &["push", "--run", "\""], "a quotation mark has no partner")?;
    contains(&session.run("unload greeter")?, "1 cell unloaded")?;
    equal("the id of what was booted", &session.json("cells --json")?["running_id"], &booted)?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    nothing_old(&mut session)
}

/// A guest links what its namespace grants, and no more; two versions of one library run in two namespaces.
fn namespaces(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let work = outside.work();
    let mut session = bench.boot()?;
    let _known = outside.meet(&bench.project, &session)?;
    let booted = session.json("cells --json")?["running_id"].clone();
    let basics = ["alloc", "compiler_builtins", "console", "core", "interrupts", "runtime", "state_db", "sync", "task", "unwinding", "delias_platform_irq_restore", "delias_platform_irq_save"];
    for (name, version) in [("left", "=1.0.10"), ("right", "=1.0.15")] {
        outside.succeeds(&work, &["new", name])?;
        let folder = work.join(name);
        append(&folder.join("Cargo.toml"), &format!("itoa = \"{version}\"\n"))?;
        let source = folder.join("src/lib.rs");
        let text = fs::read_to_string(&source).context("no source")?;
        fs::write(&source, text.replace("    0\n}", "    console::println!(\"{} words.\", itoa::Buffer::new().format(words.len()));\n    0\n}")).context("cannot write the source")?;
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
    let version = |cell: &str| world["cells"].as_array().into_iter().flatten().find(|row| row["name"] == cell).map(|row| row["version"].clone());
    equal("the library of one", version("left::itoa"), Some(json!("1.0.10")))?;
    equal("the library of the other", version("right::itoa"), Some(json!("1.0.15")))?;
    contains(&session.run("ns remove left")?, "namespace left is used by")?;
    contains(&session.run("ns remove apps")?, "is of the image")?;
    // Where it was put it stays.
    append(&work.join("left/src/lib.rs"), "\n/// Newer.\n#[inline(never)]\npub fn newer(x: u64) -> u64 {\n    x.rotate_left(3)\n}\n")?;
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

/// A guest takes the place of a cell of the image, if nothing was compiled against that.
fn replaces(bench: &Bench) -> Result<()> {
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
    append(&source, "\n/// Newer.\n#[inline(never)]\npub fn newer(x: u64) -> usize {\n    itoa::Buffer::new().format(x).len()\n}\n")?;
    contains(&outside.succeeds(&folder, &["push"])?, "applied")?;
    ensure!(cell_names(&session.json("cells --json")?).contains(&"apps::itoa".to_owned()), "what travels along is elsewhere");
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    contains(&session.run("rollback 2")?, "2 updates taken back")?;
    contains(&session.run("run hello")?, "Hello from a cell.")?;
    equal("the id of what was booted", &session.json("cells --json")?["running_id"], &booted)?;
    let text = fs::read_to_string(&manifest).context("no file")?;
    fs::write(&manifest, text.replace("name = \"app_hello\"", "name = \"console\"").replace("console =", "log =").replace("/console", "/log")).context("cannot write a file")?;
    outside.fails(&folder, &["push", "--replace", "console"], "compiled against it and would have to be built again")?;
    nothing_old(&mut session)
}

/// A guest in the place of a cell of the image stays there while the base changes, that cell included, and goes when it is dropped.
fn stands(bench: &Bench) -> Result<()> {
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
        fs::write(folder.join(file), text.replace("delias_guest_greeter", symbol).replace("greeter", name).replace("Hello from", "Hallo von")).context("cannot write a file")?;
    }
    Ok(folder)
}

/// From an empty folder with the SDK alone: an app with a dependency, a service with a state entry and a scheduler are pushed,
/// updated, taken back and unloaded under load; then the base is updated under all three.
fn three(bench: &Bench) -> Result<()> {
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
    append(&work.join("hey/Cargo.toml"), "itoa = \"1\"\n")?;
    append(&work.join("hey/src/lib.rs"), "\n/// The digits of a number.\npub fn digits(n: u64) -> usize {\n    itoa::Buffer::new().format(n).len()\n}\n")?;
    for (name, run) in [("hey", ""), ("ticker", "20"), ("fair", "")] {
        outside.succeeds(&work.join(name), &["push", "--run", run])?;
    }
    let pushed = session.json("cells --json")?["running_id"].clone();
    for name in ["hey", "ticker", "fair"] {
        append(&work.join(name).join("src/lib.rs"), "\n/// Newer.\n#[inline(never)]\npub fn newer(x: u64) -> u64 {\n    x.rotate_left(3)\n}\n")?;
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

    workbench.begin();
    let text = workbench.read(CONSOLE)?;
    workbench.write(CONSOLE, &format!("{text}\n/// More.\n#[inline(never)]\npub fn more() -> u64 {{\n    7\n}}\n"))?;
    let said = outside.run_tool(&tool, &root, &["offer", "--apply"], &[])?;
    workbench.undo()?;
    ensure!(said.succeeded, "{}{}", said.out, said.errors);
    contains(&said.out, "applied")?;
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
fn carried(bench: &Bench) -> Result<()> {
    const CONSOLE: &str = "cells/console/interface/src/lib.rs";
    let mut workbench = Workbench::open(&bench.project)?;
    let (_, folder) = workbench.build()?;
    let mut outside = Outside::new(&workbench.project)?;
    let mut session = Session::boot(&bench.project, &folder, &Machine::default())?;
    let _known = outside.meet(&workbench.project, &session)?;
    let (tool, root, work) = (workbench.project.build("delias"), workbench.project.root.clone(), outside.work());
    let offer = |outside: &Outside, variables: &[(&str, &str)]| outside.run_tool(&tool, &root, &["offer", "--apply"], variables);
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
    let caller = work.join("caller");
    outside.succeeds(&work, &["new", "caller"])?;
    append(&caller.join("src/lib.rs"), "\n/// Calls.\npub fn call() -> u64 {\n    console::more()\n}\n")?;
    outside.succeeds(&caller, &["push"])?;
    let before = session.json("cells --json")?;
    equal("the guests", &before["guests"], &json!(["caller", "visitor"]))?;
    workbench.undo()?;
    let said = offer(&outside, &[])?;
    ensure!(!said.succeeded, "a guest that does not build is passed over: {}", said.out);
    contains(&said.errors, "guest caller cannot be carried along, and nothing was changed")?;
    equal("the id", &session.json("cells --json")?["running_id"], &before["running_id"])?;
    contains(&offer(&outside, &[("DROP", "nobody")])?.errors, "DROP names guest nobody, which is not there")?;
    contains(&offer(&outside, &[("PIN", "nobody")])?.errors, "PIN names guest nobody, which is not there")?;

    // What it uses of the base can be kept for it, over several updates.
    let said = offer(&outside, &[("PIN", "caller")])?;
    ensure!(said.succeeded, "{}{}", said.out, said.errors);
    let pinned = session.json("cells --json")?;
    equal("the guests", &pinned["guests"], &before["guests"])?;
    ensure!(cell_names(&pinned).contains(&"caller::console".to_owned()), "the old console is not kept");
    contains(&session.run("run caller you")?, "Hello, you.")?;
    ensure!(session.succeeds("reseat --all")?, "reseat --all fails: {}", session.transcript());
    workbench.begin();
    let text = workbench.read(CONSOLE)?;
    workbench.write(CONSOLE, &format!("{text}\n/// Other.\n#[inline(never)]\npub fn other() -> u64 {{\n    8\n}}\n"))?;
    let said = offer(&outside, &[])?;
    ensure!(said.succeeded, "{}{}", said.out, said.errors);
    contains(&said.errors, "keeping for guest caller")?;
    contains(&session.run("run caller you")?, "Hello, you.")?;
    contains(&session.run("run visitor you")?, "Hello, you.")?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    workbench.undo()?;
    contains(&session.run("rollback 2")?, "2 updates taken back")?;
    equal("the id", &session.json("cells --json")?["running_id"], &before["running_id"])?;
    let said = offer(&outside, &[("DROP", "caller")])?;
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
