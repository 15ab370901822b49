//! Cells from outside the tree, built with the SDK alone.

mod build;
mod carry;
mod failures;
mod kinds;
mod namespaces;
mod push;
mod replace;

use crate::bench::{Test, contains};
use anyhow::{Context, Result, ensure};
use delias::project::Project;
use delias::running::Known;
use delias::sdk;
use delias::session::Session;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const TESTS: &[Test] = &[
    Test { name: "outside-builds", limit_s: 400, run: build::builds },
    Test { name: "outside-crates", limit_s: 400, run: build::crates },
    Test { name: "outside-refuses", limit_s: 400, run: build::refuses },
    Test { name: "outside-pushes", limit_s: 400, run: push::pushes },
    Test { name: "outside-goes", limit_s: 200, run: push::goes },
    Test { name: "outside-kinds", limit_s: 400, run: kinds::kinds },
    Test { name: "outside-failures", limit_s: 400, run: failures::failures },
    Test { name: "outside-namespaces", limit_s: 400, run: namespaces::namespaces },
    Test { name: "outside-replaces", limit_s: 400, run: replace::replaces },
];

/// Those that build in the workbench.
pub const CARRIED: &[Test] = &[
    Test { name: "outside-carried", limit_s: 900, run: carry::carried },
    Test { name: "outside-three", limit_s: 900, run: carry::three },
    Test { name: "outside-stands", limit_s: 900, run: replace::stands },
];

/// An unpacked SDK, and a folder to work in.
struct Outside {
    home: PathBuf,
    tool: PathBuf,
}

/// What a command of the tool did.
struct Said {
    succeeded: bool,
    out: String,
    errors: String,
}

impl Outside {
    fn new(project: &Project) -> Result<Outside> {
        let home = std::env::temp_dir().join(format!("delias-outside-{}", std::process::id()));
        fs::create_dir_all(home.join("work")).context("cannot create a folder")?;
        let mut outside = Outside { tool: PathBuf::new(), home };
        outside.renew(project)?;
        Ok(outside)
    }

    /// Takes the SDK of what the project is now.
    fn renew(&mut self, project: &Project) -> Result<()> {
        let archive = sdk::make(project)?;
        let status = Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&self.home)
            .status()
            .context("cannot start tar")?;
        ensure!(status.success(), "the SDK cannot be unpacked");
        let name = archive.file_name().unwrap_or_default().to_string_lossy().replace(".tar.gz", "");
        self.tool = self.home.join(name).join("bin/delias");
        Ok(())
    }

    /// Lets the tool find a system.
    fn meet(&self, project: &Project, session: &Session) -> Result<Known> {
        let rooms = self.home.join("delias");
        fs::create_dir_all(&rooms).context("cannot create a folder")?;
        fs::set_permissions(&rooms, fs::Permissions::from_mode(0o700)).context("its rights cannot be set")?;
        let known = Known::at(project, &rooms)?;
        symlink(session.socket(), known.socket()).context("the channel cannot be made known")?;
        Ok(known)
    }

    fn work(&self) -> PathBuf {
        self.home.join("work")
    }

    fn run(&self, folder: &Path, words: &[&str]) -> Result<Said> {
        self.run_tool(&self.tool, folder, words, &[])
    }

    /// Another tool than the SDK's, with what it finds there, and with variables.
    fn run_tool(&self, tool: &Path, folder: &Path, words: &[&str], variables: &[(&str, &str)]) -> Result<Said> {
        let mut command = Command::new(tool);
        command.envs(variables.iter().copied());
        // It knows nothing of the tree that these tests run in.
        for name in ["RUSTC", "CARGO_TARGET_DIR", "CARGO", "RUSTC_BOOTSTRAP"] {
            command.env_remove(name);
        }
        let output = command
            .args(words)
            .current_dir(folder)
            .env("XDG_RUNTIME_DIR", &self.home)
            .env("XDG_CACHE_HOME", self.home.join("cache"))
            .stdin(Stdio::null())
            .output()
            .context("cannot start delias")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { succeeded: output.status.success(), out: text(&output.stdout), errors: text(&output.stderr) })
    }

    fn succeeds(&self, folder: &Path, words: &[&str]) -> Result<String> {
        let said = self.run(folder, words)?;
        ensure!(said.succeeded, "{words:?} fails: {}", said.errors);
        Ok(said.out)
    }

    fn fails(&self, folder: &Path, words: &[&str], why: &str) -> Result<()> {
        let said = self.run(folder, words)?;
        ensure!(!said.succeeded, "{words:?} succeeds: {}", said.out);
        contains(&said.errors, why)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Nobody depends on its going.
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn append(file: &Path, text: &str) -> Result<()> {
    let old = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::write(file, old + text).with_context(|| format!("cannot write {}", file.display()))
}
