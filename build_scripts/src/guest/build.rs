//! `delias build`: from a guest's sources to objects that fit the image.

use super::command::Cargo;
use super::packages::{Metadata, packages, patches};
use super::source::{Carried, LEFT_OUT};
use super::{Guest, LINK, within};
use crate::cargo::{self, Library, Message};
use crate::cellset::CellObject;
use crate::project::{TARGET, replace};
use crate::sdk::{self, Sdk};
use crate::{canonical, check};
use anyhow::{Context, Result, bail, ensure};
use namespace::{Namespace, Namespaces};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    /// The crates from elsewhere that it was built of.
    pub crates: Vec<Carried>,
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

/// Builds a guest and checks that it links to the SDK's image. The compiler's messages go to standard error.
///
/// # Errors
/// It does not compile, needs what a cell cannot have, or does not fit the image.
pub fn build(guest: &Guest, sdk: &Sdk, place: &Place) -> Result<Built> {
    let cargo = Cargo::new(guest, sdk, place)?;
    let packages = packages(&cargo)?;
    let name = packages.name()?;
    match place.replaces {
        true => replaceable(sdk, &name)?,
        false => is_free(sdk, &name)?,
    }
    let (compiles, messages) = cargo::listen(&mut build_command(&cargo, &packages)?)?;
    if guest.crates.is_none() {
        super::editor::describe(&cargo, &packages, &messages)?;
    }
    let crates = packages.crates(&messages);
    let libraries = libraries(&cargo, &packages, compiles, messages)?;
    let cells = extract(guest, sdk, &libraries, &name, place)?;
    let namespace = place.namespace.clone();
    let built = Built { name, cells, namespace, replaces: place.replaces, pinned: false, crates };
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

/// The guest and the crates that the image has not, out of what cargo says of a build.
fn libraries(cargo: &Cargo<'_>, packages: &Metadata, compiles: bool, messages: Vec<Message>) -> Result<Vec<Library>> {
    let own = packages.resolve.root.as_deref().unwrap_or_default();
    if let Some(why) = messages.iter().find_map(|message| message.impossible(own)) {
        bail!("{why}");
    }
    ensure!(compiles, "the guest does not compile; the compiler's messages stand above");
    let crates = cargo.sdk.path("crates").canonicalize().context("the SDK has no crates")?;
    let mut libraries = Vec::new();
    for message in messages {
        let Some(library) = message.library(|id| id.starts_with("path+")) else { continue };
        let library = library?;
        // What the image has was only looked at.
        if !library.source.canonicalize().is_ok_and(|source| source.starts_with(&crates)) {
            comes_along(cargo.guest, &library)?;
            libraries.push(library);
        }
    }
    Ok(libraries)
}

/// Whether a crate of the guest's own was compiled from files of its folder alone.
fn comes_along(guest: &Guest, library: &Library) -> Result<()> {
    let folder = guest.folder.canonicalize().with_context(|| format!("there is no {}", guest.folder.display()))?;
    let target = guest.folder.join("target").canonicalize().context("nothing was built")?;
    for file in library.files()?.iter().filter(|_| library.own) {
        // A path that is there, for the compiler has read it; a link leads to where the file is.
        let path = guest.folder.join(file).canonicalize().with_context(|| format!("{file} has gone"))?;
        let within = path.strip_prefix(&folder).ok();
        // What a build script has written it writes again.
        let is_written =
            path.strip_prefix(&target).is_ok_and(|path| path.components().any(|part| part.as_os_str() == "out"));
        let comes = |path: &Path| !LEFT_OUT.iter().any(|left_out| path.starts_with(left_out));
        if !is_written && !within.is_some_and(comes) {
            bail!(
                "{} reads {}, which would not come along when the guest is built again for another base: put it into the guest's folder ({})",
                library.name,
                path.display(),
                within.map_or("it lies outside of it".to_owned(), |_| format!("without {}", LEFT_OUT.join(", ")))
            );
        }
    }
    Ok(())
}

/// Compiles the guest for an editor: what the compiler says goes to standard output as cargo has it.
///
/// # Errors
/// cargo cannot be run.
pub fn diagnose(guest: &Guest, sdk: &Sdk) -> Result<bool> {
    let place = Place::default();
    let cargo = Cargo::new(guest, sdk, &place)?;
    let packages = packages(&cargo)?;
    let status = build_command(&cargo, &packages)?.arg("--message-format=json").status();
    Ok(status.context("cannot start cargo")?.success())
}

fn build_command(cargo: &Cargo<'_>, packages: &Metadata) -> Result<Command> {
    let mut command = cargo.command("build")?;
    command
        .args(["--lib", "--release", "-Zjson-target-spec", "--target"])
        .arg(cargo.sdk.path(&format!("target/{TARGET}.json")));
    for setting in PROFILE {
        command.arg("--config").arg(format!("profile.release.{setting}"));
    }
    // Of one that is not needed cargo would say so.
    let link = cargo.guest.folder.join(LINK);
    command.args(patches(cargo, |known| {
        let manifest = link.join(&known.name).join("Cargo.toml");
        packages.packages.iter().any(|package| package.manifest_path == manifest)
    }));
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
