//! cargo, set up for a guest.
//!
//! A guest that came out of a running system is foreign: its build script and its macros run in a sandbox, which has the
//! compiler, the SDK, the guest's folder and nothing else, no network either. The crates that it is built of came with it.

use super::{Guest, Place};
use crate::cargo::{FLAGS, registry_sources};
use crate::project::Toolchain;
use crate::qemu::variable;
use crate::sdk::Sdk;
use crate::{doctor, substitute, wrapper};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// The sandbox.
pub const SANDBOX: &str = "bwrap";
/// What of the machine is to be seen in it, if it is there: programs, libraries, and how they are found.
const SEEN: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf.d"];

/// A path as TOML has it, whose strings have every form that JSON's have.
pub(super) fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.display().to_string()).to_string()
}

/// A guest, and what cargo is to make of it with what.
pub(super) struct Cargo<'a> {
    pub guest: &'a Guest,
    pub sdk: &'a Sdk,
    pub place: &'a Place,
    pub toolchain: Toolchain,
}

impl<'a> Cargo<'a> {
    /// Finds the SDK's compiler, and leads the guest to the SDK's crates.
    ///
    /// # Errors
    /// There is no such compiler, or the link cannot be made.
    pub fn new(guest: &'a Guest, sdk: &'a Sdk, place: &'a Place) -> Result<Cargo<'a>> {
        guest.link(sdk)?;
        Ok(Cargo { guest, sdk, place, toolchain: sdk.toolchain()? })
    }

    /// A command of cargo's, in the guest's folder; its further arguments come behind.
    ///
    /// # Errors
    /// It cannot be told where cargo unpacks crates, or there is no sandbox.
    pub fn command(&self, name: &str) -> Result<Command> {
        let Cargo { guest, sdk, place, toolchain } = self;
        let mut command = match &guest.crates {
            Some(crates) => self.apart(crates)?,
            None => Command::new(&toolchain.cargo),
        };
        command.arg(name);
        if let Some(crates) = &guest.crates {
            // For all that it knows of crates.io.
            command.args(["--offline", "--config", "source.crates-io.replace-with=\"carried\"", "--config"]);
            command.arg(format!("source.carried.directory={}", quoted(crates)));
        }
        command.current_dir(&guest.folder).stdin(Stdio::null());
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_BUILD_RUSTFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTUP_TOOLCHAIN",
        ] {
            command.env_remove(name);
        }
        let mut target = guest.folder.join("target");
        if let Some(namespace) = &place.namespace {
            // Other names of symbols, which cargo knows nothing of.
            target = target.join("namespaces").join(namespace);
            command.env(wrapper::NAMESPACE, namespace);
        }
        if place.tests {
            target = target.join("tests");
            command.env(wrapper::TESTS, "1");
        }
        let flags = FLAGS.map(str::to_owned).into_iter().chain([
            format!("--sysroot={}", sdk.path("sysroot").display()),
            format!("-Ldependency={}", sdk.path("macros").display()),
        ]);
        command
            .env("RUSTC", &toolchain.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.collect::<Vec<_>>().join("\x1f"))
            .env("RUSTC_WRAPPER", sdk.path("bin/delias"))
            .env(wrapper::SWITCH, "1")
            .env(wrapper::REMAP, self.remapped()?)
            .env(substitute::SDK, &sdk.root);
        Ok(command)
    }

    /// The folders whose names no object may show, in cargo's encoding: the same source gives the same object wherever it
    /// lies.
    fn remapped(&self) -> Result<String> {
        let dependencies = match &self.guest.crates {
            Some(crates) => vec![crates.clone()],
            None => registry_sources()?,
        };
        let all =
            std::iter::once((&self.guest.folder, "/guest")).chain(dependencies.iter().map(|folder| (folder, "/dep")));
        let flags = all.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
        Ok(flags.collect::<Vec<_>>().join("\x1f"))
    }

    /// cargo in the sandbox, where these crates can be read.
    fn apart(&self, crates: &Path) -> Result<Command> {
        let Cargo { guest, sdk, toolchain, .. } = self;
        let tools = toolchain.rustc.ancestors().nth(2).unwrap_or(&toolchain.rustc);
        let mut command = match wanted()? {
            true => sandbox(&[tools, &sdk.root, crates], &guest.folder),
            false => Command::new("env"),
        };
        let path = format!("{}:/usr/bin:/bin", tools.join("bin").display());
        let home = guest.folder.join("target/home");
        command.env_clear().env("PATH", path).env("HOME", &home).env("CARGO_HOME", &home);
        command.arg(&toolchain.cargo);
        Ok(command)
    }
}

/// Whether a sandbox is wanted.
fn wanted() -> Result<bool> {
    match variable("SANDBOX").as_deref() {
        None => Ok(true),
        Some("none") => Ok(false),
        Some(other) => bail!("SANDBOX={other}: expected nothing, or none"),
    }
}

/// Whether a sandbox can be had, if one is wanted; that is asked with a program that does nothing.
///
/// # Errors
/// Why not.
pub(super) fn check() -> Result<()> {
    if !wanted()? {
        return Ok(());
    }
    let hint = "guests that came out of a system are built in it; `SANDBOX=none` builds them without";
    ensure!(
        doctor::on_path(SANDBOX).is_some(),
        "{SANDBOX} is not on PATH (on Debian: apt-get install bubblewrap): {hint}"
    );
    let tried = sandbox(&[], Path::new("/tmp")).arg("true").stdin(Stdio::null()).output();
    let tried = tried.with_context(|| format!("cannot start {SANDBOX}"))?;
    let said = String::from_utf8_lossy(&tried.stderr);
    ensure!(tried.status.success(), "{SANDBOX} cannot make a sandbox here ({}): {hint}", said.trim());
    Ok(())
}

/// A sandbox in which some folders can be read and one be written; the program that is to run in it comes behind.
fn sandbox(read: &[&Path], write: &Path) -> Command {
    let mut command = Command::new(SANDBOX);
    command.args(["--unshare-all", "--die-with-parent", "--new-session"]);
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    for path in SEEN.map(Path::new).iter().filter(|path| path.exists()) {
        match path.read_link() {
            Ok(target) => command.arg("--symlink").arg(target).arg(path),
            Err(_) => command.arg("--ro-bind").args([path, path]),
        };
    }
    for path in read.iter().filter(|path| !path.starts_with("/usr")) {
        command.arg("--ro-bind").args([path, path]);
    }
    command.arg("--bind").args([write, write]).arg("--chdir").arg(write).arg("--");
    command
}
