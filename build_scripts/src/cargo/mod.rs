//! Compiling the cells and `nano_core`: one cargo invocation for all of them, with the library built from source, and
//! what cargo says of the result.
//!
//! Every path comes from cargo's own messages; the shape of its target folder is not relied on beyond "our target's
//! files lie under a folder with the target's name".

mod message;
mod units;

pub use message::{Library, Message, Script, Target, collect, listen, package_version};
pub use units::{Dependency, Unit, UnitGraph};

use crate::overlay;
use crate::project::{Project, TARGET, Toolchain};
use crate::wrapper;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages that run on the host and have no part in the image.
pub const HOST_PACKAGES: [&str; 2] = ["delias", "system_tests"];

/// The program that boots.
pub const BOOT_PROGRAM: &str = "nano_core";

/// What one build left.
#[derive(Debug)]
pub struct Artifacts {
    /// The crates, in the order in which cargo finished them.
    pub libraries: Vec<Library>,
    /// `nano_core`, linked, with debug information.
    pub boot_program: PathBuf,
    /// The macros that run in the compiler, as it loads them.
    pub macros: Vec<PathBuf>,
}

/// `cargo build` of everything that is for the target, or another command over the same.
fn target_command(project: &Project, toolchain: &Toolchain, name: &str) -> Result<Command> {
    let mut command = match name {
        "clippy" => toolchain.beside(project, "cargo-clippy"),
        _ => toolchain.cargo(project),
    };
    command.args([name, "--workspace", "--profile", "cell", "--target"]).arg(project.cfg(&format!("{TARGET}.json")));
    for package in HOST_PACKAGES {
        command.args(["--exclude", package]);
    }
    command.args([
        "-Zbuild-std=core,alloc,compiler_builtins",
        "-Zbuild-std-features=compiler-builtins-mem",
        "-Zjson-target-spec",
    ]);
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    command.env(wrapper::REMAP, remapped(project, toolchain)?);
    match overlay::library(project, toolchain)? {
        Some(source) => command.env(overlay::SOURCE, source),
        None => command.env_remove(overlay::SOURCE),
    };
    command.env("RUSTC_WRAPPER", project.build("delias"));
    command.env(wrapper::SWITCH, "1");
    Ok(command)
}

/// What every crate of the target is compiled with, whatever its profile says.
pub const FLAGS: [&str; 7] = [
    "-Csymbol-mangling-version=v0",
    "-Zshare-generics=no",
    "-Zfunction-sections=yes",
    "-Cforce-unwind-tables=yes",
    "-Zmerge-functions=disabled",
    "-Zlocation-detail=file",
    "-Cdebuginfo=2",
];

/// The folders whose names no object may show, as arguments of rustc in cargo's encoding. The wrapper adds them, so that
/// cargo takes what it compiled in one tree for what it would compile in a copy of that tree.
fn remapped(project: &Project, toolchain: &Toolchain) -> Result<String> {
    let mut flags = Vec::new();
    let mut remap = |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    // The last that fits counts, so the most general comes first.
    remap(&project.root, "/delias");
    remap(&toolchain.sysroot.join("lib/rustlib/src/rust"), "/rust");
    // It lies inside the workspace, whose sources have relative paths.
    let library = overlay::folder(project);
    remap(library.strip_prefix(&project.root).unwrap_or(&library), "/rust/library");
    remap(&library, "/rust/library");
    for index in registry_sources()? {
        remap(&index, "/dep");
    }
    Ok(flags.join("\x1f"))
}

/// The folders of unpacked crates in cargo's home, one for each registry.
///
/// # Errors
/// It cannot be told where that is.
pub fn registry_sources() -> Result<Vec<PathBuf>> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"),
    };
    let Ok(entries) = std::fs::read_dir(home.join("registry/src")) else { return Ok(Vec::new()) };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    Ok(folders)
}

/// Compiles everything for the target. cargo's progress and the compiler's messages go to standard error.
///
/// # Errors
/// Something does not compile, or cargo's messages lack something.
pub fn build(project: &Project, toolchain: &Toolchain) -> Result<Artifacts> {
    fetch(project, toolchain)?;
    let messages = collect(&mut target_command(project, toolchain, "build")?)?;
    sort_artifacts(project, messages.context("the cells do not compile; the compiler's messages stand above")?)
}

/// Looks over every source file with clippy, the cells as they are compiled for the target.
///
/// # Errors
/// clippy finds something, or cannot be started.
pub fn lint(project: &Project, toolchain: &Toolchain) -> Result<()> {
    let mut host = toolchain.beside(project, "cargo-clippy");
    host.args(["clippy", "--all-targets"]).args(HOST_PACKAGES.iter().flat_map(|package| ["-p", package]));
    let mut clean = true;
    for mut command in [host, target_command(project, toolchain, "clippy")?] {
        let status = command.args(["--keep-going", "--", "-D", "warnings"]).status();
        let status = status.context("cannot start cargo-clippy (on Debian in rust-web-clippy)")?;
        clean &= status.success();
    }
    ensure!(clean, "clippy finds something; its messages stand above");
    Ok(())
}

/// Makes the documentation of the cells, as they are compiled for the target; where it lies.
///
/// # Errors
/// rustdoc fails, or cannot be started.
pub fn document(project: &Project, toolchain: &Toolchain) -> Result<PathBuf> {
    let mut command = target_command(project, toolchain, "doc")?;
    // Links to what is private are right: that is documented too.
    command.env("RUSTDOCFLAGS", "-Dwarnings -Arustdoc::private_intra_doc_links");
    let status = command.args(["--no-deps", "--document-private-items"]).status().context("cannot start cargo")?;
    ensure!(status.success(), "the documentation cannot be made; rustdoc's messages stand above");
    Ok(project.build("cargo").join(TARGET).join("doc"))
}

/// Unpacks every dependency first on a machine that has none, so that their folder is known to [`remapped`].
fn fetch(project: &Project, toolchain: &Toolchain) -> Result<()> {
    if registry_sources()?.is_empty() {
        let status = toolchain.cargo(project).arg("fetch").status().context("cannot start cargo")?;
        ensure!(status.success(), "the third-party crates could not be fetched");
    }
    Ok(())
}

/// Gives a copy of a tree what was compiled for the target in the original, unless it has something already: what is the
/// same in both is not compiled again.
///
/// # Errors
/// A file cannot be copied.
pub fn share(from: &Project, to: &Project) -> Result<()> {
    for folder in ["cell", TARGET] {
        let (source, copy) = (from.build("cargo").join(folder), to.build("cargo").join(folder));
        if copy.exists() || !source.exists() {
            continue;
        }
        std::fs::create_dir_all(to.build("cargo"))
            .with_context(|| format!("cannot create {}", to.build("cargo").display()))?;
        // With its times, by which cargo knows what is up to date; under its name only once it is whole.
        let partial = copy.with_extension("partial");
        let status = Command::new("cp")
            .args(["--archive", "--reflink=auto", "--no-target-directory"])
            .args([&source, &partial])
            .status();
        ensure!(status.context("cannot start cp")?.success(), "{} cannot be copied", source.display());
        std::fs::rename(&partial, &copy).with_context(|| format!("cannot create {}", copy.display()))?;
    }
    Ok(())
}

fn sort_artifacts(project: &Project, messages: Vec<Message>) -> Result<Artifacts> {
    let own_prefix = format!("path+file://{}/", project.root.display());
    // Ids escape blanks and the like, as URLs do. The library's copy lies in build/.
    let own =
        |id: &str| id.replace("%20", " ").strip_prefix(&own_prefix).is_some_and(|folder| !folder.starts_with("build/"));
    let mut libraries: Vec<Library> = Vec::new();
    let (mut boot_program, mut macros) = (None, Vec::new());
    for message in messages {
        if let Some(library) = message.library(own) {
            libraries.push(library?);
        }
        if let Some(program) = message.program(BOOT_PROGRAM) {
            boot_program = Some(program.to_path_buf());
        }
        macros.extend(message.macros().map(|(_, file)| file.to_path_buf()));
    }
    let Some(boot_program) = boot_program else { bail!("cargo built no {BOOT_PROGRAM}") };
    Ok(Artifacts { libraries, boot_program, macros })
}
