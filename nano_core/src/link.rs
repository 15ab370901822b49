//! The boot set: which cells of the archive run from the start, and their link.

use crate::arena::Arena;
use crate::error::Error;
use alloc::{format, string::ToString, vec::Vec};
use handoff::Range;
use handoff::layout::{CONSTANTS, HOSTED, PER_CPU_BYTES, PER_CPU_VALUES, TEXT, THUNKS};
use linker::{CellId, Graph, Object, Places};
use manifest::Manifest;
use tar_no_std::TarArchiveRef;

/// The archive: what it says about itself, and its files by name.
pub struct Archive {
    pub manifest: Manifest,
    files: Vec<(alloc::string::String, &'static [u8])>,
}

impl Archive {
    /// Opens the archive at `range`, which stays where it is.
    pub fn open(range: Range) -> Result<Archive, Error> {
        // SAFETY: the archive's memory is taken for it, mapped one to one, and never written again.
        let bytes = unsafe { core::slice::from_raw_parts(range.start as *const u8, range.len as usize) };
        let corrupt = |reason| Error::Archive { address: range.start, len: range.len, reason };
        let entries = TarArchiveRef::new(bytes).map_err(corrupt)?.entries();
        let named = entries.filter_map(|entry| Some((entry.filename().as_str().ok()?.to_string(), entry.data())));
        let mut files: Vec<_> = named.collect();
        files.sort_unstable();
        let manifest = Manifest::read(file(&files, manifest::FILE)?)?;
        Ok(Archive { manifest, files })
    }
}

/// The contents of the file `name`.
fn file(files: &[(alloc::string::String, &'static [u8])], name: &str) -> Result<&'static [u8], Error> {
    let found = files.binary_search_by(|(other, _)| other.as_str().cmp(name));
    found.map(|at| files[at].1).map_err(|_| Error::NoFile { file: name.to_string() })
}

/// What a link leaves.
pub struct Linked {
    /// Address of the symbol to start at.
    pub entry: u64,
    /// Where the next object goes.
    pub places: Places,
}

/// Links the boot set into `arena`.
pub fn link(archive: &Archive, arena: &mut Arena<'_>) -> Result<Linked, Error> {
    let manifest = &archive.manifest;
    let mut graph = Graph::new(Places {
        text: TEXT.start,
        constants: CONSTANTS.start,
        thunks: THUNKS.start,
        hosted: HOSTED.start,
        per_cpu: PER_CPU_VALUES,
    });
    graph.limit(Places {
        text: TEXT.end,
        constants: CONSTANTS.end,
        thunks: THUNKS.end,
        hosted: HOSTED.end,
        per_cpu: PER_CPU_BYTES,
    });
    for hosted in &manifest.hosted {
        graph.allow_hosted(&hosted.symbol);
    }
    let mut cells: Vec<CellId> = Vec::with_capacity(manifest.cells.len());
    for cell in manifest.cells.iter().filter(|cell| cell.boot) {
        let bytes = file(&archive.files, &format!("cells/{}.o", cell.name))?;
        let object = Object::parse(bytes).map_err(|error| Error::Object { cell: cell.name.clone(), error })?;
        cells.push(graph.add(&cell.name, &cell.version, object)?);
    }
    graph.link(&cells, arena)?;
    let entry = graph.symbol(&manifest.entry).ok_or_else(|| Error::NoEntry { symbol: manifest.entry.clone() })?;
    Ok(Linked { entry, places: graph.places() })
}
