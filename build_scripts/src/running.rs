//! Systems that run on this machine, so that a tool can find them: for each a socket to its channel, and beside it which
//! tree it was started from. They lie in a folder of the person's own, since a socket's path must be short.

use crate::project::Project;
use anyhow::{Context, Result};
use rustix::process::{Pid, getuid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A system that runs, known as long as this value lives.
#[derive(Debug)]
pub struct Known {
    socket: PathBuf,
}

/// What stands beside a socket.
#[derive(Serialize, Deserialize)]
struct About {
    /// The tree that it was started from.
    root: PathBuf,
}

/// The folder of everything that this person runs.
fn folder() -> Result<PathBuf> {
    let folder = match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path).join("delias"),
        None => std::env::temp_dir().join(format!("delias-{}", getuid().as_raw())),
    };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.with_context(|| format!("cannot create {}", folder.display()))?;
    let owner = fs::metadata(&folder).with_context(|| format!("cannot read {}", folder.display()))?.uid();
    anyhow::ensure!(owner == getuid().as_raw(), "{} belongs to somebody else", folder.display());
    Ok(folder)
}

impl Known {
    /// Makes a system known that this process is about to start.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(project: &Project) -> Result<Known> {
        Known::at(project, &folder()?)
    }

    /// The same, in another folder than the person's own.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn at(project: &Project, folder: &Path) -> Result<Known> {
        let socket = folder.join(format!("{}.sock", std::process::id()));
        let about = About { root: project.root.clone() };
        let path = socket.with_extension("json");
        fs::write(&path, serde_json::to_vec(&about)?).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Known { socket })
    }

    /// Where a debugger is to find it.
    pub fn debugger(&self) -> PathBuf {
        debugger(&self.socket)
    }

    /// Where its channel is to be.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        forget(&self.socket);
    }
}

/// Where a debugger finds the system that has its channel at `socket`.
pub fn debugger(socket: &Path) -> PathBuf {
    socket.with_extension("gdb")
}

fn forget(socket: &Path) {
    // What is not there need not be removed.
    let _ = fs::remove_file(socket);
    let _ = fs::remove_file(socket.with_extension("json"));
    let _ = fs::remove_file(debugger(socket));
}

/// The socket of the system that was started last, from this tree or from any, and still runs.
///
/// # Errors
/// The folder cannot be read.
pub fn find(project: Option<&Project>) -> Result<Option<PathBuf>> {
    let folder = folder()?;
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let socket = path.with_extension("sock");
        let runner = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).and_then(Pid::from_raw);
        if runner.is_none_or(|pid| test_kill_process(pid).is_err()) {
            forget(&socket);
            continue;
        }
        let about = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<About>(&bytes).ok());
        if about.is_some_and(|about| project.is_none_or(|project| about.root == project.root)) && socket.exists() {
            let started = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((started, socket));
        }
    }
    found.sort();
    Ok(found.pop().map(|(_, socket)| socket))
}
