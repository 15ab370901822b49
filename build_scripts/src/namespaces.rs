//! Namespaces: `cfg/namespaces.toml` names cells and folders of crates; the manifest names the cells of this image.

use crate::cellset::CellObject;
use crate::project::Project;
use anyhow::{Context, Result, ensure};
use linker::Object;
use namespace::{Namespace, Namespaces};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;

/// The file, in `cfg/`.
pub const FILE: &str = "namespaces.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    namespace: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    cells: Vec<String>,
    allows: Vec<String>,
}

#[derive(Deserialize)]
struct CargoFile {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

/// The namespaces of an image.
///
/// # Errors
/// The file has not the expected form, names a cell that the image has not, or has a cell or a namespace twice.
pub fn resolve(project: &Project, cells: &[CellObject]) -> Result<Vec<Namespace>> {
    let file: File = project.read_cfg(FILE)?;
    let mut there: BTreeSet<&str> = cells.iter().map(|cell| cell.cell.name.as_str()).collect();
    let mut objects = Vec::new();
    for cell in cells {
        objects.push(Object::parse(cell.object.bytes()).with_context(|| format!("cell {}", cell.cell.name))?);
    }
    there.extend(objects.iter().flat_map(Object::defined));
    let mut namespaces = Vec::new();
    for row in file.namespace {
        let mut members = Vec::new();
        for entry in &row.cells {
            match entry.contains('/') {
                true => members
                    .extend(crates_in(project, entry).with_context(|| format!("cfg/{FILE}: namespace {}", row.name))?),
                false => members.push(entry.clone()),
            }
        }
        for name in members.iter().chain(&row.allows) {
            ensure!(
                there.contains(name.as_str()),
                "cfg/{FILE}: namespace {} names {name}, which is no cell of the image and no symbol of one",
                row.name
            );
        }
        namespaces.push(Namespace { name: row.name, cells: members, allows: row.allows, made: false });
    }
    Namespaces::new(&namespaces).with_context(|| format!("cfg/{FILE}"))?;
    Ok(namespaces)
}

/// The crates in a folder, by the names that their cells have, sorted.
fn crates_in(project: &Project, folder: &str) -> Result<Vec<String>> {
    let path = project.root.join(folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?.flatten() {
        // A folder without a manifest is no crate.
        let Ok(text) = fs::read_to_string(entry.path().join("Cargo.toml")) else { continue };
        let cargo: CargoFile =
            toml::from_str(&text).with_context(|| format!("{}/Cargo.toml", entry.path().display()))?;
        names.push(cargo.package.name.replace('-', "_"));
    }
    names.sort();
    Ok(names)
}
