//! Where things lie: the project's folder, its configuration in `cfg/`, its artefacts in `build/`, and its compiler.

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the target that cells are compiled for.
pub const TARGET: &str = "x86_64-unknown-delias";

/// The project's folder.
#[derive(Clone, Debug)]
pub struct Project {
    /// Absolute path.
    pub root: PathBuf,
}

impl Project {
    /// Finds the project around the current folder, or else around this program.
    ///
    /// # Errors
    /// Neither lies in a folder that holds the target specification.
    pub fn find() -> Result<Project> {
        let here = std::env::current_dir().context("the current folder cannot be told")?;
        let program = std::env::current_exe().context("this program's own path cannot be told")?;
        for start in [&here, &program] {
            for folder in start.ancestors() {
                if folder.join("cfg").join(format!("{TARGET}.json")).is_file() {
                    return Ok(Project { root: folder.to_path_buf() });
                }
            }
        }
        bail!("{} lies in no Delias tree: no cfg/{TARGET}.json in it or above it", here.display())
    }

    /// A file of `cfg/`.
    pub fn cfg(&self, name: &str) -> PathBuf {
        self.root.join("cfg").join(name)
    }

    /// A file of `build/`.
    pub fn build(&self, name: &str) -> PathBuf {
        self.root.join("build").join(name)
    }

    /// A cell's object.
    pub fn object(&self, cell: &str) -> PathBuf {
        self.build("cells").join(format!("{cell}.o"))
    }

    /// Reads one TOML file of `cfg/`.
    ///
    /// # Errors
    /// It cannot be read, or has not the expected form.
    pub fn read_cfg<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.cfg(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} has not the expected form", path.display()))
    }
}

/// The pinned compiler, as `build_scripts/setup.sh` found it.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Absolute path of rustc.
    pub rustc: PathBuf,
    /// Absolute path of cargo.
    pub cargo: PathBuf,
    /// What rustc calls its sysroot.
    pub sysroot: PathBuf,
}

impl Toolchain {
    /// Reads what setup left behind.
    ///
    /// # Errors
    /// Setup has not run.
    pub fn find(project: &Project) -> Result<Toolchain> {
        let path = project.build("toolchain");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}: `make setup` writes it", path.display()))?;
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix("='")?.strip_suffix('\''))
                .map(PathBuf::from)
                .with_context(|| format!("{} has no {key}: delete it and run `make setup`", path.display()))
        };
        Ok(Toolchain { rustc: value("RUSTC")?, cargo: value("CARGO")?, sysroot: value("SYSROOT")? })
    }

    /// What `rustc -vV` prints, trimmed: part of the image id.
    ///
    /// # Errors
    /// rustc cannot be started.
    pub fn identity(&self) -> Result<String> {
        let output = Command::new(&self.rustc)
            .arg("-vV")
            .output()
            .with_context(|| format!("cannot start {}", self.rustc.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// cargo, set up so that nothing of the surroundings reaches the build.
    pub fn cargo(&self, project: &Project) -> Command {
        self.beside(project, "cargo")
    }

    /// A program that lies beside the compiler, set up likewise. By name alone a rustup shim may be found instead.
    pub fn beside(&self, project: &Project, name: &str) -> Command {
        let mut command = Command::new(self.cargo.with_file_name(name));
        command
            .current_dir(&project.root)
            .env("CARGO", &self.cargo)
            .env("RUSTC", &self.rustc)
            .env("RUSTDOC", self.rustc.with_file_name("rustdoc"))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", project.build("cargo"));
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_BUILD_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTUP_TOOLCHAIN",
            "MAKEFLAGS",
            "MFLAGS",
            "MAKELEVEL",
        ] {
            command.env_remove(name);
        }
        command
    }
}

/// Writes a file by renaming, so that who reads it at the same time sees the old or the new, and only if its contents
/// change. True if they did.
///
/// # Errors
/// The file cannot be written.
pub fn replace(path: &Path, contents: &[u8]) -> Result<bool> {
    if fs::metadata(path).is_ok_and(|m| m.len() == contents.len() as u64)
        && fs::read(path).is_ok_and(|old| old == contents)
    {
        return Ok(false);
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, contents)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}
