//! What `delias build` makes of a guest, and what it refuses.

use super::Outside;
use crate::bench::{Bench, contains, equal};
use anyhow::{Context, Result, ensure};
use delias::project::Toolchain;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each kind of guest builds as it comes, and passes its tests; a name that no cell can have is refused.
pub fn builds(bench: &Bench) -> Result<()> {
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
    fs::write(&service, text.replace("(\"soon\").is_err()", "(\"soon\").is_ok()"))
        .context("cannot write the source")?;
    let said = outside.run(&work.join("my_service"), &["test"])?;
    ensure!(!said.succeeded, "a test that fails succeeds");
    contains(&said.out, "my_service::wants_milliseconds ... FAILED: panic")?;
    contains(&said.out, "1 passed, 1 failed")?;
    Ok(())
}

/// A guest to be changed: its manifest and its first source file as they came.
struct App {
    folder: PathBuf,
    manifest: String,
    source: String,
}

impl App {
    fn new(outside: &Outside) -> Result<App> {
        outside.succeeds(&outside.work(), &["new", "my_app"])?;
        let folder = outside.work().join("my_app");
        let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("there is no {name}"));
        Ok(App { manifest: read("Cargo.toml")?, source: read("src/lib.rs")?, folder })
    }

    /// What came, with more dependencies and more code.
    fn with(&self, dependencies: &str, code: &str) -> Result<()> {
        let manifest = format!("{}{dependencies}\n", self.manifest);
        fs::write(self.folder.join("Cargo.toml"), manifest).context("cannot write the manifest")?;
        fs::write(self.folder.join("src/lib.rs"), format!("{}\n{code}\n", self.source))
            .context("cannot write the source")
    }

    /// A package in a folder of its name in the guest's: further lines of its manifest, its build script, its source.
    fn package(&self, name: &str, lines: &str, script: &str, source: &str) -> Result<()> {
        let folder = self.folder.join(name);
        fs::create_dir_all(folder.join("src")).context("cannot create a folder")?;
        let text = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{lines}");
        for (file, text) in [("Cargo.toml", text.as_str()), ("build.rs", script), ("src/lib.rs", source)] {
            fs::write(folder.join(file), text).context("cannot write a file")?;
        }
        Ok(())
    }
}

/// What the image has of crates is the image's, another travels along; macros and build scripts run on the host and may need
/// what no cell can have.
pub fn crates(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let app = App::new(&outside)?;
    app.package(
        "made",
        r#"build = "build.rs"
[lib]
proc-macro = true
[dependencies]
cfg-if = "1"
hashbrown = { version = "0.14", default-features = false }
"#,
        r#"fn main() { println!("cargo::rustc-link-lib=m"); }"#,
        r#"#[proc_macro]
pub fn zero(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    cfg_if::cfg_if! { if #[cfg(target_os = "none")] { compile_error!("a macro for the target") } }
    hashbrown::HashMap::<u8, u8, ()>::with_hasher(()).len().to_string().parse().unwrap()
}
"#,
    )?;
    let script = r#"fn main() {
    println!("cargo::rustc-check-cfg=cfg(scripted)");
    println!("cargo::rustc-cfg=scripted");
}
"#;
    fs::write(app.folder.join("build.rs"), script).context("cannot write the build script")?;
    app.with(
        r#"itoa = "1"
arrayvec = { version = "0.7", default-features = false }
serde = { version = "1", default-features = false, features = ["alloc", "derive"] }
made = { path = "made" }"#,
        r#"/// Can be written.
#[derive(serde::Serialize)]
pub struct Pair(u64, u64);

/// None.
#[cfg(scripted)]
pub fn zero() -> u64 {
    made::zero!()
}

/// The digits of a number.
pub fn digits(n: u64) -> usize {
    let mut all = arrayvec::ArrayVec::<u64, 4>::new();
    all.push(n + zero());
    itoa::Buffer::new().format(all[0]).len()
}"#,
    )?;
    let built = outside.succeeds(&app.folder, &["build"])?;
    let cells: BTreeSet<&str> = built.lines().filter_map(|line| line.split(' ').next()).collect();
    equal("its cells", cells, BTreeSet::from(["itoa", "my_app"]))?;
    let told = for_editors(&app.folder, "my_app")?;
    let of = |name: &str| told.iter().find(|one| one["display_name"] == name).context("editors are not told of it");
    ensure!(of("made")?["proc_macro_dylib_path"].is_string(), "editors do not know what the macro does");
    ensure!(of("my_app")?["cfg"].to_string().contains("scripted"), "editors do not know what the build script sets");

    // What is locked of another version that fits becomes the image's.
    fs::remove_file(app.folder.join("Cargo.lock")).context("there is no lock")?;
    app.with("log = \"=0.4.20\"", "")?;
    let toolchain = Toolchain::find(&bench.project)?;
    let status = Command::new(&toolchain.cargo).args(["-q", "generate-lockfile"]).current_dir(&app.folder).status();
    ensure!(status.context("cannot start cargo")?.success(), "cargo cannot lock");
    app.with("log = \"0.4\"", "/// A level.\npub fn level() -> log::LevelFilter {\n    log::max_level()\n}")?;
    let built = outside.succeeds(&app.folder, &["build"])?;
    ensure!(!built.contains("log "), "log is not the image's: {built}");
    Ok(())
}

/// What a cell cannot be is refused by name.
pub fn refuses(bench: &Bench) -> Result<()> {
    let outside = Outside::new(&bench.project)?;
    let app = App::new(&outside)?;
    app.package(
        "wrapped",
        "build = \"build.rs\"\n",
        r#"fn main() { println!("cargo::rustc-link-lib=z"); }"#,
        "#![no_std]\n",
    )?;
    app.package("round", "[dependencies]\nmy_app = { path = \"..\" }\n", "fn main() {}\n", "#![no_std]\n")?;
    fs::write(outside.work().join("secret"), "a text").context("cannot write a file")?;
    for (dependencies, code, why) in [
        (r#"fnv = "1""#, "", "fnv 1.0.7 needs `std`, which no cell has"),
        ("", "extern crate std;", "the guest needs `std`"),
        (r#"wrapped = { path = "wrapped" }"#, "", "wrapped 0.1.0 has code in C (library z)"),
        (r#"round = { path = "round" }"#, "", "cyclic package dependency"),
        (
            "",
            r"/// Large.
pub static LARGE: [u8; 100 << 20] = [1; 100 << 20];
/// Looks.
#[inline(never)]
pub fn look(at: usize) -> u8 {
    LARGE[at]
}",
            "bytes, at most",
        ),
        (
            "",
            r"fn one() {}
/// Many.
pub static MANY: [fn(); 1_000_000] = [one; 1_000_000];
/// Looks.
#[inline(never)]
pub fn look(at: usize) -> fn() {
    MANY[at]
}",
            "relocations, at most",
        ),
        (
            r#"serde = { version = "1", default-features = false, features = ["std"] }"#,
            "",
            "asks for feature std of serde: the image",
        ),
        (
            r#"hashbrown = { version = "0.14", default-features = false }"#,
            "",
            "two versions of one crate would be two families of types",
        ),
        (r#"log = "=0.4.20""#, "", "the guest gets 0.4.20 and not the image's"),
        (
            "",
            r"use core::sync::atomic::{AtomicU64, Ordering};
static COUNT: AtomicU64 = AtomicU64::new(1);
/// Counts.
pub fn count() -> u64 {
    COUNT.fetch_add(1, Ordering::Relaxed)
}",
            "a cell may keep no state of its own",
        ),
        (
            "",
            r#"unsafe extern "Rust" {
    safe fn delias_nowhere();
}
/// Calls it.
pub fn call() {
    delias_nowhere()
}"#,
            "delias_nowhere",
        ),
        (
            "",
            "/// A text.\npub const TEXT: &str = include_str!(\"../../secret\");",
            "work/secret, which would not come along",
        ),
        ("", "fn wrong() -> u64 {\n    \"text\"\n}", "the guest does not compile"),
    ] {
        app.with(dependencies, code)?;
        outside.fails(&app.folder, &["build"], why)?;
    }
    Ok(())
}

/// What an editor is told of a guest leads to files that are there, and from the guest to the image's crates; the crates.
fn for_editors(folder: &Path, name: &str) -> Result<Vec<Value>> {
    let text = fs::read(folder.join("rust-project.json")).context("editors are told nothing")?;
    let told: Value = serde_json::from_slice(&text).context("editors are told something else than JSON")?;
    let crates = told["crates"].as_array().context("no crates")?;
    let files = crates
        .iter()
        .flat_map(|one| [&one["root_module"], &one["proc_macro_dylib_path"]])
        .chain([&told["sysroot_src"], &told["runnables"][0]["program"]]);
    for file in files.filter_map(|file| file.as_str()) {
        ensure!(Path::new(file).exists(), "editors are told of {file}, which is not there");
    }
    let of = |name: &str| {
        crates.iter().find(|one| one["display_name"] == name).with_context(|| format!("editors are not told of {name}"))
    };
    let depends = |one: &Value, on: &str| {
        one["deps"].as_array().is_some_and(|deps| {
            deps.iter().any(|dep| {
                dep["name"] == on && crates[dep["crate"].as_u64().unwrap_or(0) as usize]["display_name"] == on
            })
        })
    };
    ensure!(of(name)?["deps"].as_array().is_some_and(|deps| !deps.is_empty()), "{name} depends on nothing");
    ensure!(
        depends(of("state_db")?, "state_db_derive") && depends(of("task")?, "state_db"),
        "the image's crates are not joined"
    );
    Ok(crates.clone())
}
