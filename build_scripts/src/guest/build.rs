//! `delias build`: from a guest's sources to objects that fit the image.

use super::{Guest, LINK, within};
use crate::cargo::{self, FLAGS, Library};
use crate::cellset::CellObject;
use crate::project::{TARGET, Toolchain, replace};
use crate::sdk::{self, Crate, Sdk};
use crate::{canonical, check, substitute, wrapper};
use anyhow::{Context, Result, bail, ensure};
use manifest::key;
use namespace::{Namespace, Namespaces};
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
    /// The namespace that it is for; none for the base.
    pub namespace: Option<String>,
    /// It stands in for the image's cell of its name.
    pub replaces: bool,
    /// Cells of an older base are among its cells.
    pub pinned: bool,
}

impl Built {
    /// Whether a cell of it stands in for the image's: it is where that one is, in whatever namespace.
    pub(super) fn stands_in(&self, cell: &CellObject) -> bool {
        self.replaces && cell.cell.name == self.name
    }
}

/// Where a guest is to live.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The namespace; none for the base. Crates that travel along are its own, whoever else has them.
    pub namespace: Option<String>,
    /// The namespaces of the world that it comes to; none if they are those of the image.
    pub namespaces: Option<Vec<Namespace>>,
    /// It takes the place of the image's cell of its name.
    pub replaces: bool,
    /// With its tests in it, for a system that is booted to run them.
    pub tests: bool,
}

impl Place {
    /// The name of the cell that a crate becomes.
    fn cell(&self, name: &str, is_guest: bool) -> String {
        match &self.namespace {
            Some(namespace) if !is_guest => format!("{namespace}::{name}"),
            _ => name.to_owned(),
        }
    }
}

/// The name of a guest's crate.
pub(super) fn name(guest: &Guest, sdk: &Sdk) -> Result<String> {
    guest.link(sdk)?;
    let output = cargo(guest, sdk, &sdk.toolchain()?, &Place::default())?
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::piped())
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo cannot read {}/Cargo.toml:\n{}",
        guest.folder.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let metadata: Alone =
        serde_json::from_slice(&output.stdout).context("cargo's metadata have not the expected form")?;
    let manifest = guest.folder.join("Cargo.toml");
    let package = metadata
        .packages
        .iter()
        .find(|package| package.manifest_path == manifest)
        .context("the guest's Cargo.toml has no [package]")?;
    package.guest_name()
}

/// What `cargo metadata --no-deps` says, as far as it is read here.
#[derive(Deserialize)]
struct Alone {
    packages: Vec<Package>,
}

/// What `cargo metadata` says, as far as it is read here.
#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) packages: Vec<Package>,
    pub(super) resolve: Resolve,
}

impl Metadata {
    /// The name of the guest's crate.
    fn name(&self) -> Result<String> {
        let root = self.resolve.root.as_ref().context("the guest's Cargo.toml has no [package]")?;
        self.packages
            .iter()
            .find(|package| package.id == *root)
            .context("cargo does not list the guest itself")?
            .guest_name()
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
            left.extend(
                self.resolve
                    .node(id)
                    .into_iter()
                    .flat_map(|node| &node.deps)
                    .filter(|on| on.is_linked())
                    .map(|on| on.pkg.as_str()),
            );
        }
        packages
    }
}

#[derive(Deserialize)]
pub(super) struct Resolve {
    pub(super) root: Option<String>,
    nodes: Vec<Node>,
}

impl Resolve {
    pub(super) fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

/// A package among the others.
#[derive(Deserialize)]
pub(super) struct Node {
    id: String,
    pub(super) deps: Vec<On>,
    pub(super) features: Vec<String>,
}

/// What it depends on: the name of the crate there, and the package's id.
#[derive(Deserialize)]
pub(super) struct On {
    pub(super) name: String,
    pub(super) pkg: String,
    dep_kinds: Vec<DepKind>,
}

impl On {
    /// Whether it is linked, and not for tests or build scripts alone.
    fn is_linked(&self) -> bool {
        self.dep_kinds.iter().any(|on| on.kind.is_none())
    }
}

/// What for: none for what is linked, `dev`, `build`.
#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Package {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    source: Option<String>,
    links: Option<String>,
    dependencies: Vec<Wish>,
    pub(super) manifest_path: PathBuf,
    pub(super) targets: Vec<cargo::Target>,
}

/// A dependency as a manifest has it: the package's name, and the features that are asked for.
#[derive(Deserialize)]
struct Wish {
    name: String,
    features: Vec<String>,
    kind: Option<String>,
}

impl Package {
    /// The features that it asks for of one that it is linked to.
    fn asks<'p>(&'p self, of: &str) -> impl Iterator<Item = &'p String> {
        self.dependencies
            .iter()
            .filter(move |wish| wish.name == of && wish.kind.is_none())
            .flat_map(|wish| &wish.features)
    }

    /// The name of its library, as rustc knows it.
    pub(super) fn crate_name(&self) -> Option<String> {
        self.targets.iter().find(|target| target.is_library()).map(cargo::Target::crate_name)
    }

    /// The name of the cell that it is to be.
    fn guest_name(&self) -> Result<String> {
        let name = self
            .crate_name()
            .with_context(|| format!("package {} has no library: a cell is one, in src/lib.rs", self.name))?;
        super::check_name(&name)?;
        Ok(name)
    }

    fn is_macro(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    }

    fn is_from_elsewhere(&self) -> bool {
        self.source.is_some()
    }
}

/// Tells editors what the guest is made of.
///
/// # Errors
/// cargo cannot tell.
pub(super) fn describe(guest: &Guest, sdk: &Sdk) -> Result<()> {
    let toolchain = sdk.toolchain()?;
    super::editor::describe(guest, sdk, &toolchain, &packages(guest, sdk, &toolchain, &Place::default())?)
}

/// Builds a guest and checks that it links to the SDK's image. The compiler's messages go to standard error.
///
/// # Errors
/// It does not compile, needs what a cell cannot have, or does not fit the image.
pub fn build(guest: &Guest, sdk: &Sdk, place: &Place) -> Result<Built> {
    let toolchain = sdk.toolchain()?;
    guest.link(sdk)?;
    let packages = packages(guest, sdk, &toolchain, place)?;
    let name = packages.name()?;
    super::editor::describe(guest, sdk, &toolchain, &packages)?;
    match place.replaces {
        true => replaceable(sdk, &name)?,
        false => is_free(sdk, &name)?,
    }
    let libraries = compile(guest, sdk, &toolchain, &packages, place)?;
    let cells = extract(guest, sdk, &libraries, &name, place)?;
    let built = Built { name, cells, namespace: place.namespace.clone(), replaces: place.replaces, pinned: false };
    fits(sdk, &built, place).with_context(|| format!("{} does not fit the image {}", built.name, sdk.short()))?;
    Ok(built)
}

/// Whether a guest may have this name.
///
/// # Errors
/// The image has a cell or a service of that name.
pub fn is_free(sdk: &Sdk, name: &str) -> Result<()> {
    let manifest = crate::diff::side::manifest_of(&sdk.path("image"))?;
    ensure!(
        !manifest.cells.iter().any(|cell| cell.name == name),
        "the image {} has a cell {name} of its own: choose another name",
        sdk.short()
    );
    ensure!(
        !manifest.services.iter().any(|service| service.name == name),
        "the image {} has a service called {name}: choose another name",
        sdk.short()
    );
    Ok(())
}

/// Whether a guest may take the place of the image's cell of that name.
///
/// # Errors
/// There is none, or others were compiled against it: they hold its inlined code and layouts.
fn replaceable(sdk: &Sdk, name: &str) -> Result<()> {
    ensure!(sdk.find_crate(name).is_some(), "the image {} has no cell {name} that could be replaced", sdk.short());
    let users = sdk.users(name)?;
    ensure!(
        users.is_empty(),
        "cell {name} cannot be replaced from outside: {} {} compiled against it and would have to be built again; change it in the tree, and `make update`",
        users.join(", "),
        if users.len() == 1 { "is" } else { "are" }
    );
    Ok(())
}

/// The folders whose names no object may show, in cargo's encoding: the same source gives the same object wherever it lies.
fn remapped(guest: &Guest) -> Result<String> {
    let registries = cargo::registry_sources()?.into_iter().map(|folder| (folder, "/dep"));
    let all = std::iter::once((guest.folder.clone(), "/guest")).chain(registries);
    Ok(all.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect::<Vec<_>>().join("\x1f"))
}

/// cargo, set up for a guest.
fn cargo(guest: &Guest, sdk: &Sdk, toolchain: &Toolchain, place: &Place) -> Result<Command> {
    let mut command = Command::new(&toolchain.cargo);
    command.current_dir(&guest.folder).stdin(Stdio::null());
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
    ] {
        command.env_remove(name);
    }
    let mut target = guest.folder.join("target");
    if let Some(namespace) = &place.namespace {
        // Other names of symbols, which cargo knows nothing of.
        target = target.join("namespaces").join(namespace);
        command.env(wrapper::NAMESPACE, namespace);
    }
    if place.tests {
        target = target.join("tests");
        command.env(wrapper::TESTS, "1");
    }
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

/// What the guest is made of.
fn packages(guest: &Guest, sdk: &Sdk, toolchain: &Toolchain, place: &Place) -> Result<Metadata> {
    let output = cargo(guest, sdk, toolchain, place)?
        .args(["metadata", "--format-version", "1"])
        .stderr(Stdio::piped())
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo cannot tell what {} is made of:\n{}",
        guest.folder.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo's metadata have not the expected form")?;
    let link = guest.folder.join(LINK);
    let outside = |package: &&Package| {
        !package.is_from_elsewhere()
            && !package.manifest_path.starts_with(&guest.folder)
            && !package.manifest_path.starts_with(&link)
    };
    if let Some(package) = metadata.packages.iter().find(outside) {
        bail!(
            "{} lies in {}, outside of the guest's folder: it would not come along when the guest is built again for another base; put it into the folder",
            package.name,
            package.manifest_path.display()
        );
    }
    for package in metadata.of_target().into_iter().filter(|package| package.is_from_elsewhere()) {
        if let Some(library) = &package.links {
            bail!("{} {} needs the C library {library}, which no cell can link", package.name, package.version);
        }
        let Some(known) = package.crate_name().and_then(|name| sdk.find_crate(&name)) else { continue };
        if place.namespace.is_none() && key(&known.name, &known.version) != key(&known.name, &package.version) {
            bail!(
                "the guest wants {} {}, the image {} has {}: two versions of one crate would be two families of types; ask for that of the image, or push the guest into a namespace",
                package.name,
                package.version,
                sdk.short(),
                known.version
            );
        }
    }
    metadata.of_target().into_iter().try_for_each(|package| has_features(package, &metadata, sdk))?;
    Ok(metadata)
}

/// Whether the image's crates have the features that a package asks for: they are not compiled again.
fn has_features(package: &Package, all: &Metadata, sdk: &Sdk) -> Result<()> {
    for on in all.resolve.node(&package.id).into_iter().flat_map(|node| &node.deps).filter(|on| on.is_linked()) {
        let Some(on) = all.packages.iter().find(|package| package.id == on.pkg) else { continue };
        let known = on
            .crate_name()
            .and_then(|name| sdk.find_crate(&name))
            .filter(|known| key(&known.name, &known.version) == key(&known.name, &on.version));
        let Some(known) = known else { continue };
        if let Some(feature) =
            package.asks(&on.name).find(|feature| *feature != "default" && !known.features.contains(feature))
        {
            let has = if known.features.is_empty() { "none".to_owned() } else { known.features.join(", ") };
            bail!(
                "{} asks for feature {feature} of {}: the image {} has that crate without it (with {has}), and does not compile it again",
                package.name,
                on.name,
                sdk.short()
            );
        }
    }
    Ok(())
}

/// Compiles the guest and the crates that the image has not.
fn compile(
    guest: &Guest,
    sdk: &Sdk,
    toolchain: &Toolchain,
    packages: &Metadata,
    place: &Place,
) -> Result<Vec<Library>> {
    let (compiles, messages) = cargo::listen(&mut build_command(guest, sdk, toolchain, packages, place)?)?;
    let own = packages.resolve.root.as_deref().unwrap_or_default();
    if let Some(why) = messages.iter().find_map(|message| message.impossible(own)) {
        bail!("{why}");
    }
    ensure!(compiles, "the guest does not compile; the compiler's messages stand above");
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
    let place = Place::default();
    let packages = packages(guest, sdk, &toolchain, &place)?;
    let status = build_command(guest, sdk, &toolchain, &packages, &place)?.arg("--message-format=json").status();
    Ok(status.context("cannot start cargo")?.success())
}

fn build_command(
    guest: &Guest,
    sdk: &Sdk,
    toolchain: &Toolchain,
    packages: &Metadata,
    place: &Place,
) -> Result<Command> {
    let mut command = cargo(guest, sdk, toolchain, place)?;
    command
        .args(["build", "--lib", "--release", "-Zjson-target-spec", "--target"])
        .arg(sdk.path(&format!("target/{TARGET}.json")));
    for setting in PROFILE {
        command.arg("--config").arg(format!("profile.release.{setting}"));
    }
    for patch in patches(guest, sdk, &packages.packages) {
        command.arg("--config").arg(patch);
    }
    Ok(command)
}

/// Takes the objects out, to `target/delias/`.
fn extract(guest: &Guest, sdk: &Sdk, libraries: &[Library], own: &str, place: &Place) -> Result<Vec<CellObject>> {
    let folder = guest.objects(place);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut cells: Vec<CellObject> = Vec::new();
    for library in libraries {
        let name = place.cell(&library.name, library.name == own);
        if let Some(other) = cells.iter().find(|cell| cell.cell.name == name) {
            bail!(
                "the guest has two versions of {}, {} and {}: one crate is one cell",
                library.name,
                other.cell.version,
                library.version
            );
        }
        let is_known = sdk.find_crate(&name).is_some();
        ensure!(!is_known || place.replaces && name == own, "the image {} has a cell {name} of its own", sdk.short());
        let rlib = fs::read(&library.rlib).with_context(|| format!("cannot read {}", library.rlib.display()))?;
        let original = canonical::object_of(&rlib).with_context(|| format!("crate {}", library.name))?;
        let bytes = canonical::canonical(original).with_context(|| format!("crate {}", library.name))?;
        let path = |suffix: &str| -> PathBuf { folder.join(format!("{name}{suffix}")) };
        replace(&path(".debug.o"), original)?;
        replace(&path(".o"), &bytes)?;
        cells.push(CellObject::new(name, library.version.clone(), library.own, bytes));
    }
    ensure!(!cells.is_empty(), "cargo built nothing for {}", within(&guest.folder, &folder).display());
    Ok(cells)
}

/// Links the image and the guest.
pub(super) fn fits(sdk: &Sdk, built: &Built, place: &Place) -> Result<()> {
    let (mut manifest, mut all) = sdk::cells(sdk)?;
    let mut namespaces = Namespaces::new(place.namespaces.as_ref().unwrap_or(&manifest.namespaces))?;
    let mut placed = built.cells.iter().filter(|cell| !built.stands_in(cell));
    placed.try_for_each(|cell| namespaces.place(&cell.cell.name, place.namespace.as_deref()))?;
    manifest.namespaces = namespaces.into_list();
    all.retain(|cell| !built.cells.iter().any(|new| new.cell.name == cell.cell.name));
    all.extend(built.cells.iter().cloned());
    check::link(&all, &manifest)
}
