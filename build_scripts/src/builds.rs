//! Builds that are kept, by image id: a difference starts from what runs, and that was built some time ago.
//!
//! `build/builds/ID/` holds what `delias diff` reads of a build folder, as hard links: since every file of a build is
//! written anew and renamed, a link keeps what was, and what two builds have in common is there once.

use crate::archive;
use crate::diff::side;
use crate::image::{Image, ImageCell};
use crate::project::Project;
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// An id as text.
pub fn hex(id: [u8; 32]) -> String {
    blake3::Hash::from(id).to_hex().to_string()
}

/// Builds that are kept; those that were used last.
const KEPT: usize = 100;
/// Digits of an id in a folder's name.
const DIGITS: usize = 32;

fn folder(project: &Project, id: &str) -> PathBuf {
    project.build("builds").join(id.get(..DIGITS).unwrap_or(id))
}

/// Keeps the build that lies in `build/`.
///
/// # Errors
/// A file cannot be linked.
pub fn keep(project: &Project, image: &Image) -> Result<PathBuf> {
    let folder = folder(project, &image.id);
    if folder.join("cells.tar").is_file() {
        // It counts as used: nothing is lost if that cannot be written down.
        let _ = fs::write(folder.join("used"), "");
        return Ok(folder);
    }
    let begun = folder.with_extension("new");
    // Of an attempt that was interrupted.
    let _ = fs::remove_dir_all(&begun);
    fs::create_dir_all(begun.join("cells")).with_context(|| format!("cannot create {}", begun.display()))?;
    for cell in &image.cells {
        for name in [format!("cells/{}.o", cell.name), format!("cells/{}.debug.o", cell.name)] {
            link(&project.build(&name), &begun.join(&name))?;
        }
    }
    for name in ["nano_core", "image.json", "cells.tar"] {
        link(&project.build(name), &begun.join(name))?;
    }
    fs::write(begun.join("used"), "").with_context(|| format!("cannot write into {}", begun.display()))?;
    // What is left of one that was being removed.
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&begun, &folder).with_context(|| format!("cannot rename {}", begun.display()))?;
    forget_oldest(project);
    Ok(folder)
}

fn link(from: &Path, to: &Path) -> Result<()> {
    // A file system without hard links gets a copy.
    fs::hard_link(from, to)
        .or_else(|_| fs::copy(from, to).map(|_| ()))
        .with_context(|| format!("cannot keep {}", from.display()))
}

/// The folder of a build that was kept.
pub fn find(project: &Project, id: &str) -> Option<PathBuf> {
    let folder = folder(project, id);
    if !folder.join("cells.tar").is_file() {
        return None;
    }
    // It counts as used: nothing is lost if that cannot be written down.
    let _ = fs::write(folder.join("used"), "");
    Some(folder)
}

/// A cell that runs: its name, and its object's hash in hexadecimal.
pub type Running = (String, String);

/// Puts a build together that was never made as a whole, as after an update of one cell alone: from `base`, the build that ran
/// before, and for cells that are others since then from the build that was used last of those that have them.
///
/// Where a cell comes from matters: builds that share an object may differ in the layouts that it was compiled with.
///
/// # Errors
/// A cell's object is in no build that was kept, or what comes of it has another id than `id`.
pub fn compose(project: &Project, id: &str, base: &Path, cells: &[Running]) -> Result<PathBuf> {
    let entries = fs::read_dir(project.build("builds")).context("no build was kept")?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort_by_key(|folder| used(folder));
    folders.push(base.to_path_buf());
    let mut homes: HashMap<Running, (PathBuf, ImageCell)> = HashMap::new();
    let mut image = None;
    // A later one takes the place of an earlier one.
    for folder in folders {
        let Ok(text) = fs::read(folder.join("image.json")) else { continue };
        let Ok(mut read) = serde_json::from_slice::<Image>(&text) else { continue };
        for cell in read.cells.drain(..) {
            homes.insert((cell.name.clone(), cell.object.clone()), (folder.clone(), cell));
        }
        image = Some(read);
    }
    let (template, mut image) = (base, image.context("no build was kept")?);
    let mut manifest = side::manifest_of(template)?;
    manifest.cells.clear();
    let target = folder(project, id);
    let begun = target.with_extension("new");
    // Of an attempt that was interrupted.
    let _ = fs::remove_dir_all(&begun);
    fs::create_dir_all(begun.join("cells")).with_context(|| format!("cannot create {}", begun.display()))?;
    for running in cells {
        let (home, row) = homes
            .remove(running)
            .with_context(|| format!("the running cell {} is in no build that was kept", running.0))?;
        for name in [format!("cells/{}.o", row.name), format!("cells/{}.debug.o", row.name)] {
            link(&home.join(&name), &begun.join(&name))?;
        }
        let object_hash = *blake3::Hash::from_hex(&row.object).ok().context("a kept build is damaged")?.as_bytes();
        manifest.cells.push(manifest::Cell {
            name: row.name.clone(),
            version: row.version.clone(),
            object_hash,
            boot: row.boot,
            own: row.own,
        });
        image.cells.push(row);
    }
    manifest.cells.sort_by(|a, b| a.name.cmp(&b.name));
    manifest.image_id = manifest.id(|bytes| *blake3::hash(bytes).as_bytes());
    image.id = hex(manifest.image_id);
    ensure!(image.id == id, "the running cells together have the id {}, but the system says {id}", image.id);
    let head = manifest.write().context("the manifest cannot be written")?;
    let write =
        |name: &str, bytes: &[u8]| fs::write(begun.join(name), bytes).with_context(|| format!("cannot write {name}"));
    write("cells.tar", &archive::pack(&[(manifest::FILE.to_owned(), &head)])?)?;
    write("image.json", &serde_json::to_vec_pretty(&image)?)?;
    write("used", b"")?;
    link(&template.join("nano_core"), &begun.join("nano_core"))?;
    fs::rename(&begun, &target).with_context(|| format!("cannot rename {}", begun.display()))?;
    Ok(target)
}

/// When a build was used last.
fn used(folder: &Path) -> SystemTime {
    fs::metadata(folder.join("used")).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn forget_oldest(project: &Project) {
    let Ok(entries) = fs::read_dir(project.build("builds")) else { return };
    let mut builds: Vec<(SystemTime, PathBuf)> =
        entries.flatten().map(|entry| entry.path()).map(|path| (used(&path), path)).collect();
    builds.sort();
    let more = builds.len().saturating_sub(KEPT);
    for (_, path) in builds.into_iter().take(more) {
        // First it is no build any more. What cannot be removed now is the oldest again next time.
        let _ = fs::remove_file(path.join("cells.tar"));
        let _ = fs::remove_dir_all(path);
    }
}
