//! The SDK: what somebody needs who builds cells outside the tree, for exactly one image.
//!
//! ```text
//! delias-sdk-ID/
//!   bin/delias       this tool
//!   sdk.json         what is in it, for which image and which compiler
//!   target/          the target's specification
//!   sysroot/         core, alloc and compiler_builtins, as this image has them
//!   lib/, macros/    every crate of the image, as the compiler reads it; the macros that they use
//!   crates/          the same crates with their sources, as packages that a guest's manifest names
//!   image/           what boots, and what the host's link check and `delias diff` read
//! ```
//! Nothing of the image is compiled again: when cargo asks for one of its crates, the wrapper gives what lies in `lib/`
//! ([`substitute`](crate::substitute)).

use crate::cargo::Library;
use crate::guest::editor;
use crate::image::{self, Image};
use crate::project::{Project, TARGET, Toolchain};
use crate::{archive, cellset};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The form of `sdk.json` that this tool writes and reads.
const FORMAT: u32 = 2;
/// The file by which an SDK is known.
const DESCRIPTION: &str = "sdk.json";
/// The crates of the library.
const LIBRARY: [&str; 3] = ["core", "alloc", "compiler_builtins"];
/// Digits of an id in a name.
const DIGITS: usize = 16;

/// `sdk.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The form.
    pub format: u32,
    /// The image's id, hexadecimal.
    pub id: String,
    /// `rustc -vV` of the compiler that made the image.
    pub toolchain: String,
    /// Where that compiler was.
    pub rustc: PathBuf,
    /// The crates, sorted by name.
    pub crates: Vec<Crate>,
}

/// A crate of the image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Crate {
    /// Its name, as rustc knows it.
    pub name: String,
    /// Its package's name, which may have dashes.
    pub package: String,
    /// Its version, in full.
    pub version: String,
    /// A member of the tree.
    pub own: bool,
    /// File of `lib/`.
    pub rmeta: String,
    /// First source file, relative to the package's folder in `crates/`.
    pub source: PathBuf,
    /// The edition of its language.
    pub edition: String,
    /// Its features.
    pub features: Vec<String>,
    /// The crates of the image that it depends on, by name.
    pub depends: Vec<String>,
}

impl Crate {
    /// Its features, for people.
    pub fn features(&self) -> String {
        if self.features.is_empty() { "none".to_owned() } else { self.features.join(", ") }
    }
}

/// An unpacked SDK.
#[derive(Clone, Debug)]
pub struct Sdk {
    /// Its folder.
    pub root: PathBuf,
    /// What it says of itself.
    pub description: Description,
}

impl Sdk {
    /// The SDK around this program.
    ///
    /// # Errors
    /// There is none, or it is of another form.
    pub fn find() -> Result<Sdk> {
        let program = std::env::current_exe().context("this program's own path cannot be told")?;
        let root = program.ancestors().find(|folder| folder.join(DESCRIPTION).is_file());
        match root {
            Some(root) => Sdk::open(root),
            None => bail!(
                "{} lies in no SDK: `make sdk` in a tree of Delias makes one, with bin/delias in it",
                program.display()
            ),
        }
    }

    /// Whether this program lies in one.
    pub fn is_around() -> bool {
        std::env::current_exe()
            .is_ok_and(|program| program.ancestors().any(|folder| folder.join(DESCRIPTION).is_file()))
    }

    /// Opens the SDK in a folder.
    ///
    /// # Errors
    /// There is none, or it is of another form.
    pub fn open(root: &Path) -> Result<Sdk> {
        let path = root.join(DESCRIPTION);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let description: Description =
            serde_json::from_slice(&text).with_context(|| format!("{} has not the expected form", path.display()))?;
        ensure!(
            description.format == FORMAT,
            "{} has the form {}, expected {FORMAT}: use the tool that came with it",
            path.display(),
            description.format
        );
        Ok(Sdk { root: root.to_path_buf(), description })
    }

    /// A file or folder of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The first digits of the image's id.
    pub fn short(&self) -> &str {
        short(&self.description.id)
    }

    /// The crate of that name.
    pub fn find_crate(&self, name: &str) -> Option<&Crate> {
        self.description.crates.iter().find(|known| known.name == name)
    }

    /// The macros: names of crates, and what the compiler loads.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn macros(&self) -> Result<BTreeMap<String, PathBuf>> {
        let folder = self.path("macros");
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let paths = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "so"));
        Ok(paths.filter_map(|path| Some((editor::macro_name(&path)?, path))).collect())
    }

    /// The cells that were compiled against one.
    ///
    /// # Errors
    /// The image's description cannot be read.
    pub fn users(&self, name: &str) -> Result<Vec<String>> {
        let path = self.path("image/image.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let image: Image =
            serde_json::from_slice(&text).with_context(|| format!("{} has not the expected form", path.display()))?;
        Ok(image
            .cells
            .into_iter()
            .filter(|cell| cell.depends.iter().any(|on| on == name))
            .map(|cell| cell.name)
            .collect())
    }

    /// The compiler that made the image, wherever it is on this machine.
    ///
    /// # Errors
    /// There is another one only, or none.
    pub fn toolchain(&self) -> Result<Toolchain> {
        let on_path = std::env::var_os("PATH")
            .into_iter()
            .flat_map(|path| std::env::split_paths(&path).map(|folder| folder.join("rustc")).collect::<Vec<_>>());
        let candidates =
            std::iter::once(self.description.rustc.clone()).chain(["/usr/bin/rustc".into()]).chain(on_path);
        let mut others = BTreeSet::new();
        for rustc in candidates.filter(|path| path.is_file()) {
            let toolchain = Toolchain { cargo: rustc.with_file_name("cargo"), rustc, sysroot: PathBuf::new() };
            let Ok(identity) = toolchain.identity() else { continue };
            if identity == self.description.toolchain {
                return Ok(toolchain);
            }
            others.insert(format!("{} ({})", first(&identity), toolchain.rustc.display()));
        }
        let found =
            if others.is_empty() { "no rustc".to_owned() } else { others.into_iter().collect::<Vec<_>>().join(", ") };
        bail!(
            "this SDK was made by {}, and only that compiler can use it; found {found}. On Debian: apt-get install rustc-web cargo-web rust-web-src",
            first(&self.description.toolchain)
        )
    }
}

fn first(identity: &str) -> &str {
    identity.lines().next().unwrap_or_default()
}

fn short(id: &str) -> &str {
    id.get(..DIGITS).unwrap_or(id)
}

/// Makes the archive of the SDK for the tree's image; where it lies.
///
/// # Errors
/// The image cannot be built, or a file not be copied.
pub fn make(project: &Project) -> Result<PathBuf> {
    let image = image::build(project)?;
    let name = format!("delias-sdk-{}", short(&image.id));
    let archive = project.build(&format!("{name}.tar.gz"));
    for old in fs::read_dir(project.build("")).context("cannot list build/")?.flatten().map(|entry| entry.path()) {
        let is_archive = old.file_name().is_some_and(|file| file.to_string_lossy().starts_with("delias-sdk-"));
        if is_archive && old != archive && old.is_file() {
            fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    let root = unpacked(project, &image)?;
    let partial = archive.with_extension("partial");
    let folder = root.parent().unwrap_or(&root);
    let status = Command::new("tar")
        .arg("-czf")
        .arg(&partial)
        .arg("-C")
        .arg(folder)
        .arg(&name)
        .status()
        .context("cannot start tar")?;
    ensure!(status.success(), "tar cannot write {}", partial.display());
    fs::rename(&partial, &archive).with_context(|| format!("cannot rename {}", partial.display()))?;
    Ok(archive)
}

/// The SDK of the image that was built last, as a folder of `build/`.
///
/// # Errors
/// A file cannot be copied.
pub fn unpacked(project: &Project, image: &Image) -> Result<PathBuf> {
    let toolchain = Toolchain::find(project)?;
    let artifacts = image::artifacts(project, &toolchain)?;
    let root = project.build("sdk").join(format!("delias-sdk-{}", short(&image.id)));
    // What is left of another image, or of an attempt that was interrupted.
    let _ = fs::remove_dir_all(project.build("sdk"));
    let copy = |from: &Path, to: &str| -> Result<()> {
        let to = root.join(to);
        fs::create_dir_all(to.parent().unwrap_or(&root))
            .with_context(|| format!("cannot create a folder for {}", to.display()))?;
        // Links cost nothing; a file system that has none gets a copy.
        fs::hard_link(from, &to)
            .or_else(|_| fs::copy(from, &to).map(drop))
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
    };
    let is_cell = |library: &&Library| {
        image.cells.iter().any(|cell| cell.name == library.name && cell.version == library.version)
    };
    let mut crates = Vec::new();
    let cells: Vec<&Library> = artifacts.libraries.iter().filter(is_cell).collect();
    for library in cells.iter().copied() {
        let file = library.rmeta.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if LIBRARY.contains(&library.name.as_str()) {
            copy(&library.rmeta, &format!("sysroot/lib/rustlib/{TARGET}/lib/{file}"))?;
            continue;
        }
        copy(&library.rmeta, &format!("lib/{file}"))?;
        let depends = image
            .cells
            .iter()
            .find(|cell| cell.name == library.name)
            .map(|cell| cell.depends.clone())
            .unwrap_or_default();
        crates.push(Crate {
            name: library.name.clone(),
            package: library.package.clone(),
            version: library.version.clone(),
            own: library.own,
            rmeta: file,
            source: package(&root, library, &cells, &depends)?,
            edition: library.edition.clone(),
            features: library.features.clone(),
            depends,
        });
    }
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    for macros in &artifacts.macros {
        copy(macros, &format!("macros/{}", macros.file_name().unwrap_or_default().to_string_lossy()))?;
    }
    fs::write(
        root.join("macros/macro.rs"),
        "//! Macros run as they were compiled; their sources are not part of an SDK.\n",
    )
    .context("cannot write into macros/")?;
    copy(&project.cfg(&format!("{TARGET}.json")), &format!("target/{TARGET}.json"))?;
    // Whoever only uses the tool needs nothing to debug it with.
    let tool = root.join("bin/delias");
    fs::create_dir_all(root.join("bin")).context("cannot create bin/")?;
    let status = Command::new("objcopy")
        .arg("--strip-debug")
        .args([&project.build("delias"), &tool])
        .status()
        .context("cannot start objcopy")?;
    ensure!(status.success(), "objcopy cannot write {}", tool.display());
    for name in ["nano_core", "cells.tar", "image.json"] {
        copy(&project.build(name), &format!("image/{name}"))?;
    }
    for cell in &image.cells {
        for name in [archive::entry_name(&cell.name), format!("cells/{}.debug.o", cell.name)] {
            copy(&project.build(&name), &format!("image/{name}"))?;
        }
    }
    let description = Description {
        format: FORMAT,
        id: image.id.clone(),
        toolchain: toolchain.identity()?,
        rustc: toolchain.rustc,
        crates,
    };
    let text = serde_json::to_vec_pretty(&description)?;
    fs::write(root.join(DESCRIPTION), text)
        .with_context(|| format!("cannot write {}", root.join(DESCRIPTION).display()))?;
    Ok(root)
}

/// Writes a crate as a package that can be named in a manifest: its sources, and a manifest that has the image's crates for
/// dependencies, so that an editor finds its way through them. Where its first source file lies in it.
fn package(root: &Path, library: &Library, all: &[&Library], depends: &[String]) -> Result<PathBuf> {
    let folder = root.join("crates").join(&library.name);
    let sources = library.source.parent().context("a source file lies nowhere")?;
    let first = Path::new("src").join(library.source.file_name().unwrap_or_default());
    copy_sources(sources, &folder.join("src"))?;
    let depends = all.iter().filter(|other| depends.contains(&other.name) && !LIBRARY.contains(&other.name.as_str()));
    let lines: String = depends
        .map(|other| format!("{0} = {{ path = \"../{0}\", package = \"{1}\" }}\n", other.name, other.package))
        .collect();
    let features: String = library
        .features
        .iter()
        .filter(|feature| *feature != "default")
        .map(|feature| format!("{feature} = []\n"))
        .collect();
    let (name, package, version, edition) = (&library.name, &library.package, &library.version, &library.edition);
    let text = format!(
        "# {name} as the image has it. It is not compiled again: what lies in ../../lib is used.\n[package]\nname = \"{package}\"\nversion = \"{version}\"\nedition = \"{edition}\"\npublish = false\n\n[lib]\nname = \"{name}\"\npath = \"{}\"\n\n[features]\ndefault = []\n{features}\n[dependencies]\n{lines}",
        first.display()
    );
    let path = folder.join("Cargo.toml");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(first)
}

fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            copy_sources(&path, &to.join(name))?;
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
            fs::copy(&path, to.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// The cells of an SDK's image, with their objects.
///
/// # Errors
/// A file is missing or is not as it was made.
pub fn cells(sdk: &Sdk) -> Result<(manifest::Manifest, Vec<cellset::CellObject>)> {
    let folder = sdk.path("image");
    let manifest = crate::diff::side::manifest_of(&folder)?;
    let cells = cells_in(&folder, &manifest)?;
    Ok((manifest, cells))
}

/// The cells that a manifest lists, with their objects from a build's folder.
///
/// # Errors
/// A file is missing.
pub fn cells_in(folder: &Path, manifest: &manifest::Manifest) -> Result<Vec<cellset::CellObject>> {
    let mut cells = Vec::new();
    for cell in &manifest.cells {
        let path = folder.join(archive::entry_name(&cell.name));
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        cells.push(cellset::CellObject { cell: cell.clone(), object: cellset::Aligned::new(bytes) });
    }
    Ok(cells)
}
