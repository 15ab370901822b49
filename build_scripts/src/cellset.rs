//! The cells of an image: which crates they are, their canonical objects on disk, and which of them boot.

use crate::canonical;
use crate::cargo::{BOOT_PROGRAM, Library, UnitGraph, package_version};
use crate::project::{Project, replace};
use anyhow::{Context, Result, bail};
use linker::Object;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// The symbol that `nano_core` jumps to.
pub const ENTRY: &str = "delias_first";

/// Bytes that begin at a multiple of eight, as the linker wants them.
#[derive(Clone, Debug)]
pub struct Aligned {
    buffer: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// Copies only if it must.
    pub fn new(bytes: Vec<u8>) -> Aligned {
        if bytes.as_ptr().addr().is_multiple_of(8) {
            return Aligned { buffer: bytes, start: 0 };
        }
        let mut buffer: Vec<u8> = Vec::with_capacity(bytes.len() + 8);
        let start = buffer.as_ptr().align_offset(8).min(8);
        buffer.resize(start, 0);
        buffer.extend_from_slice(&bytes);
        Aligned { buffer, start }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

/// One cell with its object.
#[derive(Clone, Debug)]
pub struct CellObject {
    /// Name, version, hash, and where it came from.
    pub cell: manifest::Cell,
    /// The canonical object.
    pub object: Aligned,
}

impl CellObject {
    /// A cell of an object that is linked by the loader.
    pub fn new(name: String, version: String, own: bool, object: Vec<u8>) -> CellObject {
        let cell = manifest::Cell { name, version, object_hash: *blake3::hash(&object).as_bytes(), boot: false, own };
        CellObject { cell, object: Aligned::new(object) }
    }
}

/// Size and time of change of a file: enough to see that it is another.
pub fn fingerprint(path: &Path) -> Result<String> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let time = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Ok(format!("{} {}", metadata.len(), time.as_nanos()))
}

/// The libraries that are cells: what the workspace's cells reach, without what only `nano_core` needs.
///
/// # Errors
/// Two versions of one crate: they would be two cells with two families of types.
pub fn choose(graph: &UnitGraph, libraries: &[Library]) -> Result<Vec<Library>> {
    let roots = (0..graph.units.len()).filter(|&i| graph.is_cell(i) && graph.units[i].pkg_id.starts_with("path+file"));
    let mut reached = BTreeSet::new();
    for index in graph.reach(roots) {
        let unit = &graph.units[index];
        reached.insert((unit.target.crate_name(), package_version(&unit.pkg_id).unwrap_or_default().to_owned()));
    }
    let mut chosen: BTreeMap<&str, &Library> = BTreeMap::new();
    for library in libraries {
        if library.name == BOOT_PROGRAM || !reached.contains(&(library.name.clone(), library.version.clone())) {
            continue;
        }
        match chosen.insert(&library.name, library) {
            Some(other) if other.version != library.version => bail!(
                "the image would have two versions of {}, {} and {}: one crate is one cell; `cargo tree -i {}` names who asks for which",
                library.name,
                other.version,
                library.version,
                library.name
            ),
            Some(other) if other.rlib != library.rlib => {
                bail!(
                    "{} {} was compiled twice: {} and {}",
                    library.name,
                    library.version,
                    other.rlib.display(),
                    library.rlib.display()
                )
            }
            _ => {}
        }
    }
    Ok(chosen.into_values().cloned().collect())
}

/// What extraction remembers from one time to the next: for each cell, the rlib it came from.
pub type Extracted = BTreeMap<String, String>;

/// Writes `build/cells/NAME.o` and `NAME.debug.o` for each library whose rlib changed, and removes what is no cell any
/// more.
///
/// # Errors
/// An rlib is not as expected, or a file cannot be written.
pub fn extract(project: &Project, libraries: &[Library], before: &Extracted) -> Result<Extracted> {
    let folder = project.build("cells");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut now = Extracted::new();
    for library in libraries {
        let source = format!("{} {}", library.rlib.display(), fingerprint(&library.rlib)?);
        let object = project.object(&library.name);
        if before.get(&library.name) != Some(&source) || !object.is_file() {
            let rlib = fs::read(&library.rlib).with_context(|| format!("cannot read {}", library.rlib.display()))?;
            let original = canonical::object_of(&rlib).with_context(|| format!("crate {}", library.name))?;
            let stripped = canonical::canonical(original).with_context(|| format!("crate {}", library.name))?;
            replace(&folder.join(format!("{}.debug.o", library.name)), original)?;
            replace(&object, &stripped)?;
        }
        now.insert(library.name.clone(), source);
    }
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let cell = name.strip_suffix(".debug.o").or(name.strip_suffix(".o"));
        if cell.is_none_or(|cell| !now.contains_key(cell)) {
            fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(now)
}

/// Reads the objects back and tells which cells `nano_core` has to link.
///
/// # Errors
/// An object cannot be read, is refused by the linker, or no cell defines [`ENTRY`].
pub fn load(project: &Project, libraries: &[Library]) -> Result<Vec<CellObject>> {
    let mut cells = Vec::new();
    for library in libraries {
        let path = project.object(&library.name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        cells.push(CellObject::new(library.name.clone(), library.version.clone(), library.own, bytes));
    }
    let boot = boot_set(&cells)?;
    for (index, cell) in cells.iter_mut().enumerate() {
        cell.cell.boot = boot.contains(&index);
    }
    Ok(cells)
}

/// The cells that [`ENTRY`]'s needs, and those of what it needs, and so on.
fn boot_set(cells: &[CellObject]) -> Result<BTreeSet<usize>> {
    let mut objects = Vec::new();
    for cell in cells {
        objects.push(Object::parse(cell.object.bytes()).with_context(|| format!("cell {}", cell.cell.name))?);
    }
    let mut definer: HashMap<&str, usize> = HashMap::new();
    for (index, object) in objects.iter().enumerate() {
        definer.extend(object.defined().map(|name| (name, index)));
    }
    let first =
        *definer.get(ENTRY).with_context(|| format!("no cell defines {ENTRY}, the symbol that nano_core jumps to"))?;
    let (mut boot, mut todo) = (BTreeSet::new(), vec![first]);
    while let Some(index) = todo.pop() {
        if boot.insert(index) {
            // An undefined symbol is reported by the link check, with its cell.
            todo.extend(objects[index].undefined().filter_map(|name| definer.get(name)));
        }
    }
    Ok(boot)
}
