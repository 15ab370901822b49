//! `delias new`: a small crate that works, to begin with.

use super::build::is_free;
use super::packages::describe;
use super::{Guest, LINK, check_name, editor};
use crate::sdk::Sdk;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::fs;
use std::path::Path;

/// What a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Started by `run`, ends by itself
    App,
    /// State, a slot, and a loop of steps
    Service,
    /// A policy that decides who runs next
    Scheduler,
    /// A device: its interrupt, its ports, and a loop of steps
    Driver,
}

impl Kind {
    /// The crates of the image that it uses, and its source.
    fn template(self) -> (&'static [&'static str], &'static str) {
        match self {
            Kind::App => (&["console"], include_str!("../../templates/app.rs")),
            Kind::Service => (&["log", "state_db", "step", "task", "time"], include_str!("../../templates/service.rs")),
            Kind::Scheduler => (&["handoff", "state_db", "sync", "task"], include_str!("../../templates/scheduler.rs")),
            Kind::Driver => (
                &["interrupts", "log", "platform", "state_db", "step", "sync", "task"],
                include_str!("../../templates/driver.rs"),
            ),
        }
    }
}

/// Makes a folder with a crate of that kind.
///
/// # Errors
/// The name cannot be a cell's, is taken by a cell of the image, or there is such a folder.
pub fn create(sdk: &Sdk, parent: &Path, name: &str, kind: Kind) -> Result<Guest> {
    check_name(name)?;
    is_free(sdk, name)?;
    let folder = parent.join(name);
    if folder.exists() {
        bail!("{} is there already", folder.display());
    }
    let (uses, source) = kind.template();
    let depends: String = uses.iter().map(|name| format!("{name} = {{ path = \"{LINK}/{name}\" }}\n")).collect();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n\n# A cell belongs to no workspace.\n[workspace]\n\n# `delias test` builds with this.\n[lints.rust]\nunexpected_cfgs = {{ level = \"warn\", check-cfg = [\"cfg(delias_test)\"] }}\n\n# What the image has comes from there, by way of the link `{LINK}`; everything else from crates.io, without `std`.\n[dependencies]\n{depends}"
    );
    let write = |file: &str, text: &str| -> Result<()> {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap_or(&folder))
            .with_context(|| format!("cannot create a folder for {}", path.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("Cargo.toml", &manifest)?;
    write("src/lib.rs", &source.replace("NAME", name))?;
    write(".gitignore", &format!("/target\n/{LINK}\n/{}\n", editor::FILE))?;
    let guest = Guest { folder, crates: None };
    guest.link(sdk)?;
    describe(&guest, sdk)?;
    Ok(guest)
}
