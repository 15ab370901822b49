//! `core` and `alloc` with changes of our own: files below `cfg/library/` stand in the place of those of the toolchain's
//! library source, `cfg/library/core/src/option.rs` for `library/core/src/option.rs`.
//!
//! The whole library is then compiled from a copy, `build/library/`, under the same paths in debug information, so that
//! whatever is not changed compiles to the same objects as from the toolchain's own source.
//!
//! cargo takes the files of the library for files that never change, so it is told when one does: its notes about the
//! library's crates are removed. Whether it then compiled them again is checked ([`check`]).

use crate::cargo::Library;
use crate::project::{Project, TARGET, Toolchain, replace};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that tells cargo where the library's source lies, in place of the sysroot.
pub const SOURCE: &str = "__CARGO_TESTS_ONLY_SRC_ROOT";

/// The files of a folder, relative to it, sorted, without those that editors keep beside them.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("cannot list {}", next.display()))? {
            let path = entry.with_context(|| format!("cannot list {}", next.display()))?.path();
            let name = entry_name(&path);
            if path.is_dir() {
                todo.push(path);
            } else if !name.starts_with('.') && !name.ends_with('~') && !name.ends_with(".swp") {
                found.insert(path.strip_prefix(folder).unwrap_or(&path).to_path_buf());
            }
        }
    }
    Ok(found)
}

fn entry_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Where the copy lies, whether there is one or not.
pub fn folder(project: &Project) -> PathBuf {
    project.build("library")
}

/// The library's source with the changes of `cfg/library/`; nothing if there are none.
///
/// # Errors
/// A file of the overlay has no counterpart in the library, or the copy cannot be made.
pub fn library(project: &Project, toolchain: &Toolchain) -> Result<Option<PathBuf>> {
    let overlay = project.cfg("library");
    let changed = if overlay.is_dir() { files(&overlay)? } else { BTreeSet::new() };
    let copy = folder(project);
    if changed.is_empty() && !copy.is_dir() {
        return Ok(None);
    }
    let original = toolchain.sysroot.join("lib/rustlib/src/rust/library");
    if let Some(stray) = changed.iter().find(|file| !original.join(file).is_file()) {
        bail!("cfg/library/{} stands for nothing: the library has no file {0}", stray.display());
    }
    // Another compiler has another library.
    let (stamp, identity) = (project.build("library.toolchain"), toolchain.identity()?);
    if copy.is_dir() && fs::read_to_string(&stamp).ok().as_ref() != Some(&identity) {
        fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
        if changed.is_empty() {
            return Ok(None);
        }
    }
    if !copy.is_dir() {
        let begun = copy.with_extension("new");
        // Of an attempt that was interrupted.
        let _ = fs::remove_dir_all(&begun);
        let status =
            Command::new("cp").args(["-RL", "--"]).args([&original, &begun]).status().context("cannot start cp")?;
        ensure!(status.success(), "{} cannot be copied", original.display());
        fs::rename(&begun, &copy).with_context(|| format!("cannot rename {}", begun.display()))?;
        replace(&stamp, identity.as_bytes())?;
    }
    // What was changed the last time and is not any more becomes the original again.
    let list = project.build("library.changed");
    let before = fs::read_to_string(&list).unwrap_or_default();
    let before: BTreeSet<PathBuf> = before.lines().map(PathBuf::from).collect();
    let lines =
        |files: &BTreeSet<PathBuf>| files.iter().map(|file| format!("{}\n", file.display())).collect::<String>();
    // Should this be interrupted, both count as changed the next time.
    replace(&list, lines(&before.union(&changed).cloned().collect()).as_bytes())?;
    let back = before.difference(&changed).map(|file| (original.join(file), copy.join(file)));
    let steps: Vec<(PathBuf, PathBuf)> =
        back.chain(changed.iter().map(|file| (overlay.join(file), copy.join(file)))).collect();
    let mut different = false;
    for (from, to) in &steps {
        different |= read(from)? != read(to)?;
    }
    if different {
        // Before anything is written: should this be interrupted, it is done again.
        forget(project)?;
    }
    for (from, to) in &steps {
        replace(to, &read(from)?)?;
    }
    replace(&list, lines(&changed).as_bytes())?;
    Ok(Some(copy))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The library's crates that are part of an image.
const CRATES: [&str; 3] = ["core", "alloc", "compiler_builtins"];

/// Removes what cargo noted of the library's crates when it compiled them.
fn forget(project: &Project) -> Result<()> {
    let notes = project.build("cargo").join(TARGET).join("cell/.fingerprint");
    let Ok(entries) = fs::read_dir(&notes) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        // NAME-HASH
        let name = entry_name(&path);
        if name.rsplit_once('-').is_some_and(|(name, _)| CRATES.contains(&name)) {
            fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether the library's crates were compiled after the last change of the overlay.
///
/// # Errors
/// One was not.
pub fn check(project: &Project, libraries: &[Library]) -> Result<()> {
    let list = fs::read_to_string(project.build("library.changed")).unwrap_or_default();
    let time = |path: &Path| -> Result<_> {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.with_context(|| format!("{} has no time", path.display()))
    };
    for file in list.lines() {
        let of = |library: &&Library| {
            CRATES.contains(&library.name.as_str()) && file.starts_with(&format!("{}/", library.name))
        };
        let Some(library) = libraries.iter().find(of) else { continue };
        ensure!(
            time(&folder(project).join(file))? <= time(&library.rlib)?,
            "cargo did not compile {} again after cfg/library/{file} had changed; remove {} and build again",
            library.name,
            project.build("cargo").join(TARGET).display()
        );
    }
    Ok(())
}
