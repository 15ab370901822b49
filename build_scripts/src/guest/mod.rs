//! Guests: cells that are made outside the tree, against the SDK of one image.
//!
//! ```text
//! delias new ─▶ a crate ─▶ delias build ─▶ target/delias/NAME.o for the guest, and for each crate that the image has not
//!                          delias push ──▶ the difference that it makes to the world that runs ─▶ the channel
//! ```
//! A guest is compiled as a cell of the tree is: the same compiler, target and flags. What the image has of crates is never
//! compiled again, so a guest links to the cells that run, and to nothing that only looks like them.

mod build;
mod carry;
mod command;
mod create;
pub mod editor;
mod packages;
mod pin;
mod push;
mod source;
mod test;
pub mod world;

pub use build::{Built, Place, build, diagnose};
pub use carry::{Wishes, carry};
pub use command::SANDBOX;
pub use create::{Kind, create};
pub use push::{Push, push};
pub use test::test;

use crate::sdk::Sdk;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// In a guest's folder: where the SDK's crates are. A link, which every build renews.
pub const LINK: &str = ".delias";

/// A guest's folder.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Absolute path.
    pub folder: PathBuf,
    /// The crates that it is built of, where they came with it out of a running system; else they are crates.io's.
    pub crates: Option<PathBuf>,
}

impl Guest {
    /// The guest around the current folder.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Guest> {
        let here = std::env::current_dir().context("the current folder cannot be told")?;
        match here.ancestors().find(|folder| folder.join("Cargo.toml").is_file()) {
            Some(folder) => Ok(Guest { folder: folder.to_path_buf(), crates: None }),
            None => bail!("{} lies in no crate: `delias new NAME` makes one", here.display()),
        }
    }

    /// Its crate's name.
    ///
    /// # Errors
    /// It cannot be told, or cannot be a cell's.
    pub fn name(&self, sdk: &Sdk) -> Result<String> {
        packages::name(self, sdk)
    }

    /// Where its objects are put that are built for a place.
    pub fn objects(&self, place: &Place) -> PathBuf {
        match &self.crates {
            // Not in the folder, in which whatever was built can have left links.
            Some(crates) => crates.with_file_name("objects"),
            None => self.folder.join(if place.tests { "target/tests/delias" } else { "target/delias" }),
        }
    }

    /// Leads the guest to the crates of an SDK.
    ///
    /// # Errors
    /// The link cannot be made.
    pub fn link(&self, sdk: &Sdk) -> Result<()> {
        let link = self.folder.join(LINK);
        let target = sdk.path("crates");
        if fs::read_link(&link).is_ok_and(|now| now == target) {
            return Ok(());
        }
        if link.symlink_metadata().is_ok_and(|there| !there.is_symlink()) {
            bail!("{} is not a link: it is the place of a link to the SDK's crates", link.display());
        }
        // What is not there need not be removed.
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&target, &link)
            .with_context(|| format!("cannot link {} to {}", link.display(), target.display()))
    }
}

/// Names that mean something else in Rust.
const TAKEN: [&str; 54] = [
    "abstract", "become", "box", "do", "final", "macro", "override", "priv", "try", "typeof", "union", "unsized",
    "virtual", "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false",
    "fn", "for", "gen", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return",
    "self", "static", "std", "struct", "super", "test", "trait", "true", "type", "unsafe", "use", "where", "while",
    "yield",
];

/// Whether a name can be a crate's: letters, digits and underscores, a letter first.
///
/// # Errors
/// A sentence about the name.
pub fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let word = TAKEN.contains(&name);
    if word || name.is_empty() || !name.chars().all(good) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        bail!(
            "{name:?} cannot be a cell's name: expected small letters, digits and `_`, a letter first, and no word of Rust's own"
        );
    }
    Ok(())
}

/// A path relative to a folder, for messages.
pub(crate) fn within<'p>(folder: &Path, path: &'p Path) -> &'p Path {
    path.strip_prefix(folder).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_are_those_of_crates() {
        assert!(["hello", "a", "x_2"].iter().all(|name| check_name(name).is_ok()));
        for name in ["", "../up", "Hello", "2x", "a-b", "a b", "a/b", "\u{e9}", "fn", "std"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
