//! What an archive of cells says about itself: the first file of the archive, named [`FILE`], in postcard's format.
//!
//! The host tool writes it; `nano_core` and the loader read it. The objects follow as `cells/NAME.o`.
#![no_std]
extern crate alloc;

use alloc::{string::String, vec::Vec};
use namespace::Namespace;
use serde::{Deserialize, Serialize};

/// Name of the manifest in the archive.
pub const FILE: &str = "manifest";
/// The format this crate reads and writes.
pub const FORMAT: u32 = 2;
/// How symbols begin that bind a service.
pub const BINDS: &str = "delias_service_";
/// How symbols begin that end a service.
pub const REVOKES: &str = "delias_revoke_";

/// Everything the archive says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// BLAKE3 over [`Manifest::id_input`].
    pub image_id: [u8; 32],
    /// `rustc -vV` of the compiler that made every object, trimmed.
    pub toolchain: String,
    /// The cells, sorted by name.
    pub cells: Vec<Cell>,
    /// Writable statics that cells may have.
    pub hosted: Vec<Hosted>,
    /// Services, in the order in which the starter binds them.
    pub services: Vec<Service>,
    /// Namespaces; a cell that is in none of them is in the base.
    pub namespaces: Vec<Namespace>,
    /// The symbol `nano_core` jumps to.
    pub entry: String,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Crate name, as rustc knows it (`xmas_elf`).
    pub name: String,
    /// Version, in full.
    pub version: String,
    /// BLAKE3 of the object's bytes as they lie in the archive.
    pub object_hash: [u8; 32],
    /// Linked by `nano_core`; the loader links the others.
    pub boot: bool,
    /// A member of the workspace.
    pub own: bool,
}

impl Cell {
    /// Name and the semver-compatible part of the version: `log 0.4`, `core 0.0.0`, `serde 1`.
    pub fn key(&self) -> String {
        let mut parts = self.version.split(['.', '-', '+']);
        let major = parts.next().unwrap_or("0");
        let minor = parts.next().unwrap_or("0");
        let patch = parts.next().unwrap_or("0");
        match (major, minor) {
            ("0", "0") => alloc::format!("{} 0.0.{patch}", self.name),
            ("0", _) => alloc::format!("{} 0.{minor}", self.name),
            _ => alloc::format!("{} {major}", self.name),
        }
    }
}

/// What becomes of a hosted static when its cell is replaced by another version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// It stays, if size, alignment, layout and initial value are equal; else the update is refused.
    #[default]
    Keep,
    /// It gets its initial value again: a cache.
    Reinitialise,
    /// It holds pointers into cells and is changed with them.
    Repoint,
}

/// One writable static that a cell is allowed to have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosted {
    /// The cell.
    pub cell: String,
    /// The mangled symbol.
    pub symbol: String,
    /// What a new version does to it.
    pub policy: Policy,
}

/// One service of `cfg/boot.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What it is called in messages.
    pub name: String,
    /// The symbol that binds it: `delias_service_NAME` of the implementation cell.
    pub implementation: String,
    /// Parameters, as the implementation reads them.
    pub parameters: String,
}

impl Service {
    /// The symbol that ends it, `delias_revoke_NAME`, if the implementation can be ended at all.
    pub fn revocation(&self) -> String {
        let name = self.implementation.strip_prefix(BINDS).unwrap_or(&self.implementation);
        [REVOKES, name].concat()
    }
}

/// Why a manifest was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not a manifest.
    #[error("the manifest cannot be read: {0}")]
    Malformed(postcard::Error),
    /// The manifest is of another format.
    #[error("the manifest has format {found}, expected {FORMAT}")]
    Format {
        /// The format it has.
        found: u32,
    },
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Format`].
    pub fn read(bytes: &[u8]) -> Result<Manifest, Error> {
        let manifest: Manifest = postcard::from_bytes(bytes).map_err(Error::Malformed)?;
        if manifest.format != FORMAT {
            return Err(Error::Format { found: manifest.format });
        }
        Ok(manifest)
    }

    /// Writes a manifest.
    ///
    /// # Errors
    /// [`Error::Malformed`], if memory runs out.
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        postcard::to_allocvec(self).map_err(Error::Malformed)
    }

    /// The bytes whose BLAKE3 is this image's id.
    pub fn id_input(&self) -> String {
        let cells = self.cells.iter().map(|cell| (cell.key(), &cell.object_hash));
        id_input(cells, &self.services, &self.namespaces, &self.toolchain)
    }
}

/// The bytes whose BLAKE3 is the id of what runs: one line `KEY HASH` a cell, sorted; the services in their order; the
/// namespaces in theirs; the toolchain.
pub fn id_input<'c, 's, 'n>(
    cells: impl IntoIterator<Item = (String, &'c [u8; 32])>,
    services: impl IntoIterator<Item = &'s Service>,
    namespaces: impl IntoIterator<Item = &'n Namespace>,
    toolchain: &str,
) -> String {
    use core::fmt::Write;
    let mut lines: Vec<String> = cells
        .into_iter()
        .map(|(key, hash)| {
            let mut line = key;
            line.push(' ');
            for byte in hash {
                // Writing to a String cannot fail.
                let _ = write!(line, "{byte:02x}");
            }
            line
        })
        .collect();
    lines.sort_unstable();
    for Service { name, implementation, parameters } in services {
        lines.push(alloc::format!("service {name:?} {implementation:?} {parameters:?}"));
    }
    for Namespace { name, cells, allows } in namespaces {
        lines.push(alloc::format!("namespace {name:?} {cells:?} {allows:?}"));
    }
    lines.push(String::from(toolchain));
    lines.join("\n")
}
