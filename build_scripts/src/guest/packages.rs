//! What a guest is made of, as cargo resolves it: what the image has of crates is the image's, in the image's version.

use super::command::{Cargo, quoted};
use super::source::Carried;
use super::{Guest, LINK, Place};
use crate::cargo::{Message, Target};
use crate::sdk::{Crate, Sdk};
use anyhow::{Context, Result, bail, ensure};
use manifest::key;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The name of a guest's crate.
pub(super) fn name(guest: &Guest, sdk: &Sdk) -> Result<String> {
    own(&Cargo::new(guest, sdk, &Place::default())?)?.guest_name()
}

/// Tells editors what the guest is made of.
///
/// # Errors
/// cargo cannot tell.
pub(super) fn describe(guest: &Guest, sdk: &Sdk) -> Result<()> {
    let place = Place::default();
    let cargo = Cargo::new(guest, sdk, &place)?;
    super::editor::describe(&cargo, &packages(&cargo)?, &[])
}

/// What the guest is made of.
///
/// # Errors
/// cargo cannot tell, or something of it can be no cell's.
pub(super) fn packages(cargo: &Cargo<'_>) -> Result<Metadata> {
    let Cargo { guest, sdk, place, .. } = cargo;
    has_features(&own(cargo)?, sdk)?;
    let mut metadata: Metadata = ask(cargo, true)?;
    if bring(cargo, &metadata)? {
        metadata = ask(cargo, true)?;
    }
    let link = guest.folder.join(LINK);
    let is_own = |path: &Path| path.starts_with(&guest.folder) || path.starts_with(&link);
    for package in &metadata.packages {
        let (name, path) = (&package.name, package.manifest_path.display());
        match package.source.as_deref() {
            None if !is_own(&package.manifest_path) => bail!(
                "{name} lies in {path}, outside of the guest's folder: it would not come along when the guest is built again for another base; put it into the folder"
            ),
            Some(source) if !source.starts_with("registry+") => bail!(
                "{name} comes from {source}: it would not come along when the guest is built again for another base; put it into the guest's folder"
            ),
            _ => {}
        }
    }
    for package in metadata.of_target().into_iter().filter(|package| package.is_from_elsewhere()) {
        if let Some(library) = &package.links {
            bail!("{} {} needs the C library {library}, which no cell can link", package.name, package.version);
        }
        if let (None, Some(known)) = (&place.namespace, package.of_image(sdk)) {
            if package.fits(known) {
                let (name, version) = (&package.name, &package.version);
                let has = known.features();
                bail!(
                    "of {name} the guest gets {version} and not the image's {} (with features: {has}): something in it asks for another version, or for a feature that the image's has not",
                    known.version
                );
            }
            bail!(
                "the guest wants {} {}, the image {} has {}: two versions of one crate would be two families of types; ask for that of the image, or push the guest into a namespace",
                package.name,
                package.version,
                sdk.short(),
                known.version
            );
        }
    }
    Ok(metadata)
}

/// The guest's own package, as its manifest has it.
fn own(cargo: &Cargo<'_>) -> Result<Package> {
    let alone: Alone = ask(cargo, false)?;
    ensure!(
        alone.workspace_root == cargo.guest.folder,
        "{} belongs to the workspace in {}, and a cell belongs to none: write `[workspace]` into its Cargo.toml",
        cargo.guest.folder.display(),
        alone.workspace_root.display()
    );
    let manifest = cargo.guest.folder.join("Cargo.toml");
    let mut packages = alone.packages.into_iter();
    packages.find(|package| package.manifest_path == manifest).context("the guest's Cargo.toml has no [package]")
}

/// What `cargo metadata` says: of the manifest, or with everything that it depends on.
fn ask<M: DeserializeOwned>(cargo: &Cargo<'_>, all: bool) -> Result<M> {
    let mut command = cargo.command("metadata")?;
    command.args(["--format-version", "1"]);
    match all {
        true => command.args(patches(cargo, |_| true)),
        false => command.arg("--no-deps"),
    };
    let output = command.stderr(Stdio::piped()).output().context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo cannot tell what {} is made of:\n{}",
        cargo.guest.folder.display(),
        messages(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("cargo's metadata have not the expected form")
}

/// What cargo says, without its warnings that a crate of the image is not needed.
fn messages(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let is_told = |line: &&str| !line.to_ascii_lowercase().starts_with("warning: patch ");
    text.split_inclusive('\n').filter(is_told).collect::<String>().trim().to_owned()
}

/// Arguments that lead crates of crates.io to those of the image.
pub(super) fn patches(cargo: &Cargo<'_>, wanted: impl Fn(&Crate) -> bool) -> Vec<String> {
    let of = |known: &Crate| {
        // By the way that the guest's own dependencies take: two paths to one package would be two packages.
        let folder = quoted(&cargo.guest.folder.join(LINK).join(&known.name));
        ["--config".to_owned(), format!("patch.crates-io.{}.path={folder}", known.package)]
    };
    cargo.sdk.description.crates.iter().filter(|known| !known.own && wanted(known)).flat_map(of).collect()
}

/// Brings crates that the image has in a compatible version to that version, as far as all who want them allow it; whether
/// there were any.
fn bring(cargo: &Cargo<'_>, metadata: &Metadata) -> Result<bool> {
    let mut brought = false;
    for package in metadata.of_target().into_iter().filter(|package| package.is_from_elsewhere()) {
        let Some(known) = package.of_image(cargo.sdk).filter(|known| package.fits(known)) else { continue };
        let mut command = cargo.command("update")?;
        command
            .args(patches(cargo, |_| true))
            .args(["-p", &package.id, "--precise", &known.version])
            .env("CARGO_NET_OFFLINE", "true");
        // Who needs a newer one is told later.
        brought |= command.output().context("cannot start cargo")?.status.success();
    }
    Ok(brought)
}

/// Whether the image's crates have the features that the guest asks for: they are not compiled again.
fn has_features(guest: &Package, sdk: &Sdk) -> Result<()> {
    // Of others it is not known whether they are needed.
    for wish in guest.dependencies.iter().filter(|wish| wish.kind.is_none() && wish.target.is_none() && !wish.optional)
    {
        let Some(known) = sdk.description.crates.iter().find(|known| known.package == wish.name) else { continue };
        let missing = wish.features.iter().find(|feature| *feature != "default" && !known.features.contains(feature));
        if let Some(feature) = missing {
            let has = known.features();
            bail!(
                "the guest asks for feature {feature} of {}: the image {} has that crate without it (with {has}), and does not compile it again",
                wish.name,
                sdk.short()
            );
        }
    }
    Ok(())
}

/// What `cargo metadata --no-deps` says, as far as it is read here.
#[derive(Deserialize)]
struct Alone {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

/// What `cargo metadata` says, as far as it is read here.
#[derive(Deserialize)]
pub(super) struct Metadata {
    pub packages: Vec<Package>,
    pub resolve: Resolve,
}

impl Metadata {
    /// The name of the guest's crate.
    ///
    /// # Errors
    /// It cannot be a cell's.
    pub fn name(&self) -> Result<String> {
        let root = self.resolve.root.as_ref().context("the guest's Cargo.toml has no [package]")?;
        let own = self.packages.iter().find(|package| package.id == *root);
        own.context("cargo does not list the guest itself")?.guest_name()
    }

    /// What comes from elsewhere, sorted; whole is what `said`, cargo's messages of a build, is about.
    pub fn crates(&self, said: &[Message]) -> Vec<Carried> {
        let of = |package: &Package| {
            let whole = said.iter().any(|message| message.package() == Some(&package.id));
            Some(Carried { folder: package.manifest_path.parent()?.to_path_buf(), whole })
        };
        let elsewhere = self.packages.iter().filter(|package| package.is_from_elsewhere());
        let mut crates: Vec<Carried> = elsewhere.filter_map(of).collect();
        crates.sort();
        crates
    }

    /// Whether only macros and build scripts need a package.
    pub fn is_hosts(&self, package: &Package) -> bool {
        !self.of_target().iter().any(|target| target.id == package.id)
    }

    /// The packages that the target gets: not those that only macros and build scripts need, which run on the host.
    fn of_target(&self) -> Vec<&Package> {
        let mut packages: Vec<&Package> = Vec::new();
        let mut left: Vec<&str> = self.resolve.root.as_deref().into_iter().collect();
        while let Some(id) = left.pop() {
            let Some(package) = self.packages.iter().find(|package| package.id == id) else { continue };
            if packages.iter().any(|known| known.id == id) || package.is_macro() {
                continue;
            }
            packages.push(package);
            let linked = self.resolve.node(id).into_iter().flat_map(|node| &node.deps).filter(|on| on.is_linked());
            left.extend(linked.map(|on| on.pkg.as_str()));
        }
        packages
    }
}

/// Who depends on whom.
#[derive(Deserialize)]
pub(super) struct Resolve {
    pub root: Option<String>,
    nodes: Vec<Node>,
}

impl Resolve {
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

/// A package among the others.
#[derive(Deserialize)]
pub(super) struct Node {
    id: String,
    pub deps: Vec<On>,
    pub features: Vec<String>,
}

/// What it depends on: the name of the crate there, and the package's id.
#[derive(Deserialize)]
pub(super) struct On {
    pub name: String,
    pub pkg: String,
    dep_kinds: Vec<DepKind>,
}

impl On {
    /// Whether it is linked on every target, and not for tests or build scripts alone.
    fn is_linked(&self) -> bool {
        self.dep_kinds.iter().any(|on| on.kind.is_none() && on.target.is_none())
    }
}

/// What for: none for what is linked, `dev`, `build`; and on which targets, if not on all.
#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
    target: Option<String>,
}

/// A package.
#[derive(Deserialize)]
pub(super) struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    /// None for what lies in a folder.
    source: Option<String>,
    links: Option<String>,
    dependencies: Vec<Wish>,
    pub manifest_path: PathBuf,
    pub targets: Vec<Target>,
}

/// A dependency as a manifest has it: the package's name, and the features that are asked for.
#[derive(Deserialize)]
struct Wish {
    name: String,
    features: Vec<String>,
    kind: Option<String>,
    /// For which targets, if not for all.
    target: Option<String>,
    optional: bool,
}

impl Package {
    /// The name of its library, as rustc knows it.
    pub fn crate_name(&self) -> Option<String> {
        self.targets.iter().find(|target| target.is_library()).map(Target::crate_name)
    }

    /// The name of the cell that it is to be.
    fn guest_name(&self) -> Result<String> {
        let name = self
            .crate_name()
            .with_context(|| format!("package {} has no library: a cell is one, in src/lib.rs", self.name))?;
        super::check_name(&name)?;
        Ok(name)
    }

    /// The image's crate of its name.
    fn of_image<'s>(&self, sdk: &'s Sdk) -> Option<&'s Crate> {
        sdk.find_crate(&self.crate_name()?)
    }

    fn is_macro(&self) -> bool {
        self.targets.iter().any(Target::is_macro)
    }

    /// Whether the image's is of a version that fits.
    fn fits(&self, known: &Crate) -> bool {
        key(&known.name, &known.version) == key(&known.name, &self.version)
    }

    fn is_from_elsewhere(&self) -> bool {
        self.source.is_some()
    }
}
