//! One of the two builds: its manifest, and every object with its functions and statics under names that can be compared.
//!
//! A thing's *key* is its path, or, where two things of a cell share a path, its symbol.

use super::names;
use crate::archive;
use crate::cellset::Aligned;
use anyhow::{Context, Result, ensure};
use linker::{Kind, Object, Relocation, RelocationKind, SymbolKind};
use manifest::Manifest;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What is read of a build folder before anything is looked at.
pub struct Files {
    /// The folder.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// The objects, in the manifest's order.
    objects: Vec<Aligned>,
    /// What each cell was compiled from, as `image.json` has it.
    sources: HashMap<String, String>,
    /// The cells that each cell's crate depends on, as `image.json` has it.
    pub depends: HashMap<String, Vec<String>>,
}

/// The part of `image.json` that is read here.
#[derive(Deserialize)]
struct Description {
    cells: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    depends: Vec<String>,
}

impl Files {
    /// Reads the manifest out of `cells.tar`, and `cells/NAME.o` for each cell.
    ///
    /// # Errors
    /// A file is missing, or an object is not the one the manifest means.
    pub fn read(folder: &Path) -> Result<Files> {
        let manifest = manifest_of(folder)?;
        let mut objects = Vec::with_capacity(manifest.cells.len());
        for cell in &manifest.cells {
            let path = folder.join(archive::entry_name(&cell.name));
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let (found, expected) = (blake3::hash(&bytes), blake3::Hash::from(cell.object_hash));
            ensure!(
                found == expected,
                "{} has the hash {found}, its manifest expects {expected}: build this image again",
                path.display()
            );
            objects.push(Aligned::new(bytes));
        }
        // It only helps to say why; without it there is less to say.
        let description = fs::read(folder.join("image.json")).ok();
        let description = description.and_then(|text| serde_json::from_slice::<Description>(&text).ok());
        let (mut sources, mut depends) = (HashMap::new(), HashMap::new());
        for row in description.into_iter().flat_map(|description| description.cells) {
            if !row.source.is_empty() {
                sources.insert(row.name.clone(), row.source);
            }
            depends.insert(row.name, row.depends);
        }
        Ok(Files { folder: folder.to_path_buf(), manifest, objects, sources, depends })
    }

    /// Whether a cell was compiled from the same source as in another build; nothing if that cannot be told.
    pub fn same_source(&self, other: &Files, name: &str) -> Option<bool> {
        Some(self.sources.get(name)? == other.sources.get(name)?)
    }

    /// The bytes of a cell's object.
    pub fn object(&self, cell: usize) -> &[u8] {
        self.objects[cell].bytes()
    }

    /// The number of the cell of that name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.manifest.cells.binary_search_by(|cell| cell.name.as_str().cmp(name)).ok()
    }

    /// The object with debug information.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn companion(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(format!("cells/{name}.debug.o"));
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// The manifest at the beginning of a folder's archive; the rest of it is not read.
///
/// # Errors
/// There is no archive, or it is none.
pub fn manifest_of(folder: &Path) -> Result<Manifest> {
    let path = folder.join("cells.tar");
    let file = File::open(&path).with_context(|| format!("cannot read {}: `make image` writes it", path.display()))?;
    let mut archive = tar::Archive::new(file);
    let mut first = archive.entries()?.next().with_context(|| format!("{} is empty", path.display()))??;
    let mut bytes = Vec::new();
    first.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    let mut manifest = Manifest::read(&bytes).with_context(|| path.display().to_string())?;
    manifest.cells.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(manifest)
}

/// A function of a cell.
pub struct Function<'a> {
    /// Mangled symbol.
    pub symbol: &'a str,
    /// Its path, see [`names::path`].
    pub path: String,
    /// No other function of the cell has this path.
    pub unique: bool,
    /// The section it lies in.
    pub section: u32,
    /// Offset in the section, in bytes.
    pub value: u64,
    /// Length in bytes.
    pub size: u64,
    /// Other cells can see it, so the optimiser has left its parameters alone.
    pub exported: bool,
    /// Something other than a branch refers to it: data may hold its address.
    pub taken: bool,
}

impl Function<'_> {
    /// What it is known by.
    pub fn key(&self) -> &str {
        if self.unique { &self.path } else { self.symbol }
    }

    /// Exported under a name that was written as it stands: found by name, not by path.
    pub fn is_plain(&self) -> bool {
        self.exported && !self.symbol.starts_with("_R")
    }

    /// Whether its parameters are where its signature says: of a function that nobody else can see the optimiser may have
    /// changed them.
    pub fn is_callable(&self) -> bool {
        self.exported || self.taken
    }
}

/// A named value of a cell.
pub struct Static<'a> {
    /// Mangled symbol.
    pub symbol: &'a str,
    /// Its path.
    pub path: String,
    /// No other value of the cell has this path.
    pub unique: bool,
    /// The section it lies in.
    pub section: u32,
    /// Offset in the section, in bytes.
    pub value: u64,
    /// Length in bytes.
    pub size: u64,
    /// Other cells can see it.
    pub exported: bool,
}

impl Static<'_> {
    /// What it is known by.
    pub fn key(&self) -> &str {
        if self.unique { &self.path } else { self.symbol }
    }
}

/// A cell's object, read.
pub struct Unit<'a> {
    /// Its row in the manifest.
    pub cell: &'a manifest::Cell,
    /// The object.
    pub object: Object<'a>,
    /// Its functions, by place.
    pub functions: Vec<Function<'a>>,
    /// Its named values, by place.
    pub statics: Vec<Static<'a>>,
    by_path: HashMap<String, Vec<u32>>,
    by_symbol: HashMap<&'a str, u32>,
}

impl<'a> Unit<'a> {
    fn read(cell: &'a manifest::Cell, bytes: &'a [u8]) -> Result<Unit<'a>> {
        let object = Object::parse(bytes).with_context(|| format!("cell {}", cell.name))?;
        let (mut functions, mut statics) = (Vec::new(), Vec::new());
        for symbol in &object.symbols {
            let (Some(section), symbol_name) = (symbol.section, object.name(symbol)) else { continue };
            let (value, size) = (symbol.value, symbol.size);
            let kind = object.sections[section as usize].kind;
            if kind == Kind::Text && symbol.kind == SymbolKind::Function {
                let (path, exported) = (names::path(symbol_name), symbol.is_exported());
                functions.push(Function {
                    symbol: symbol_name,
                    path,
                    unique: true,
                    section,
                    value,
                    size,
                    exported,
                    taken: false,
                });
            } else if symbol.kind == SymbolKind::Object
                && !symbol_name.is_empty()
                && matches!(kind, Kind::Constant | Kind::Cache | Kind::PerCpu | Kind::Writable)
            {
                let (path, exported) = (names::path(symbol_name), symbol.is_exported());
                statics.push(Static { symbol: symbol_name, path, unique: true, section, value, size, exported });
            }
        }
        functions.sort_by(|a, b| (a.section, a.value, a.symbol).cmp(&(b.section, b.value, b.symbol)));
        statics.sort_by(|a, b| (a.section, a.value, a.symbol).cmp(&(b.section, b.value, b.symbol)));
        let mut by_path: HashMap<String, Vec<u32>> = HashMap::new();
        for (index, function) in functions.iter().enumerate() {
            by_path.entry(function.path.clone()).or_default().push(index as u32);
        }
        for shared in by_path.values().filter(|all| all.len() > 1) {
            shared.iter().for_each(|&index| functions[index as usize].unique = false);
        }
        let mut paths: HashMap<&str, u32> = HashMap::new();
        statics.iter().for_each(|found| *paths.entry(found.path.as_str()).or_default() += 1);
        let shared: Vec<bool> = statics.iter().map(|found| paths[found.path.as_str()] > 1).collect();
        statics.iter_mut().zip(shared).for_each(|(found, shared)| found.unique = !shared);
        let by_symbol = functions.iter().enumerate().map(|(index, f)| (f.symbol, index as u32)).collect();
        Ok(Unit { cell, object, functions, statics, by_path, by_symbol })
    }

    /// The functions with a path.
    pub fn with_path(&self, path: &str) -> &[u32] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }

    /// The function with a symbol.
    pub fn with_symbol(&self, symbol: &str) -> Option<u32> {
        self.by_symbol.get(symbol).copied()
    }

    /// The function that a place lies in.
    pub fn function_at(&self, section: u32, value: u64) -> Option<u32> {
        let end = self.functions.partition_point(|f| (f.section, f.value) <= (section, value));
        let at = self.functions.get(end.checked_sub(1)?).filter(|f| f.section == section)?.value;
        let first = self.functions.partition_point(|f| (f.section, f.value) < (section, at));
        let size = self.functions[first].size;
        (value == at || value < at + size).then_some(first as u32)
    }

    /// The named value that a place belongs to. An address may lie before or behind it.
    pub fn static_at(&self, section: u32, value: u64) -> Option<u32> {
        let start = self.statics.partition_point(|s| s.section < section);
        let end = self.statics.partition_point(|s| s.section <= section);
        let behind = self.statics[start..end].partition_point(|s| s.value <= value);
        (start < end).then(|| (start + behind.saturating_sub(1)) as u32)
    }
}

/// What an exported symbol names.
#[derive(Clone, Copy)]
pub enum Item {
    /// A function, by its number in its cell.
    Function(u32),
    /// A value, by its number in its cell.
    Static(u32),
}

/// A build, read.
pub struct Side<'a> {
    /// Its files.
    pub files: &'a Files,
    /// Its cells, in the manifest's order.
    pub units: Vec<Unit<'a>>,
    exported: HashMap<&'a str, (u32, Item)>,
}

impl<'a> Side<'a> {
    /// Reads every object.
    ///
    /// # Errors
    /// The linker refuses one.
    pub fn read(files: &'a Files) -> Result<Side<'a>> {
        let mut units = Vec::with_capacity(files.objects.len());
        for (cell, object) in files.manifest.cells.iter().zip(&files.objects) {
            units.push(Unit::read(cell, object.bytes())?);
        }
        let mut exported = HashMap::new();
        for (index, unit) in units.iter().enumerate() {
            let index = index as u32;
            for (number, found) in unit.functions.iter().enumerate().filter(|(_, f)| f.exported) {
                exported.insert(found.symbol, (index, Item::Function(number as u32)));
            }
            for (number, found) in unit.statics.iter().enumerate().filter(|(_, s)| s.exported) {
                exported.insert(found.symbol, (index, Item::Static(number as u32)));
            }
        }
        let mut side = Side { files, units, exported };
        side.mark_taken();
        Ok(side)
    }

    /// Finds the functions whose address is more than the target of a branch.
    fn mark_taken(&mut self) {
        let mut taken = Vec::new();
        for (index, unit) in self.units.iter().enumerate() {
            for section in &unit.object.sections {
                let data = section.relocations().filter(|r| !is_branch(r) && !is_table_entry(section.kind, r));
                taken.extend(data.filter_map(|relocation| self.function(index as u32, &relocation)));
            }
        }
        for (cell, function) in taken {
            // Names of one place share its fate.
            let unit = &mut self.units[cell as usize];
            let (section, value) = (unit.functions[function as usize].section, unit.functions[function as usize].value);
            let here = unit.functions.iter_mut().skip(function as usize);
            here.take_while(|f| (f.section, f.value) == (section, value)).for_each(|f| f.taken = true);
        }
    }

    /// The function that a relocation of a cell leads to the start of.
    pub fn function(&self, cell: u32, relocation: &Relocation) -> Option<(u32, u32)> {
        let unit = &self.units[cell as usize];
        let symbol = &unit.object.symbols[relocation.symbol as usize];
        match symbol.section {
            Some(section) if unit.object.sections[section as usize].kind == Kind::Text => {
                let value = symbol.value.wrapping_add_signed(offset(relocation));
                let found = unit.function_at(section, value)?;
                (unit.functions[found as usize].value == value).then_some((cell, found))
            }
            Some(_) => None,
            None => match self.definition(unit.object.name(symbol))? {
                (cell, Item::Function(function)) => Some((cell, function)),
                _ => None,
            },
        }
    }

    /// Who defines an exported symbol.
    pub fn definition(&self, symbol: &str) -> Option<(u32, Item)> {
        self.exported.get(symbol).copied()
    }
}

fn is_branch(relocation: &Relocation) -> bool {
    relocation.kind == RelocationKind::Branch32
}

/// Where an unwind table says which function an entry is for: no address that anybody calls.
fn is_table_entry(kind: Kind, relocation: &Relocation) -> bool {
    kind == Kind::Unwind && relocation.kind == RelocationKind::Relative32
}

/// How far from its symbol a relocation leads. A branch's addend counts from the end of the field.
pub fn offset(relocation: &Relocation) -> i64 {
    relocation.addend.wrapping_add(if is_branch(relocation) { 4 } else { 0 })
}
