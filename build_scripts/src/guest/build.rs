//! `delias build`: from a guest's sources to objects that fit the image.

use super::{Guest, LINK, within};
use crate::cargo::{self, FLAGS, Library};
use crate::cellset::{Aligned, CellObject};
use crate::project::{TARGET, Toolchain, replace};
use crate::sdk::{self, Crate, Sdk};
use crate::{canonical, check, substitute, wrapper};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What every guest is compiled with, as the cells of the image are.
const PROFILE: [&str; 6] =
    ["opt-level=2", "debug=2", "codegen-units=1", "panic=\"unwind\"", "overflow-checks=false", "incremental=false"];

/// A guest that was built and fits the image.
#[derive(Debug)]
pub struct Built {
    /// Its name.
    pub name: String,
    /// Its cells: the guest itself last, before it the crates that travel along.
    pub cells: Vec<CellObject>,
}

/// What `cargo metadata` says, as far as it is read here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    root: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    source: Option<String>,
    links: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<cargo::Target>,
}

impl Package {
    /// The name of its library, as rustc knows it.
    fn crate_name(&self) -> Option<String> {
        self.targets.iter().find(|target| target.is_library()).map(cargo::Target::crate_name)
    }

    fn is_from_elsewhere(&self) -> bool {
        self.source.is_some()
    }
}

/// Builds a guest and checks that it links to the SDK's image. The compiler's messages go to standard error.
///
/// # Errors
/// It does not compile, needs what a cell cannot have, or does not fit the image.
pub fn build(guest: &Guest, sdk: &Sdk) -> Result<Built> {
    let toolchain = sdk.toolchain()?;
    guest.link(sdk)?;
    let packages = packages(guest, sdk, &toolchain)?;
    let root = packages.resolve.root.as_ref().context("the guest's Cargo.toml has no [package]")?;
    let package = packages.packages.iter().find(|package| package.id == *root).context("cargo does not list the guest itself")?;
    let name = package.crate_name().with_context(|| format!("package {} has no library: a cell is one, in src/lib.rs", package.name))?;
    super::check_name(&name)?;
    ensure!(sdk.find_crate(&name).is_none(), "the image {} has a cell {name} of its own: choose another name", sdk.short());
    let libraries = compile(guest, sdk, &toolchain, &packages)?;
    let cells = extract(guest, sdk, &libraries)?;
    fits(sdk, &cells).with_context(|| format!("{name} does not fit the image {}", sdk.short()))?;
    Ok(Built { name, cells })
}

/// The folders whose names no object may show, in cargo's encoding: the same source gives the same object wherever it lies.
fn remapped(guest: &Guest) -> Result<String> {
    let registries = cargo::registry_sources()?.into_iter().map(|folder| (folder, "/dep"));
    let all = std::iter::once((guest.folder.clone(), "/guest")).chain(registries);
    Ok(all.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect::<Vec<_>>().join("\x1f"))
}

/// cargo, set up for a guest.
fn cargo(guest: &Guest, sdk: &Sdk, toolchain: &Toolchain) -> Result<Command> {
    let mut command = Command::new(&toolchain.cargo);
    command.current_dir(&guest.folder).stdin(Stdio::null());
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    let target = guest.folder.join("target");
    let flags = FLAGS.map(str::to_owned).into_iter().chain([
        format!("--sysroot={}", sdk.path("sysroot").display()),
        format!("-Ldependency={}", sdk.path("macros").display()),
    ]);
    command
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.collect::<Vec<_>>().join("\x1f"))
        .env("RUSTC_WRAPPER", sdk.path("bin/delias"))
        .env(wrapper::SWITCH, "1")
        .env(wrapper::REMAP, remapped(guest)?)
        .env(substitute::SDK, &sdk.root);
    Ok(command)
}

/// Arguments that lead crates of crates.io to those of the image, where the image has them.
fn patches(guest: &Guest, sdk: &Sdk, packages: &[Package]) -> Vec<String> {
    let has = |package: &Package| -> Option<Crate> {
        let name = package.crate_name()?;
        let known = sdk.find_crate(&name).filter(|known| key(&name, &known.version) == key(&name, &package.version))?;
        Some(known.clone())
    };
    let mut lines = BTreeSet::new();
    for package in packages.iter().filter(|package| package.is_from_elsewhere()) {
        if let Some(known) = has(package) {
            // By the way that the guest's own dependencies take: two paths to one package would be two packages.
            let folder = guest.folder.join(LINK).join(&known.name);
            lines.insert(format!("patch.crates-io.{}.path={:?}", known.package, folder.display().to_string()));
        }
    }
    lines.into_iter().collect()
}

/// Name and the semver-compatible part of a version.
fn key(name: &str, version: &str) -> String {
    manifest::Cell { name: name.to_owned(), version: version.to_owned(), ..Default::default() }.key()
}

/// What the guest is made of.
fn packages(guest: &Guest, sdk: &Sdk, toolchain: &Toolchain) -> Result<Metadata> {
    let output = cargo(guest, sdk, toolchain)?
        .args(["metadata", "--format-version", "1"])
        .stderr(Stdio::piped())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo cannot tell what {} is made of:\n{}", guest.folder.display(), String::from_utf8_lossy(&output.stderr).trim());
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo's metadata have not the expected form")?;
    let link = guest.folder.join(LINK);
    let outside = |package: &&Package| !package.is_from_elsewhere() && !package.manifest_path.starts_with(&guest.folder) && !package.manifest_path.starts_with(&link);
    if let Some(package) = metadata.packages.iter().find(outside) {
        bail!(
            "{} lies in {}, outside of the guest's folder: it would not come along when the guest is built again for another base; put it into the folder",
            package.name,
            package.manifest_path.display()
        );
    }
    for package in metadata.packages.iter().filter(|package| package.is_from_elsewhere()) {
        if let Some(library) = &package.links {
            bail!("{} {} needs the C library {library}, which no cell can link", package.name, package.version);
        }
        let Some(known) = package.crate_name().and_then(|name| sdk.find_crate(&name)) else { continue };
        if key(&known.name, &known.version) != key(&known.name, &package.version) {
            bail!(
                "the guest wants {} {}, the image {} has {}: two versions of one crate would be two families of types; ask for that of the image",
                package.name,
                package.version,
                sdk.short(),
                known.version
            );
        }
    }
    Ok(metadata)
}

/// Compiles the guest and the crates that the image has not.
fn compile(guest: &Guest, sdk: &Sdk, toolchain: &Toolchain, packages: &Metadata) -> Result<Vec<Library>> {
    let messages = cargo::collect(&mut build_command(guest, sdk, toolchain, packages)?)?.context("the guest does not compile; the compiler's messages stand above. A crate that cannot find `std` is made for other systems")?;
    let crates = sdk.path("crates").canonicalize().context("the SDK has no crates")?;
    let mut libraries = Vec::new();
    for message in messages {
        let Some(library) = message.library(|id| id.starts_with("path+")) else { continue };
        let library = library?;
        // What the image has was only looked at.
        if !library.source.canonicalize().is_ok_and(|source| source.starts_with(&crates)) {
            libraries.push(library);
        }
    }
    Ok(libraries)
}

/// Compiles the guest for an editor: what the compiler says goes to standard output as cargo has it.
///
/// # Errors
/// cargo cannot be run.
pub fn diagnose(guest: &Guest, sdk: &Sdk) -> Result<bool> {
    let toolchain = sdk.toolchain()?;
    guest.link(sdk)?;
    let packages = packages(guest, sdk, &toolchain)?;
    let status = build_command(guest, sdk, &toolchain, &packages)?.arg("--message-format=json").status();
    Ok(status.context("cannot start cargo")?.success())
}

fn build_command(guest: &Guest, sdk: &Sdk, toolchain: &Toolchain, packages: &Metadata) -> Result<Command> {
    let mut command = cargo(guest, sdk, toolchain)?;
    command.args(["build", "--lib", "--release", "-Zjson-target-spec", "--target"]).arg(sdk.path(&format!("target/{TARGET}.json")));
    for setting in PROFILE {
        command.arg("--config").arg(format!("profile.release.{setting}"));
    }
    for patch in patches(guest, sdk, &packages.packages) {
        command.arg("--config").arg(patch);
    }
    Ok(command)
}

/// Takes the objects out, to `target/delias/`.
fn extract(guest: &Guest, sdk: &Sdk, libraries: &[Library]) -> Result<Vec<CellObject>> {
    let folder = guest.folder.join("target").join("delias");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut cells: Vec<CellObject> = Vec::new();
    for library in libraries {
        if let Some(other) = cells.iter().find(|cell| cell.cell.name == library.name) {
            bail!("the guest has two versions of {}, {} and {}: one crate is one cell", library.name, other.cell.version, library.version);
        }
        ensure!(sdk.find_crate(&library.name).is_none(), "the image {} has a cell {} of its own", sdk.short(), library.name);
        let rlib = fs::read(&library.rlib).with_context(|| format!("cannot read {}", library.rlib.display()))?;
        let original = canonical::object_of(&rlib).with_context(|| format!("crate {}", library.name))?;
        let bytes = canonical::canonical(original).with_context(|| format!("crate {}", library.name))?;
        let path = |suffix: &str| -> PathBuf { folder.join(format!("{}{suffix}", library.name)) };
        replace(&path(".debug.o"), original)?;
        replace(&path(".o"), &bytes)?;
        let cell = manifest::Cell {
            name: library.name.clone(),
            version: library.version.clone(),
            object_hash: *blake3::hash(&bytes).as_bytes(),
            boot: false,
            own: library.own,
        };
        cells.push(CellObject { cell, object: Aligned::new(bytes) });
    }
    ensure!(!cells.is_empty(), "cargo built nothing for {}", within(&guest.folder, &folder).display());
    Ok(cells)
}

/// Links the image and the guest.
fn fits(sdk: &Sdk, cells: &[CellObject]) -> Result<()> {
    let (manifest, mut all) = sdk::cells(sdk)?;
    all.extend(cells.iter().cloned());
    check::link(&all, &manifest)
}
