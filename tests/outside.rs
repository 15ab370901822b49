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

pub const TESTS: &[Test] = &[Test { name: "outside-builds", limit_s: 400, run: builds }, Test { name: "outside-pushes", limit_s: 400, run: pushes }];

/// Those that build in the workbench.
pub const CARRIED: &[Test] = &[Test { name: "outside-carried", limit_s: 900, run: carried }];

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
        self.run_tool(&self.tool, folder, words, None)
    }

    /// Another tool than the SDK's, with what it finds there; `drop` is the variable `DROP`.
    fn run_tool(&self, tool: &Path, folder: &Path, words: &[&str], drop: Option<&str>) -> Result<Said> {
        let mut command = Command::new(tool);
        command.envs(drop.map(|drop| ("DROP", drop)));
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
    for kind in ["app", "service"] {
        let name = format!("my_{kind}");
        outside.succeeds(&work, &["new", &name, "--kind", kind])?;
        contains(&outside.succeeds(&work.join(&name), &["build"])?, &format!("{name} fits the image"))?;
        // An editor's check says what the compiler says.
        contains(&outside.succeeds(&work.join(&name), &["build", "--message-format=json"])?, "\"success\":true")?;
    }
    outside.fails(&work, &["new", "../up"], "cannot be a cell's name")?;
    outside.fails(&work, &["new", "console"], "has a cell console of its own")?;
    outside.fails(&work, &["new", "my_app"], "is there already")?;
    outside.fails(&work, &["build"], "lies in no crate")?;

    let app = work.join("my_app");
    let (manifest, source) = (app.join("Cargo.toml"), app.join("src/lib.rs"));
    let before = (fs::read_to_string(&manifest).context("no manifest")?, fs::read_to_string(&source).context("no source")?);
    append(&manifest, "itoa = \"1\"\narrayvec = { version = \"0.7\", default-features = false }\n")?;
    append(&source, "\n/// The digits of a number.\npub fn digits(n: u64) -> usize {\n    let mut all = arrayvec::ArrayVec::<u64, 4>::new();\n    all.push(n);\n    itoa::Buffer::new().format(all[0]).len()\n}\n")?;
    let built = outside.succeeds(&app, &["build"])?;
    let cells: BTreeSet<&str> = built.lines().filter_map(|line| line.split(' ').next()).collect();
    equal("its cells", cells, BTreeSet::from(["itoa", "my_app"]))?;

    for (more, code, why) in [
        ("fnv = \"1\"\n", "", "can't find crate for `std`"),
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
    let newer = text.replace("    for word", "    console::println!(\"{} words.\", itoa::Buffer::new().format(words.len()));\n    for word");
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
    contains(&session.run("unload friend")?, "there is no guest friend")?;
    let after = session.json("cells --json")?;
    equal("the id of what was booted", &after["running_id"], &booted)?;
    equal("the guests", &after["guests"], &json!([]))?;
    ensure!(session.succeeds("cells --verify")?, "cells --verify failed: {}", session.transcript());
    contains(&session.run("ps")?, "count")?;
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
    let offer = |outside: &Outside, drop: Option<&str>| outside.run_tool(&tool, &root, &["offer", "--apply"], drop);
    outside.succeeds(&work, &["new", "visitor"])?;
    outside.succeeds(&work.join("visitor"), &["push"])?;
    session.run("run count &")?;
    let before = session.json("cells --json")?["running_id"].clone();

    workbench.begin();
    let text = workbench.read(CONSOLE)?;
    workbench.write(CONSOLE, &format!("{text}\n/// More.\n#[inline(never)]\npub fn more() -> u64 {{\n    7\n}}\n"))?;
    let said = offer(&outside, None)?;
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
    let said = offer(&outside, None)?;
    ensure!(!said.succeeded, "a guest that does not build is passed over: {}", said.out);
    contains(&said.errors, "guest caller cannot be carried along; `make update DROP=caller`")?;
    equal("the id", &session.json("cells --json")?["running_id"], &before["running_id"])?;
    contains(&offer(&outside, Some("nobody"))?.errors, "there is no guest nobody to drop")?;
    let said = offer(&outside, Some("caller"))?;
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
