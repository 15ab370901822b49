//! A second tree for tests that edit sources: a copy of this one in `build/workbench/tree`, with cells of its own from
//! `tests/cells/`. It is kept, so that only what changed is compiled again; it gives the same objects, since paths are
//! remapped.

use anyhow::{Context, Result, ensure};
use delias::image::{self, Image};
use delias::project::{Project, replace};
use delias::{builds, cargo};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tree, which belongs to one test at a time.
pub struct Workbench {
    /// The tree as a project.
    pub project: Project,
    /// For each edit, the files that it wrote as they were; nothing for files that were not there.
    edits: Vec<BTreeMap<PathBuf, Option<String>>>,
    /// Ends with this value, or with the process.
    _lock: File,
}

impl Workbench {
    /// Brings the copy up to date and waits for it to be free.
    pub fn open(of: &Project) -> Result<Workbench> {
        let root = of.build("workbench").join("tree");
        fs::create_dir_all(root.join("build")).with_context(|| format!("cannot create {}", root.display()))?;
        let lock = File::create(of.build("workbench").join("lock")).context("cannot create the workbench's lock")?;
        lock.lock().context("cannot lock the workbench")?;
        let project = Project { root };
        // What the original compiled is taken over at first, and then the sources' times must be the original's too.
        let first = !project.build("cargo").exists();
        copy_sources(&of.root, &project.root, first)?;
        for name in ["toolchain", "delias"] {
            let from = of.build(name);
            let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            if replace(&project.build(name), &bytes)? {
                let mode =
                    fs::metadata(&from).with_context(|| format!("cannot read {}", from.display()))?.permissions();
                fs::set_permissions(project.build(name), mode).context("the tool cannot be made executable")?;
            }
        }
        cargo::share(of, &project)?;
        Ok(Workbench { project, edits: vec![BTreeMap::new()], _lock: lock })
    }

    /// Builds what the tree is now; the image, and the folder in which the build is kept.
    pub fn build(&self) -> Result<(Image, PathBuf)> {
        let image = image::build(&self.project)?;
        let folder = builds::find(&self.project, &image.id).context("the build was not kept")?;
        Ok((image, folder))
    }

    /// A file as it is now.
    pub fn read(&self, file: &str) -> Result<String> {
        let path = self.project.root.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Begins an edit, which [`undo`](Workbench::undo) takes back.
    pub fn begin(&mut self) {
        self.edits.push(BTreeMap::new());
    }

    /// Writes a file.
    pub fn write(&mut self, file: &str, text: &str) -> Result<()> {
        let path = self.project.root.join(file);
        if let Some(edit) = self.edits.last_mut() {
            edit.entry(path.clone()).or_insert_with(|| fs::read_to_string(&path).ok());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        replace(&path, text.as_bytes()).map(|_| ())
    }

    /// Replaces a part of a file that occurs in it.
    pub fn edit(&mut self, file: &str, part: &str, with: &str) -> Result<()> {
        let text = self.read(file)?;
        ensure!(text.contains(part), "{file} has no {part:?}: the edit does not fit the tree any more");
        self.write(file, &text.replacen(part, with, 1))
    }

    /// Puts a line in the place of the first that begins with `prefix`.
    pub fn set_line(&mut self, file: &str, prefix: &str, line: &str) -> Result<()> {
        let text = self.read(file)?;
        let old = text.lines().find(|old| old.starts_with(prefix));
        let old =
            old.with_context(|| format!("{file} has no line {prefix:?}: the edit does not fit the tree any more"))?;
        let text = text.replacen(old, line, 1);
        self.write(file, &text)
    }

    /// Takes the last edit back.
    pub fn undo(&mut self) -> Result<()> {
        for (path, text) in self.edits.pop().unwrap_or_default() {
            match text {
                Some(text) => {
                    replace(&path, text.as_bytes())?;
                }
                None => {
                    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                    // Folders that came with it go too: only empty ones can be removed.
                    path.ancestors().skip(1).take_while(|folder| fs::remove_dir(folder).is_ok()).for_each(drop);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Workbench {
    fn drop(&mut self) {
        while !self.edits.is_empty() {
            // The next one copies the sources anew.
            let _ = self.undo();
        }
    }
}

/// Copies every source file that git knows or would take, and removes those that are no more.
fn copy_sources(from: &Path, to: &Path, with_times: bool) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(from)
        .output()
        .context("cannot start git")?;
    ensure!(listed.status.success(), "git cannot list the tree's files");
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = names.split('\0').filter(|name| !name.is_empty() && from.join(name).is_file());
    let mut wanted: BTreeMap<PathBuf, PathBuf> = names.map(|name| (to.join(name), from.join(name))).collect();
    // A server may link more than an app.
    for (cell, room) in
        [("measure", "apps"), ("subject", "apps"), ("load", "apps"), ("hoard", "apps"), ("keeper", "drivers")]
    {
        for file in ["Cargo.toml", "src/lib.rs"] {
            let source = from.join("tests/cells").join(cell).join(file);
            wanted.insert(to.join("cells").join(room).join(cell).join(file), source);
        }
    }
    remove_others(to, to, &wanted)?;
    for (target, source) in &wanted {
        let bytes = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        // cargo writes its own lock file into the copy, which knows more crates.
        let writes = source != &from.join("Cargo.lock") || !target.is_file();
        if writes && replace(target, &bytes)? && with_times {
            keep_time(source, target)?;
        }
    }
    Ok(())
}

/// Gives a copy the time of its original, so that cargo takes it for what it compiled.
fn keep_time(source: &Path, copy: &Path) -> Result<()> {
    let time = fs::metadata(source).and_then(|metadata| metadata.modified());
    let time = time.with_context(|| format!("{} has no time", source.display()))?;
    let file = File::options().write(true).open(copy).with_context(|| format!("cannot open {}", copy.display()))?;
    file.set_modified(time).with_context(|| format!("{} cannot be given a time", copy.display()))
}

fn remove_others(top: &Path, folder: &Path, wanted: &BTreeMap<PathBuf, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?.flatten() {
        let path = entry.path();
        if folder == top && (path.ends_with("build") || path.ends_with("Cargo.lock")) {
            continue;
        }
        if path.is_dir() {
            remove_others(top, &path, wanted)?;
            // Only if nothing is in it any more.
            let _ = fs::remove_dir(&path);
        } else if !wanted.contains_key(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
