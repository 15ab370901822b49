//! The graph: every cell, what it defines, what it refers to, and where its running copy lies.

use crate::{
    PAGE,
    constants::Pool,
    error::Error,
    object::{Kind, Object, SymbolKind},
    place::{Placement, Span},
    thunks::Thunks,
};
use alloc::{string::String, sync::Arc, vec::Vec};
use core::cmp::Reverse;
use core::ops::Deref;
use hashbrown::HashMap;
use namespace::Namespaces;
use rustc_hash::FxBuildHasher;

/// A cell's number in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId(pub u32);

impl CellId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where the next object goes in each area: virtual addresses, page-aligned; `per_cpu` an offset in bytes. None is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Copies of cells.
    pub text: u64,
    /// Interned constants.
    pub constants: u64,
    /// Thunks.
    pub thunks: u64,
    /// Hosted statics.
    pub hosted: u64,
    /// Per-CPU values.
    pub per_cpu: u64,
}

/// The highest address at which an area may end: beyond it, sums of an address and of what one object needs could wrap.
const CEILING: u64 = u64::MAX - (1 << 28) + 1;

/// One function of a cell; functions are sorted by section and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Index of its section.
    pub section: u32,
    /// Offset in the section, in bytes.
    pub value: u64,
    /// Length in bytes.
    pub size: u64,
    /// Index of its symbol.
    pub symbol: u32,
}

/// What a symbol of a cell stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A place in a section of a cell.
    Place {
        /// The cell.
        cell: CellId,
        /// The section's index.
        section: u32,
        /// The offset, in bytes.
        value: u64,
    },
    /// A number: an absolute symbol, or 0 for a weak symbol that nobody defines.
    Number(u64),
}

/// A cell's object and what is known of it: the same for all its copies.
#[derive(Debug)]
pub struct Unit<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its object.
    pub object: Object<'a>,
    /// Its functions, sorted.
    pub functions: Vec<Function>,
    /// By section: whether it holds addresses inside functions, and so belongs to the copy.
    pub(crate) jump_tables: Vec<bool>,
    /// By section: the static that begins it, as its symbol's index; 0 for none.
    pub(crate) statics: Vec<u32>,
}

/// A cell in the graph.
#[derive(Clone, Debug)]
pub struct Cell<'a> {
    /// Its object.
    pub unit: Arc<Unit<'a>>,
    /// By symbol, once the cell has been linked.
    pub(crate) targets: Arc<[Target]>,
    /// Where its running copy lies, once it has been linked.
    pub placement: Option<Arc<Placement>>,
    /// How often it has been given a new copy.
    pub reseated: u32,
    /// Its copies are of this object from this number on.
    pub since: u32,
    /// It has been removed; its number waits for a cell of the same name.
    pub(crate) gone: bool,
}

impl<'a> Deref for Cell<'a> {
    type Target = Unit<'a>;

    fn deref(&self) -> &Unit<'a> {
        &self.unit
    }
}

/// Where an address lies.
#[derive(Clone, Copy, Debug)]
pub struct Located<'g> {
    /// The cell.
    pub cell: CellId,
    /// The mangled name of the function, or nothing between functions.
    pub function: Option<&'g str>,
    /// Offset in the function, in bytes; without one, in the copy.
    pub offset: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HostedPlace {
    pub address: u64,
    pub size: u64,
}

/// Cells and all that lies between them. A clone shares objects and placements with the original: that is how a change is
/// staged beside what runs.
#[derive(Clone, Debug)]
pub struct Graph<'a> {
    pub(crate) cells: Vec<Cell<'a>>,
    pub(crate) globals: HashMap<&'a str, (CellId, u32), FxBuildHasher>,
    pub(crate) allowed: HashMap<String, (), FxBuildHasher>,
    pub(crate) namespaces: Arc<Namespaces>,
    /// By identity, see [`Unit::lasting`].
    pub(crate) hosted: HashMap<String, HostedPlace, FxBuildHasher>,
    pub(crate) per_cpu: HashMap<String, HostedPlace, FxBuildHasher>,
    pub(crate) constants: Pool,
    pub(crate) thunks: Thunks,
    pub(crate) places: Places,
    pub(crate) ends: Places,
}

impl<'a> Graph<'a> {
    /// A graph without cells, whose areas begin at `places` and are not bounded.
    pub fn new(places: Places) -> Graph<'a> {
        Graph {
            cells: Vec::new(),
            globals: HashMap::default(),
            allowed: HashMap::default(),
            namespaces: Arc::default(),
            hosted: HashMap::default(),
            per_cpu: HashMap::default(),
            constants: Pool::default(),
            thunks: Thunks::default(),
            places,
            ends: Places { text: CEILING, constants: CEILING, thunks: CEILING, hosted: CEILING, per_cpu: CEILING },
        }
    }

    /// Bounds the areas: nothing is placed at `ends` or behind; of addresses, whole pages count.
    pub fn limit(&mut self, ends: Places) {
        let pages = |end: u64| end.min(CEILING) & !(PAGE - 1);
        self.ends = Places {
            text: pages(ends.text),
            constants: pages(ends.constants),
            thunks: pages(ends.thunks),
            hosted: pages(ends.hosted),
            per_cpu: ends.per_cpu.min(CEILING),
        };
    }

    /// Allows the writable static `symbol` (mangled): it lives longer than its cell, in the area of hosted statics.
    pub fn allow_hosted(&mut self, symbol: &str) {
        self.allowed.insert(String::from(symbol), ());
    }

    /// Takes back what [`allow_hosted`](Graph::allow_hosted) allowed.
    pub fn forbid_hosted(&mut self, symbol: &str) {
        self.allowed.remove(symbol);
    }

    /// Whether a writable static is allowed.
    pub fn allows_hosted(&self, symbol: &str) -> bool {
        self.allowed.contains_key(symbol)
    }

    /// Puts other namespaces in place, for all that is resolved from now on; those that were there.
    pub fn set_namespaces(&mut self, namespaces: Arc<Namespaces>) -> Arc<Namespaces> {
        core::mem::replace(&mut self.namespaces, namespaces)
    }

    /// Which cell may link which.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Takes a cell in: from now on others can be resolved against it.
    ///
    /// # Errors
    /// [`Error::Taken`] and [`Error::Duplicate`]; the graph is then as before.
    pub fn add(&mut self, name: &'a str, version: &'a str, object: Object<'a>) -> Result<CellId, Error> {
        if self.find(name).is_some() {
            return Err(Error::Taken { cell: String::from(name) });
        }
        let freed = self.cells.iter().position(|cell| cell.gone && cell.name == name);
        let id = CellId(freed.unwrap_or(self.cells.len()) as u32);
        let unit = Arc::new(Unit::new(name, version, object));
        self.add_names(id, &unit)?;
        // A copy that was left behind when it was removed had the number before.
        let reseated = freed.map_or(0, |index| self.cells[index].reseated + 1);
        let cell = Cell { unit, targets: Arc::from([]), placement: None, reseated, since: reseated, gone: false };
        match freed {
            Some(index) => self.cells[index] = cell,
            None => self.cells.push(cell),
        }
        Ok(id)
    }

    /// Makes a cell's names known.
    pub(crate) fn add_names(&mut self, id: CellId, unit: &Arc<Unit<'a>>) -> Result<(), Error> {
        let object = &unit.object;
        for (index, symbol) in object.symbols.iter().enumerate().filter(|(_, symbol)| symbol.is_exported()) {
            let symbol_name = object.name(symbol);
            if let Some(&(first, _)) = self.globals.get(symbol_name) {
                self.drop_names(id);
                let first = if first == id { unit.name } else { self.cells[first.index()].name };
                return Err(Error::Duplicate {
                    symbol: String::from(symbol_name),
                    first: String::from(first),
                    second: String::from(unit.name),
                });
            }
            self.globals.insert(symbol_name, (id, index as u32));
        }
        Ok(())
    }

    /// Forgets a cell's names.
    pub(crate) fn drop_names(&mut self, id: CellId) {
        self.globals.retain(|_, (cell, _)| *cell != id);
    }

    /// Takes cells out again that have not been linked: `from` and all that came after it.
    pub fn forget(&mut self, from: CellId) -> Vec<Cell<'a>> {
        self.globals.retain(|_, (cell, _)| *cell < from);
        self.cells.split_off(from.index().min(self.cells.len()))
    }

    /// The cells, by number.
    pub fn cells(&self) -> impl Iterator<Item = (CellId, &Cell<'a>)> {
        self.cells.iter().enumerate().filter(|(_, cell)| !cell.gone).map(|(index, cell)| (CellId(index as u32), cell))
    }

    /// How many cells there are.
    pub fn count(&self) -> usize {
        self.cells().count()
    }

    /// Numbers that have been given to cells: every [`CellId`] is below.
    pub fn numbers(&self) -> usize {
        self.cells.len()
    }

    /// A cell.
    pub fn cell(&self, id: CellId) -> &Cell<'a> {
        &self.cells[id.index()]
    }

    /// The cell of that name.
    pub fn find(&self, name: &str) -> Option<CellId> {
        self.cells().find(|(_, cell)| cell.name == name).map(|(id, _)| id)
    }

    /// Where the areas end.
    pub fn places(&self) -> Places {
        self.places
    }

    /// Sets where the next copy goes: whoever owns the area may skip what is in use.
    pub fn move_text(&mut self, address: u64) {
        self.places.text = address;
    }

    /// Takes whole pages out of the area of constants, for whoever needs some there.
    pub fn take_constants(&mut self, len: u64) -> u64 {
        let address = self.places.constants;
        self.places.constants += crate::round_up(len, crate::PAGE);
        address
    }

    /// The address that data may keep for an exported symbol: for a function, its thunk if it has one, else its copy.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        let &(cell, index) = self.globals.get(name)?;
        let cell_ref = self.cell(cell);
        let symbol = cell_ref.object.symbols.get(index as usize)?;
        let Some(section) = symbol.section else { return Some(symbol.value) };
        if let Some(thunk) = self.thunks.get(cell, section, symbol.value) {
            return Some(thunk);
        }
        Some(cell_ref.placement.as_ref()?.address(section, symbol.value))
    }

    /// Where a thunk leads, if an address is one; else the address itself.
    pub fn behind_thunk(&self, address: u64) -> u64 {
        let thunk = self.thunks.living().find(|(_, thunk)| thunk.address.get() == address && !thunk.orphan);
        let placed = thunk.and_then(|(_, thunk)| Some((thunk, self.cell(thunk.cell).placement.as_ref()?)));
        placed.map_or(address, |(thunk, placement)| placement.address(thunk.section, thunk.value))
    }

    /// The cell that defines an exported symbol.
    pub fn definer(&self, name: &str) -> Option<CellId> {
        self.globals.get(name).map(|&(cell, _)| cell)
    }

    /// Which cell and function an address of a running copy lies in.
    pub fn locate(&self, address: u64) -> Option<Located<'a>> {
        let (id, cell) =
            self.cells().find(|(_, cell)| cell.placement.as_ref().is_some_and(|p| p.copy().contains(address)))?;
        let placement = cell.placement.as_ref()?;
        Some(cell.locate(id, placement, address))
    }

    /// The cells that `id` refers to, each with the number of references.
    pub fn dependencies(&self, id: CellId) -> Vec<(CellId, u32)> {
        let cell = self.cell(id);
        let mut counts: HashMap<CellId, u32, FxBuildHasher> = HashMap::default();
        for section in &cell.object.sections {
            for relocation in section.relocations() {
                if let Some(&Target::Place { cell: to, .. }) = cell.targets.get(relocation.symbol as usize)
                    && to != id
                {
                    *counts.entry(to).or_default() += 1;
                }
            }
        }
        let mut list: Vec<_> = counts.into_iter().collect();
        list.sort_unstable();
        list
    }

    /// Bytes of interned constants in use, and of thunks.
    pub fn shared_bytes(&self) -> (u64, u64) {
        (self.constants.bytes(), self.thunks.bytes())
    }
}

impl<'a> Unit<'a> {
    pub(crate) fn new(name: &'a str, version: &'a str, object: Object<'a>) -> Unit<'a> {
        let (functions, statics) = (functions(&object), statics(&object));
        let mut unit = Unit { name, version, object, functions, jump_tables: Vec::new(), statics };
        unit.jump_tables = unit.find_jump_tables();
        unit
    }

    /// The symbol of the static that begins a section.
    pub(crate) fn static_name(&self, section: u32) -> Option<&'a str> {
        match self.statics[section as usize] {
            0 => None,
            index => Some(self.object.name(&self.object.symbols[index as usize])),
        }
    }

    /// The identity of a value that outlives copies: its cell, and its symbol or section; for a cache its size too, since a
    /// cache of another size is another cache.
    pub(crate) fn lasting(&self, section: u32) -> String {
        let place = &self.object.sections[section as usize];
        match (place.kind, self.static_name(section)) {
            (Kind::Cache, _) => alloc::format!("{} {} {}", self.name, place.name, place.size),
            (_, Some(symbol)) => alloc::format!("{} {symbol}", self.name),
            (_, None) => alloc::format!("{} {}", self.name, place.name),
        }
    }

    /// Whether a section's content is shared through the pool of constants.
    pub(crate) fn is_interned(&self, section: u32) -> bool {
        match self.object.sections[section as usize].kind {
            Kind::Constant => !self.jump_tables[section as usize],
            Kind::Mergeable { .. } => true,
            _ => false,
        }
    }

    /// Whether a function begins there.
    pub(crate) fn is_function_start(&self, section: u32, value: u64) -> bool {
        let at = self.functions.partition_point(|f| (f.section, f.value) < (section, value));
        self.functions.get(at).is_some_and(|f| f.section == section && f.value == value)
    }

    /// Sections of constants that hold an address inside a function: jump tables.
    fn find_jump_tables(&self) -> Vec<bool> {
        let object = &self.object;
        let inside = |section: &crate::object::Section<'_>| {
            section.kind == Kind::Constant
                && section.relocations().any(|relocation| {
                    let symbol = &object.symbols[relocation.symbol as usize];
                    symbol.section.is_some_and(|to| {
                        object.sections[to as usize].kind == Kind::Text
                            && !self.is_function_start(to, symbol.value.wrapping_add_signed(relocation.addend))
                    })
                })
        };
        object.sections.iter().map(inside).collect()
    }

    /// Where an address of the copy at `placement` lies.
    pub fn locate(&self, id: CellId, placement: &Placement, address: u64) -> Located<'a> {
        let before = |f: &&Function| placement.address(f.section, f.value) <= address;
        let function = self
            .functions
            .iter()
            .filter(before)
            .max_by_key(|f| placement.address(f.section, f.value))
            .filter(|f| address < placement.address(f.section, f.value) + f.size.max(1));
        match function {
            Some(f) => Located {
                cell: id,
                function: Some(self.object.name(&self.object.symbols[f.symbol as usize])),
                offset: address - placement.address(f.section, f.value),
            },
            None => Located { cell: id, function: None, offset: address - placement.copy().address },
        }
    }

    /// Bytes of text, and of read-only data, in the object.
    pub fn sizes(&self) -> (u64, u64) {
        let sum = |want: fn(Kind) -> bool| self.object.sections.iter().filter(|s| want(s.kind)).map(|s| s.size).sum();
        (sum(|k| k == Kind::Text), sum(|k| matches!(k, Kind::Constant | Kind::Mergeable { .. })))
    }
}

impl Cell<'_> {
    /// The address range of the running copy.
    pub fn span(&self) -> Option<Span> {
        self.placement.as_ref().map(|placement| placement.copy())
    }
}

fn statics(object: &Object<'_>) -> Vec<u32> {
    let mut statics = alloc::vec![0; object.sections.len()];
    for (index, symbol) in object.symbols.iter().enumerate().rev() {
        if let (Some(section), 0, SymbolKind::Object) = (symbol.section, symbol.value, symbol.kind) {
            statics[section as usize] = index as u32;
        }
    }
    statics
}

fn functions(object: &Object<'_>) -> Vec<Function> {
    let mut functions: Vec<Function> = object
        .symbols
        .iter()
        .enumerate()
        .filter(|(_, symbol)| symbol.kind == SymbolKind::Function)
        .filter_map(|(index, symbol)| {
            let section = symbol.section.filter(|&s| object.sections[s as usize].kind == Kind::Text)?;
            Some(Function { section, value: symbol.value, size: symbol.size, symbol: index as u32 })
        })
        .collect();
    // Of two names for one place the longer function stands for both.
    functions.sort_unstable_by_key(|f| (f.section, f.value, Reverse(f.size), f.symbol));
    functions.dedup_by_key(|f| (f.section, f.value));
    functions
}
