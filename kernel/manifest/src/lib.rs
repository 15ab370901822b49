//! What an archive of cells says about itself: the first file of the archive, named [`FILE`], in postcard's format.
//!
//! The host tool writes it; `nano_core` and the loader read it. The objects follow as `cells/NAME.o`.
#![no_std]
extern crate alloc;

use alloc::{string::String, sync::Arc, vec::Vec};
use namespace::Namespace;
use serde::{Deserialize, Serialize};

/// Name of the manifest in the archive.
pub const FILE: &str = "manifest";
/// The format this crate reads and writes.
pub const FORMAT: u32 = 5;
/// How symbols begin that bind a service.
pub const BINDS: &str = "delias_service_";
/// How symbols begin that end a service.
pub const REVOKES: &str = "delias_revoke_";

/// Everything the archive says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// See [`Manifest::id`].
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
    /// Guests, sorted by name; an archive that boots has none.
    pub guests: Vec<Guest>,
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
        key(&self.name, &self.version)
    }
}

/// The same of a name and a version.
pub fn key(name: &str, version: &str) -> String {
    let mut parts = version.split(['.', '-', '+']);
    let major = parts.next().unwrap_or("0");
    let minor = parts.next().unwrap_or("0");
    let patch = parts.next().unwrap_or("0");
    match (major, minor) {
        ("0", "0") => alloc::format!("{name} 0.0.{patch}"),
        ("0", _) => alloc::format!("{name} 0.{minor}"),
        _ => alloc::format!("{name} {major}"),
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

/// A guest: cells that were made outside the tree, and came while the system ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name, which is that of its own cell.
    pub name: String,
    /// Its cells: its own, and crates that came along.
    pub cells: Vec<String>,
    /// What it is built from: a compressed archive of its folder, for updates of the base to build it again.
    pub source: Arc<[u8]>,
    /// The image's cell that it stands in for, if it does.
    pub replaces: Option<Cell>,
    /// Cells of an older base are kept for it.
    pub pinned: bool,
}

impl Guest {
    /// Whether a service is this guest's: it has its name. What stands in for a cell of the image has the image's services.
    pub fn serves(&self, service: &Service) -> bool {
        self.replaces.is_none() && service.name == self.name
    }
}

/// The ids of what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Of the image, as it would be without guests and without what was made while the system ran.
    pub base: [u8; 32],
    /// Of everything.
    pub world: [u8; 32],
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

    /// The id of this image, or of the world that is described as one; `hash` is BLAKE3.
    pub fn id(&self, hash: impl Fn(&[u8]) -> [u8; 32]) -> [u8; 32] {
        let cells = self.cells.iter().map(|cell| (&*cell.name, cell.key(), &cell.object_hash));
        ids(hash, cells, &self.services, &self.namespaces, &self.guests, &self.toolchain).world
    }
}

/// The ids of what runs; `hash` is BLAKE3, and cells are name, key and hash of the object.
///
/// That of an image is the hash of one line `KEY HASH` a cell, sorted; the services in their order; the namespaces in theirs;
/// the toolchain. What does not come from the image has lines of its own: guests' cells and services, what was made of
/// namespaces, and who of the guests is in which. If there are any, the world's id is the hash of the image's, and of them.
pub fn ids<'c, 's, 'n>(
    hash: impl Fn(&[u8]) -> [u8; 32],
    cells: impl IntoIterator<Item = (&'c str, String, &'c [u8; 32])>,
    services: impl IntoIterator<Item = &'s Service>,
    namespaces: impl IntoIterator<Item = &'n Namespace>,
    guests: &[Guest],
    toolchain: &str,
) -> Ids {
    let is_guest = |name: &str| guests.iter().any(|guest| guest.cells.iter().any(|cell| cell == name));
    let (mut lines, mut more) = (Vec::new(), Vec::new());
    for (name, key, found) in cells {
        let line = line(key, found);
        if is_guest(name) { more.push(line) } else { lines.push(line) }
    }
    lines.extend(
        guests.iter().filter_map(|guest| guest.replaces.as_ref()).map(|cell| line(cell.key(), &cell.object_hash)),
    );
    lines.sort_unstable();
    more.sort_unstable();
    for service in services {
        let Service { name, implementation, parameters } = service;
        let of = if guests.iter().any(|guest| guest.serves(service)) { &mut more } else { &mut lines };
        of.push(alloc::format!("service {name:?} {implementation:?} {parameters:?}"));
    }
    for Namespace { name, cells, allows, made } in namespaces {
        let is_own =
            |cell: &&String| guests.iter().any(|guest| guest.replaces.as_ref().is_some_and(|of| of.name == **cell));
        let (here, theirs): (Vec<&String>, Vec<&String>) =
            cells.iter().partition(|cell| !*made && (!is_guest(cell) || is_own(cell)));
        let line = alloc::format!("namespace {name:?} {here:?} {allows:?}");
        if *made {
            more.push(line)
        } else {
            lines.push(line)
        }
        more.extend(theirs.iter().map(|cell| alloc::format!("in {name:?} {cell:?}")));
    }
    lines.push(String::from(toolchain));
    let base = hash(lines.join("\n").as_bytes());
    if more.is_empty() {
        return Ids { base, world: base };
    }
    more.insert(0, line(String::from("image"), &base));
    Ids { base, world: hash(more.join("\n").as_bytes()) }
}

fn line(name: String, hash: &[u8; 32]) -> String {
    use core::fmt::Write;
    let mut line = name;
    line.push(' ');
    for byte in hash {
        // Writing to a String cannot fail.
        let _ = write!(line, "{byte:02x}");
    }
    line
}
