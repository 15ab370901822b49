//! Keeping an old base for a guest: of the cells that an update changes, those that the guest uses stay for it as they are, beside
//! the new ones that everybody else uses.
//!
//! ```text
//! before: greeter ──▶ console ──▶ state_db        after: greeter ──▶ greeter::console ──▶ state_db
//!                                                        others  ──▶ console (new)   ──▶ state_db
//! ```
//! An old cell that stays gets another name, and so do its symbols, in its object and in those that refer to it; to the system
//! it is a cell that travels along with the guest. Old and new code work on the same data, so the update must not change any
//! layout; and what keeps values of its own in place, a static or one for each CPU, cannot be there twice.

use super::Built;
use super::world::World;
use crate::canonical;
use crate::cellset::{Aligned, CellObject};
use crate::project::replace;
use anyhow::{Context, Result, ensure};
use linker::{Kind, Object};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// How mangled names of Rust begin. Others are interfaces by name, which lead to whoever defines them now.
const MANGLED: &str = "_R";

/// An object as it runs.
struct Running {
    version: String,
    own: bool,
    bytes: Aligned,
}

/// The guest as it runs, with the cells that stay for it when `before` becomes `target`; their objects are put into `folder`.
///
/// # Errors
/// One of these cells keeps values of its own, or the guest is in a namespace.
pub fn pin(before: &World, target: &World, name: &str, folder: &Path) -> Result<Built> {
    let guest = before.guest(name).with_context(|| format!("there is no guest {name}"))?;
    ensure!(
        guest.replaces.is_none(),
        "guest {name} stands in for a cell of the image, for which no old base can be kept"
    );
    if let Some(namespace) = before.namespace_of(name) {
        anyhow::bail!(
            "guest {name} is in namespace {namespace}, which does not allow it an old base; `delias push --ns base` takes it out"
        );
    }
    let mut objects = BTreeMap::new();
    for cell in &before.manifest.cells {
        let path = before.object(&cell.name, false);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        objects.insert(
            cell.name.clone(),
            Running { version: cell.version.clone(), own: cell.own, bytes: Aligned::new(bytes) },
        );
    }
    let staying = staying(before, target, &guest.cells, &objects)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut cells = Vec::new();
    for cell in guest.cells.iter().chain(&staying.cells) {
        let running = objects.get(cell).with_context(|| format!("cell {cell} does not run"))?;
        let stays = staying.cells.contains(cell);
        let new = if stays { format!("{name}::{cell}") } else { cell.clone() };
        let parsed = Object::parse(running.bytes.bytes()).with_context(|| format!("cell {cell}"))?;
        let own = parsed.defined().filter(|_| stays);
        let others =
            parsed.undefined().filter(|symbol| symbol.starts_with(MANGLED) && staying.symbols.contains(*symbol));
        let lines: String = own.chain(others).map(|symbol| format!("{symbol} {symbol}.{name}\n")).collect();
        let (list, with_debug) = (folder.join("symbols"), folder.join(format!("{new}.debug.o")));
        fs::write(&list, lines).with_context(|| format!("cannot write {}", list.display()))?;
        let status = Command::new("objcopy")
            .arg("--redefine-syms")
            .arg(&list)
            .arg(before.object(cell, true))
            .arg(&with_debug)
            .status()
            .context("cannot start objcopy")?;
        ensure!(status.success(), "objcopy cannot rename the symbols of cell {cell}");
        let original = fs::read(&with_debug).with_context(|| format!("cannot read {}", with_debug.display()))?;
        let bytes = canonical::canonical(&original).with_context(|| format!("cell {new}"))?;
        replace(&folder.join(format!("{new}.o")), &bytes)?;
        cells.push(CellObject::new(new, running.version.clone(), running.own, bytes));
    }
    Ok(Built { name: name.to_owned(), cells, namespace: None, replaces: false, pinned: true, crates: Vec::new() })
}

/// Cells of the base that stay, and the symbols that they define.
struct Staying {
    cells: BTreeSet<String>,
    symbols: BTreeSet<String>,
}

fn staying(before: &World, target: &World, guest: &[String], objects: &BTreeMap<String, Running>) -> Result<Staying> {
    let mut parsed = BTreeMap::new();
    for (name, running) in objects {
        parsed.insert(name.as_str(), Object::parse(running.bytes.bytes()).with_context(|| format!("cell {name}"))?);
    }
    let definers: BTreeMap<&str, &str> = parsed
        .iter()
        .flat_map(|(name, object)| object.defined().map(|symbol| (symbol, *name)).collect::<Vec<_>>())
        .collect();
    let hash = |world: &World, name: &str| {
        world.manifest.cells.iter().find(|cell| cell.name == name).map(|cell| cell.object_hash)
    };
    let changes = |name: &str| hash(before, name) != hash(target, name);
    let is_guests = |name: &str| before.manifest.guests.iter().any(|other| other.cells.iter().any(|cell| cell == name));
    let (mut cells, mut left) = (BTreeSet::new(), guest.to_vec());
    while let Some(user) = left.pop() {
        let object = parsed.get(user.as_str()).with_context(|| format!("cell {user} does not run"))?;
        for symbol in object.undefined().filter(|symbol| symbol.starts_with(MANGLED)) {
            let Some(definer) = definers.get(symbol).filter(|definer| !is_guests(definer) && changes(definer)) else {
                continue;
            };
            if cells.insert((*definer).to_owned()) {
                left.push((*definer).to_owned());
            }
        }
    }
    for name in &cells {
        let keeps =
            parsed[name.as_str()].sections.iter().find(|section| matches!(section.kind, Kind::PerCpu | Kind::Writable));
        if let Some(section) = keeps {
            anyhow::bail!(
                "cell {name} keeps values of its own (section {}), so it cannot stay beside a new version of itself",
                section.name
            );
        }
    }
    let symbols = cells.iter().flat_map(|name| parsed[name.as_str()].defined()).map(str::to_owned).collect();
    Ok(Staying { cells, symbols })
}
