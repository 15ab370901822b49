//! Builds that are kept, by image id: a difference starts from what runs, and that was built some time ago.
//!
//! `build/builds/ID/` holds what `delias diff` reads of a build folder, as hard links: since every file of a build is
//! written anew and renamed, a link keeps what was, and what two builds have in common is there once.

use crate::image::Image;
use crate::project::Project;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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
    fs::rename(&begun, &folder).with_context(|| format!("cannot rename {}", begun.display()))?;
    forget_oldest(project);
    Ok(folder)
}

fn link(from: &Path, to: &Path) -> Result<()> {
    // A file system without hard links gets a copy.
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ())).with_context(|| format!("cannot keep {}", from.display()))
}

/// The folder of a build that was kept.
pub fn find(project: &Project, id: &str) -> Option<PathBuf> {
    let folder = folder(project, id);
    folder.join("cells.tar").is_file().then_some(folder)
}

fn forget_oldest(project: &Project) {
    let Ok(entries) = fs::read_dir(project.build("builds")) else { return };
    let used = |path: &Path| fs::metadata(path.join("used")).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut builds: Vec<(SystemTime, PathBuf)> =
        entries.flatten().map(|entry| entry.path()).map(|path| (used(&path), path)).collect();
    builds.sort();
    let more = builds.len().saturating_sub(KEPT);
    for (_, path) in builds.into_iter().take(more) {
        // What cannot be removed now is the oldest again next time.
        let _ = fs::remove_dir_all(path);
    }
}
