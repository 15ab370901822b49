//! Compiling the cells and `nano_core`: one cargo invocation for all of them, with the library built from source, and
//! what cargo says of the result.
//!
//! Every path comes from cargo's own messages; the shape of its target folder is not relied on beyond "our target's
//! files lie under a folder with the target's name".

use crate::overlay;
use crate::project::{Project, TARGET, Toolchain};
use crate::wrapper;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Packages that run on the host and have no part in the image.
pub const HOST_PACKAGES: [&str; 2] = ["delias", "system_tests"];

/// The program that boots.
pub const BOOT_PROGRAM: &str = "nano_core";

/// One compiled crate of the target.
#[derive(Clone, Debug)]
pub struct Library {
    /// Crate name.
    pub name: String,
    /// Its package's name, which may have dashes where the crate's has underscores.
    pub package: String,
    /// Version, in full.
    pub version: String,
    /// A member of the workspace.
    pub own: bool,
    /// The rlib.
    pub rlib: PathBuf,
    /// What other crates are compiled against.
    pub rmeta: PathBuf,
    /// The compiler's list of the source files it read.
    pub dep_info: PathBuf,
    /// Its first source file.
    pub source: PathBuf,
    /// The edition of its language.
    pub edition: String,
    /// Its features.
    pub features: Vec<String>,
}

impl Library {
    /// The files that it was compiled from, in the compiler's words: most are relative to the folder in which cargo ran.
    ///
    /// # Errors
    /// The compiler's list cannot be read.
    pub fn files(&self) -> Result<Vec<String>> {
        let path = self.dep_info.display();
        let list = std::fs::read_to_string(&self.dep_info).with_context(|| format!("cannot read {path}"))?;
        let rule = list.lines().next().and_then(|line| line.split_once(": "));
        let (_, files) = rule.with_context(|| format!("{path} is no list of files"))?;
        // A blank in a name has a backslash in front.
        let files = files.replace("\\ ", "\0");
        Ok(files.split_whitespace().map(|file| file.replace('\0', " ")).collect())
    }
}

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

/// What cargo says of something that it compiled.
#[derive(Deserialize)]
pub struct Message {
    reason: String,
    package_id: Option<String>,
    target: Option<Target>,
    filenames: Option<Vec<PathBuf>>,
    executable: Option<PathBuf>,
    #[serde(default)]
    features: Vec<String>,
    /// What the compiler has to say.
    message: Option<Diagnostic>,
    /// Libraries that a build script wants to be linked, and where it writes to.
    linked_libs: Option<Vec<String>>,
    out_dir: Option<PathBuf>,
    /// What else it sets for the crate.
    #[serde(default)]
    cfgs: Vec<String>,
    #[serde(default)]
    env: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
struct Diagnostic {
    message: String,
    code: Option<Code>,
    rendered: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Code {
    code: String,
}

/// What a build script leaves for its crate.
#[derive(Clone, Copy)]
pub struct Script<'m> {
    /// Where it has written.
    pub out: &'m Path,
    /// What `cfg` knows besides.
    pub cfgs: &'m [String],
    /// What `env!` knows besides.
    pub env: &'m [(String, String)],
}

/// "Can't find crate", in the compiler's list of errors.
const NO_CRATE: &str = "E0463";

impl Message {
    /// What it says that no cell can have, as the end of a sentence about a package; `own` is the guest's id.
    pub fn impossible(&self, own: &str) -> Option<String> {
        let id = self.package_id.as_deref()?;
        let who = || match id == own {
            true => "the guest".to_owned(),
            false => format!("{} {}", package_name(id), package_version(id).unwrap_or_default()),
        };
        // What a macro links runs in the compiler, on the host.
        let linked = self.linked_libs.as_ref().filter(|_| self.out_dir.as_deref().is_some_and(is_ours));
        if let Some(library) = linked.and_then(|libraries| libraries.first()) {
            return Some(format!("{} has code in C (library {library}), which no cell can link", who()));
        }
        let said = self.message.as_ref()?;
        let missing = said.code.as_ref().is_some_and(|code| code.code == NO_CRATE);
        (missing && said.message.contains("`std`")).then(|| {
            let way = if id == own {
                "it is `#![no_std]`"
            } else {
                "ask for it without, if it can be had so (mostly `default-features = false`)"
            };
            format!("{} needs `std`, which no cell has: {way}", who())
        })
    }

    /// The macro that it is about, as the compiler loads it, with its package's id.
    pub fn macros(&self) -> Option<(&str, &Path)> {
        self.target.as_ref().filter(|target| target.is_macro())?;
        let mut files = self.filenames.iter().flatten();
        let file = files.find(|file| file.extension().is_some_and(|extension| extension == "so"))?;
        Some((self.package_id.as_deref()?, file))
    }

    /// What a build script has set, with its package's id.
    pub fn script(&self) -> Option<(&str, Script<'_>)> {
        let out = self.out_dir.as_deref().filter(|out| is_ours(out))?;
        Some((self.package_id.as_deref()?, Script { out, cfgs: &self.cfgs, env: &self.env }))
    }

    /// The crate of our target that it is about, if it is about one; `own` says whose is ours, by its package id.
    pub fn library(&self, own: impl Fn(&str) -> bool) -> Option<Result<Library>> {
        let (id, target) = (self.package_id.as_ref()?, self.target.as_ref()?);
        let with = |wanted: &str| {
            let files = self.filenames.iter().flatten();
            files
                .into_iter()
                .find(|path| is_ours(path) && path.extension().is_some_and(|extension| extension == wanted))
                .cloned()
        };
        let (true, Some(rlib), Some(rmeta)) = (target.is_library(), with("rlib"), with("rmeta")) else { return None };
        // Beside the metadata, which, other than the rlib, is never copied anywhere else.
        let stem = rmeta.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let dep_info = rmeta.with_file_name(format!("{}.d", stem.strip_prefix("lib").unwrap_or(&stem)));
        let version = package_version(id).with_context(|| format!("the package id {id} has no version"));
        let library = |version: &str| Library {
            name: target.crate_name(),
            package: package_name(id).to_owned(),
            version: version.to_owned(),
            own: own(id),
            rlib,
            rmeta,
            dep_info,
            source: target.src_path.clone(),
            edition: target.edition.clone(),
            features: self.features.clone(),
        };
        Some(version.map(library))
    }
}

/// Whether a file is one of our target's, not of the host's.
fn is_ours(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == TARGET)
}

/// A crate as cargo describes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Target {
    /// Its kinds: `lib`, `bin`, `proc-macro`, `custom-build` …
    pub kind: Vec<String>,
    /// Its name; a dash stands where the crate name has an underscore.
    pub name: String,
    /// Its first source file.
    #[serde(default)]
    pub src_path: PathBuf,
    /// The edition of its language.
    #[serde(default)]
    pub edition: String,
}

impl Target {
    /// A library that other crates link.
    pub fn is_library(&self) -> bool {
        self.kind.iter().any(|kind| kind == "lib" || kind == "rlib")
    }

    /// A macro that runs in the compiler.
    pub fn is_macro(&self) -> bool {
        self.kind.iter().any(|kind| kind == "proc-macro")
    }

    /// The name as rustc knows it.
    pub fn crate_name(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// The version in a package id, `path+file:///x/y#1.2.3` or `registry+https://z#name@1.2.3`.
pub fn package_version(id: &str) -> Option<&str> {
    let tail = id.rsplit('#').next()?;
    Some(tail.rsplit('@').next().unwrap_or(tail))
}

/// The package's name in such an id.
fn package_name(id: &str) -> &str {
    let (place, tail) = id.rsplit_once('#').unwrap_or((id, ""));
    let place = place.split('?').next().unwrap_or(place).trim_end_matches('/');
    tail.rsplit_once('@').map_or_else(|| place.rsplit('/').next().unwrap_or(place), |(name, _)| name)
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

/// Runs a build of cargo's, and gives what it says of everything that was compiled or was so already; nothing, if something does
/// not compile.
///
/// # Errors
/// cargo cannot be run.
pub fn collect(command: &mut Command) -> Result<Option<Vec<Message>>> {
    let (compiles, mut messages) = listen(command)?;
    messages.retain(|message| message.reason == "compiler-artifact");
    Ok(compiles.then_some(messages))
}

/// Runs a build of cargo's: whether everything compiles, and all that is said. What the compiler says goes to standard error too.
///
/// # Errors
/// cargo cannot be run.
pub fn listen(command: &mut Command) -> Result<(bool, Vec<Message>)> {
    let form = if std::io::stderr().is_terminal() { "json-diagnostic-rendered-ansi" } else { "json" };
    command.arg(format!("--message-format={form}")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut messages = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cargo's messages cannot be read")?;
        let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
        if let Some(text) = message.message.as_ref().and_then(|said| said.rendered.as_ref()) {
            eprint!("{text}");
        }
        messages.push(message);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    Ok((status.success(), messages))
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
        let Some(target) = message.target else { continue };
        if target.name == BOOT_PROGRAM && target.kind == ["bin"] {
            boot_program = message.executable;
        } else if target.is_macro() {
            macros.extend(
                message
                    .filenames
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|file| file.extension().is_some_and(|extension| extension == "so")),
            );
        }
    }
    let Some(boot_program) = boot_program else { bail!("cargo built no {BOOT_PROGRAM}") };
    Ok(Artifacts { libraries, boot_program, macros })
}

/// Who depends on whom, as cargo itself plans the build.
#[derive(Debug, Deserialize)]
pub struct UnitGraph {
    /// Every compilation.
    pub units: Vec<Unit>,
}

/// One compilation.
#[derive(Debug, Deserialize)]
pub struct Unit {
    /// The package.
    pub pkg_id: String,
    /// The crate.
    pub target: Target,
    /// The target triple or specification; none for the host.
    pub platform: Option<String>,
    /// `build`, `run-custom-build` …
    pub mode: String,
    /// What it needs, as indices.
    pub dependencies: Vec<Dependency>,
}

/// One edge of the graph.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// Index in [`UnitGraph::units`].
    pub index: usize,
}

impl UnitGraph {
    /// Asks cargo.
    ///
    /// # Errors
    /// cargo fails, or its answer has not the expected form.
    pub fn read(project: &Project, toolchain: &Toolchain) -> Result<UnitGraph> {
        let mut command = target_command(project, toolchain, "build")?;
        let output = command
            .args(["--unit-graph", "-Zunstable-options"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {}", toolchain.cargo.display()))?;
        ensure!(output.status.success(), "cargo cannot plan the build");
        serde_json::from_slice(&output.stdout).context("cargo's unit graph has not the expected form")
    }

    /// Whether a unit is a library compiled for our target.
    pub fn is_cell(&self, index: usize) -> bool {
        let unit = &self.units[index];
        unit.platform.is_some() && unit.mode == "build" && unit.target.is_library()
    }

    /// Units of our target that are reached from the given ones, which are included.
    pub fn reach(&self, from: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut seen = vec![false; self.units.len()];
        let mut todo: Vec<usize> = from.into_iter().collect();
        while let Some(index) = todo.pop() {
            if !std::mem::replace(&mut seen[index], true) {
                todo.extend(self.units[index].dependencies.iter().map(|d| d.index).filter(|&i| self.is_cell(i)));
            }
        }
        (0..seen.len()).filter(|&i| seen[i]).collect()
    }

    /// By crate name: the crates of our target that a crate depends on.
    pub fn depends(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut depends: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (index, unit) in self.units.iter().enumerate().filter(|(index, _)| self.is_cell(*index)) {
            let on = unit.dependencies.iter().map(|d| d.index).filter(|&i| i != index && self.is_cell(i));
            let on = on.map(|i| self.units[i].target.crate_name());
            depends.entry(unit.target.crate_name()).or_default().extend(on);
        }
        depends
    }

    /// The unit of the program that boots.
    ///
    /// # Errors
    /// There is none.
    pub fn boot_program(&self) -> Result<usize> {
        self.units
            .iter()
            .position(|unit| unit.target.name == BOOT_PROGRAM && unit.target.kind == ["bin"] && unit.mode == "build")
            .with_context(|| format!("cargo's plan has no {BOOT_PROGRAM}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{package_name, package_version};

    #[test]
    fn ids_have_a_name_and_a_version() {
        for (id, name, version) in [
            ("path+file:///x/state_db#0.1.0", "state_db", "0.1.0"),
            ("path+file:///x/hello#app_hello@0.1.0", "app_hello", "0.1.0"),
            ("registry+https://example.org/index#tar-no-std@0.5.0", "tar-no-std", "0.5.0"),
        ] {
            assert_eq!((package_name(id), package_version(id)), (name, Some(version)));
        }
    }
}
