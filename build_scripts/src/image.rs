//! `delias image`: from sources to an archive of cells, `nano_core`, and the disk that boots both.
//!
//! ```text
//! cargo ─▶ rlibs ─▶ build/cells/NAME.o ─▶ link check ─▶ build/cells.tar ─┬▶ make exec, by PVH
//!       └▶ nano_core ─▶ build/nano_core, stripped ───────────────────────┴▶ build/delias.iso, by GRUB
//! ```
//! `build/image.json` describes the result; `build/image.stamp` what it was made from, so that nothing is done twice.

use crate::cargo::{self, Artifacts, Library, UnitGraph};
use crate::cellset::{self, CellObject, ENTRY, Extracted, fingerprint};
use crate::project::{Project, Toolchain, replace};
use crate::{archive, builds, check, hosted, iso, namespaces, overlay};
use anyhow::{Context, Result, bail, ensure};
use linker::{Kind, Object};
use manifest::{Manifest, Service};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// `build/image.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Image {
    /// The image id, hexadecimal.
    pub id: String,
    /// `rustc -vV`.
    pub toolchain: String,
    /// Bytes of all objects.
    pub bytes: u64,
    /// Bytes of `build/nano_core`.
    pub nano_core: u64,
    /// The cells, sorted by name.
    pub cells: Vec<ImageCell>,
}

/// A cell in `build/image.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImageCell {
    /// Crate name.
    pub name: String,
    /// Version, in full.
    pub version: String,
    /// Cell key.
    pub key: String,
    /// BLAKE3 of the object, hexadecimal.
    pub object: String,
    /// Bytes of the object.
    pub bytes: u64,
    /// Bytes of its functions.
    pub text: u64,
    /// Bytes of its read-only data, unwind tables included.
    pub rodata: u64,
    /// Linked by `nano_core`.
    pub boot: bool,
    /// A member of the workspace.
    pub own: bool,
    /// The object, relative to the project's folder.
    pub path: String,
    /// BLAKE3 of the source files, hexadecimal; empty if they cannot be told.
    #[serde(default)]
    pub source: String,
    /// The cells that its crate depends on.
    #[serde(default)]
    pub depends: Vec<String>,
}

impl Image {
    /// Reads what the last build wrote.
    ///
    /// # Errors
    /// There is none.
    pub fn read(project: &Project) -> Result<Image> {
        let path = project.build("image.json");
        let text =
            fs::read(&path).with_context(|| format!("cannot read {}: `make image` writes it", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} has not the expected form", path.display()))
    }

    /// One line for a person.
    pub fn summary(&self) -> String {
        format!(
            "image {}: {} cells, {} bytes; nano_core {} bytes",
            self.id.get(..16).unwrap_or(&self.id),
            self.cells.len(),
            self.bytes,
            self.nano_core
        )
    }
}

/// What the last image was made from.
#[derive(Default, Serialize, Deserialize)]
struct Stamp {
    inputs: String,
    extracted: Extracted,
}

#[derive(Deserialize)]
struct BootFile {
    service: Vec<ServiceRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceRow {
    name: String,
    implementation: String,
    #[serde(default)]
    parameters: String,
}

/// The services of `cfg/boot.toml`.
///
/// # Errors
/// The file cannot be read or has not the expected form.
pub fn services(project: &Project) -> Result<Vec<Service>> {
    let file: BootFile = project.read_cfg("boot.toml")?;
    Ok(file
        .service
        .into_iter()
        .map(|row| Service { name: row.name, implementation: row.implementation, parameters: row.parameters })
        .collect())
}

/// Builds the image, as far as anything changed.
///
/// # Errors
/// Whatever keeps it from being complete and linked, as one sentence.
pub fn build(project: &Project) -> Result<Image> {
    fs::create_dir_all(project.build("")).context("cannot create build/")?;
    // One build at a time; the lock ends with this function, or with the process.
    let lock = File::create(project.build("image.lock")).context("cannot create build/image.lock")?;
    lock.lock().context("cannot lock build/image.lock")?;

    let toolchain = Toolchain::find(project)?;
    let artifacts = cargo::build(project, &toolchain)?;
    overlay::check(project, &artifacts.libraries)?;
    let inputs = inputs(project, &toolchain, &artifacts)?;
    let stamp_path = project.build("image.stamp");
    let stamp: Stamp =
        fs::read(&stamp_path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let complete = ["nano_core", "cells.tar", "delias.iso", "image.json"].iter().all(|f| project.build(f).is_file());
    if stamp.inputs == inputs && complete {
        let image = Image::read(project)?;
        builds::keep(project, &image)?;
        return Ok(image);
    }

    // While it is being made it is not what the stamp says.
    let _ = fs::remove_file(&stamp_path);
    let graph = UnitGraph::read(project, &toolchain)?;
    let libraries = cellset::choose(&graph, &artifacts.libraries)?;
    let extracted = cellset::extract(project, &libraries, &stamp.extracted)?;
    let cells = cellset::load(project, &libraries)?;
    let manifest = manifest(project, &toolchain, &cells)?;
    check::link(&cells, &manifest)?;
    check::second_reader(&cells)?;
    replace(&project.build("cells.tar"), &archive::write(&manifest, &cells)?)?;
    strip(project, &artifacts)?;
    iso::build(project)?;
    let image = describe(project, &manifest, &cells, &libraries, &graph.depends())?;
    replace(&project.build("image.json"), &serde_json::to_vec_pretty(&image)?)?;
    builds::keep(project, &image)?;
    replace(&stamp_path, &serde_json::to_vec_pretty(&Stamp { inputs, extracted })?)?;
    Ok(image)
}

/// What the last image was made of, if the sources have not changed since.
///
/// # Errors
/// They have, or there is no image.
pub fn artifacts(project: &Project, toolchain: &Toolchain) -> Result<Artifacts> {
    let lock = File::create(project.build("image.lock")).context("cannot create build/image.lock")?;
    lock.lock().context("cannot lock build/image.lock")?;
    let artifacts = cargo::build(project, toolchain)?;
    let stamp: Stamp = fs::read(project.build("image.stamp"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    ensure!(
        stamp.inputs == inputs(project, toolchain, &artifacts)?,
        "the sources have changed while the image was being built: again"
    );
    Ok(artifacts)
}

/// Everything an image depends on, as one string to compare.
fn inputs(project: &Project, toolchain: &Toolchain, artifacts: &Artifacts) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let program = project.build("delias");
    // cargo names what is up to date in any order.
    let mut files: Vec<&PathBuf> = [&artifacts.boot_program, &toolchain.rustc, &program]
        .into_iter()
        .chain(artifacts.libraries.iter().map(|l| &l.rlib))
        .collect();
    files.sort();
    for path in files {
        hasher.update(format!("{} {}\n", path.display(), fingerprint(path)?).as_bytes());
    }
    for path in [
        project.cfg("boot.toml"),
        project.cfg("hosted.toml"),
        project.cfg(namespaces::FILE),
        project.root.join("grub.cfg"),
    ] {
        hasher.update(&fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn manifest(project: &Project, toolchain: &Toolchain, cells: &[CellObject]) -> Result<Manifest> {
    let toolchain = toolchain.identity()?;
    let mut manifest = Manifest {
        format: manifest::FORMAT,
        image_id: [0; 32],
        toolchain,
        cells: cells.iter().map(|cell| cell.cell.clone()).collect(),
        hosted: hosted::resolve(project, cells)?,
        services: services(project)?,
        namespaces: namespaces::resolve(project, cells)?,
        guests: Vec::new(),
        entry: ENTRY.to_owned(),
    };
    manifest.image_id = manifest.id(|bytes| *blake3::hash(bytes).as_bytes());
    Ok(manifest)
}

/// Copies `nano_core` without its debug information and symbols; the whole of it stays as `nano_core.debug`.
fn strip(project: &Project, artifacts: &Artifacts) -> Result<()> {
    let whole = fs::read(&artifacts.boot_program)
        .with_context(|| format!("cannot read {}", artifacts.boot_program.display()))?;
    replace(&project.build("nano_core.debug"), &whole)?;
    let stripped = project.build("nano_core.stripped");
    let status = Command::new("objcopy")
        .args(["--strip-all", "--remove-section=.comment"])
        .args([&artifacts.boot_program, &stripped])
        .stdin(Stdio::null())
        .status()
        .context("cannot start objcopy")?;
    ensure!(status.success(), "objcopy could not strip {}", artifacts.boot_program.display());
    let bytes = fs::read(&stripped).with_context(|| format!("cannot read {}", stripped.display()))?;
    let _ = fs::remove_file(&stripped);
    replace(&project.build("nano_core"), &bytes)?;
    Ok(())
}

/// What a crate was compiled from, as one number: the contents of the files in the compiler's list.
fn source(project: &Project, library: &Library) -> Option<String> {
    let mut files = library.files().ok()?;
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(blake3::hash(&fs::read(project.root.join(file)).ok()?).as_bytes());
    }
    Some(hasher.finalize().to_hex().to_string())
}

fn describe(
    project: &Project,
    manifest: &Manifest,
    cells: &[CellObject],
    libraries: &[Library],
    depends: &BTreeMap<String, BTreeSet<String>>,
) -> Result<Image> {
    let mut rows = Vec::new();
    for cell in cells {
        let object = Object::parse(cell.object.bytes())?;
        let size =
            |wanted: &dyn Fn(Kind) -> bool| object.sections.iter().filter(|s| wanted(s.kind)).map(|s| s.size).sum();
        rows.push(ImageCell {
            name: cell.cell.name.clone(),
            version: cell.cell.version.clone(),
            key: cell.cell.key(),
            object: builds::hex(cell.cell.object_hash),
            bytes: cell.object.bytes().len() as u64,
            text: size(&|kind| kind == Kind::Text),
            rodata: size(&|kind| matches!(kind, Kind::Constant | Kind::Mergeable { .. } | Kind::Unwind | Kind::Lsda)),
            boot: cell.cell.boot,
            own: cell.cell.own,
            path: format!("build/cells/{}.o", cell.cell.name),
            source: libraries
                .iter()
                .find(|library| library.name == cell.cell.name)
                .and_then(|library| source(project, library))
                .unwrap_or_default(),
            depends: depends.get(&cell.cell.name).into_iter().flatten().cloned().collect(),
        });
    }
    let nano_core = fs::metadata(project.build("nano_core")).context("build/nano_core is missing")?.len();
    if rows.is_empty() {
        bail!("the image has no cell");
    }
    Ok(Image {
        id: builds::hex(manifest.image_id),
        toolchain: manifest.toolchain.clone(),
        bytes: rows.iter().map(|row| row.bytes).sum(),
        nano_core,
        cells: rows,
    })
}
