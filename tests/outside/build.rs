//! What `delias build` makes of a guest, and what it refuses.

use super::{Outside, append};
use crate::bench::{Bench, contains, equal};
use anyhow::{Context, Result, ensure};
use delias::project::Toolchain;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Each kind of guest builds as it comes; what the image has of crates is the image's, another travels along; what a cell cannot
/// be is refused by name.
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

    let app = work.join("my_app");
    let (manifest, source) = (app.join("Cargo.toml"), app.join("src/lib.rs"));
    let before =
        (fs::read_to_string(&manifest).context("no manifest")?, fs::read_to_string(&source).context("no source")?);
    // Macros run in the compiler, on the host: they may need what no cell can have, and what the image has otherwise.
    package(
        &app.join("made"),
        "build = \"build.rs\"\n[lib]\nproc-macro = true\n[dependencies]\ncfg-if = \"1\"\nhashbrown = { version = \"0.14\", default-features = false }\n",
        "fn main() {\n    println!(\"cargo::rustc-link-lib=m\");\n}\n",
        "#[proc_macro]\npub fn zero(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n    cfg_if::cfg_if! { if #[cfg(target_os = \"none\")] { compile_error!(\"a macro for the target\") } }\n    hashbrown::HashMap::<u8, u8, ()>::with_hasher(()).len().to_string().parse().unwrap()\n}\n",
    )?;
    append(
        &manifest,
        "itoa = \"1\"\narrayvec = { version = \"0.7\", default-features = false }\nserde = { version = \"1\", default-features = false, features = [\"alloc\", \"derive\"] }\nmade = { path = \"made\" }\n",
    )?;
    append(
        &source,
        "\n/// Can be written.\n#[derive(serde::Serialize)]\npub struct Pair(u64, u64);\n/// None.\npub fn zero() -> u64 {\n    made::zero!()\n}\n/// The digits of a number.\npub fn digits(n: u64) -> usize {\n    let mut all = arrayvec::ArrayVec::<u64, 4>::new();\n    all.push(n);\n    itoa::Buffer::new().format(all[0]).len()\n}\n",
    )?;
    let built = outside.succeeds(&app, &["build"])?;
    let cells: BTreeSet<&str> = built.lines().filter_map(|line| line.split(' ').next()).collect();
    equal("its cells", cells, BTreeSet::from(["itoa", "my_app"]))?;

    // What it has locked of another version that fits becomes the image's.
    let lock = app.join("Cargo.lock");
    fs::remove_file(&lock).context("there is no lock")?;
    for (wish, locked) in [("log = \"=0.4.20\"\n", true), ("log = \"0.4\"\n", false)] {
        fs::write(&manifest, before.0.clone() + wish).context("cannot write the manifest")?;
        if locked {
            let toolchain = Toolchain::find(&bench.project)?;
            let status = Command::new(&toolchain.cargo).args(["-q", "generate-lockfile"]).current_dir(&app).status();
            ensure!(status.context("cannot start cargo")?.success(), "cargo cannot lock");
            continue;
        }
        fs::write(
            &source,
            before.1.clone() + "\n/// A level.\npub fn level() -> log::LevelFilter {\n    log::max_level()\n}\n",
        )
        .context("cannot write the source")?;
        let built = outside.succeeds(&app, &["build"])?;
        ensure!(!built.contains("log "), "log is not the image's: {built}");
    }

    for (name, lines, script) in [
        ("wrapped", "build = \"build.rs\"\n", "fn main() {\n    println!(\"cargo::rustc-link-lib=z\");\n}\n"),
        ("round", "[dependencies]\nmy_app = { path = \"..\" }\n", "fn main() {}\n"),
    ] {
        package(&app.join(name), lines, script, "#![no_std]\n")?;
    }
    for (more, code, why) in [
        ("fnv = \"1\"\n", "", "fnv 1.0.7 needs `std`, which no cell has"),
        ("", "\nextern crate std;\n", "the guest needs `std`"),
        ("wrapped = { path = \"wrapped\" }\n", "", "wrapped 0.1.0 has code in C (library z)"),
        ("round = { path = \"round\" }\n", "", "cyclic package dependency"),
        (
            "",
            "\n/// Large.\npub static LARGE: [u8; 100 << 20] = [1; 100 << 20];\n/// Looks.\n#[inline(never)]\npub fn look(at: usize) -> u8 {\n    LARGE[at]\n}\n",
            "bytes, at most",
        ),
        (
            "",
            "\nfn one() {}\n/// Many.\npub static MANY: [fn(); 1_000_000] = [one; 1_000_000];\n/// Looks.\n#[inline(never)]\npub fn look(at: usize) -> fn() {\n    MANY[at]\n}\n",
            "relocations, at most",
        ),
        (
            "serde = { version = \"1\", default-features = false, features = [\"std\"] }\n",
            "",
            "asks for feature std of serde: the image",
        ),
        (
            "hashbrown = { version = \"0.14\", default-features = false }\n",
            "",
            "two versions of one crate would be two families of types",
        ),
        (
            "",
            "\nstatic COUNT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);\n/// Counts.\npub fn count() -> u64 {\n    COUNT.fetch_add(1, core::sync::atomic::Ordering::Relaxed)\n}\n",
            "a cell may keep no state of its own",
        ),
        (
            "",
            "\nunsafe extern \"Rust\" {\n    safe fn delias_nowhere();\n}\n/// Calls it.\npub fn call() {\n    delias_nowhere()\n}\n",
            "delias_nowhere",
        ),
        (
            "",
            "\n/// A text.\npub const TEXT: &str = include_str!(\"../../my_service/src/lib.rs\");\n",
            "my_service/src/lib.rs, which lies outside of the guest's folder",
        ),
        ("log = \"=0.4.20\"\n", "", "ask for that of the image"),
        ("", "\nfn wrong() -> u64 {\n    \"text\"\n}\n", "the guest does not compile"),
    ] {
        fs::write(&manifest, before.0.clone() + more).context("cannot write the manifest")?;
        fs::write(&source, before.1.clone() + code).context("cannot write the source")?;
        outside.fails(&app, &["build"], why)?;
    }
    Ok(())
}

/// A package in a folder of its name: further lines of its manifest, its build script, its source.
fn package(folder: &Path, lines: &str, script: &str, source: &str) -> Result<()> {
    let name = folder.file_name().context("no name")?.to_string_lossy();
    fs::create_dir_all(folder.join("src")).context("cannot create a folder")?;
    let text = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{lines}");
    for (file, text) in [("Cargo.toml", text.as_str()), ("build.rs", script), ("src/lib.rs", source)] {
        fs::write(folder.join(file), text).context("cannot write a file")?;
    }
    Ok(())
}

/// What an editor is told of a guest leads to files that are there, and from the guest to the image's crates.
fn for_editors(folder: &Path, name: &str) -> Result<()> {
    let text = fs::read(folder.join("rust-project.json")).context("editors are told nothing")?;
    let told: serde_json::Value = serde_json::from_slice(&text).context("editors are told something else than JSON")?;
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
    let depends = |one: &serde_json::Value, on: &str| {
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
    Ok(())
}
